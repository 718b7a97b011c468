-- Looks at locks.
-- KEYS  [1] the index of all locks; [2 .. n+1] the locks
-- ARGV  [1] the daemon's instance
-- Returns, a lock each: {how many hold it, the latest fence among them ('0': none), for how many ms it is held at most, how
--   many other daemons wait for it}
-- Why a script: it is told of one moment, by the clock that decides.
local answers = {}
for i = 2, #KEYS do
  local lock = read(KEYS[i])
  local fence, waiters = '0', 0
  for _, holder in pairs(lock.holders) do
    -- Fences are positive and have no zeros in front; as numbers of Lua, the largest would be rounded.
    local longer = #holder.fence - #fence
    local is_later = longer > 0 or (longer == 0 and holder.fence > fence)
    if is_later and string.sub(holder.fence, 1, 1) ~= '~' then fence = holder.fence end
  end
  for other in pairs(lock.marks) do
    if other ~= ARGV[1] then waiters = waiters + 1 end
  end
  answers[i - 1] = {lock.held, fence, math.max(lock.latest - now, 0), waiters}
end
return answers
