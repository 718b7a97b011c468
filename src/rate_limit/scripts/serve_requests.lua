-- Serves requests one after the other: each looks at all of its limits, and takes from all of them or from none.
-- KEYS  one a limit of a request, in their order
-- ARGV  [1] how many requests; [2] the channel on which it is told that something was given back; then a request:
--         what is asked ('take' | 'peek' | 'refund' | 'reset' | 'release'), the cost, the request's id ('': none; of
--         'refund' and 'reset': what to tell), how many limits; then a limit:
--           the algorithm, rate, span in microseconds, capacity, '1': refuses | '0': only counts (shadow)
-- Returns, a limit each, four numbers: 1 it fits | 0 it does not; how much is left; microseconds until it would fit (0: it
--         does, -1: never); microseconds until nothing is taken. Of 'refund', 'reset' and 'release': how much was given
--         back, or whether something was there, and three zeros
-- Why a script: what is looked at is what is taken from, and all limits of a request are one step. What is refused writes
-- nothing.
local place, place_of_key = 2, 0
local function word()
  place = place + 1
  return ARGV[place]
end

local function next_ask(shared)
  place_of_key = place_of_key + 1
  local ask = {
    key = KEYS[place_of_key],
    now = shared.now,
    cost = shared.cost,
    id = shared.id,
    algorithm = algorithms[word()],
    rate = tonumber(word()),
    span = tonumber(word()),
    capacity = tonumber(word()),
  }
  ask.enforced = word() == '1'
  return ask
end

local function fits(ask, held)
  return held.fits or held.used + ask.cost <= ask.capacity
end

local answers = {}
local function answer(first, left, retry_us, reset_us)
  local n = #answers
  answers[n + 1], answers[n + 2], answers[n + 3], answers[n + 4] = first, left, retry_us, reset_us
end

local function tell(ask, held, ok)
  local retry_us = 0
  if not ok then
    retry_us = ask.cost > ask.capacity and -1 or ask.algorithm.wait(ask, held)
  end
  local left = math.max(0, ask.capacity - held.used)
  answer(ok and 1 or 0, left, retry_us, ask.algorithm.reset(ask, held))
end

local function check(asks, takes)
  local seen, refused = {}, false
  for i, ask in ipairs(asks) do
    local held = ask.algorithm.read(ask)
    local ok = fits(ask, held)
    seen[i] = { held = held, ok = ok }
    refused = refused or ask.enforced and not ok
  end
  for i, ask in ipairs(asks) do
    local held, ok = seen[i].held, seen[i].ok
    if takes and ok and not refused then
      ask.algorithm.take(ask, held)
    end
    tell(ask, held, ok)
  end
end

local give_back = {
  refund = function(ask)
    return ask.algorithm.give(ask, ask.algorithm.read(ask))
  end,
  reset = function(ask)
    return redis.call('DEL', ask.key)
  end,
  release = function(ask)
    return ask.algorithm.release(ask)
  end,
}

for _ = 1, tonumber(ARGV[1]) do
  local verb = word()
  local shared = { now = clock(), cost = tonumber(word()), id = word() }
  local asks = {}
  for i = 1, tonumber(word()) do
    asks[i] = next_ask(shared)
  end
  if give_back[verb] then
    local given = give_back[verb](asks[1])
    if given > 0 and verb ~= 'release' then
      redis.call('PUBLISH', ARGV[2], shared.id)
    end
    answer(given, 0, 0, 0)
  else
    check(asks, verb == 'take')
  end
end
return answers
