-- Tries the commands in ARGV on a key of its own, and gives what was refused. A count, then words.
-- The first one makes the key, as a string that ends by itself; the last one drops it again.
local refused, at = {}, 1
while at <= #ARGV do
  local words = {ARGV[at + 1], KEYS[1]}
  for n = 2, tonumber(ARGV[at]) do words[#words + 1] = ARGV[at + n] end
  if words[1] == 'TIME' then words[2] = nil end
  local reply = redis.pcall(unpack(words))
  if type(reply) == 'table' and reply.err and not reply.err:find('WRONGTYPE', 1, true) then
    refused[#refused + 1] = words[1] .. ': ' .. reply.err
    if at == 1 then break end
  end
  at = at + 1 + tonumber(ARGV[at])
end
return refused
