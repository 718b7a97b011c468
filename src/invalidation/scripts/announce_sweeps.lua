-- Tells the fleet of sweeps whose leases are gone: what they match is outdated from now on.
-- KEYS  [1] the announced sweeps, a sorted set: `<id> <pattern>` → when the announcement ends, in ms by Redis' clock
-- ARGV  [1] how long they are announced, in milliseconds; [2] how long it is remembered beyond that; [3] the channel; then two
--       a sweep: its entry, its message
-- Returns the number of sweeps
-- Why a script: the ends are by one clock, and a daemon that subscribes and then reads the set misses none.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[2]))
for i = 4, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[1]), ARGV[i])
  redis.call('PUBLISH', ARGV[3], ARGV[i + 1])
end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ARGV[1] + ARGV[2]))
return (#ARGV - 3) / 2
