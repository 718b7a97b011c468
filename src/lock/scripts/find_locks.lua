-- Finds the names of locks that begin like this, a page at a time.
-- KEYS  [1] the index of all locks
-- ARGV  [1] where the page begins, '0' at first; [2] how the names begin
-- Returns {where the next page begins, '0' at the end; the names on this one}
-- Why a script: names are compared here, byte by byte: as a pattern, a name could mean others.
local page = redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', 1000)
local names = {}
for e = 1, #page[2], 2 do
  local name, ends = page[2][e], tonumber(page[2][e + 1])
  if ends > now and string.sub(name, 1, #ARGV[2]) == ARGV[2] then
    names[#names + 1] = name
  end
end
return {page[1], names}
