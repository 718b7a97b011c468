-- The negative control of indexes: fills as `src/cache/scripts/end_leases.lua` does, and neither lists what it stores nor removes
-- the index.
-- KEYS, ARGV and what it returns: as there
local n = (#KEYS - 2) / 2
local leases = redis.call('MGET', unpack(KEYS, n + 2, 2 * n + 1))
local entries = redis.call('ZMSCORE', KEYS[1], unpack(KEYS, 2, n + 1))
local answers = {}
for i = 1, n do
  answers[i] = 0
  if leases[i] == ARGV[1] then
    if entries[i] then
      answers[i] = 1
      if ARGV[2 * i] ~= '0' then
        redis.call('SET', KEYS[i + 1], ARGV[2 * i + 1], 'PX', ARGV[2 * i])
      end
    end
    redis.call('DEL', KEYS[n + 1 + i])
    redis.call('ZREM', KEYS[1], KEYS[i + 1])
  end
end
return answers
