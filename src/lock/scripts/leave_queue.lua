-- Nobody of a daemon waits for these locks any more.
-- KEYS  [1] the index of all locks; [2 .. n+1] the locks
-- ARGV  [1] the daemon's instance
-- Returns the number of marks that were there
-- Why a script: who was behind this one may be next, and is told in the same step.
local left = 0
for i = 2, #KEYS do
  local key = KEYS[i]
  local lock = read(key)
  if lock.marks[ARGV[1]] then
    redis.call('HDEL', key, 'q:' .. ARGV[1])
    tell(key, lock, ARGV[1])
    left = left + 1
  end
end
return left
