-- Runs one command that writes a plain key, and gives the key a life if it is left without an end.
-- KEYS  [1] the key
-- ARGV  [1] its declared life in milliseconds; [2 ..] the command and its words
-- Returns the command's own reply, its error included; but a number as text, for Lua's are exact up to 2^53 only
-- Why a script: whoever dies between a write and its expiry leaves a key for ever.
local reply = redis.pcall(unpack(ARGV, 2))
if type(reply) == 'table' and reply.err then
  return reply
end
if redis.call('PTTL', KEYS[1]) == -1 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
if type(reply) == 'number' then
  return redis.call('GET', KEYS[1])
end
return reply
