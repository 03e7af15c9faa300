-- Reads scans at one instant; changes nothing. ARGV[1] says how, requests.py what comes back.
-- KEYS: an owner's i; then the r and d of a scan that is named, or the owner's o and q; last, where
-- one scan is read, the shard's due. Which scans o and q lead to is not known before: their keys
-- are made here, in the slot of those declared, which spares a round trip.
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local how, want_data, family, name, limit = ARGV[1], ARGV[2] == '1', ARGV[3], ARGV[4], ARGV[5]
local before = how == 'list' and ARGV[6] ~= '' and ARGV[6]
local I, O, Q, DUE = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
if how == 'time' then return {now} end
local tried = redis.pcall('HDEL', I, '')  -- there is no such field; but a replica would not take it
if type(tried) == 'table' and tried.err:find('READONLY', 1, true) then
  return redis.error_reply('READONLY ' .. tried.err)
end

local function text(n) return string.format('%.0f', n) end
local function int(s, nth)  -- 0 where there is none
  local a, b, c, d, e, f = s:byte(nth * 6 - 5, nth * 6)
  return f and ((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f or 0
end
local function varint(s, at)
  local n, unit = 0, 1
  repeat
    local b = s:byte(at) or 0
    n, unit, at = n + b % 128 * unit, unit * 128, at + 1
  until b < 128
  return n, at
end
local function skip(d, wanted)  -- find the group that holds frame number `wanted`
  local place, first = 0, 0
  while first < wanted do
    local raw = call('GETRANGE', d, text(place), text(place + 25))
    local count, at = varint(raw, 7)
    local size, after = varint(raw, at)
    count = math.floor(count / 2)
    if #raw < 9 or count == 0 or first + count > wanted then break end
    first, place = first + count, place + after - 1 + size
  end
  return place, first
end
local function see(scan, r, d, from)
  local record, entry, size = call('GET', r), call('HGET', I, scan), 0
  local head, place, first, groups = record and int(record, 3) > now, 0, 0, false
  if want_data or not head then
    size = call('STRLEN', d)
    if head and from > 0 then place, first = skip(d, from) end
    groups = call('GETRANGE', d, text(place), -1)
  end
  local kept = entry and int(entry, 3) > now
  local listed = DUE and head and kept and call('ZSCORE', DUE, family:match('^.*}(.*)$') .. scan) and 1 or 0
  return {scan, record, entry, size, first, groups}, head or kept or not record and size > 0, listed
end
local function found(scan)
  local id = scan:gsub('.', function(c) return string.format('%02x', c:byte()) end)
  local place, tag = family:match('^(.*})(.*)$')
  return see(scan, place .. 'r:' .. tag .. id, place .. 'd:' .. tag .. id, 0)
end
local function marked()  -- scan, place, scan, place, newest first: of those marked live, and of the others
  if call('HLEN', I) == call('ZCARD', O) then
    return call('ZRANGEBYSCORE', O, before and '(-' .. before or '-inf', '(0', 'WITHSCORES'),
      how == 'live' and {} or call('ZREVRANGEBYSCORE', O, before and '(' .. before or '+inf', '(0', 'WITHSCORES')
  end
  local all, sorted, flat = call('HGETALL', I), {}, {}  -- where o is not whole
  for n = 2, #all, 2 do sorted[n / 2] = {all[n - 1], int(all[n], 1)} end
  table.sort(sorted, function(a, b) return a[2] > b[2] end)
  for _, row in ipairs(sorted) do
    local later = before and row[2] >= tonumber(before)
    if not later then flat[#flat + 1], flat[#flat + 2] = row[1], -row[2] end
  end
  return flat, {}
end
local function rows()  -- scan, entry, place in the order of an index, newest first
  local m, n, live, idle = -1, -1, marked()
  return function()
    if not live[m + 2] or idle[n + 2] and idle[n + 3] + live[m + 3] > 0 then
      n = n + 2
      return idle[n], call('HGET', I, idle[n] or '') or '', idle[n + 1]
    end
    m = m + 2
    return live[m], call('HGET', I, live[m]) or '', -live[m + 1]
  end
end

if how == 'scan' then
  local seen, _, listed = see(name, KEYS[2], KEYS[3], tonumber(limit))
  if seen[2] and int(seen[2], 3) > now then seen[3] = false end  -- for those whose record is gone
  return {now, call('EXISTS', I), listed, seen}
end
if how == 'name' then
  local pointer = call('HGET', Q, name)
  if pointer and int(pointer, 2) > now then
    local sighting, some, listed = found(pointer:sub(13))
    if some then return {now, call('EXISTS', I), listed, 'latest', sighting} end
  end
end
local seen, order = {}, ''
for scan, entry, place in rows() do
  local kept = int(entry, 3) > now
  if how == 'live' then
    if int(entry, 2) > now then seen[#seen + 1] = found(scan) end
  elseif how == 'name' then
    if kept and (name == '' or entry:sub(26, 25 + (entry:byte(25) or 0)) == name) then
      local sighting, _, listed = found(scan)
      return {now, 1, listed, 'owner_index', sighting}
    end
  elseif kept then
    if #seen == tonumber(limit) then return {now, order, seen} end
    seen[#seen + 1], order = found(scan), text(tonumber(place))
  end
end
if how == 'name' then return {now, call('EXISTS', I), 0, 'owner_index', false} end
return {now, '', seen}
