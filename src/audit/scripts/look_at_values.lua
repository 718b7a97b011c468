-- Looks at values, when they expire, and their leases, all at one moment.
-- KEYS  [1 .. n] the values; [n+1 .. 2n] their leases, in the same order
-- ARGV  [1] bytes of values to answer with at most, but for the first; [2] bytes wanted of each value, '0': all of it
-- Returns, a key each, until there is no more room: {value | false, remaining life in ms as PTTL says it, the moment it
--   expires in ms since 1970 (negative: never), first 4 bytes of the lease's token | false, the lease's own life in ms}
-- Why a script: value and expiry belong together. A value that is filled anew with the same bytes is told from the one before
-- by the moment it expires.
local n = #KEYS / 2
local room, wanted = tonumber(ARGV[1]), tonumber(ARGV[2])

local function expires(key)
  local moment = redis.pcall('PEXPIRETIME', key)
  if type(moment) == 'number' then return moment end
  -- Redis 6.2 does not know that command. There, both of these tell the time as it is; later versions would not.
  local time, left = redis.call('TIME'), redis.call('PTTL', key)
  return left < 0 and left or time[1] * 1000 + math.floor(time[2] / 1000) + left
end

local answers = {}
for i = 1, n do
  -- `pcall`: what another program left there may be no string, and is no value then.
  local size = redis.pcall('STRLEN', KEYS[i])
  if type(size) ~= 'number' then size = 0 end
  if wanted > 0 and size > wanted then size = wanted end
  if i > 1 and size > room then break end
  room = room - size
  local token = redis.pcall('GET', KEYS[n + i])
  if type(token) ~= 'string' then token = false end
  answers[i] = {
    size > 0 and redis.call('GETRANGE', KEYS[i], 0, wanted - 1),
    redis.call('PTTL', KEYS[i]),
    expires(KEYS[i]),
    token and string.sub(token, 1, 4),
    redis.call('PTTL', KEYS[n + i]),
  }
end
return answers
