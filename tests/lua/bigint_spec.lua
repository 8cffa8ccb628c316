-- Bigints from Lua: construction, operators, comparison, limits, errors. That the arithmetic is
-- right is checked against Elixir's in tests/elixir/bigint_test.exs; here against itself.

local bigint = require("lunode.term").bigint

local B64 = bigint("18446744073709551616")
local MAX_BITS = 65535 * 64

local function fails(pattern, fn, ...)
  local ok, message = pcall(fn, ...)
  assert.is_false(ok)
  assert.matches(pattern, message)
end

-- A random bigint of 17 to `digits` hexadecimal digits, of either sign.
local function random(digits)
  local parts = { math.random(2) == 1 and "-0x1" or "0x1" }
  for i = 1, math.random(16, digits - 1) do
    parts[i + 1] = ("%x"):format(math.random(0, 15))
  end
  return bigint(table.concat(parts))
end

describe("bigint(x)", function()
  it("reads decimal and hexadecimal text", function()
    assert.equal("18446744073709551616", tostring(B64))
    assert.equal(B64, bigint("0x10000000000000000"))
    assert.equal(B64, bigint("+0x0010000000000000000"))
    assert.equal("-340282366920938463463374607431768211456",
      tostring(bigint("-0X1" .. ("0"):rep(32))))
  end)

  it("gives a Lua integer when the number fits one", function()
    assert.equal("integer", math.type(bigint("-9223372036854775808")))
    assert.equal("integer", math.type(bigint("9223372036854775807")))
    assert.is_nil(math.type(bigint("9223372036854775808")))
    assert.equal(-8, bigint("-0x8"))
    assert.equal(0, bigint("-0"))
    assert.equal(7, bigint(7))
  end)

  it("takes integral floats exactly and other numbers not at all", function()
    assert.equal("1180591620717411303424", tostring(bigint(2.0 ^ 70)))
    assert.equal("integer", math.type(bigint(-3.0)))
    for _, number in ipairs({ 1.5, 1 / 0, -1 / 0, 0 / 0 }) do
      fails("number has no integer representation", bigint, number)
    end
  end)

  it("refuses other text", function()
    local texts = { "", "-", "0x", "1 ", " 1", "1e5", "0b1", "1_000", "12\0", "--1", "0xg", "ten" }
    for _, text in ipairs(texts) do
      fails("not an integer in decimal or 0x notation", bigint, text)
    end
    fails("integer, float or string expected", bigint, {})
    fails("integer, float or string expected", bigint)
  end)

  it("refuses text beyond the limit", function()
    assert.equal(1262593, #tostring(bigint("0x" .. ("f"):rep(MAX_BITS / 4))))
    fails("bigint result too large: 4194241 bits, at most 4194240", bigint,
      "0x1" .. ("0"):rep(MAX_BITS / 4))
    fails("bigint result too large", bigint, ("9"):rep(10000000))
  end)
end)

describe("arithmetic", function()
  it("obeys its laws on random operands", function()
    for _ = 1, 2000 do
      local a, b, c = random(60), random(60), random(30)
      assert.equal(a, a + b - b)
      assert.equal(a * c + b * c, (a + b) * c)
      assert.equal(a, a // c * c + a % c)
      assert.is_true(c > 0 and 0 <= a % c and a % c < c or c < 0 and c < a % c and a % c <= 0)
      assert.equal(b - a, -(a - b))
      assert.equal(a, bigint(tostring(a)))
    end
  end)

  it("normalises results that fit 64 bits", function()
    assert.equal(0, B64 - B64)
    assert.equal("integer", math.type(B64 - B64))
    assert.equal(math.maxinteger, (B64 >> 1) - 1)
    assert.equal(math.mininteger, -(B64 >> 1))
    assert.is_nil(math.type((B64 >> 1)))
  end)

  it("raises to integers exactly, to anything else as floats", function()
    assert.equal("6277101735386680763835789423207666416102355444464034512896", tostring(B64 ^ 3))
    assert.equal(1, B64 ^ 0)
    assert.equal(2.0 ^ -64, B64 ^ -1)
    assert.equal(2.0 ^ 32, B64 ^ 0.5)
    assert.equal(math.huge, 2 ^ B64)
  end)

  it("divides by / to the nearest float", function()
    assert.equal(2.0 ^ 63, B64 / 2)
    assert.equal(2.0 ^ 64, (B64 + 1) / 1)
    assert.equal(2.0 ^ 64 + 2.0 ^ 12, (B64 + 2049) / 1)
    assert.equal(-(2.0 ^ 64), -(B64 + 2048) / 1)
    assert.equal(math.huge, (B64 ^ 16) / 1)
    assert.equal(-math.huge, -(B64 ^ 16) / 1)
    assert.equal(math.huge, B64 / 0)
  end)

  it("gives floats beside a float", function()
    for _, value in ipairs({ B64 + 0.5, 0.5 - B64, B64 * 2.0, B64 // 2.0, B64 % 3.0 }) do
      assert.equal("float", math.type(value))
    end
    assert.equal(2.0 ^ 65, B64 * 2.0)
  end)

  it("refuses a division by zero with Lua's words", function()
    fails("attempt to perform 'n//0'", function() return B64 // 0 end)
    fails("attempt to perform 'n%%%%0'", function() return B64 % 0 end)
  end)
end)

describe("bits", function()
  it("are those of two's complement without end", function()
    for _ = 1, 2000 do
      local a, b, n = random(40), random(40), math.random(0, 200)
      assert.equal(a + b, (a | b) + (a & b))
      assert.equal(a ~ b, (a | b) - (a & b))
      assert.equal(-a - 1, ~bigint(a))
      assert.equal(a * bigint("0x1" .. ("0"):rep(50)), a * (B64 ^ 3 << 8))
      assert.equal(a * B64 << n, a * (B64 << n))
      assert.equal((a * B64) // (B64 << n), a * B64 >> 64 + n)
    end
  end)

  it("shift to the other side by a negative count, and away by a large one", function()
    assert.equal(B64 << 3, B64 >> -3)
    assert.equal(1, B64 << -64)
    assert.equal(0, B64 >> math.maxinteger)
    assert.equal(-1, -B64 << math.mininteger)
    assert.equal(0, B64 >> B64)
    assert.equal(0, 0 << B64)
  end)

  it("take integral floats as integers", function()
    assert.equal(B64 + 1, B64 | 1.0)
    assert.equal(B64, B64 & 2.0 ^ 64)
    fails("number has no integer representation", function() return B64 | 0.5 end)
  end)
end)

describe("comparison", function()
  it("is exact against integers, floats and bigints", function()
    assert.is_true(B64 == bigint("18446744073709551616"))
    assert.is_true(B64 > math.maxinteger and math.mininteger > -B64)
    assert.is_true(B64 <= 2.0 ^ 64 and B64 >= 2.0 ^ 64 and B64 + 1 > 2.0 ^ 64)
    assert.is_true(2.0 ^ 64 < B64 + 1 and B64 - 1 < 2.0 ^ 64)
    assert.is_true(B64 ^ 100 < math.huge and -math.huge < -(B64 ^ 100))
  end)

  it("finds no order with NaN", function()
    local nan = 0 / 0
    assert.is_false(B64 < nan or B64 <= nan or B64 > nan or B64 >= nan or B64 == nan)
  end)

  it("has no meaning beside other values", function()
    fails("attempt to compare bigint with string", function() return B64 < "1" end)
    fails("attempt to compare table with bigint", function() return {} <= B64 end)
  end)
end)

describe("text", function()
  it("is decimal, also by concatenation and %s", function()
    assert.equal("<18446744073709551616>", "<" .. B64 .. ">")
    assert.equal("118446744073709551616-1", 1 .. B64 .. -1)
    assert.equal("18446744073709551616", ("%s"):format(B64))
    fails("attempt to concatenate a table value", function() return B64 .. {} end)
  end)
end)

describe("an operator", function()
  it("says what it can't work on", function()
    fails("perform arithmetic on a bigint and a string value", function() return B64 + "1" end)
    fails("perform arithmetic on a string and a bigint value", function() return "1" * B64 end)
    fails("perform arithmetic on a bigint and a nil value", function() return B64 / nil end)
    fails("perform arithmetic on a table and a bigint value", function() return {} ^ B64 end)
    fails("perform a bitwise operation on a bigint and a string", function() return B64 & "1" end)
    fails("bigint_spec.lua:%d+: attempt", function() return B64 + {} end)
  end)

  it("refuses results beyond 4,194,240 bits", function()
    local largest = (B64 << MAX_BITS - 65) + ((B64 << MAX_BITS - 65) - 1)
    assert.equal(0, largest - largest)
    fails("too large: 4194241 bits, at most 4194240", function() return largest + 1 end)
    fails("bigint result too large", function() return largest * 2 end)
    fails("bigint result too large", function() return largest * largest end)
    fails("bigint result too large", function() return B64 ^ math.maxinteger end)
    fails("bigint result too large", function() return 1 << B64 end)
    fails("bigint result too large", function() return B64 << math.maxinteger end)
    assert.is_true(B64 ^ 65534 > 0)
    fails("bigint result too large: 4194241 bits", function() return B64 ^ 65535 end)
  end)

  it("counts its results in the memory of the Lua state", function()
    collectgarbage()
    local before = collectgarbage("count")
    local kept = B64 << 4000000
    assert.is_true(collectgarbage("count") - before > 4000000 / 8 / 1024)
    assert.is_true(kept > 0)
  end)
end)

describe("a bigint", function()
  it("hides its metatable", function()
    assert.equal("bigint", getmetatable(B64))
  end)
end)
