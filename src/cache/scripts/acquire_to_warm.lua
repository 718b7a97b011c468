-- Before keys are warmed: takes the lease of each key whose value is not there, or has too little of its life left.
-- KEYS  [1] the lease index; [2 .. n+1] the values; [n+2 .. 2n+1] their leases, in the same order; where writes may be
--       pending, [2n+2 .. 3n+1] these
-- ARGV  [1] lease length in milliseconds; [2] the load's token; then a key each: the remaining life in milliseconds from
--       which on its value is left alone
-- Returns, a key each: 1 the lease is yours | 0 another load holds it | 2 the value has life enough, or a write of it
--       is not in the database yet: what that says is older
-- Why a script: between the look at a value and its lease nothing may happen, and lease and index entry come into being
-- together, as for any other load. Values are not answered: nobody reads them.
local n = #ARGV - 2
local lease_ms, token = tonumber(ARGV[1]), ARGV[2]

-- Mostly none is there, and one look tells that of all.
local are_there = redis.call('EXISTS', unpack(KEYS, 2, n + 1)) > 0

local answers, taken = {}, {}
for i = 1, n do
  local pending = KEYS[2 * n + 1 + i]
  if pending and redis.call('EXISTS', pending) == 1 then
    answers[i] = 2
  elseif are_there and redis.call('PTTL', KEYS[i + 1]) >= tonumber(ARGV[i + 2]) then
    answers[i] = 2
  elseif redis.call('SET', KEYS[n + 1 + i], token, 'NX', 'PX', ARGV[1]) then
    taken[#taken + 1] = KEYS[i + 1]
    answers[i] = 1
  else
    answers[i] = 0
  end
end

note(KEYS[1], taken, lease_ms)
return answers
