-- Reads writes from the journal, in their order.
-- KEYS  [1] the journal
-- ARGV  [1] where to begin: '-', or '(' and the place of the last one read; [2] most writes; [3] most bytes, but for one write
--       that is larger alone
-- Returns {the time in ms, how many the journal holds, the place of its last or '', {place, {field, value, ...}} ...}
-- Why a script: how many values fit into one reply is known only where they lie, and length, time and end are of one moment.
local AT_ONCE = 16
local from, most, most_bytes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local answer = {
  time[1] * 1000 + math.floor(time[2] / 1000),
  redis.call('XLEN', KEYS[1]),
  last and last[1] or '',
}

local found, bytes = 0, 0
while found < most do
  local page = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', math.min(AT_ONCE, most - found))
  if #page == 0 then return answer end
  for _, entry in ipairs(page) do
    for _, text in ipairs(entry[2]) do
      bytes = bytes + #text
    end
    if found > 0 and bytes > most_bytes then return answer end
    answer[#answer + 1] = entry
    found = found + 1
    from = '(' .. entry[1]
  end
end
return answer
