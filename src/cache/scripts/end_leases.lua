-- After a load: stores each key's value if the load still holds its lease, and gives the lease back.
-- KEYS  [1] the lease index; [2 .. n+1] the values; [n+2 .. 2n+1] their leases, in the same order; [2n+2] the index of
--       these keys; where copies are kept, [2n+3 .. 3n+2] theirs, in the same order
-- ARGV  [1] the load's token; then two a key: life in milliseconds ('0': store nothing; '-1': remove what may be there), value;
--       last '1': the index is kept
-- Returns, a key each: 1 the lease was ours | 0 it was not (any more): nothing was stored, the value may be outdated
-- Why a script: the comparison and the write are one step. A lease that an invalidation deleted, that expired, or whose
-- index entry was evicted (an invalidation by pattern could have missed it) refuses the fill.
local n = (#ARGV - 2) / 2
local token = ARGV[1]
local leases = redis.call('MGET', unpack(KEYS, n + 2, 2 * n + 1))
local entries = redis.call('ZMSCORE', KEYS[1], unpack(KEYS, 2, n + 1))

local answers, ended, listed = {}, {}, {}
local stored, longest_ms = {}, 0
for i = 1, n do
  answers[i] = 0
  if leases[i] == token then
    ended[#ended + 1] = KEYS[n + 1 + i]
    listed[#listed + 1] = KEYS[i + 1]
    if entries[i] then
      answers[i] = 1
      local life_ms, copy = ARGV[2 * i], KEYS[2 * n + 2 + i]
      if life_ms == '-1' then
        redis.call('UNLINK', KEYS[i + 1], copy or KEYS[i + 1])
      elseif life_ms ~= '0' then
        redis.call('SET', KEYS[i + 1], ARGV[2 * i + 1], 'PX', life_ms)
        if copy then
          redis.call('SET', copy, ARGV[2 * i + 1], 'PX', life_ms)
        end
        stored[#stored + 1] = KEYS[i + 1]
        longest_ms = math.max(longest_ms, tonumber(life_ms))
      end
    end
  end
end

list(KEYS[2 * n + 2], ARGV[2 * n + 2], stored, longest_ms)
if #ended > 0 then
  redis.call('DEL', unpack(ended))
  redis.call('ZREM', KEYS[1], unpack(listed))
end
return answers
