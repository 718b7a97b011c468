-- The part that all scripts of this room have in common, standing before them: what a lock is, and how long it is kept.
-- A lock is a hash: `h:<token>` → "<class><room> <deadline> <fence> <askers>", one field a holder; `q:<instance>` → "<since>
-- <alive until> <class><room>", the oldest that waits in one daemon. A class is x (exclusive), s (shared) or p (permits);
-- holders of one class go together, as many as there is room. Until a fence is minted, in its place stands `~` and who took
-- the lock; the askers are those who were told that the token has it, and have not gone since, with commas between them. Times
-- are in ms since 1970.
-- KEYS  [1] the index of all locks, and the channel on which daemons are told that a lock is worth another try
-- ARGV  none of its own
-- Returns nothing
-- Why a script: what a daemon reads of a lock is decided on in the same step, by the clock of Redis.
local HEAD = string.len('cachewarden:lock:')
-- Kept beyond its last deadline, so that not every renewal has to set the expiry anew.
local SPARE_MS = 1000
local listed, unlisted = {}, {}

local function whole(number)
  return string.format('%.0f', number)
end

-- What is alive of a lock; `dead` are the fields that no longer count, `latest` is when the last one ends to count.
local function read(key)
  local lock = {holders = {}, marks = {}, dead = {}, held = 0, latest = 0}
  local fields = redis.call('HGETALL', key)
  for f = 1, #fields, 2 do
    local field = fields[f]
    local one, two, three, four = string.match(fields[f + 1], '^(%S+) (%S+) (%S+) ?(%S*)$')
    local is_holder = string.sub(field, 1, 2) == 'h:'
    local ends = tonumber(two)
    if not ends or ends <= now then
      lock.dead[#lock.dead + 1] = field
    elseif is_holder then
      lock.held = lock.held + 1
      lock.holders[string.sub(field, 3)] = {kind = one, ends = ends, fence = three, askers = four}
      lock.latest = math.max(lock.latest, ends)
    else
      lock.marks[string.sub(field, 3)] = {since = tonumber(one), ends = ends, kind = three}
    end
  end
  return lock
end

local function class(kind)
  return string.sub(kind, 1, 1)
end

local function room(kind)
  return tonumber(string.sub(kind, 2))
end

local function hold(key, token, holder)
  local text = holder.kind .. ' ' .. whole(holder.ends) .. ' ' .. holder.fence .. ' ' .. holder.askers
  redis.call('HSET', key, 'h:' .. token, text)
end

-- Tells the daemons that wait for it, but `by`: who has let go tells itself.
local function tell(key, lock, by)
  for instance in pairs(lock.marks) do
    if instance ~= by then
      redis.call('PUBLISH', KEYS[1], string.sub(key, HEAD + 1))
      return
    end
  end
end

-- The key lives as long as something in it may count.
local function keep(key, ends)
  local left = ends - now
  if redis.call('PTTL', key) < left then
    redis.call('PEXPIRE', key, whole(left + SPARE_MS))
  end
end

local function list(key, ends)
  listed[#listed + 1] = whole(ends)
  listed[#listed + 1] = string.sub(key, HEAD + 1)
end

local function unlist(key)
  unlisted[#unlisted + 1] = string.sub(key, HEAD + 1)
end

-- The index knows every lock that is held: it is only ever looked through, so it may know others, until they are pruned.
local function finish()
  if #unlisted > 0 then
    redis.call('ZREM', KEYS[1], unpack(unlisted))
  end
  if #listed == 0 then return end
  redis.call('ZADD', KEYS[1], 'GT', unpack(listed))
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. whole(now))
  local longest = 0
  for l = 1, #listed, 2 do
    longest = math.max(longest, tonumber(listed[l]) - now)
  end
  if redis.call('PTTL', KEYS[1]) < longest then
    redis.call('PEXPIRE', KEYS[1], whole(2 * longest + 60000))
  end
end
