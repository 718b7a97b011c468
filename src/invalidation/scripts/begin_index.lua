-- Begins to build an index of keys: what is stored from now on is listed by who stores it, what is there already by a pass.
-- KEYS  [1] the index, a sorted set: key → 0; what begins with a colon is no key but a mark
-- ARGV  [1] the mark of this build; [2] the index' life in milliseconds
-- Returns 1 it has begun | 0 the index is whole already
-- Why a script: a build stands as its mark in the index itself. Whatever makes the index untrue (it is evicted, emptied, or
-- removed by a daemon that stores values without it) takes the mark away in the same step.
if #redis.call('ZRANGEBYLEX', KEYS[1], '[:whole:', '(:whole;', 'LIMIT', 0, 1) > 0 then
  return 0
end
-- Builds that broke off left their marks.
if redis.call('ZLEXCOUNT', KEYS[1], '[:build:', '(:build;') >= 16 then
  redis.call('ZREMRANGEBYLEX', KEYS[1], '[:build:', '(:build;')
end
redis.call('ZADD', KEYS[1], 0, ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
