-- Lets locks go.
-- KEYS  [1] the index of all locks; [2 .. n+1] the locks
-- ARGV  [1] the daemon's instance; then a token a lock
-- Returns, a lock each: 1 it was the token's | 0 it was not (any more)
-- Why a script: only the holder lets go, and who waits is told in the same step, or would wait until it looks again.
local answers = {}
for i = 2, #KEYS do
  local key, token = KEYS[i], ARGV[i]
  local lock = read(key)
  local mine = lock.holders[token]
  if mine then
    redis.call('HDEL', key, 'h:' .. token)
    if lock.held == 1 then unlist(key) end
    tell(key, lock, ARGV[1])
  end
  answers[i - 1] = mine and 1 or 0
end
finish()
return answers
