-- The negative control of the race: stores each key's value without looking at the lease, as plain cache-aside does.
-- KEYS, ARGV and what it returns: as in `src/cache/scripts/end_leases.lua`
local n = (#KEYS - 2) / 2
local answers = {}
for i = 1, n do
  if ARGV[2 * i] ~= '0' then
    redis.call('SET', KEYS[i + 1], ARGV[2 * i + 1], 'PX', ARGV[2 * i])
  end
  answers[i] = 1
end
redis.call('DEL', unpack(KEYS, n + 2, 2 * n + 1))
redis.call('ZREM', KEYS[1], unpack(KEYS, 2, n + 1))
return answers
