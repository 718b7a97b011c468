-- Fixed windows, aligned to the clock. Held as `f <start of the window in microseconds> <count>`: it says itself whether it
-- is over, its expiry is only the end of its memory. A window of another length that began within this one (the limit was
-- declared anew) counts; one that begins in the future (the clock was set back) does not.
-- KEYS  none of its own
-- ARGV  none of its own
-- Returns nothing
-- Why a script: see `serve_requests`, of which this is a part.
makers.fixed_window = function()
  return {
    read = function(ask)
      local start = ask.now - ask.now % ask.span
      local since, count = read_words(ask.key, '^f (%d+) (%d+)$')
      since = tonumber(since)
      if not since or since < start or since > ask.now then
        count = 0
      end
      return { start = start, used = tonumber(count) }
    end,
    take = function(ask, held)
      held.used = held.used + ask.cost
      keep_words(ask.key, held.start + ask.span - ask.now, 'f %.0f %.0f', held.start, held.used)
    end,
    wait = function(ask, held)
      return held.start + ask.span - ask.now
    end,
    reset = function(ask, held)
      return held.used > 0 and held.start + ask.span - ask.now or 0
    end,
    give = function(ask, held)
      local given = math.min(ask.cost, held.used)
      if given > 0 then
        held.used = held.used - given
        keep_words(ask.key, held.start + ask.span - ask.now, 'f %.0f %.0f', held.start, held.used)
      end
      return given
    end,
  }
end
