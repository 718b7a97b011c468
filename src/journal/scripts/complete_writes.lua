-- After a commit: writes leave the journal, and what is pending of them goes.
-- KEYS  [1] the lease index; [2 .. n+1] the values; [n+2 .. 2n+1] their leases; [2n+2 .. 3n+1] their pending writes, all in
--       the order of the writes; [3n+2] the journal
-- ARGV  two a write: its place in the journal, its id; the first place first and the last one last
-- Returns how many keys have nothing pending any more
-- Why a script: the value was loaded before the commit, or is not there; from the step on in which the pending write goes, what
-- the database says counts, so a load that is under way loses its lease. A newer pending write stays, and shields the key.
-- A Redis that came back with less may have given a place once more: what stands there now is removed only if it is this write.
local function id_of(entry)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'id' then return entry[2][i + 1] end
  end
  return '' -- one that no daemon wrote has none
end

local n = (#KEYS - 2) / 3
local journal = KEYS[3 * n + 2]

-- Mostly they stand there one behind the other, and one look finds all.
local ids = {}
for _, entry in ipairs(redis.call('XRANGE', journal, ARGV[1], ARGV[2 * n - 1], 'COUNT', n)) do
  ids[entry[1]] = id_of(entry)
end

local saved, settled, gone = {}, {}, {}
for i = 1, n do
  local place, id = ARGV[2 * i - 1], ARGV[2 * i]
  if not ids[place] then
    local entry = redis.call('XRANGE', journal, place, place)[1]
    ids[place] = entry and id_of(entry)
  end
  if ids[place] == id then
    saved[#saved + 1] = place
  end
  local key, lease, pending = KEYS[i + 1], KEYS[n + 1 + i], KEYS[2 * n + 1 + i]
  -- `pcall`: what another program left there may be no hash.
  if id ~= '' and redis.pcall('HGET', pending, 'id') == id then
    settled[#settled + 1] = key
    gone[2 * #settled - 1], gone[2 * #settled] = pending, lease
  end
end

if #saved > 0 then
  redis.call('XDEL', journal, unpack(saved))
end
if #settled > 0 then
  redis.call('DEL', unpack(gone))
  redis.call('ZREM', KEYS[1], unpack(settled))
  redis.call('UNLINK', unpack(settled))
end
return #settled
