-- Takes loads that are under way their right to fill: an invalidation by pattern begins with this.
-- KEYS  [1] the lease index; [2 .. n+1] the leases of the keys in ARGV, in the same order
-- ARGV  [1 .. n] the keys
-- Returns the number of leases there were
-- Why a script: a lease and its index entry go in one step; an entry without its lease would hide the next one, and a
-- lease without its entry would be missed by the next sweep.
redis.call('ZREM', KEYS[1], unpack(ARGV))
return redis.call('DEL', unpack(KEYS, 2))
