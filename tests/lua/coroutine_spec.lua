-- Coroutines, as a script sees them: run by busted in a plain Lua, and by a C test inside a process
-- of lunode. Both must agree.

local function fails(pattern, f, ...)
  local ok, why = pcall(f, ...)
  assert(not ok, "no error")
  assert(tostring(why):find(pattern), tostring(why))
end

-- A coroutine that was stopped inside of `f` with a variable to be closed.
local function with_close(closer)
  local co = coroutine.create(function()
    local _ <close> = setmetatable({}, { __close = closer })
    coroutine.yield("inside")
    return "end"
  end)
  assert(select(2, coroutine.resume(co)) == "inside")
  return co
end

describe("coroutine.running", function()
  it("tells the main one", function()
    local co, main = coroutine.running()
    assert(type(co) == "thread" and main == true)
    assert(select("#", coroutine.running()) == 2)
  end)

  it("tells others", function()
    local outside = coroutine.running()
    local co
    co = coroutine.create(function()
      local running, main = coroutine.running()
      assert(running == co and running ~= outside and main == false)
      coroutine.wrap(function()
        local inner, inner_main = coroutine.running()
        assert(inner ~= co and inner_main == false)
      end)()
    end)
    assert(coroutine.resume(co))
  end)
end)

describe("coroutine.isyieldable", function()
  it("is false for the main one and true inside", function()
    local main = coroutine.running()
    assert(coroutine.isyieldable() == false)
    assert(coroutine.isyieldable(main) == false)
    coroutine.wrap(function()
      assert(coroutine.isyieldable() == true)
      assert(coroutine.isyieldable(main) == false)
      coroutine.wrap(function()
        assert(coroutine.isyieldable() == true)
      end)()
    end)()
  end)

  it("is false where C code calls", function()
    local seen
    coroutine.wrap(function()
      table.sort({ 2, 1 }, function()
        seen = coroutine.isyieldable()
      end)
    end)()
    assert(seen == false)
  end)

  it("tells of another coroutine", function()
    local co = coroutine.create(function()
      coroutine.yield()
    end)
    coroutine.isyieldable(co)
    fails("expected, got", coroutine.isyieldable, 1)
    fails("expected, got", coroutine.isyieldable, nil)
  end)
end)

describe("coroutine.status", function()
  it("is each of the four", function()
    local main = coroutine.running()
    assert(coroutine.status(main) == "running")
    local co
    co = coroutine.create(function()
      assert(coroutine.status(co) == "running")
      assert(coroutine.status(main) == "normal")
      coroutine.wrap(function()
        assert(coroutine.status(co) == "normal" and coroutine.status(main) == "normal")
      end)()
      coroutine.yield()
    end)
    assert(coroutine.status(co) == "suspended")
    assert(coroutine.resume(co))
    assert(coroutine.status(co) == "suspended")
    assert(coroutine.resume(co))
    assert(coroutine.status(co) == "dead")
  end)

  it("is dead after an error", function()
    local co = coroutine.create(error)
    assert(not coroutine.resume(co, "oops"))
    assert(coroutine.status(co) == "dead")
  end)

  it("takes nothing else", function()
    fails("bad argument #1 .*expected", coroutine.status, {})
    fails("expected", coroutine.status)
  end)
end)

describe("coroutine.resume and yield", function()
  it("pass values in and out", function()
    local co = coroutine.create(function(...)
      assert(select("#", ...) == 3 and select(3, ...) == "c")
      local a, b, c = coroutine.yield()
      assert(a == nil and b == false and c == nil)
      local n = select("#", coroutine.yield(1, nil, 3, nil))
      return n, "end"
    end)
    assert(select("#", coroutine.resume(co, "a", nil, "c")) == 1)
    local results = table.pack(coroutine.resume(co, nil, false))
    assert(results.n == 5 and results[1] == true and results[4] == 3)
    results = table.pack(coroutine.resume(co, nil, nil, nil))
    assert(results.n == 3 and results[2] == 3 and results[3] == "end")
  end)

  it("pass many values", function()
    local values = table.pack(table.unpack({}, 1, 5000))
    local co = coroutine.wrap(function(...)
      assert(select("#", ...) == 5000)
      return coroutine.yield(...)
    end)
    assert(select("#", co(table.unpack(values, 1, 5000))) == 5000)
    assert(select("#", co(table.unpack(values, 1, 4000))) == 4000)
  end)

  it("give an error's value", function()
    local value = {}
    local co = coroutine.create(error)
    local results = table.pack(coroutine.resume(co, value))
    assert(results.n == 2 and results[1] == false and results[2] == value)
    co = coroutine.create(function()
      error("oops", 0)
    end)
    results = table.pack(coroutine.resume(co))
    assert(results.n == 2 and results[2] == "oops")
    co = coroutine.create(function()
      error()
    end)
    results = table.pack(coroutine.resume(co))
    assert(results.n == 2 and results[1] == false and results[2] == nil)
  end)

  it("refuse the dead", function()
    local co = coroutine.create(function() end)
    assert(coroutine.resume(co))
    for _ = 1, 2 do
      local ok, why = coroutine.resume(co, 1, 2)
      assert(ok == false and why == "cannot resume dead coroutine")
    end
  end)

  it("refuse the running ones, oneself and main", function()
    local main = coroutine.running()
    local ok, why = coroutine.resume(main)
    assert(ok == false and why == "cannot resume non-suspended coroutine")
    local co
    co = coroutine.create(function()
      for _, other in ipairs({ co, main }) do
        ok, why = coroutine.resume(other, 1, 2)
        assert(ok == false and why == "cannot resume non-suspended coroutine")
      end
      coroutine.wrap(function()
        ok, why = coroutine.resume(co)
        assert(ok == false and why == "cannot resume non-suspended coroutine")
      end)()
      return "end"
    end)
    assert(select(2, coroutine.resume(co)) == "end")
  end)

  it("cannot yield outside", function()
    fails("^attempt to yield from outside a coroutine$", coroutine.yield)
    fails("attempt to yield from outside a coroutine", function()
      coroutine.yield(1)
    end)
  end)

  it("cannot yield where C code calls", function()
    local ok, why = coroutine.resume(coroutine.create(function()
      table.sort({ 2, 1 }, coroutine.yield)
    end))
    assert(not ok and why == "attempt to yield across a C-call boundary")
  end)

  it("work across pcall, metamethods and iterators", function()
    local co = coroutine.wrap(function()
      local t = setmetatable({}, {
        __index = function(_, k)
          return coroutine.yield(k)
        end,
        __add = function(_, b)
          return coroutine.yield(b)
        end,
      })
      local ok, value = pcall(function()
        return t.x .. (t + 1)
      end)
      assert(ok)
      for v in coroutine.yield, "iterate" do
        value = value .. v
      end
      return value
    end)
    assert(co() == "x" and co("a") == 1 and co("b") == "iterate")
    assert(co("c") == "iterate" and co("d") == "iterate" and co(nil) == "abcd")
  end)

  it("take nothing else", function()
    fails("expected, got", coroutine.resume, print)
    fails("function expected", coroutine.create, {})
    fails("function expected", coroutine.wrap)
  end)

  it("nest until C's stack is used up", function()
    local function nest(n)
      local ok, why = coroutine.resume(coroutine.create(nest), n + 1)
      if not ok then
        error(why, 0)
      end
      return n
    end
    local ok, why = pcall(nest, 0)
    assert(not ok and tostring(why):find("C stack overflow"), why)
  end)
end)

