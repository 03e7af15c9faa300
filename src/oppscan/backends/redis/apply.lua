-- Interprets one Apply of oppscan.ops: all guards, then changes that cannot fail.
-- KEYS: every key that may be touched. ARGV[1]: 'c' to have something to wait for, 's' where
-- messages are sharded; ARGV[2]: the kinds of KEYS, one letter each (layout.py); then the guards and
-- the changes, as requests.py writes them. Payloads stay opaque bytes.
local call, at, SLACK, SMALL = redis.call, 2, 1000, 4096
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local TYPES = {r = 'string', d = 'string', i = 'hash', q = 'hash', o = 'zset', l = 'zset', u = 'zset'}
for k, name in ipairs(KEYS) do
  local kind, found = ARGV[2]:sub(k, k), call('TYPE', name)
  found = found['ok'] or found
  if found ~= 'none' and found ~= TYPES[kind] then return redis.error_reply('WRONGTYPE ' .. name) end
end

local function take() at = at + 1; return ARGV[at] end
local function number() return tonumber(take()) end
local function key() local k = number(); return KEYS[k], k end
local function text(n) return string.format('%.0f', n) end
local function pack(n)
  local bytes = {}
  for b = 6, 1, -1 do bytes[b] = n % 256; n = (n - bytes[b]) / 256 end
  return string.char(unpack(bytes))
end
local function int(s, nth)
  local n = 0
  for b = nth * 6 - 5, nth * 6 do n = n * 256 + s:byte(b) end
  return n
end
local function stay(name, till)  -- a key that several scans share is never kept shorter than before
  local left = call('PTTL', name)
  if left < 0 or now + left < till + SLACK then call('PEXPIREAT', name, text(till + SLACK)) end
end

-- A record's header: stamp, expires, keep, #head, room for it, spec until and size, events until
-- and count. It is read once, changed here, and written at the end.
local STAMP, EXPIRES, KEEP, HEAD, ROOM, SIZE, FIELDS = 1, 2, 3, 4, 5, 7, 9
local UNTIL, records = {spec = 6, events = 8}, {}
local function record(k)
  if not records[k] then
    local r, raw = {add = '', tail = {}}, call('GETRANGE', KEYS[k], 0, FIELDS * 6 - 1)
    for f = 1, FIELDS do r[f] = raw == '' and 0 or int(raw, f) end
    r.absent, records[k] = raw == '', r
  end
  return records[k]
end
local function slice(k, from, size)
  return size > 0 and call('GETRANGE', KEYS[k], text(from), text(from + size - 1)) or ''
