-- Requests in flight: a sorted set of their ids by deadline in microseconds. A request that nobody ends is over at its own
-- deadline. The same id asked again counts once, and gets a new deadline.
-- KEYS  none of its own
-- ARGV  none of its own
-- Returns nothing
-- Why a script: see `serve_requests`, of which this is a part.
makers.concurrency = function()
  local function after(now)
    return string.format('(%.0f', now)
  end
  local function deadline(found)
    return tonumber(found[2])
  end
  return {
    read = function(ask)
      local used = redis.pcall('ZCOUNT', ask.key, after(ask.now), '+inf')
      if type(used) ~= 'number' then
        return { used = 0, is_foreign = true }
      end
      local own = ask.id ~= '' and tonumber(redis.call('ZSCORE', ask.key, ask.id) or 0) or 0
      return { used = used, fits = own > ask.now }
    end,
    take = function(ask, held)
      if held.is_foreign then
        redis.call('DEL', ask.key)
      end
      redis.call('ZREMRANGEBYSCORE', ask.key, '-inf', string.format('%.0f', ask.now))
      redis.call('ZADD', ask.key, string.format('%.0f', ask.now + ask.span), ask.id)
      held.used = redis.call('ZCARD', ask.key)
      local latest = deadline(redis.call('ZREVRANGE', ask.key, 0, 0, 'WITHSCORES'))
      redis.call('PEXPIRE', ask.key, math.ceil((latest - ask.now) / 1000))
    end,
    wait = function(ask, held)
      -- More than one has to end first if the limit was lowered.
      local first = held.used - ask.capacity
      local found = redis.call('ZRANGEBYSCORE', ask.key, after(ask.now), '+inf', 'WITHSCORES', 'LIMIT', first, 1)
      return deadline(found) - ask.now
    end,
    reset = function(ask, held)
      if held.used == 0 then
        return 0
      end
      return deadline(redis.call('ZREVRANGE', ask.key, 0, 0, 'WITHSCORES')) - ask.now
    end,
    release = function(ask)
      -- No number: another algorithm's value, from before the limit was declared anew.
      local own = tonumber(redis.pcall('ZSCORE', ask.key, ask.id) or 0)
      if not own then
        return 0
      end
      redis.call('ZREM', ask.key, ask.id)
      return own > ask.now and 1 or 0
    end,
  }
end
