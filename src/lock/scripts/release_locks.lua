-- Lets locks go.
-- KEYS  [1] the index of all locks; [2 .. n+1] the locks
-- ARGV  [1] the daemon's instance; then two a lock: token; asker, '': whoever was told last that the token has it
-- Returns, a lock each: 1 it was let go | 0 it was not the token's (any more), or the asker was not told last
-- Why a script: only the holder lets go, and who waits is told in the same step, or would wait until it looks again. A daemon
-- lets go of what it acquired for somebody who is gone: unless that one has asked again, maybe another daemon.
local answers = {}
for i = 2, #KEYS do
  local key, token, asker = KEYS[i], ARGV[2 * i - 2], ARGV[2 * i - 1]
  local lock = read(key)
  local mine = lock.holders[token]
  local is_let_go = mine and (asker == '' or asker == mine.asker)
  if is_let_go then
    redis.call('HDEL', key, 'h:' .. token)
    if lock.held == 1 then unlist(key) end
    tell(key, lock, ARGV[1])
  end
  answers[i - 1] = is_let_go and 1 or 0
end
finish()
return answers
