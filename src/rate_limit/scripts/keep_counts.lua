-- What the algorithms share. Each of them is a table of functions over what is asked and what is held, made when it is first
-- needed, for making them all would cost more than most calls:
--   read(ask)          what is held, with `used`: how much of the capacity is taken, in whole units, rounded up
--   take(ask, held)    takes `ask.cost`, and writes
--   wait(ask, held)    microseconds until `ask.cost` fits, which it does not now, though it is no more than the capacity
--   reset(ask, held)   microseconds until nothing is taken any more
--   give(ask, held)    gives up to `ask.cost` back, and writes; how much that was
-- What fits is the same for all of them: used + cost <= capacity.
-- `ask`: key, now, rate, span (microseconds), capacity, cost, id; the next request of the same limit is put into the same table.
-- A value of another type or form is another algorithm's, from before the limit was declared anew: it counts as none, and
-- is replaced.
-- KEYS  none of its own
-- ARGV  none of its own
-- Returns nothing
-- Why a script: see `serve_requests`, of which this is a part.
local makers, made = {}, {}
local function algorithm(name)
  made[name] = made[name] or makers[name]()
  return made[name]
end

local function read_words(key, pattern)
  local value = redis.pcall('GET', key)
  if type(value) == 'string' then
    return string.match(value, pattern)
  end
end

local function keep_words(key, life_us, form, ...)
  redis.call('SET', key, string.format(form, ...), 'PX', math.ceil(life_us / 1000))
end
