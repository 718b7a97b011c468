-- The fixed windows of RATE.FIXED: a plain counter a window, under a key that ends with the window's start in seconds, as
-- many programs count by themselves. `ask.key` is what stands before it. Windows of other lengths that begin at the same time
-- have the same key, so it lives until the longest of them is over.
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
      local life_us = math.max(held.start + ask.span - ask.now, 1000 * redis.call('PTTL', held.key))
      keep_words(held.key, life_us, '%.0f', held.used)
    end,
    wait = algorithm('fixed_window').wait,
    reset = algorithm('fixed_window').reset,
  }
end
