-- The part that every script which hands out leases has in common, standing before it: a lease and its entry in the index come
-- into being together, for an invalidation by pattern finds leases only there.
-- KEYS  none of its own
-- ARGV  none of its own; `note` is given the index, the keys whose leases were taken, and the length of a lease in milliseconds
-- Returns nothing
-- Why a script: a lease without an entry would let what was loaded before an invalidation be stored after it.
local function note(index, taken, lease_ms)
  if #taken == 0 then return end
  local time = redis.call('TIME')
  local now, entries = time[1] * 1000 + math.floor(time[2] / 1000), {}
  local ends = string.format('%.0f', now + lease_ms)
  for i = 1, #taken do
    entries[2 * i - 1], entries[2 * i] = ends, taken[i]
  end
  redis.call('ZADD', index, unpack(entries))
  -- Entries of loads that never ended go by their score; the index itself outlives its last entry and then expires.
  redis.call('ZREMRANGEBYSCORE', index, '-inf', '(' .. string.format('%.0f', now))
  if redis.call('PTTL', index) < lease_ms then
    redis.call('PEXPIRE', index, 2 * lease_ms + 60000)
  end
end
