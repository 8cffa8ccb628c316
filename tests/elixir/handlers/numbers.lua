-- Does one operation with what arrives, for comparing Lua's bigints with Elixir's integers.

local numbers = {}

local operators = {
  ["+"] = function(a, b) return a + b end,
  ["-"] = function(a, b) return a - b end,
  ["*"] = function(a, b) return a * b end,
  ["//"] = function(a, b) return a // b end,
  ["%"] = function(a, b) return a % b end,
  ["/"] = function(a, b) return a / b end,
  ["^"] = function(a, b) return a ^ b end,
  ["&"] = function(a, b) return a & b end,
  ["|"] = function(a, b) return a | b end,
  ["~"] = function(a, b) return a ~ b end,
  ["<<"] = function(a, b) return a << b end,
  [">>"] = function(a, b) return a >> b end,
  ["=="] = function(a, b) return a == b end,
  ["<"] = function(a, b) return a < b end,
  ["<="] = function(a, b) return a <= b end,
  negate = function(a) return -a end,
  complement = function(a) return ~a end,
  tostring = function(a) return tostring(a) end,
  bigint = function(a) return erl.bigint(a) end,
  concat = function(a, b) return a .. b end,
}

-- The result and what Lua takes it for.
function numbers:compute(operator, a, b)
  local result = operators[operator](a, b)
  return result, erl.type(result)
end

-- The message of the error that the operation raises.
function numbers:failure(operator, a, b)
  local ok, message = pcall(operators[operator], a, b)
  return not ok and message or nil
end

return numbers
