-- Takes locks that are free, each for one token; who may not have one, and waits, leaves a mark.
-- KEYS  [1] the index of all locks; [2 .. n+1] the locks, one as often as it is asked for
-- ARGV  [1] the daemon's instance; [2] how long a mark counts, in ms; then nine a lock: token; asker; class and room; ttl in
--       ms; for how long the token has waited, in ms; '1': it will wait on; '1': others of this daemon wait before it, so it is
--       only asked whether the lock is the token's already; for how long the daemon's next waiter has waited, in ms ('': there
--       is none); that one's class and room
-- Returns, a lock each: the fence ('~' and who took it, if there is none yet): the lock is the token's | the number of ms after
--   which another try is worth it
-- Why a script: between "nobody holds it" and "it is mine" nothing may happen. A token that holds the lock is told so again:
-- its answer may have been lost. Nothing of what others were answered is taken back by that: the lock lives no shorter, and who
-- asks now stands beside who asked before, so that one of them may go. A mark of another daemon that is older refuses: who has waited longest is next, in the
-- whole fleet, and no daemon keeps a lock among its own.
local instance, mark_ms = ARGV[1], tonumber(ARGV[2])
local marked = {}
-- Told to more at once, nobody is counted any more: '*' stands for all, and the lock goes by its token's word, or by time.
local MOST_ASKERS = 16

-- Until when the lock cannot be had, or nil.
local function refused(lock, kind, since)
  local until_ms
  local function wait_for(ends)
    until_ms = math.min(until_ms or ends, ends)
  end
  local is_full = lock.held >= room(kind)
  for _, holder in pairs(lock.holders) do
    if is_full or class(holder.kind) ~= class(kind) then wait_for(holder.ends) end
  end
  for other, mark in pairs(lock.marks) do
    local both_share = class(mark.kind) == 's' and class(kind) == 's'
    if other ~= instance and mark.since < since and not both_share then wait_for(mark.ends) end
  end
  return until_ms
end

local function with(askers, asker)
  local _, commas = string.gsub(askers, ',', '')
  return commas + 1 < MOST_ASKERS and askers .. ',' .. asker or '*'
end

local function mark(key, waited_ms, kind)
  local alive = now + mark_ms
  local text = whole(now - waited_ms) .. ' ' .. whole(alive) .. ' ' .. kind
  redis.call('HSET', key, 'q:' .. instance, text)
  keep(key, alive)
end

local function grant(key, lock, token, asker, kind, ends)
  hold(key, token, {kind = kind, ends = ends, fence = '~' .. asker, askers = asker})
  keep(key, ends)
  list(key, math.max(ends, lock.latest))
  -- Who may hold it beside this one need not wait for a release.
  if lock.held + 1 < room(kind) then tell(key, lock, instance) end
end

local function take(key, token, asker, kind, ttl_ms, waited_ms, waits, is_behind, next_ms, next_kind)
  local lock = read(key)
  local ends = now + ttl_ms
  local mine = lock.holders[token]
  if mine then
    mine.ends, mine.askers = math.max(mine.ends, ends), with(mine.askers, asker)
    hold(key, token, mine)
    keep(key, mine.ends)
    list(key, math.max(ends, lock.latest))
    return mine.fence
  end
  if is_behind then return 0 end
  if #lock.dead > 0 then redis.call('HDEL', key, unpack(lock.dead)) end
  local until_ms = refused(lock, kind, now - waited_ms)
  if not until_ms then
    grant(key, lock, token, asker, kind, ends)
    if next_ms then
      mark(key, next_ms, next_kind)
    elseif lock.marks[instance] then
      redis.call('HDEL', key, 'q:' .. instance)
    end
    return '~' .. asker
  end
  -- The first of this daemon is the oldest.
  if waits and not marked[key] then
    marked[key] = true
    mark(key, waited_ms, kind)
  end
  return until_ms - now
end

local answers = {}
for i = 2, #KEYS do
  local a = 9 * (i - 2) + 2
  answers[i - 1] = take(
    KEYS[i], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], tonumber(ARGV[a + 4]), tonumber(ARGV[a + 5]), ARGV[a + 6] == '1',
    ARGV[a + 7] == '1', tonumber(ARGV[a + 8]), ARGV[a + 9]
  )
end
finish()
return answers
