-- The fixed windows of RATE.FIXED: a plain counter a window, under a key that ends with the window's start in seconds, as
-- many programs count by themselves. `ask.key` is what stands before it.
-- KEYS  none of its own
-- ARGV  none of its own
-- Returns nothing
-- Why a script: see `serve_requests`, of which this is a part; only it knows the time, and so the key.
makers.plain = function()
  return {
    read = function(ask)
      local start = ask.now - ask.now % ask.span
      local key = ask.key .. string.format('%.0f', start / 1000000)
      return { start = start, key = key, used = tonumber(read_words(key, '^%d+$') or 0) }
    end,
    take = function(ask, held)
      held.used = held.used + ask.cost
      keep_words(held.key, held.start + ask.span - ask.now, '%.0f', held.used)
    end,
    wait = algorithm('fixed_window').wait,
    reset = algorithm('fixed_window').reset,
  }
end
