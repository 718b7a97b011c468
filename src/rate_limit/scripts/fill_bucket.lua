-- The token bucket as GCRA: what is held is the theoretical arrival time (TAT), the moment at which the bucket is full
-- again. Each unit moves it span / rate further; a request fits if it is then no further off than capacity * span / rate.
-- (ITU-T I.371; https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm)
-- Held as `g <whole microseconds> <parts> <rate>`, parts over rate of a microsecond: span / rate is rarely whole, and
-- rounding each unit up would refuse the last of a burst. After the rate was declared anew the parts, less than a
-- microsecond, are dropped.
-- Here: `ahead` whole microseconds and `parts` from now to the TAT.
-- KEYS  none of its own
-- ARGV  none of its own
-- Returns nothing
-- Why a script: see `serve_requests`, of which this is a part.
makers.token_bucket = function()
  local function weigh(ask, held)
    local whole, part = divide_product(held.ahead, ask.rate, ask.span)
    held.used = whole + math.ceil((part + held.parts) / ask.span)
  end
  local function keep(ask, held)
    local form = 'g %.0f %.0f %.0f'
    keep_words(ask.key, held.ahead + 1, form, ask.now + held.ahead, held.parts, ask.rate)
    weigh(ask, held)
  end
  return {
    read = function(ask)
      local tat, parts, rate = read_words(ask.key, '^g (%d+) (%d+) (%d+)$')
      local ahead = tat and tonumber(tat) - ask.now or -1
      parts = tonumber(rate) == ask.rate and tonumber(parts) or 0
      if ahead < 0 then
        ahead, parts = 0, 0
      end
      local held = { ahead = ahead, parts = parts }
      weigh(ask, held)
      return held
    end,
    take = function(ask, held)
      local whole, parts = divide_product(ask.span, ask.cost, ask.rate)
      local carry = held.parts + parts >= ask.rate and 1 or 0
      held.ahead = held.ahead + whole + carry
      held.parts = held.parts + parts - carry * ask.rate
      keep(ask, held)
    end,
    wait = function(ask, held)
      local whole, parts = divide_product(ask.span, ask.capacity - ask.cost, ask.rate)
      return held.ahead - whole + (held.parts > parts and 1 or 0)
    end,
    reset = function(ask, held)
      return held.ahead + (held.parts > 0 and 1 or 0)
    end,
    give = function(ask, held)
      local given = math.min(ask.cost, held.used)
      if given > 0 then
        local whole, parts = divide_product(ask.span, given, ask.rate)
        local borrow = held.parts < parts and 1 or 0
        held.ahead = held.ahead - whole - borrow
        held.parts = held.parts - parts + borrow * ask.rate
        if held.ahead < 0 then
          held.ahead, held.parts = 0, 0
        end
        keep(ask, held)
      end
      return given
    end,
  }
end
