-- Invalidates keys by name: leases first, values second.
-- KEYS  [1] the lease index; [2 .. n+1] the values; [n+2 .. 2n+1] their leases, in the same order
-- ARGV  none
-- Returns the number of values that were there (a remembered missing row, the JSON text null, is none)
-- Why a script: a load that is under way anywhere loses its lease in the same step in which the value goes, also when there
-- is no value to delete: that is what stops the load from putting the outdated one back.
local n = (#KEYS - 1) / 2
redis.call('DEL', unpack(KEYS, n + 2, 2 * n + 1))
redis.call('ZREM', KEYS[1], unpack(KEYS, 2, n + 1))
local removed = 0
for i = 2, n + 1 do
  -- `pcall`: what another program left there may be no string, and goes all the same.
  local missing = redis.pcall('STRLEN', KEYS[i]) == 4 and redis.call('GET', KEYS[i]) == 'null'
  if redis.call('UNLINK', KEYS[i]) == 1 and not missing then
    removed = removed + 1
  end
end
return removed
