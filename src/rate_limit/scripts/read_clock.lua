-- The time in whole microseconds since 1970, by Redis' own clock: the one that all daemons share. 2^53 of them last until
-- the year 2255. First of the parts that `serve_requests` is composed of; tests put another clock in its place.
-- KEYS  none of its own
-- ARGV  none of its own
-- Returns nothing
-- Why a script: a daemon that told its own time could be wrong by minutes, and each by others.
local read_at = redis.call('TIME')
local read_us = read_at[1] * 1000000 + read_at[2]
local function clock()
  return read_us
end
