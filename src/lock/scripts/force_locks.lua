-- Takes locks away from whoever holds them.
-- KEYS  [1] the index of all locks; [2 .. n+1] the locks
-- ARGV  [1] the daemon's instance
-- Returns, a lock each: the fences of those who held it
-- Why a script: who is told of is who has lost it, and nobody who took it a moment later.
local answers = {}
for i = 2, #KEYS do
  local key = KEYS[i]
  local lock = read(key)
  local fences = {}
  for token, holder in pairs(lock.holders) do
    redis.call('HDEL', key, 'h:' .. token)
    fences[#fences + 1] = holder.fence
  end
  if #fences > 0 then
    unlist(key)
    tell(key, lock, ARGV[1])
  end
  answers[i - 1] = fences
end
finish()
return answers
