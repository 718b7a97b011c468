-- Accepts writes that go to Postgres later: they stand in the journal, and are what their keys say from now on.
-- KEYS  [1] the lease index; [2 .. n+1] the values; [n+2 .. 2n+1] their leases; [2n+2 .. 3n+1] their pending writes, all in
--       the order of the writes, a key as often as it is written; [3n+2] the journal; [3n+3 .. 4n+2] the keys' copies
-- ARGV  [1] writes the journal may hold; then four a write: its id, its cache, 'set' or 'delete', the value
-- Returns 1 all of them are accepted | 0 none is: the journal is full
-- Why a script: a write that stood in the journal only would not be seen by reads, one that was pending only would never be
-- saved; and a load that is under way loses its lease in the same step, or it would fill what the database said before.
local n = (#KEYS - 2) / 4
local journal = KEYS[3 * n + 2]
if redis.call('XLEN', journal) + n > tonumber(ARGV[1]) then return 0 end

-- With what is pending, or whatever another program left there.
redis.call('DEL', unpack(KEYS, n + 2, 3 * n + 1))
redis.call('ZREM', KEYS[1], unpack(KEYS, 2, n + 1))
redis.call('UNLINK', unpack(KEYS, 2, n + 1))
-- The copies, too: from before the write, they would undo it where nothing can be loaded.
redis.call('UNLINK', unpack(KEYS, 3 * n + 3, 4 * n + 2))
for i = 1, n do
  local key, pending = KEYS[i + 1], KEYS[2 * n + 1 + i]
  local id, cache, op, value = unpack(ARGV, 4 * i - 2, 4 * i + 1)
  redis.call('XADD', journal, '*', 'id', id, 'cache', cache, 'key', key, 'op', op, 'value', value)
  redis.call('HSET', pending, 'id', id, 'op', op, 'value', value)
end
return 1
