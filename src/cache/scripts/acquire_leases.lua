-- Before a load: answers each key's value if it is there, else takes the key's lease unless another load holds it.
-- KEYS  [1] the lease index; [2 .. n+1] the values; [n+2 .. 2n+1] their leases, in the same order
-- ARGV  [1] lease length in milliseconds; [2] the load's token
-- Returns, a key each: {value, remaining life in ms} | 1 the lease is yours | 0 another load holds it
-- Why a script: between "the value is not there" and "the lease is mine" nothing may happen, and lease and index entry
-- come into being together: an invalidation by pattern finds leases only through the index.
local n = (#KEYS - 1) / 2
local lease_ms, token = tonumber(ARGV[1]), ARGV[2]
local values = redis.call('MGET', unpack(KEYS, 2, n + 1))

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = string.format('%.0f', now + lease_ms)

local answers, entries = {}, {}
for i = 1, n do
  if values[i] then
    answers[i] = {values[i], redis.call('PTTL', KEYS[i + 1])}
  elseif redis.call('SET', KEYS[n + 1 + i], token, 'NX', 'PX', ARGV[1]) then
    entries[#entries + 1] = ends
    entries[#entries + 1] = KEYS[i + 1]
    answers[i] = 1
  else
    answers[i] = 0
  end
end

if #entries > 0 then
  redis.call('ZADD', KEYS[1], unpack(entries))
  -- Entries of loads that never ended go by their score; the index itself outlives its last entry and then expires.
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now))
  if redis.call('PTTL', KEYS[1]) < lease_ms then
    redis.call('PEXPIRE', KEYS[1], 2 * lease_ms + 60000)
  end
end
return answers
