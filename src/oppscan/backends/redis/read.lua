-- Reads scans at one instant; writes nothing. ARGV[1] says how, requests.py what comes back.
-- KEYS: an owner's i; then the r and d of a scan that is named, or the owner's o, l, q; last, where
-- one scan is read, the shard's due. Which scans the others lead to is not known before: their keys
-- are made here, in the slot of those declared.
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local I, O, L, Q = KEYS[1], KEYS[2], KEYS[3], KEYS[4]  -- of one scan: I, r, d

local function text(n) return string.format('%.0f', n) end
local function int(s, nth)
  local n = 0
  for b = nth * 6 - 5, nth * 6 do n = n * 256 + s:byte(b) end
  return n
end
local function varint(s, at)
  local n, unit = 0, 1
  repeat
    local b = s:byte(at)
    n, unit, at = n + b % 128 * unit, unit * 128, at + 1
  until b < 128
  return n, at
end
local function skip(name, wanted)  -- find the group that holds frame number `wanted`
  local place, first = 12, 0
  while first < wanted do
    local raw = call('GETRANGE', name, text(place), text(place + 25))
    if #raw < 9 then break end
    local count, at = varint(raw, 7)
    local size, after = varint(raw, at)
    count = math.floor(count / 2)
    if first + count > wanted then break end
    first, place = first + count, place + after - 1 + size
  end
  return place, first
end
local function see(scan, r, d, want_data, from)
  local record, entry = call('GET', r), call('HGET', I, scan)
  local head = record and #record > 54 and int(record, 4) > 0 and int(record, 3) > now
  local header, first, groups = false, 0, ''
  if want_data or not head then
    local place = 12
    header = call('GETRANGE', d, 0, 11)
    if header == '' then header = false else
      if head and from > 0 then place, first = skip(d, from) end
      groups = call('GETRANGE', d, text(place), -1)
    end
  end
  local some = head or (entry and int(entry, 3) > now)
    or (record and #record > 54 and int(record, 6) > now) or (header and int(header, 1) > now)
  return {scan, record, entry, header, first, groups}, some, head
end

local how, want_data = ARGV[1], ARGV[2] == '1'
local prefix, tag = ARGV[3]:match('^(.*})(.*)$')  -- {namespace:SHARD}tag-
local function found(scan)
  local id = scan
  if #scan == 16 then id = scan:gsub('.', function(c) return string.format('%02x', c:byte()) end) end
  return see(scan, prefix .. 'r:' .. tag .. id, prefix .. 'd:' .. tag .. id, want_data, 0)
end

local function listed(member, seen, head)  -- in the index, and among those that will be due
  local entry = head and seen[3] and int(seen[3], 3) > now
  return entry and call('ZSCORE', KEYS[#KEYS], member) and 1 or 0
end

if how == 'scan' then
  local seen, _, head = see(ARGV[4], KEYS[2], KEYS[3], want_data, tonumber(ARGV[5]))
  local found = listed(ARGV[6], seen, head)
  if head then seen[3] = false end  -- an entry is for those whose record is gone
  return {now, call('EXISTS', I), found, seen}
elseif how == 'name' then
  local name = ARGV[4]
  local pointer = call('HGET', Q, name)
  if pointer and int(pointer, 2) > now then
    local seen, some, head = found(pointer:sub(13))
    if some then return {now, call('EXISTS', I), listed(tag .. seen[1], seen, head), 'latest', seen} end
  end
  for place = 0, call('ZCARD', O) - 1 do
    local scan = call('ZREVRANGE', O, place, place)[1]
    local entry = call('HGET', I, scan)
    if entry and int(entry, 3) > now and (name == '' or entry:sub(26, 25 + entry:byte(25)) == name) then
      local seen, _, head = found(scan)
      return {now, 1, listed(tag .. scan, seen, head), 'owner_index', seen}
    end
  end
  return {now, call('EXISTS', I), 0, 'owner_index', false}
end

local seen, more, limit, before = {}, '', tonumber(ARGV[4]), ARGV[5]
if how == 'live' then
  for _, member in ipairs(call('ZRANGEBYSCORE', L, '(' .. text(now), '+inf')) do
    seen[#seen + 1] = found(member:sub(2, 1 + member:byte(1)))
  end
  return {now, more, seen}
end
local top = before == '' and '+inf' or '(' .. before
local place, order = 0, ''
repeat
  local rows = call('ZREVRANGEBYSCORE', O, top, '-inf', 'WITHSCORES', 'LIMIT', place, 64)
  for n = 1, #rows, 2 do
    local entry = call('HGET', I, rows[n])
    if entry and int(entry, 3) > now then
      if #seen == limit then return {now, order, seen} end
      seen[#seen + 1], order = found(rows[n]), text(tonumber(rows[n + 1]))
    end
  end
  place = place + 64
until #rows == 0
return {now, '', seen}
