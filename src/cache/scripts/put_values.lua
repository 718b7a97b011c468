-- Stores values that a program gives us itself, ending every load of the same keys.
-- KEYS  [1] the lease index; [2 .. n+1] the values; [n+2 .. 2n+1] their leases, in the same order; [2n+2] the index of
--       these keys
-- ARGV  two a key: life in milliseconds, value; last '1': the index is kept
-- Returns the number of values stored
-- Why a script: a load that began before must not overwrite the newer value, so its lease goes in the same step.
local n = (#KEYS - 2) / 2
redis.call('DEL', unpack(KEYS, n + 2, 2 * n + 1))
redis.call('ZREM', KEYS[1], unpack(KEYS, 2, n + 1))
local stored, longest_ms = {}, 0
for i = 1, n do
  redis.call('SET', KEYS[i + 1], ARGV[2 * i], 'PX', ARGV[2 * i - 1])
  stored[i] = KEYS[i + 1]
  longest_ms = math.max(longest_ms, tonumber(ARGV[2 * i - 1]))
end
list(KEYS[2 * n + 2], ARGV[2 * n + 1], stored, longest_ms)
return n
