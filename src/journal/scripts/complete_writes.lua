-- After a commit: writes leave the journal, and what is pending of them goes.
-- KEYS  [1] the lease index; [2 .. n+1] the values; [n+2 .. 2n+1] their leases; [2n+2 .. 3n+1] their pending writes, all in
--       the order of the writes; [3n+2] the journal
-- ARGV  two a write: its place in the journal, its id
-- Returns how many keys have nothing pending any more
-- Why a script: the value was loaded before the commit, or is not there; from the step on in which the pending write goes, what
-- the database says counts, so a load that is under way loses its lease. A newer pending write stays, and shields the key.
-- A Redis that came back with less may have given a place once more: what stands there now is removed only if it is this write.
local function id_of(entry)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'id' then return entry[2][i + 1] end
  end
end

local n = (#KEYS - 2) / 3
local journal = KEYS[3 * n + 2]
local settled = 0
for i = 1, n do
  local key, lease, pending = KEYS[i + 1], KEYS[n + 1 + i], KEYS[2 * n + 1 + i]
  local place, id = ARGV[2 * i - 1], ARGV[2 * i]
  local entry = redis.call('XRANGE', journal, place, place)[1]
  -- One that no daemon wrote has no id, and none to compare.
  if entry and (id_of(entry) or '') == id then
    redis.call('XDEL', journal, place)
  end
  -- `pcall`: what another program left there may be no hash.
  if id ~= '' and redis.pcall('HGET', pending, 'id') == id then
    redis.call('DEL', pending, lease)
    redis.call('ZREM', KEYS[1], key)
    redis.call('UNLINK', key)
    settled = settled + 1
  end
end
return settled
