-- Holds locks for longer, and notes the fences that were minted for them.
-- KEYS  [1] the index of all locks; [2 .. n+1] the locks
-- ARGV  three a lock: token; ttl in ms from now on; its fence, '0': none was minted
-- Returns, a lock each: the fence it has now ('0': none yet) | 0 it is not the token's (any more)
-- Why a script: a lock that has expired is not revived, though nobody may have taken it since: who asks may have been told
-- that it was lost. A fence that is there already is kept: two who ask with one token are told the same.
local answers = {}
for i = 2, #KEYS do
  local a = 3 * (i - 2)
  local key, field = KEYS[i], 'h:' .. ARGV[a + 1]
  local kind, ends, fence = string.match(redis.call('HGET', key, field) or '', '^(%S+) (%S+) (%S+)$')
  if kind and tonumber(ends) > now then
    if fence == '0' then fence = ARGV[a + 3] end
    local new_ends = now + tonumber(ARGV[a + 2])
    redis.call('HSET', key, field, kind .. ' ' .. whole(new_ends) .. ' ' .. fence)
    keep(key, new_ends)
    list(key, new_ends)
    answers[i - 1] = fence
  else
    answers[i - 1] = 0
  end
end
finish()
return answers
