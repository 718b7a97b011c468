-- Reads what is vouched for.
-- KEYS  [1] the heartbeats, a hash: prefix → `<run id> <replication id> <time>`
-- ARGV  [1 .. n] the prefixes
-- Returns how many other keys there are in the database, then the heartbeat of each prefix, nil if it has none
-- Why a script: no heartbeat means nothing where there is no other key either, so both are of one moment.
local answer = {redis.call('DBSIZE') - redis.call('EXISTS', KEYS[1])}
for i = 1, #ARGV do
  answer[1 + i] = redis.call('HGET', KEYS[1], ARGV[i])
end
return answer
