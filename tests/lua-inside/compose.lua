-- Run inside a process that is interrupted again and again: each construct gives what it gives in a
-- plain Lua.
local function spin(n)
  local s = 0
  for i = 1, n or 2000 do
    s = s + i
  end
  return s
end

-- pcall, xpcall, error values
do
  local ok, why = pcall(function()
    spin()
    error({ code = 7 })
  end)
  assert(not ok and why.code == 7)
  local handled
  ok, why = xpcall(function(...)
    assert(select("#", ...) == 3)
    spin()
    error("oops")
  end, function(message)
    handled = spin(100)
    return "<" .. message:match("oops") .. ">"
  end, 1, nil, 3)
  assert(not ok and why == "<oops>" and handled == 5050)
  local results = table.pack(pcall(pcall, pcall, function(...)
    spin()
    return ...
  end, 1, nil, nil))
  assert(results.n == 6 and results[4] == 1)
end

-- metamethods
do
  local meta = {}
  meta.__add = function(a, b)
    return setmetatable({ n = a.n + b.n + spin(10) }, meta)
  end
  meta.__eq = function(a, b)
    spin(50)
    return a.n == b.n
  end
  meta.__lt = function(a, b)
    spin(50)
    return a.n < b.n
  end
  meta.__le = function(a, b)
    spin(50)
    return a.n <= b.n
  end
  meta.__index = function(_, key)
    return key .. spin(10)
  end
  meta.__newindex = function(t, key, value)
    spin(50)
    rawset(t, key, value)
  end
  meta.__call = function(_, ...)
    spin(50)
    return select("#", ...), ...
  end
  meta.__concat = function(a, b)
    spin(50)
    return (type(a) == "table" and a.n or a) .. ":" .. (type(b) == "table" and b.n or b)
  end
  meta.__len = function()
    return spin(10)
  end
  meta.__unm = function(a)
    return setmetatable({ n = -a.n }, meta)
  end
  meta.__tostring = function(a)
    spin(50)
    return "n" .. a.n
  end
  local function new(n)
    return setmetatable({ n = n }, meta)
  end
  for i = 1, 50 do
    local a, b = new(i), new(i + 1)
    assert((a + b).n == 2 * i + 1 + 55)
    assert(a ~= b and a < b and a <= b and not (a > b) and a == new(i)) -- luacheck: ignore 581
    assert(a.x == "x55")
    a.y = i
    assert(rawget(a, "y") == i)
    local n, x, y, z = a(1, nil, 3)
    assert(n == 3 and x == 1 and y == nil and z == 3)
    assert(a .. "s" == i .. ":s" and "s" .. a == "s:" .. i and 1 .. a .. 2 == "1" .. i .. ":2")
    assert(#a == 55 and (-a).n == -i and tostring(a) == "n" .. i)
  end
end

-- iterators, with a closing value
do
  local closed = 0
  local function iterate(n)
    local closing = setmetatable({}, {
      __close = function()
        spin(100)
        closed = closed + 1
      end,
    })
    return function(_, i)
      spin(20)
      if i < n then
        return i + 1, i * 2
      end
    end, nil, 0, closing
  end
  for round = 1, 30 do
    local sum = 0
    for i, twice in iterate(20) do
      assert(twice == (i - 1) * 2)
      sum = sum + i
      if round % 2 == 0 and i == 10 then
        break
      end
    end
    assert(sum == (round % 2 == 0 and 55 or 210) and closed == round)
  end
  local seen = {}
  for key, value in pairs(setmetatable({}, {
    __pairs = function()
      spin(100)
      return function(_, k)
        k = (k or 0) + 1
        if k < 4 then
          return k, k * k
        end
      end
    end,
  })) do
    seen[key] = value
  end
  assert(seen[1] == 1 and seen[3] == 9 and #seen == 3)
end

-- goto
do
  local n, rounds = 0, 0
  ::again::
  n = n + 1
  for i = 1, 10 do
    if i == n % 10 then
      goto continue
    end
    rounds = rounds + 1
    ::continue::
  end
  if n < 1000 then
    goto again
  end
  assert(n == 1000 and rounds == 9100)
end

-- variables that are closed, at ends, returns, errors and inside coroutines
do
  local log = {}
  local function closing(name)
    return setmetatable({}, {
      __close = function(_, why)
        spin(200)
        log[#log + 1] = name .. (why and "!" or "")
      end,
    })
  end
  local function returns()
    local a <close> = closing("a")
    do
      local _ <close> = closing("b")
      spin(100)
    end
    local c <close> = closing("c")
    return spin(10), a ~= c
  end
  local sum, differ = returns()
  assert(sum == 55 and differ)
  assert(not pcall(function()
    local _ <close> = closing("d")
    spin(100)
    error("oops")
  end))
  local co = coroutine.wrap(function()
    local _ <close> = closing("e")
    coroutine.yield(spin(10))
    return spin(10)
  end)
  assert(co() == 55 and co() == 55)
  co = coroutine.create(function()
    local _ <close> = closing("f")
    coroutine.yield()
  end)
  coroutine.resume(co)
  assert(coroutine.close(co))
  co = coroutine.wrap(function()
    local _ <close> = closing("g")
    spin(100)
    error("oops")
  end)
  assert(not pcall(co))
  assert(table.concat(log, " ") == "b c a d! e f g!")
end

-- varargs, closures, string building, functions of C that call back
do
  local function count(...)
    spin(10)
    return select("#", ...), ...
  end
  for i = 0, 30 do
    local values = {}
    for k = 1, i do
      values[k] = k
    end
    local results = table.pack(count(table.unpack(values)))
    assert(results.n == i + 1 and results[1] == i and results[i + 1] == i)
  end
  local add = {}
  for i = 1, 100 do
    add[i] = function(n)
      i = i + n
      return i
    end
  end
  for i = 1, 100 do
    assert(add[i](1) == i + 1 and add[i](1) == i + 2)
  end
  local text = ""
  for i = 1, 500 do
    text = text .. i % 10
  end
  assert(#text == 500 and text:sub(-3) == "890")
  assert(text:gsub("%d", function(digit)
    return digit == "0" and "" or nil
  end) == text:gsub("0", ""))
  local numbers = {}
  for i = 1, 300 do
    numbers[i] = (i * 7919) % 1009
  end
  table.sort(numbers, function(a, b)
    return a > b
  end)
  for i = 2, 300 do
    assert(numbers[i - 1] >= numbers[i])
  end
end

-- coroutines: generators in generators, errors through them, yields across pcall
do
  local function range(n)
    return coroutine.wrap(function()
      for i = 1, n do
        spin(10)
        coroutine.yield(i)
      end
    end)
  end
  local function squares(source)
    return coroutine.wrap(function()
      for i in source do
        coroutine.yield(i * i)
      end
    end)
  end
  local sum = 0
  for square in squares(squares(range(30))) do
    sum = sum + square
  end
  assert(sum == 5273999)
  local co = coroutine.create(function(...)
    local ok, why = pcall(function(...)
      local x = coroutine.yield(select("#", ...))
      spin(100)
      error(x)
    end, ...)
    assert(not ok)
    return "caught", why
  end)
  assert(select(2, coroutine.resume(co, 1, nil, nil)) == 3)
  local ok, word, why = coroutine.resume(co, "thrown")
  assert(ok and word == "caught" and why:find("thrown"))
  local deep = 0
  local function nest(n)
    deep = math.max(deep, n)
    if n == 0 then
      return spin(100)
    end
    return coroutine.wrap(nest)(n - 1)
  end
  assert(nest(40) == 5050 and deep == 40)
end
