-- Removes keys, with their entries, by the index that lists them; a page of them.
-- KEYS  [1] the index, a sorted set: key → 0
-- ARGV  [1] the mark of the whole index this sweep began with, '' at its beginning; [2] [3] the range to look at, as
--       `ZRANGEBYLEX` takes it; [4] the most entries to look at; [5] '1': all of them are removed; [6 .. n+5] other keys to
--       remove
-- Returns {the mark, entries looked at, values removed, then the entries that were looked at and not removed}, or nil if the
--       index is not whole, or another one by now
-- Why a script: a value and its entry go in one step, so that an entry stands wherever a value does, and nothing is removed by an
-- index that is not whole at that moment.
local mark = ARGV[1]
if mark == '' then
  mark = redis.call('ZRANGEBYLEX', KEYS[1], '[:whole:', '(:whole;', 'LIMIT', 0, 1)[1]
elseif not redis.call('ZSCORE', KEYS[1], mark) then
  mark = nil
end
if not mark then return nil end

local doomed = {unpack(ARGV, 6)}
local page = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[2], ARGV[3], 'LIMIT', 0, ARGV[4])
local answer = {mark, #page, 0}
if ARGV[5] == '1' then
  doomed = page
else
  for i = 1, #page do
    answer[3 + i] = page[i]
  end
end
if #doomed > 0 then
  answer[3] = redis.call('UNLINK', unpack(doomed))
  redis.call('ZREM', KEYS[1], unpack(doomed))
end
return answer
