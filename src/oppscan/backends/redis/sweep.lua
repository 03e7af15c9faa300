-- Drops what owners' indexes and pointers, or a shard's due times, keep no longer, and what nobody
-- can read.
-- KEYS: i, o, q of each owner, as many as ARGV[1] allows to drop; or, with more of ARGV, a due set
-- and the records of the members in it, which go where their scan is gone, or expired.
-- Gives the number of scans that went, of all things, and of the owners that were looked at.
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function int(s, nth)  -- 0 where there is none
  local a, b, c, d, e, f = s:byte(nth * 6 - 5, nth * 6)
  return f and ((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f or 0
end

local gone, all = 0, 0
for n = 2, #ARGV do
  local raw, size = call('GETRANGE', KEYS[n], 0, 35), call('STRLEN', KEYS[n])
  local sound = #raw == 36 and int(raw, 4) >= 36 and int(raw, 4) + int(raw, 5) <= size
  if not sound or int(raw, 2) <= now then all = all + call('ZREM', KEYS[1], ARGV[n]) end
end
if #ARGV > 1 then return {0, all, 0} end
for k = 1, #KEYS, 3 do
  local i, o, q = KEYS[k], KEYS[k + 1], KEYS[k + 2]
  local entries, pointers = call('HGETALL', i), call('HGETALL', q)
  for n = 2, #entries, 2 do
    if #entries[n] < 25 or int(entries[n], 3) <= now then
      call('HDEL', i, entries[n - 1])
      call('ZREM', o, entries[n - 1])
      gone = gone + 1
    end
  end
  for n = 2, #pointers, 2 do
    if #pointers[n] < 28 or int(pointers[n], 2) <= now then all = all + call('HDEL', q, pointers[n - 1]) end
  end
  if gone + all >= tonumber(ARGV[1]) then return {gone, gone + all, (k + 2) / 3} end
end
return {gone, gone + all, #KEYS / 3}
