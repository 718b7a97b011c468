-- Tells the fleet that announced sweeps have ended: what they matched is gone.
-- KEYS  [1] the announced sweeps, a sorted set
-- ARGV  [1] the channel; then two a sweep: its entry, its message
-- Returns the number of sweeps
-- Why a script: a daemon that subscribes and then reads the set sees a sweep as announced or as ended, never as neither.
for i = 2, #ARGV, 2 do
  redis.call('ZREM', KEYS[1], ARGV[i])
  redis.call('PUBLISH', ARGV[1], ARGV[i + 1])
end
return (#ARGV - 1) / 2
