-- x * y / d in whole numbers: quotient and remainder, exact although the product may have 75 bits. It seldom has more than 53.
-- Needs: x, d < 2^45 (a year in microseconds), y < 2^30 (more than any limit), a quotient below 2^53. Why in digits: Lua's
-- numbers are exact up to 2^53. With y taken six bits at a time, nothing on the way is larger than 2^52.
-- KEYS  none of its own
-- ARGV  none of its own
-- Returns nothing
-- Why a script: it is where the numbers are.
local function divide_product(x, y, d)
  local product = x * y
  if product < 2 ^ 53 then
    local quotient = math.floor(product / d)
    local remainder = product - quotient * d
    -- The division may have been rounded up to a whole number.
    if remainder < 0 then
      return quotient - 1, remainder + d
    end
    return quotient, remainder
  end
  local whole = math.floor(x / d)
  local rest = x - whole * d
  local quotient, remainder = 0, 0
  for place = 4, 0, -1 do
    local digit = math.floor(y / 64 ^ place) % 64
    local sum = remainder * 64 + rest * digit
    local carry = math.floor(sum / d)
    quotient, remainder = quotient * 64 + carry, sum - carry * d
  end
  return whole * y + quotient, remainder
end
