-- Holds locks for longer, and notes the fences that were minted for them.
-- KEYS  [1] the index of all locks; [2 .. n+1] the locks
-- ARGV  four a lock: token; ttl in ms from now on; for what a fence was minted: '~' and who took the lock, or ''; that fence
-- Returns, a lock each: its fence ('~…': none yet) | 0 it is not the token's (any more)
-- Why a script: a lock that has expired is not revived, though nobody may have taken it since: who asks may have been told
-- that it was lost. A fence that is there already is kept: two who ask with one token are told the same. One that was minted
-- for what the token held before, and lost, is lower than those of others who held the lock meanwhile: it is not taken.
local function extend(key, token, ttl_ms, birth, minted)
  local held = redis.call('HGET', key, 'h:' .. token) or ''
  local kind, ends, fence, askers = string.match(held, '^(%S+) (%S+) (%S+) (%S+)$')
  if not kind or tonumber(ends) <= now then return 0 end
  if string.sub(fence, 1, 1) == '~' and birth ~= '' then
    if fence ~= birth then return 0 end
    fence = minted
  end
  -- Two who ask with one token may ask for different lives: neither makes the other's shorter.
  ends = math.max(now + ttl_ms, birth ~= '' and tonumber(ends) or 0)
  hold(key, token, {kind = kind, ends = ends, fence = fence, askers = askers})
  keep(key, ends)
  list(key, ends)
  return fence
end

local answers = {}
for i = 2, #KEYS do
  local a = 4 * (i - 2)
  answers[i - 1] = extend(KEYS[i], ARGV[a + 1], tonumber(ARGV[a + 2]), ARGV[a + 3], ARGV[a + 4])
end
finish()
return answers
