-- The two-window counter: of the window before counts the part that a window of the same length, ending now, still covers.
-- Held as `s <start of the window in microseconds> <count> <count of the window before>`; windows as in `count_fixed`.
--   used = count + before * (span - into) / span, into: microseconds since the window began
-- KEYS  none of its own
-- ARGV  none of its own
-- Returns nothing
-- Why a script: see `serve_requests`, of which this is a part.
makers.sliding_window = function()
  local function weigh(ask, held)
    local whole, part = divide_product(held.start + ask.span - ask.now, held.before, ask.span)
    held.used = held.count + whole + (part > 0 and 1 or 0)
  end
  -- Microseconds after the beginning of a window at which of the window before it no more than `room` counts, room < before.
  local function thins_after(ask, before, room)
    return ask.span - divide_product(ask.span, room, before)
  end
  local function keep(ask, held)
    local life_us = held.start + 2 * ask.span - ask.now
    keep_words(ask.key, life_us, 's %.0f %.0f %.0f', held.start, held.count, held.before)
    weigh(ask, held)
  end
  return {
    read = function(ask)
      local start = ask.now - ask.now % ask.span
      local since, count, before = read_words(ask.key, '^s (%d+) (%d+) (%d+)$')
      since, count, before = tonumber(since), tonumber(count), tonumber(before)
      if not since or since < start - ask.span or since > ask.now then
        count, before = 0, 0
      elseif since < start then
        count, before = 0, count
      end
      local held = { start = start, count = count, before = before }
      weigh(ask, held)
      return held
    end,
    take = function(ask, held)
      held.count = held.count + ask.cost
      keep(ask, held)
    end,
    wait = function(ask, held)
      local room = ask.capacity - ask.cost
      if held.count <= room then
        return held.start + thins_after(ask, held.before, room - held.count) - ask.now
      end
      return held.start + ask.span + thins_after(ask, held.count, room) - ask.now
    end,
    reset = function(ask, held)
      local windows = held.count > 0 and 2 or held.before > 0 and 1 or 0
      return windows > 0 and held.start + windows * ask.span - ask.now or 0
    end,
    give = function(ask, held)
      local given = math.min(ask.cost, held.count + held.before)
      local from_count = math.min(given, held.count)
      if given > 0 then
        held.count = held.count - from_count
        held.before = held.before - (given - from_count)
        keep(ask, held)
      end
      return given
    end,
  }
end
