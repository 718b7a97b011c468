-- Reads what is vouched for.
-- KEYS  [1] the heartbeats, a hash: prefix → `<run id> <replication id> <time>`
-- ARGV  [1 .. n] the prefixes
-- Returns how many keys there are in the database, then the heartbeat of each prefix, nil if it has none
-- Why a script: no heartbeat in an empty database means something else than none among keys, so both are of one moment.
local answer = {redis.call('DBSIZE')}
for i = 1, #ARGV do
  answer[1 + i] = redis.call('HGET', KEYS[1], ARGV[i])
end
return answer
