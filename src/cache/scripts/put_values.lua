-- Stores values that a program gives us itself, ending every load of the same keys.
-- KEYS  [1] the lease index; [2 .. n+1] the values; [n+2 .. 2n+1] their leases, in the same order
-- ARGV  two a key: life in milliseconds, value
-- Returns the number of values stored
-- Why a script: a load that began before must not overwrite the newer value, so its lease goes in the same step.
local n = (#KEYS - 1) / 2
redis.call('DEL', unpack(KEYS, n + 2, 2 * n + 1))
redis.call('ZREM', KEYS[1], unpack(KEYS, 2, n + 1))
for i = 1, n do
  redis.call('SET', KEYS[i + 1], ARGV[2 * i], 'PX', ARGV[2 * i - 1])
end
return n
