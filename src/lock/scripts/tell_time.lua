-- The clock of all scripts of this room, standing before every one of them: Redis' own, so that no daemon's clock decides who
-- holds a lock.
-- KEYS  none
-- ARGV  none
-- Returns nothing; `now` is the time in milliseconds since 1970, the same throughout a call
-- Why a script: a test that has to see locks expire puts a clock of its own in this place.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
