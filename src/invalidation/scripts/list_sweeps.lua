-- Lists the sweeps that are announced, and those that were and never ended.
-- KEYS  [1] the announced sweeps, a sorted set: `<id> <pattern>` → when the announcement ends, in ms by Redis' clock
-- ARGV  [1] the most entries to return
-- Returns two a sweep: its entry, and how long it is still announced, in milliseconds; negative, since when it is not
-- Why a script: how long is left is told by the clock that set the end.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', '-inf', 'WITHSCORES', 'LIMIT', 0, ARGV[1])
for i = 2, #found, 2 do
  found[i] = found[i] - now
end
return found
