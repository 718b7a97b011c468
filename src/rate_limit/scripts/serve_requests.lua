-- Serves requests one after the other: each looks at all of its limits, and takes from all of them or from none.
-- KEYS  one a limit of a request, in their order
-- ARGV  [1] how many requests; [2] the channel on which it is told that something was given back; [3] how many limits they
--         have between them; then a limit:
--           the algorithm, rate, span in microseconds, capacity, '1': refuses | '0': only counts (shadow)
--         then a request: what is asked ('take' | 'peek' | 'refund' | 'reset' | 'release'), the cost, the request's id ('':
--         none; of 'refund' and 'reset': what to tell), how many limits, and each one's place among them; no limit twice
-- Returns, a limit each, four numbers: 1 it fits | 0 it does not; how much is left; microseconds until it would fit (0: it
--         does, -1: never); microseconds until nothing is taken. Of 'refund', 'reset' and 'release': how much was given
--         back, or whether something was there, and three zeros
-- Why a script: what is looked at is what is taken from, and all limits of a request are one step. What is refused writes
-- nothing.
local place = 2
local function word()
  place = place + 1
  return ARGV[place]
end

local rules = {}
for i = 1, tonumber(word()) do
  rules[i] = {
    algorithm = algorithm(word()),
    rate = tonumber(word()),
    span = tonumber(word()),
    capacity = tonumber(word()),
    enforced = word() == '1',
  }
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

local function check(asks, count, takes)
  local refused = false
  for i = 1, count do
    local ask = asks[i]
    ask.held = ask.algorithm.read(ask)
    ask.ok = fits(ask, ask.held)
    refused = refused or ask.enforced and not ask.ok
  end
  for i = 1, count do
    local ask = asks[i]
    if takes and ask.ok and not refused then
      ask.algorithm.take(ask, ask.held)
    end
    tell(ask, ask.held, ask.ok)
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

local asks, place_of_key = {}, 0
for _ = 1, tonumber(ARGV[1]) do
  local verb, now, cost, id, count = word(), clock(), tonumber(word()), word(), tonumber(word())
  for i = 1, count do
    local ask = rules[tonumber(word())]
    place_of_key = place_of_key + 1
    ask.key, ask.now, ask.cost, ask.id = KEYS[place_of_key], now, cost, id
    asks[i] = ask
  end
  if give_back[verb] then
    local given = give_back[verb](asks[1])
    if given > 0 and verb ~= 'release' then
      redis.call('PUBLISH', ARGV[2], id)
    end
    answer(given, 0, 0, 0)
  else
    check(asks, count, verb == 'take')
  end
end
return answers
