-- The part that every script which stores values has in common, standing before it: a value is in the index of its keys as
-- soon as it is there, or else there is no index that could be taken for whole.
-- KEYS  none of its own
-- ARGV  none of its own; `list` is given the index, whether the daemon keeps one ('1'), the stored keys, their longest life
-- Returns nothing
-- Why a script: with a moment between a value and its entry, a sweep by the index could miss the value. Who stores values and
-- keeps no index removes the one that others keep: a fleet of which some do so sweeps slowly, and misses nothing.
local function list(index, is_kept, stored, life_ms)
  if #stored == 0 then return end
  if is_kept ~= '1' then
    redis.call('UNLINK', index)
    return
  end
  local entries = {}
  for i = 1, #stored do
    entries[2 * i - 1], entries[2 * i] = '0', stored[i]
  end
  redis.call('ZADD', index, unpack(entries))
  -- Gone before the last of its values, it would only cost a walk: what says that it is whole goes with it.
  if redis.call('PTTL', index) < life_ms then
    redis.call('PEXPIRE', index, string.format('%.0f', 2 * life_ms + 60000))
  end
  -- Entries of values that have expired go: a sample for every fill, and another one while a quarter of it was of no use. So
  -- an index is hardly larger than what it is for, and no fill waits for all that expired together.
  local sample = math.max(4, #stored)
  for _ = 1, 4 do
    local gone = {}
    for _, key in ipairs(redis.call('ZRANDMEMBER', index, sample)) do
      -- What begins with a colon is no key: it says how far the index can be trusted.
      if string.byte(key) ~= 58 and redis.call('EXISTS', key) == 0 then
        gone[#gone + 1] = key
      end
    end
    if #gone > 0 then
      redis.call('ZREM', index, unpack(gone))
    end
    if 4 * #gone <= sample then return end
  end
end
