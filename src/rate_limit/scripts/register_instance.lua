-- Says that a daemon lives, and counts those that do.
-- KEYS  [1] the sorted set of daemons: instance -> end of its registration in microseconds
-- ARGV  [1] the instance; [2] how long it is registered, in microseconds
-- Returns how many daemons are registered, this one included
-- Why a script: Redis' own clock decides who is still there.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000))
return redis.call('ZCARD', KEYS[1])
