-- Before a load: answers each key's value if it is there and fresh enough, else takes the key's lease unless another load holds it.
-- KEYS  [1] the lease index; [2 .. n+1] the values; [n+2 .. 2n+1] their leases, in the same order; where
--       writes may be pending, [2n+2 .. 3n+1] these
-- ARGV  [1] lease length in milliseconds; [2] the load's token; [3] least remaining life in milliseconds of a value that need
--       not be loaded anew; '0': none needs; '-1': each does; [4] '1': writes may be pending
-- Returns, a key each: {value, remaining life in ms} | 1 the lease is yours | 0 another load holds it | {value} says a write that
--       is not in the database yet | {} a write that is not there yet says that nothing is
-- Why a script: between "the value is not there" and "the lease is mine" nothing may happen, and lease and index entry
-- come into being together: an invalidation by pattern finds leases only through the index.
local may_be_pending = ARGV[4] == '1'
local n = (#KEYS - 1) / (may_be_pending and 3 or 2)
local lease_ms, token, least_ms = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

-- That a row is missing is remembered for its own time, and fresh as long as it is.
local function is_fresh(value, left)
  return least_ms == 0 or least_ms > 0 and (left >= least_ms or value == 'null')
end

-- While a write is pending nothing is loaded: what the database says is older.
local function pending_write(key)
  -- `pcall`: what another program left there is no hash, and no write of ours.
  local op, value = unpack(redis.pcall('HMGET', key, 'op', 'value'))
  if op == 'set' then return {value} end
  if op == 'delete' then return {} end
end

local values = redis.call('MGET', unpack(KEYS, 2, n + 1))

local answers, taken = {}, {}
for i = 1, n do
  local pending = may_be_pending and pending_write(KEYS[2 * n + 1 + i])
  local left = values[i] and redis.call('PTTL', KEYS[i + 1])
  if pending then
    answers[i] = pending
  elseif left and is_fresh(values[i], left) then
    answers[i] = {values[i], left}
  elseif redis.call('SET', KEYS[n + 1 + i], token, 'NX', 'PX', ARGV[1]) then
    taken[#taken + 1] = KEYS[i + 1]
    answers[i] = 1
  else
    answers[i] = 0
  end
end

note(KEYS[1], taken, lease_ms)
return answers
