-- Drops what an owner's index and pointers, or a shard's due times, keep no longer.
-- KEYS: an owner's i, o, l, q; or a due set and the records of the members in ARGV, which go where
-- their scan is gone, or expired.
-- Gives the number of scans that went, and of all things.
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function int(s, nth)
  local n = 0
  for b = nth * 6 - 5, nth * 6 do n = n * 256 + s:byte(b) end
  return n
end

local gone, all = 0, 0
if #ARGV > 0 then
  for n, member in ipairs(ARGV) do
    local raw = call('GETRANGE', KEYS[n + 1], 6, 11)
    if raw == '' or int(raw, 1) <= now then all = all + call('ZREM', KEYS[1], member) end
  end
  return {0, all}
end
local I, O, L, Q = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local entries = call('HGETALL', I)
for n = 1, #entries, 2 do
  local scan, entry = entries[n], entries[n + 1]
  if int(entry, 3) <= now then
    call('HDEL', I, scan)
    call('ZREM', O, scan)
    call('ZREM', L, string.char(#scan) .. scan .. entry:sub(26, 25 + entry:byte(25)))
    gone = gone + 1
  end
end
local pointers = call('HGETALL', Q)
for n = 1, #pointers, 2 do
  if int(pointers[n + 1], 2) <= now then all = all + call('HDEL', Q, pointers[n]) end
end
return {gone, gone + all}
