-- Sets plain keys, each with the declared life.
-- KEYS  [1 .. n] the keys
-- ARGV  two a key: its value, its life in milliseconds
-- Returns OK, or the error of the first, with nothing set: Redis finds out at the first write of a script whether it may write
-- Why a script: whoever dies between `MSET` and the expiries leaves keys for ever; and nobody sees some of them.
for i = 1, #KEYS do
  local reply = redis.pcall('SET', KEYS[i], ARGV[2 * i - 1], 'PX', ARGV[2 * i])
  if reply.err then
    return reply
  end
end
return {ok = 'OK'}
