-- Says that an index is whole: a pass has looked at all keys since the build began.
-- KEYS  [1] the index, a sorted set: key → 0
-- ARGV  [1] the mark of the build; [2] the mark of a whole index, new for every build
-- Returns 1 it is whole | 0 the build came to nothing: its mark is gone
-- Why a script: the index is whole only if nothing has removed it since, and it must not be removed in between.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
redis.call('ZREMRANGEBYLEX', KEYS[1], '[:build:', '(:build;')
redis.call('ZADD', KEYS[1], 0, ARGV[2])
return 1
