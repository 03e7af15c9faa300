-- Interprets one Apply of oppscan.ops: all checks, all guards, then changes. Only the first write of
-- a Save may be refused (no room, too long), and then nothing was done; those after it cannot fail.
-- KEYS: every key that may be touched. ARGV[1]: 'c' to have something to wait for, 's' where
-- messages are sharded; ARGV[2]: the kinds of KEYS, one letter each (layout.py; '-': it only goes);
-- then checks, guards and changes, as requests.py writes them. Payloads stay opaque bytes.
local call, at, SLACK, TOP, LOOK = redis.call, 2, 1000, 36, 64
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local TYPES, tops = {r = 'string', d = 'string', i = 'hash', q = 'hash', o = 'zset', u = 'zset'}, {}
local function take() at = at + 1; return ARGV[at] end
local function number() return tonumber(take()) end
local function key() return KEYS[number()] end
local function text(n) return string.format('%.0f', n) end
local function int(s, nth)  -- 0 where there is none
  local a, b, c, d, e, f = s:byte(nth * 6 - 5, nth * 6)
  return f and ((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f or 0
end
local function pack(...)
  local out = {}
  for _, n in ipairs({...}) do
    for b = 5, 0, -1 do out[#out + 1] = string.char(math.floor(n / 256 ^ b) % 256) end
  end
  return table.concat(out)
end
local function stay(name, till)  -- a key that several scans share is never kept shorter than before
  local left = call('PTTL', name)
  if left < 0 or now + left < till + SLACK then call('PEXPIREAT', name, text(till + SLACK)) end
end
local function live(entry) return int(entry, 2) > now end
local function kept(entry) return int(entry, 3) > now end
local function name_of(entry) return entry:sub(26, 25 + (entry:byte(25) or 0)) end
local function ordered(i, o) return call('HLEN', i) == call('ZCARD', o) end
local function marked(i, o)  -- scan, entry, scan, entry: at least of all that are marked live
  local flat, few = {}, ordered(i, o) and call('ZCOUNT', o, '-inf', '(0') <= LOOK
  if not few then return call('HGETALL', i) end
  for n, scan in ipairs(call('ZRANGEBYSCORE', o, '-inf', '(0')) do
    flat[n * 2 - 1], flat[n * 2] = scan, call('HGET', i, scan) or ''
  end
  return flat
end

-- The top of a record: stamp, expires, keep, where the head begins, its size, the size of the data.
for k, name in ipairs(KEYS) do
  local kind, found = ARGV[2]:sub(k, k), call('TYPE', name)
  found = found['ok'] or found
  local fits = kind == '-' or found == 'none' or found == TYPES[kind]
  if fits and kind == 'r' then
    tops[name] = call('GETRANGE', name, 0, TOP - 1)
    local head = int(tops[name], 4)
    fits = tops[name] == '' or head >= TOP and head + int(tops[name], 5) <= call('STRLEN', name)
  end
  if not fits then return redis.error_reply('WRONGTYPE ' .. name) end
end
for _ = 1, number() do  -- what the changes will read of a hash is no shorter than what makes sense
  local name, field, least = key(), take(), number()
  local value = call('HGET', name, field)
  if value and #value < least then return redis.error_reply('WRONGTYPE ' .. name) end
end

local guards, changes, channels = {}, {}, {}
function guards.head()
  local r, d, version, torn = key(), key(), take(), take() == '1'
  local top, size = tops[r], call('STRLEN', d)
  if torn and (size == 0 or top ~= '' and int(top, 2) <= now) then return false end
  if version == '' or int(top, 3) <= now then return version == '' and int(top, 3) <= now end
  local head = int(top, 4)
  local stored = call('GETRANGE', r, text(head), text(head + #version - 1))
  return int(top, 2) > now and size == int(top, 6) and stored == version
end
function guards.free()
  local q, i, o, name, others = key(), key(), key(), take(), {}
  for _ = 1, number() do others[take()] = true end
  local pointer = call('HGET', q, name)
  if pointer and int(pointer, 2) > now then
    return int(pointer, 1) <= now or others[pointer:sub(13)], pointer:sub(13)
  end
  local all = marked(i, o)
  for n = 2, #all, 2 do
    local entry, scan = all[n], all[n - 1]
    if live(entry) and not others[scan] and name_of(entry) == name then return false, scan end
  end
  return true
end
function guards.room()
  local all, limit, count = marked(key(), key()), number(), 0
  for n = 2, #all, 2 do if live(all[n]) then count = count + 1 end end
  return count < limit
end

function changes.save()
  local r, d, u, member, instant, life = key(), key(), key(), take(), number(), number()
  local keep, due, head, anew, logs = now + number(), take(), take(), take() == '1', take()
  local fresh, data, channel = take() == '1', take(), take()
  local over, start = int(tops[r], 2) <= now, int(tops[r], 4)
  fresh = fresh or tops[r] ~= '' and over
  local size, expires = fresh and 0 or call('STRLEN', d), math.max(instant, now + life)
  keep = math.max(keep, expires)
  if data ~= '' then
    size = size + 6 + #data
    if fresh then call('SET', d, pack(now) .. data) else call('APPEND', d, pack(now) .. data) end
  end
  if logs ~= '' then logs = pack(now) .. logs end
  if anew or over then start = TOP end
  tops[r] = pack(now, expires, keep, start + #logs, #head, size)
  if start == TOP then call('SET', r, tops[r] .. logs .. head) else
    call('SETRANGE', r, text(start), logs .. head)
    call('SETRANGE', r, 0, tops[r])
  end
  if fresh and data == '' then call('DEL', d) end
  call('PEXPIREAT', r, text(keep + SLACK))
  call('PEXPIREAT', d, text(expires + SLACK))
  if channel ~= '' then channels[#channels + 1] = channel end
  if due == '' then return call('ZREM', u, member) end
  call('ZADD', u, text(due:sub(1, 1) == '-' and now - 1 - due or due), member)
  stay(u, keep)
end
function changes.point()
  local q, name, scan, life, till, mode = key(), take(), take(), number(), now + number(), take()
  local before = call('HGET', q, name)
  if before and int(before, 2) > now then
    if mode ~= 'take' and before:sub(13) ~= scan then return end
    till = math.max(till, int(before, 2))
  elseif mode == 'renew' then return end
  call('HSET', q, name, pack(life > 0 and now + life or 0, till) .. scan)
  stay(q, till)
  if before or call('HLEN', q) % 64 > 0 then return end
  local all = call('HGETALL', q)  -- what is pointed at once and never again must go too
  for n = 2, #all, 2 do if int(all[n], 2) <= now then call('HDEL', q, all[n - 1]) end end
end
local function thin(i, o, surplus)  -- drop the oldest that are not live; LOOK of those marked so are looked at
  local idle = call('ZRANGEBYSCORE', o, '(0', '+inf', 'LIMIT', 0, surplus)
  for n, scan in ipairs(idle) do idle[n] = {int(call('HGET', i, scan) or '', 1), scan} end
  for _, scan in ipairs(call('ZREVRANGEBYSCORE', o, '(0', '-inf', 'LIMIT', 0, LOOK)) do
    local entry = call('HGET', i, scan) or ''
    if not (live(entry) and kept(entry)) then idle[#idle + 1] = {int(entry, 1), scan} end
  end
  table.sort(idle, function(a, b) return a[1] < b[1] end)
  for n = 1, math.min(surplus, #idle) do
    call('HDEL', i, idle[n][2])
    call('ZREM', o, idle[n][2])
  end
end
function changes.enter()
  local i, o, scan, tail, life = key(), key(), take(), take(), number()
  local till, order, most = now + number(), number(), number()
  if not ordered(i, o) then
    local all = call('HGETALL', i)
    call('DEL', o)
    for n = 2, #all, 2 do
      call('ZADD', o, text(int(all[n], 1) * (live(all[n]) and -1 or 1)), all[n - 1])
    end
  end
  local before = call('HGET', i, scan)
  local known = before and kept(before)
  if before and not known then call('ZREM', o, scan) end
  if known then order = int(before, 1) elseif order < 0 then
    local idle, alive = call('ZREVRANGE', o, 0, 0, 'WITHSCORES')[2], call('ZRANGE', o, 0, 0, 'WITHSCORES')[2]
    order = math.max(now, math.min(math.max(1 + (idle or 0), 1 - (alive or 0)), 2 ^ 47))
  else
    local function taken(n) return call('ZCOUNT', o, text(n), text(n)) > 0 end
    while taken(order) or taken(-order) do order = order + 1 end
  end
  call('HSET', i, scan, pack(order, life > 0 and now + life or 0, till, now) .. tail)
  call('ZADD', o, text(life > 0 and -order or order), scan)
  stay(i, math.max(till, now + life))
  stay(o, math.max(till, now + life))
  local surplus = known and 0 or call('HLEN', i) - most
  if surplus > 0 then thin(i, o, surplus) end
end
function changes.erase()
  local r, d, u, member, i, o, q, scan = key(), key(), key(), take(), key(), key(), key(), take()
  local names, entry = {}, call('HGET', i, scan) or ''
  for n = 1, number() do names[n] = take() end
  if kept(entry) then names[#names + 1] = name_of(entry) end
  for _, name in ipairs(names) do
    if (call('HGET', q, name) or ''):sub(13) == scan then call('HDEL', q, name) end
  end
  call('DEL', r, d)
  call('ZREM', u, member)
  call('HDEL', i, scan)
  call('ZREM', o, scan)
  if tops[r] then tops[r] = '' end
  channels[#channels + 1] = take()
end

for nth = 1, number() do
  local holds, found = guards[take()]()
  if not holds then
    for _, name in ipairs(ARGV[1]:find('c') and KEYS or {}) do  -- without effect, but to wait for
      local left = call('PTTL', name)
      if left > 0 then call('PEXPIRE', name, left) end
    end
    return {nth, now, found or ''}
  end
end
for _ = 1, number() do changes[take()]() end
for _, channel in ipairs(channels) do  -- last, and never in the way of what is written
  redis.pcall(ARGV[1]:find('s') and 'SPUBLISH' or 'PUBLISH', channel, '')
end
return {0, now, ''}
