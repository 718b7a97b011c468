-- Lists keys that a pass has found, in an index that is being built.
-- KEYS  [1] the index, a sorted set: key → 0
-- ARGV  [1] the mark of the build; [2 .. n+1] the keys
-- Returns 1 they are listed | 0 the build came to nothing: its mark is gone
-- Why a script: without its mark nothing may be added, or what is left of a removed index would come to life again.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
local entries = {}
for i = 2, #ARGV do
  entries[2 * i - 3], entries[2 * i - 2] = '0', ARGV[i]
end
redis.call('ZADD', KEYS[1], unpack(entries))
return 1
