-- Vouches for prefixes: what lies under them in these very data is as it should be.
-- KEYS  [1] the heartbeats, a hash: prefix → `<run id> <replication id> <time>`
-- ARGV  [1] `<run id> <replication id>`, of these data; [2] the time by Postgres' clock, '0' if it is not known; [3] the
--       hash' life in milliseconds; [4] the most prefixes it may remember; [5 .. n+4] the prefixes
-- Returns the number of prefixes
-- Why a script: who does not know the time must not take it from who has told it in between.
local data, at = ARGV[1] .. ' ', ARGV[2]
-- Those that still serve are told anew by their own daemons; of the others nobody knows any more, and they are swept.
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[4]) then
  redis.call('DEL', KEYS[1])
end
for i = 5, #ARGV do
  local left = at == '0' and redis.call('HGET', KEYS[1], ARGV[i])
  if not left or string.sub(left, 1, #data) ~= data then
    redis.call('HSET', KEYS[1], ARGV[i], data .. at)
  end
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return #ARGV - 4