describe("coroutine.wrap", function()
  it("gives the results alone", function()
    local f = coroutine.wrap(function(a)
      local b = coroutine.yield(a, 2)
      return b
    end)
    local x, y = f(1)
    assert(x == 1 and y == 2 and f(3) == 3)
    fails("cannot resume dead coroutine", f)
  end)

  it("puts the place in front of an error that is a text", function()
    local f = coroutine.wrap(function()
      error("oops", 0)
    end)
    local ok, why = pcall(function()
      local x = f()
      return x
    end)
    assert(not ok and why:find("coroutine_spec.lua:%d+: oops$"), why)
    local value = {}
    ok, why = pcall(coroutine.wrap(error), value)
    assert(not ok and why == value)
  end)

  it("refuses to call itself", function()
    local f
    f = coroutine.wrap(function()
      f()
    end)
    fails("cannot resume non%-suspended coroutine", f)
  end)

  it("closes what an error leaves open, whose own error wins", function()
    local seen
    local f = coroutine.wrap(function()
      local _ <close> = setmetatable({}, {
        __close = function(_, why)
          seen = why
        end,
      })
      error({ "oops" })
    end)
    local ok, why = pcall(f)
    assert(not ok and why[1] == "oops" and seen == why)
    f = coroutine.wrap(function()
      local _ <close> = setmetatable({}, {
        __close = function()
          error({ "second" })
        end,
      })
      error({ "first" })
    end)
    ok, why = pcall(f)
    assert(not ok and why[1] == "second")
  end)
end)

describe("coroutine.close", function()
  it("closes suspended and dead ones", function()
    local co = coroutine.create(print)
    assert(coroutine.close(co) == true and coroutine.status(co) == "dead")
    assert(coroutine.close(co) == true)
    assert(select("#", coroutine.close(co)) == 1)
    co = coroutine.create(error)
    coroutine.resume(co, "oops")
    local ok, why = coroutine.close(co)
    assert(ok == false and why == "oops")
    assert(coroutine.close(co) == true)
  end)

  it("runs what is to be closed", function()
    local seen, status, running
    local co
    co = with_close(function(_, why)
      seen = why == nil
      status = coroutine.status(co)
      running = coroutine.running()
      local inner = coroutine.wrap(function()
        return coroutine.status(co), coroutine.yield() or coroutine.status(co)
      end)
      inner()
      assert(inner() == "normal")
      assert(select(2, coroutine.resume(co)) == "cannot resume non-suspended coroutine")
      assert(coroutine.isyieldable() == false)
    end)
    assert(coroutine.close(co) == true)
    assert(seen and status == "running" and running == co)
    assert(coroutine.status(co) == "dead")
  end)

  it("gives an error of what is closed", function()
    local co = with_close(function()
      error("oops", 0)
    end)
    local ok, why = coroutine.close(co)
    assert(ok == false and why == "oops" and coroutine.status(co) == "dead")
  end)

  it("cannot yield in there", function()
    local co = with_close(function()
      coroutine.yield()
    end)
    local ok, why = coroutine.close(co)
    assert(ok == false and tostring(why):find("attempt to yield"), why)
  end)

  it("refuses the running and the normal", function()
    local main = coroutine.running()
    fails("^cannot close a running coroutine$", coroutine.close, main)
    coroutine.wrap(function()
      fails("^cannot close a normal coroutine$", coroutine.close, main)
      fails("^cannot close a running coroutine$", coroutine.close, (coroutine.running()))
    end)()
    fails("expected, got", coroutine.close, 1)
  end)
end)
