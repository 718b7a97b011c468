-- Lets locks go.
-- KEYS  [1] the index of all locks; [2 .. n+1] the locks
-- ARGV  [1] the daemon's instance; then two a lock: token; asker, '': whoever was told that the token has it
-- Returns, a lock each: 1 it was let go | 0 it was not the token's (any more), or others were told that it is
-- Why a script: only the holder lets go, and who waits is told in the same step, or would wait until it looks again. A daemon
-- lets go of what it acquired for somebody who is gone: that one is told of it no more, and the lock goes with the last who was.
-- The token may have been told more than once, maybe by another daemon, and whoever was answered must not lose it by that.
local function without(askers, asker)
  local others = {}
  for other in string.gmatch(askers, '[^,]+') do
    if other ~= asker then others[#others + 1] = other end
  end
  return table.concat(others, ',')
end

local function let_go(key, token, asker)
  local lock = read(key)
  local mine = lock.holders[token]
  if not mine then return 0 end
  local others = asker ~= '' and without(mine.askers, asker) or ''
  if others ~= '' then
    mine.askers = others
    hold(key, token, mine)
    return 0
  end
  redis.call('HDEL', key, 'h:' .. token)
  if lock.held == 1 then unlist(key) end
  tell(key, lock, ARGV[1])
  return 1
end

local answers = {}
for i = 2, #KEYS do
  answers[i - 1] = let_go(KEYS[i], ARGV[2 * i - 2], ARGV[2 * i - 1])
end
finish()
return answers
