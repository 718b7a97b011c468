-- Notes that a run of a cache's warmup is over.
-- KEYS  [1] the note of the cache
-- ARGV  [1] the run's fencing token; [2] the slot up to which all are over, in milliseconds since 1970 (-1: none);
--       [3] when it began, and [4] when it ended, the same; [5] the life of the note in milliseconds
-- Returns 1 noted | 0 somebody with a later token has noted a run: ours lost its lock on the way
-- Why a script: the comparison and the note are one step, so that who was paused does not take back what came later.
local fence = redis.call('HGET', KEYS[1], 'fence')
-- Decimal numbers: the longer one is the larger one. Lua's own numbers would lose digits.
local function is_later(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end
if fence and is_later(fence, ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'fence', ARGV[1], 'slot', ARGV[2], 'began', ARGV[3], 'ended', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