end
local function flush(k, r)
  local head, base = r.head, FIELDS * 6
  local old, till = call('STRLEN', KEYS[k]), math.max(r[KEEP], r[UNTIL.spec], r[UNTIL.events])
  if till <= now then return call('DEL', KEYS[k]) end
  local room, spec_size = r[ROOM], r[SIZE]
  local grown = old + #r.add
  if r.absent or r.spec or r.cut or grown <= SMALL or (head and #head > room) then
    local spec = r.spec or slice(k, base + room, spec_size)
    local events = (r.cut and '' or slice(k, base + room + spec_size, old)) .. r.add
    head = head or slice(k, base, r[HEAD])
    r[HEAD], r[SIZE], r[ROOM] = #head, #spec, #head
    if #spec + #events > SMALL then r[ROOM] = #head + 64 + math.floor(#head / 4) end
    r.add = head .. ('\0'):rep(r[ROOM] - #head) .. spec .. events
    old, head = 0, nil
  elseif head then
    r[HEAD] = #head
  end
  for f = 1, FIELDS do r.tail[f] = pack(r[f]) end
  local header = table.concat(r.tail) .. (head or '')
  if old == 0 then call('SET', KEYS[k], header .. r.add) else
    call('SETRANGE', KEYS[k], 0, header)
    if r.add ~= '' then call('APPEND', KEYS[k], r.add) end
  end
  call('PEXPIREAT', KEYS[k], text(till + SLACK))
end

-- The data log has a header of its own: until and count.
local function data(name)
  local raw = call('GETRANGE', name, 0, 11)
  if raw == '' or int(raw, 1) <= now then return 0, false end
  return int(raw, 2), true
end
local function live(l, seek, others)
  for _, member in ipairs(call('ZRANGEBYSCORE', l, '(' .. text(now), '+inf')) do
    local size = member:byte(1)
    local scan = member:sub(2, 1 + size)
    if member:sub(2 + size) == seek and not others[scan] then return scan end
  end
end
local function leave(i, o, l, scan)  -- drop an index entry
  local entry = call('HGET', i, scan)
  if entry then
    call('ZREM', l, string.char(#scan) .. scan .. entry:sub(26, 25 + entry:byte(25)))
    call('ZREM', o, scan)
    call('HDEL', i, scan)
  end
  return entry
end

local guards = {}
function guards.head()
  local _, k = key()
  local version, r = take(), record(k)
  local there = r[HEAD] > 0 and r[KEEP] > now
  if version == '' then return not there end
  return there and r[EXPIRES] > now and slice(k, FIELDS * 6, #version) == version
end
function guards.free()
  local q, l, seek, others = key(), key(), take(), {}
  for _ = 1, number() do others[take()] = true end
  local pointer = call('HGET', q, seek)
  local found
  if pointer and int(pointer, 2) > now then
    found = pointer:sub(13)
    if int(pointer, 1) <= now or others[found] then found = nil end
  else
    found = live(l, seek, others)
  end
  return not found, found
end
function guards.room()
  local l, limit = key(), number()
  return call('ZCOUNT', l, '(' .. text(now), '+inf') < limit
end
function guards.length()
  local name, k = key()
  local part, length, count = take(), number(), nil
  if part == 'data' then count = data(name) else
    local r = record(k)
    count = r[UNTIL[part]] > now and (part == 'spec' and r[SIZE] > 0 and 1 or r[9]) or 0
  end
  return count == length
end

local changes, channels = {}, {}
local function news(channel) if channel ~= '' then channels[#channels + 1] = channel end end
function changes.put()
  local _, k = key()
  local due, member, r = key(), take(), record(k)
  r.head, r.changed = take(), true
  call('SETRANGE', KEYS[k], 0, '')  -- changes nothing, but a full server refuses it: all or nothing
  local instant, life, keep, when = number(), number(), number(), take()
  r[STAMP], r[EXPIRES], r[KEEP] = now, math.max(instant, now + life), now + keep
  news(take())
  if when == '' then return call('ZREM', due, member) end
  when = tonumber(when)
  call('ZADD', due, text(when < 0 and now - 1 - when or when), member)
  stay(due, now + keep)
end
function changes.append()
  local name, k = key()
  local part, frames, group, till, fresh = take(), number(), take(), now + number(), take() == '1'
  if frames > 0 then group = pack(now) .. group end
  if part == 'data' then
    local count, there = data(name)
    if fresh or not there then count = 0; call('DEL', name) end
    if frames == 0 and (fresh or not there) then return end
    local header, old = pack(till) .. pack(count + frames), call('STRLEN', name)
    if old == 0 or (frames > 0 and old + #group <= SMALL) then
      call('SET', name, header .. call('GETRANGE', name, 12, -1) .. group)
    else
      call('SETRANGE', name, 0, header)
      if frames > 0 then call('APPEND', name, group) end
    end
    return call('PEXPIREAT', name, text(till + SLACK))
  end
  local r, u = record(k), UNTIL[part]
  r.changed = true
  local lapsed = fresh or r[u] <= now
  if part == 'spec' then
    if lapsed or frames > 0 then
      local before = r.spec or slice(k, FIELDS * 6 + r[ROOM], r[SIZE])
      r.spec = (lapsed and '' or before) .. group
    end
  else
    if lapsed then r.cut, r.add, r[9] = true, '', 0 end
    r.add, r[9] = r.add .. group, r[9] + frames
  end
  r[u] = (lapsed and frames == 0) and 0 or till
end
function changes.point()
  local q, name, scan, life, till, mode = key(), take(), take(), number(), now + number(), take()
  local before = call('HGET', q, name)
  if before and int(before, 2) > now then
    if mode ~= 'take' and before:sub(13) ~= scan then return end
    till = math.max(till, int(before, 2))
  elseif mode == 'renew' then return end
  call('HSET', q, name, pack(life > 0 and now + life or 0) .. pack(till) .. scan)
  stay(q, till)
  local size = call('HLEN', q)
  if not before and size % 64 == 0 then  -- what is pointed at once and never again must go too
    local all = call('HGETALL', q)
    for f = 1, #all, 2 do
      if int(all[f + 1], 2) <= now then call('HDEL', q, all[f]) end
    end
  end
end
function changes.enter()
  local i, o, l, scan, tail = key(), key(), key(), take(), take()
  local life, till, order, most = number(), now + number(), number(), number()
  local entry = leave(i, o, l, scan)
  local known = entry and int(entry, 3) > now
  if known then order = int(entry, 1) elseif order < 0 then
    local newest = call('ZREVRANGE', o, 0, 0, 'WITHSCORES')
    order = newest[2] and math.max(now, newest[2] + 1) or now
  else
    while call('ZCOUNT', o, text(order), text(order)) > 0 do order = order + 1 end
  end
  local till_live = life > 0 and now + life or 0
  call('HSET', i, scan, pack(order) .. pack(till_live) .. pack(till) .. pack(now) .. tail)
  call('ZADD', o, text(order), scan)
  stay(i, till)
  stay(o, till)
  if life > 0 then
    call('ZADD', l, text(till_live), string.char(#scan) .. scan .. tail:sub(2, 1 + tail:byte(1)))
    stay(l, till_live)
  end
  local surplus, place = known and 0 or call('ZCARD', o) - most, 0
  while surplus > 0 do
    local oldest = call('ZRANGE', o, place, place)[1]
    if not oldest then return end
    local seen = call('HGET', i, oldest)
    if seen and int(seen, 3) > now and int(seen, 2) > now then place = place + 1 else
      if not leave(i, o, l, oldest) then call('ZREM', o, oldest) end
      surplus = surplus - 1
    end
  end
end
function changes.erase()
  local name, k = key()
  local data_name, due, member, i, o, l = key(), key(), take(), key(), key(), key()
  local q, scan = key(), take()
  call('DEL', name, data_name)
  records[k] = nil
  call('ZREM', due, member)
  leave(i, o, l, scan)
  for _ = 1, number() do
    local pointer = take()
    local found = call('HGET', q, pointer)
    if found and found:sub(13) == scan then call('HDEL', q, pointer) end
  end
  news(take())
end

for nth = 1, number() do
  local holds, found = guards[take()]()
  if not holds then
    if ARGV[1]:find('c') then  -- a write without effect, so that there is one to wait for
      for _, name in ipairs(KEYS) do
        local left = call('PTTL', name)
        if left > 0 then call('PEXPIRE', name, left) end
      end
    end
    return {nth, now, found or ''}
  end
end
for _ = 1, number() do changes[take()]() end
for k, r in pairs(records) do if r.changed then flush(k, r) end end
for _, channel in ipairs(channels) do  -- last, and never in the way of what is written
  if ARGV[1]:find('s') then redis.pcall('SPUBLISH', channel, '') else redis.pcall('PUBLISH', channel, '') end
end
return {0, now, ''}
