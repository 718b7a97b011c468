-- Runs one command that writes plain keys, and gives a life to those that it leaves without an end.
-- KEYS  [1 .. n] the keys that it writes
-- ARGV  [1 .. n] the declared life of each in milliseconds; [n+1 ..] the command and its words
-- Returns the command's own reply, its error included; but a number as text, for Lua's are exact up to 2^53 only
-- Why a script: whoever dies between a write and its expiry leaves a key for ever.
local n = #KEYS
local reply = redis.pcall(unpack(ARGV, n + 1))
if type(reply) == 'table' and reply.err then
  return reply
end
for i = 1, n do
  if redis.call('PTTL', KEYS[i]) == -1 then
    redis.call('PEXPIRE', KEYS[i], ARGV[i])
  end
end
if type(reply) == 'number' then
  return redis.call('GET', KEYS[1])
end
return reply
