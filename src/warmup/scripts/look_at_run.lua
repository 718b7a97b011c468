-- Tells what is known of the last run of a cache's warmup in the whole fleet, and what time it is.
-- KEYS  [1] the note of the cache
-- ARGV  none
-- Returns {now, slot, began, ended}: milliseconds since 1970; -1 where nothing is known
-- Why a script: the note and the clock it goes by are read in one step, and slots are told by this one clock only: what
-- the clocks of the daemons say, or jump to, makes no run and keeps none from being made.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local note = redis.call('HMGET', KEYS[1], 'slot', 'began', 'ended')
for i = 1, 3 do
  note[i] = tonumber(note[i] or '-1')
end
return {now, note[1], note[2], note[3]}
