defmodule Lunode.Attacks.KnownTest do
  @moduledoc """
  What has broken other sandboxes, by the number under which it was reported. Each script is our own
  attempt at the same idea.
  """
  use Lunode.Test.Attack

  # {==== Redis =================================================================================

  attack "CVE-2015-4335: bytecode by load", {:value, "refused"}, ~S"""
  local header = "\27Lua\x54\0\25\147\13\n\26\n\4\8\8" .. ("\0"):rep(200)
  for _, mode in ipairs({ "b", "bt", "tb", "" }) do
    if load(header, "x", mode) then return mode end
  end
  return (load(header)) == nil and string.dump == nil and "refused"
  """

  attack "CVE-2018-11218: arguments beyond C's stack, for every function that takes any number",
         {:value, "alive"},
         [limits: [memory: 64 * 1_048_576, time: 3_000, deadline: 3_000], takes: 8_000],
         ~S"""
         local many = {}
         for i = 1, 150000 do many[i] = i % 200 end
         for _, f in ipairs({ erl.tuple, print, erl.log.debug, string.char, math.max, select, string.format, table.pack,
                              erl.encode, pcall, assert, rawequal, utf8.char, erl.list, erl.map }) do
           pcall(f, table.unpack(many))
         end
         pcall(string.pack, ("b"):rep(150000), table.unpack(many))
         pcall(erl.spawn, function(...) return select("#", ...) end, table.unpack(many))
         return "alive"
         """

  attack "CVE-2018-11219, CVE-2020-14147: sizes that overflow in string.pack and unpack",
         {:value, "refused"},
         ~S"""
         for _, format in ipairs({ "i17", "i2147483648", "i4294967297", "i99999999999999999999", "!99999999999 i4", "s2147483648",
                                   "!3 i3", "i0", "I-1" }) do
           if pcall(string.pack, format, 1) then return format end
           if pcall(string.unpack, format, "xxxxxxxx") then return format end
         end
         for _, position in ipairs({ math.maxinteger, 9, 1 << 32, (1 << 63) - 8 }) do
           if pcall(string.unpack, "i8", "xxxxxxxx", position) then return position end
         end
         if pcall(string.unpack, "s8", ("\255"):rep(16)) then return "s8" end
         return "refused"
         """

  attack "CVE-2021-32626: Lua's stack is not asked for when values are pushed",
         fn outcome ->
           case outcome do
             {:value, value} -> assert tuple_size(value) == 100_000
             {:ended, :call, reason} -> assert elem(reason, 0) in [:lua_error, :limit]
           end
         end,
         [limits: [memory: 64 * 1_048_576, time: 3_000, deadline: 3_000], takes: 8_000],
         ~S"""
         local t = {}
         for i = 1, 100000 do t[i] = { i } end
         local function deep(n) if n == 0 then return table.unpack(t) end return (function() return deep(n - 1) end)() end
         for _ = 1, 3 do erl.decode(erl.encode(erl.tuple(table.unpack(t)))) end
         return deep(50)
         """

  attack "CVE-2022-0543: the library by package.loadlib", {:error, ~r/package/}, ~S"""
  return package.loadlib("/usr/lib/x86_64-linux-gnu/liblua5.4.so.0", "luaopen_io")()
  """

  attack "CVE-2022-24735: a trap for the script that comes next", {:value, "done"}, ~S"""
  local trap = function() hijacked = true end
  for _, t in ipairs({ _G, string, table, math, erl, coroutine, utf8, os, debug, getmetatable("") or {} }) do
    pcall(setmetatable, t, { __index = trap, __newindex = trap, __call = trap })
    pcall(rawset, t, "unpack", trap)
    local meta = getmetatable(t)
    if type(meta) == "table" then pcall(rawset, meta, "__index", trap) pcall(rawset, meta, "__newindex", trap) end
  end
  return "done"
  """

  attack "CVE-2022-24736: a script that returns what makes its loader stumble",
         fn outcome ->
           case outcome do
             {:ended, :load, reason} -> assert elem(reason, 0) in [:lua_error, :limit]
             {:ended, :call, reason} -> assert elem(reason, 0) in [:lua_error, :limit, :undef]
             {:value, value} -> assert value == nil
           end
         end,
         [script: true, at: :load],
         ~S"""
         setmetatable(_G, { __index = function() error(nil) end, __newindex = function() error({}) end })
         return setmetatable({}, { __index = error, __pairs = error, __len = error, __call = error, __metatable = false })
         """

  attack "CVE-2022-24834: a term whose size overflows",
         :refused,
         [limits: [memory: 64 * 1_048_576, time: 5_000, deadline: 5_000], takes: 10_000],
         ~S"""
         local s, t = ("x"):rep(10000000), {}
         for i = 1, 500 do t[i] = s end
         return #erl.encode(t)
         """

  attack "CVE-2024-31449: the smallest integer, which has no positive", {:value, "alive"}, ~S"""
  local min, max = math.mininteger, math.maxinteger
  for _, n in ipairs({ min, min + 1, max, -1, -(1 << 31), 1 << 31, (1 << 31) - 1, 1 << 32 }) do
    for _, try in ipairs({
      function() return ("x"):rep(n > 0 and 0 or n) end, function() return ("x"):sub(n, n) end,
      function() return ("x"):byte(n, n) end, function() return utf8.char(n) end, function() return utf8.offset("x", n) end,
      function() return utf8.codepoint("x", n) end, function() return utf8.len("x", n, n) end,
      function() return select(n, 1) end, function() return table.concat({}, "", n, n) end,
      function() return table.unpack({}, n, n) end, function() return ("x"):find("x", n) end,
      function() return string.format("%d %x %i %c", n, n, n, n) end, function() return tonumber("z", n) end,
      function() return math.random(n) end, function() return math.abs(n) // -1 end, function() return n % -1 end,
      function() return erl.bits("abc", n) end, function() return erl.bigint(n) * (erl.bigint("100000000000000000000") * n) end,
      function() return erl.bigint("100000000000000000000") >> n end, function() return -erl.bigint(n) end,
      function() return erl.bigint("100000000000000000000") // n end, function() return erl.bigint(n) // -1 end,
      function() return erl.tuple(1)[n] end, function() return erl.list({ 1 })[n] end,
      function() return os.date("%c", n) end, function() return erl.cancel(n) end,
      function() return erl.receive(n < 0 and n or 0) end, function() return erl.send_after(erl.self(), 1, n) end,
      function() return string.pack("i" .. n, 1) end, function() return table.insert({}, n, 1) end,
      function() return table.move({ 1 }, n, n, n) end, function() return coroutine.close(n) end,
    }) do
      pcall(try)
    end
  end
  return "alive"
  """

  attack "CVE-2024-46981: a collection while finalizers make new garbage",
         fn outcome ->
           case outcome do
             {:value, "no finalizers"} -> :ok
             {:ended, :call, {:lua_error, text, _}} -> assert text =~ "__gc"
           end
         end,
         ~S"""
         local ran = false
         local meta = {}
         meta.__gc = function(o) ran = true setmetatable({ o }, meta) collectgarbage() end
         for _ = 1, 1000 do setmetatable({}, meta) end
         collectgarbage()
         return ran and "ran" or "no finalizers"
         """

  attack "CVE-2025-46817: unpack of ranges that overflow", {:value, "refused"}, ~S"""
  local min, max = math.mininteger, math.maxinteger
  for _, range in ipairs({ { min, max }, { 0, max }, { min, 0 }, { -2, max - 1 }, { -(1 << 31), (1 << 31) - 1 },
                           { 0, (1 << 31) - 1 }, { 1, 1 << 31 }, { max - 1000000, max }, { min, min + 8000000 } }) do
    if pcall(table.unpack, {}, range[1], range[2]) then return range end
    if pcall(string.byte, ("x"):rep(10), range[1], range[2]) == nil then return range end
  end
  if select("#", table.unpack({}, max, max)) ~= 1 then return "one" end
  if select("#", table.unpack({}, max, min)) ~= 0 then return "none" end
  return "refused"
  """

  attack "CVE-2025-46818: the metatables of strings, numbers, booleans, functions and nil",
         {:value, "refused"},
         ~S"""
         local trap = function() hijacked = true return "hijacked" end
         for _, v in ipairs({ "x", 1, true, print, coroutine.running(), atom.ok }) do
           local meta = getmetatable(v)
           if type(meta) == "table" then
             pcall(function() meta.__index = trap end)
             pcall(function() meta.__add = trap end)
             pcall(function() meta.__call = trap end)
             pcall(rawset, meta, "__index", trap)
             pcall(rawset, meta, "__concat", trap)
           end
         end
         if ("x").hijack ~= nil and ("x").hijack ~= string.hijack then return "string" end
         if pcall(function() return (1).x end) then return "number" end
         if pcall(function() return ("x")() end) then return "call" end
         return "refused"
         """

  attack "CVE-2025-46819: long brackets that are longer than anything",
         {:value, "alive"},
         [limits: [time: 2_000, deadline: 2_000], takes: 5_000],
         ~S"""
         for _, n in ipairs({ 1, 100, 65535, 65536, 400000 }) do
           local s = ("="):rep(n)
           load("return [" .. s)
           load("return [" .. s .. "[")
           load("return [" .. s .. "[x]" .. s)
           load("--[" .. s .. "[x]" .. s .. "x")
           local f = assert(load("return [" .. s .. "[x]" .. s .. "]"))
           if f() ~= "x" then return n end
         end
         return "alive"
         """

  attack "CVE-2025-49844: a collection while a chunk with a long name is compiled",
         {:value, "alive"},
         [limits: [time: 3_000, deadline: 3_000], takes: 6_000],
         ~S"""
         for i = 1, 200 do
           local parts, n = { "local a = 'x'", " local b = {", "1,2,'long long long constant " .. i .. "'", "} return b", nil }, 0
           local f, e = load(function()
             n = n + 1
             local junk = ("junk"):rep(1000 + n)
             pcall(collectgarbage, "collect")
             return parts[n]
           end, "@" .. ("name"):rep(1000) .. i)
           assert(f, e)
           local ok, text = pcall(load, "x = = 1", "=" .. ("n"):rep(5000) .. i)
           f()
         end
         return "alive"
         """

  attack "redis#8661: a kill that pcall catches", :time, ~S"""
  local function f() while true do erl.now() end end
  while true do pcall(f) end
  """

  attack "redis#11032: a reply whose metatable raises",
         {:value, []},
         ~S"""
         return setmetatable({}, { __index = function() foo() end, __pairs = error, __len = error })
         """

  attack "redis#1724: tracebacks that begin at a level that is none", {:value, "alive"}, ~S"""
  for _, level in ipairs({ -1, -50000, math.mininteger, 1 << 31, math.maxinteger, -(1 << 31) }) do
    pcall(debug.traceback, "x", level)
    pcall(error, "x", level)
  end
  return "alive"
  """

  attack "redis#2854: the metatable of _G", {:value, "alive"}, ~S"""
  pcall(setmetatable, _G, nil)
  pcall(setmetatable, _G, { __index = function() error("trap") end })
  return "alive"
  """

  # }====

  # {==== Lua ===================================================================================

  attack "CVE-2014-5461: many fixed parameters and more arguments",
         {:value, 50_251},
         [limits: [memory: 64 * 1_048_576, time: 3_000], takes: 6_000],
         ~S"""
         local names, t = {}, {}
         for i = 1, 190 do names[i] = "a" .. i end
         for i = 1, 50251 do t[i] = i end
         local f = load("return function(" .. table.concat(names, ",") .. ", ...) return select('#', ...) + 190 end")()
         local g = load("return function(f, ...) return f(...) end")()
         for _ = 1, 20 do coroutine.wrap(function() return g(f, table.unpack(t)) end)() end
         return g(f, table.unpack(t))
         """

  attack "CVE-2020-15888: a stack that grows while the collector runs",
         {:value, "alive"},
         [limits: [time: 3_000], takes: 6_000],
         ~S"""
         local function f(n, ...)
           if n == 0 then return ... end
           local junk = { ... }
           return f(n - 1, junk[1], ...)
         end
         for _ = 1, 30 do
           coroutine.wrap(function()
             for i = 1, 120 do pcall(f, i, 1, 2) pcall(collectgarbage, "step", 1) end
           end)()
         end
         return "alive"
         """

  attack "CVE-2020-15889, CVE-2020-24371: generational collections and their barriers",
         fn outcome ->
           assert outcome == {:value, "alive"}
         end,
         [limits: [time: 3_000], takes: 6_000],
         ~S"""
         pcall(collectgarbage, "generational")
         pcall(collectgarbage, "incremental", 1, 1, 1)
         local old = {}
         for i = 1, 3000 do
           local up = { i }
           old[i % 50] = { function() up = { up[1] } return up end, coroutine.wrap(function() coroutine.yield(up) end) }
           old[i % 50][1]()
           old[i % 50][2]()
           if i % 100 == 0 then pcall(collectgarbage, "step") end
           pcall(function() local x = old[i % 50].nothing.more end)
         end
         return "alive"
         """

  attack "CVE-2020-15945, CVE-2020-24369, CVE-2020-24370: hooks and locals by the debug library",
         {:error, ~r/sethook|getlocal/},
         ~S"""
         if debug.getlocal then return debug.getlocal(3, 1 << 31) end
         debug.sethook(function() end, "l")
         """

  attack "CVE-2020-24342: errors while the stack of C is nearly full",
         {:limit, [:time, :memory, :deadline]},
         ~S"""
         local function again(n)
           local t = setmetatable({}, { __index = function(_, k) return again(k + 1) end, __concat = function() return again(n) end })
           pcall(function() return t[n] end)
           return ("%s" .. n):format(t .. "x") .. t[n]
         end
         while true do pcall(again, 1) pcall(string.gsub, "x", ".", function() return again(1) end) end
         """

  attack "CVE-2021-43519: coroutines that are resumed in one another until C's stack is full",
         {:value, "alive"},
         [limits: [time: 3_000, deadline: 3_000], takes: 6_000],
         ~S"""
         local function through(wrap)
           local function f() return wrap(coroutine.wrap(f)) end
           pcall(f)
         end
         through(function(g) return g() end)
         through(function(g) return pcall(g) end)
         through(function(g) return ("x"):gsub(".", g) end)
         through(function(g) return table.sort({ 2, 1 }, g) end)
         through(function(g) return setmetatable({}, { __index = g }).x end)
         through(function(g) return tostring(setmetatable({}, { __tostring = g })) end)
         through(function(g) return xpcall(error, g) end)
         through(function(g) return load(g) end)
         through(function(g) local x <close> = setmetatable({}, { __close = g }) end)
         through(function(g) for _ in g do end end)
         return "alive"
         """

  attack "CVE-2021-44647: errors in what a loop calls, and in what an operator calls",
         {:value, "alive"},
         ~S"""
         for _, source in ipairs({
           "for x in nil do end", "for x in {} do end", "for x in setmetatable({}, {__call = 1}) do end",
           "for i = 1, {} do end", "for i = 'x', 2 do end", "for i = 1, 2, 0 do end", "local x <close> = 1",
           "local x <close> = setmetatable({}, {__close = 1})", "return -{}", "return {} .. {}", "return {} < 1", "return #1",
           "return ~1.5", "return 1 // 0", "return {} & 1", "local t = setmetatable({}, {__index = 1}) return t.x.y",
           "local t = setmetatable({}, {__eq = 1}) return t == setmetatable({}, {__eq = 1})",
           "local t <const> = nil; t.x = 1", "return _ENV.x.y", "local _ENV = nil; return x", "local _ENV = 1; x = 2",
           "return ('x'):y()", "goto a; ::a:: a()", "return (function(...) return ...() end)()",
         }) do
           local f = load(source)
           if f then pcall(f) xpcall(f, debug.traceback) coroutine.resume(coroutine.create(f)) end
         end
         return "alive"
         """

  attack "CVE-2021-44964, CVE-2021-45985: finalizers in a tail call",
         fn outcome ->
           case outcome do
             {:value, "no finalizers"} -> :ok
             {:ended, :call, {:lua_error, text, _}} -> assert text =~ "__gc"
           end
         end,
         ~S"""
         local ran = false
         local function f(n, ...)
           if n == 0 then return ... end
           setmetatable({}, { __gc = function() ran = true error("x") end })
           return f(n - 1, ...)
         end
         for i = 1, 100 do pcall(f, i, table.unpack({}, 1, i)) pcall(collectgarbage) end
         return ran and "ran" or "no finalizers"
         """

  attack "CVE-2022-28805: _ENV as a constant and other names for it", {:value, "alive"}, ~S"""
  for _, source in ipairs({
    "local _ENV <const> = {}; x = 1; return x", "local _ENV <const> = nil; function f() return x.y.z end return f",
    "local function f(_ENV) return function() a.b.c = d end end return f", "local _ENV <close> = nil; return x",
    "local _ENV <const> = 'abc'; return len", "for _ENV = 1, 2 do local y = x end", "local _ENV <const> = 7; x = y .. z",
    "local _ENV <const> = {}; return function() x = {y = z, [w] = v} end",
  }) do
    for _ = 1, 20 do
      local f = load(source)
      if f then local ok, g = pcall(f) if ok and type(g) == "function" then pcall(g) pcall(g, {}) end end
    end
  end
  return "alive"
  """

  attack "CVE-2022-33099: an error while the error of a full stack is handled",
         {:limit, [:time, :memory, :deadline]},
         ~S"""
         local function full() local a = "x" .. full() return a end
         local function handler(e) return handler(e) .. "x" end
         while true do
           xpcall(full, handler)
           xpcall(full, function(e) return full() end)
           xpcall(full, function(e) local t = e + {} end)
           xpcall(full, error)
           xpcall(string.rep, handler)
         end
         """

  # Recursion without a bound in what finds the name of the value that was indexed.
  attack "bug 5.4.6: an error message about the end of a long chain of fields", :crash, ~S"""
  local a = {}
  a.x = a
  local f = load("local a = ... return a" .. (".x"):rep(150000) .. ".y.z")
  f(a)
  """

  attack "the same chain, at the top level of a script",
         :crash,
         [script: true, at: :load],
         "local a = {} a.x = a return a" <> String.duplicate(".x", 150_000) <> ".y.z"

  attack "the same chain, in an evaluation",
         :crash,
         [at: :eval, run: &__MODULE__.long_chain/2],
         ~S"""
         """

  def long_chain(context, name) do
    source = "local a = {} a.x = a return a" <> String.duplicate(".x", 150_000) <> ".y.z"

    case Lunode.eval(context.lua, name, source, 20_000) do
      {:error, reason} -> {:ended, :eval, reason}
    end
  catch
    :exit, {reason, _} -> {:ended, :eval, reason}
  end

  attack "mtasa#659: a chunk of 2^24 lines",
         {:value, "alive"},
         [limits: [time: 3_000, deadline: 3_000], takes: 6_000],
         ~S"""
         local s = ("\n"):rep(1 << 18)
         local n = 0
         load(function() n = n + 1 if n <= 64 then return s end end)
         return "alive"
         """

  # }====

  # {==== OpenComputers, ComputerCraft, CC: Tweaked ==============================================

  attack "OpenComputers#1606: a finalizer that loops, where no hook runs",
         fn outcome ->
           case outcome do
             {:value, "never ran"} -> :ok
             {:ended, :call, {:lua_error, text, _}} -> assert text =~ "__gc"
           end
         end,
         ~S"""
         setmetatable({}, { __gc = function() while true do end end })
         for _ = 1, 20 do pcall(collectgarbage) end
         return "never ran"
         """

  attack "OpenComputers#1632: __gc = true, and the function afterwards",
         fn outcome ->
           case outcome do
             {:value, false} -> :ok
             {:ended, :call, {:lua_error, text, _}} -> assert text =~ "__gc"
           end
         end,
         ~S"""
         local meta, ran = { __gc = true }, false
         local t = setmetatable({}, meta)
         meta.__gc = function() ran = true end
         t = nil
         for _ = 1, 20 do pcall(collectgarbage) end
         return ran
         """

  attack "OpenComputers#1686: __gc in the metatable of what has it already",
         {:value, false},
         ~S"""
         local meta, ran = {}, false
         do
           local t = setmetatable({}, meta)
           function meta.__gc() ran = true end
           t = nil
         end
         local u = { x = setmetatable({}, setmetatable(meta, { __index = { __gc = meta.__gc } }) and {}) }
         for _ = 1, 20 do pcall(collectgarbage) end
         return ran
         """

  attack "the same by a metatable that only looks like it has it", {:value, false}, ~S"""
  local ran = false
  local meta = setmetatable({}, { __index = function(_, k) if k == "__gc" then return function() ran = true end end end })
  do pcall(setmetatable, {}, meta) end
  for _ = 1, 20 do pcall(collectgarbage) end
  return ran
  """

  attack "OpenComputers#211: time that is asked for again by pcall", :time, ~S"""
  for _ = 1, 1000000 do pcall(function() while true do end end) end
  """

  attack "OpenComputers#236: methods of strings that run elsewhere", {:value, "abc"}, ~S"""
  pcall(function() getmetatable("").__index = { lower = function() hijacked = true end } end)
  return ("ABC"):lower()
  """

  attack "ComputerCraft#431: coroutine.yield that does nothing", :time, ~S"""
  pcall(function() coroutine.yield = function() end end)
  pcall(rawset, coroutine, "yield", function() end)
  pcall(rawset, coroutine, "resume", function() end)
  while true do coroutine.yield() end
  """

  attack "CC-Tweaked#1333: a reader of load that gives millions of lines for ever",
         :refused,
         ~S"""
         local s = ("\n"):rep(1 << 20)
         assert(load(function() return s end))
         """

  attack "CC-Tweaked#1767: a chunk of long brackets as long as memory",
         :refused,
         [limits: [time: 3_000, deadline: 3_000], takes: 6_000],
         ~S"""
         local e = ("="):rep(805306366)
         assert(load("return [" .. e .. "[t]" .. e .. "]"))
         """

  # }====

  # {==== Kong, kikito's sandbox, Minetest and Luanti, others ====================================

  attack "Kong#7133: what one script takes away is gone for all", {:value, "done"}, ~S"""
  for _, name in ipairs({ "rep", "format", "upper", "find" }) do
    pcall(function() string[name] = nil end)
    pcall(rawset, string, name, nil)
  end
  return "done"
  """

  attack "Kong#7167: string.rep by a method instead of the function",
         :memory,
         [limits: [time: 3_000, deadline: 3_000], takes: 6_000],
         ~S"""
         local s = "abcd"
         for _ = 1, 20 do s = s:rep(100) end
         """

  attack "kikito/lua-sandbox#12: a quota that pcall catches", :time, ~S"""
  while true do pcall(function() while true do end end) end
  """

  attack "mesecons#255: a pattern of a? fifty times", :stopped, ~S"""
  return ("a"):rep(50):gsub(("a?"):rep(50) .. ("a"):rep(50), "x")
  """

  attack "mesecons#516: concatenations, each of which counts as one step",
         :memory,
         [limits: [time: 3_000, deadline: 3_000], takes: 6_000],
         ~S"""
         local x = "."
         for _ = 1, 64 do x = x .. x end
         """

  attack "mesecons#597: a thousand doublings, begun again and again",
         :memory,
         [limits: [time: 3_000, deadline: 3_000], takes: 6_000],
         ~S"""
         while true do pcall(function() local s = "x" for _ = 1, 1000 do s = s .. s end end) end
         """

  attack "basic_robot#5: a function that is handed itself, as a condition", :time, ~S"""
  while (function(f) return f(f) end)(function(f) return f(f) end) do end
  """

  attack "basic_robot#7: a loop that a filter of the text overlooks", :time, ~S"""
  local quote = "\""
  while "true" do end
  local other = ""
  """

  attack "isaac-racing-client#51: ipairs is replaced while require looks",
         {:error, ~r/require|module/},
         ~S"""
         ipairs = function() return function() end end
         pairs, next, type, error, assert = ipairs, ipairs, ipairs, ipairs, ipairs
         return require("io.open")
         """

  attack "overlunky#438: load without an environment gives the real one",
         {:value, "refused"},
         ~S"""
         for _, f in ipairs({ load("return io, os.execute, package, debug.getinfo"),
                              load("return _G.io, _ENV.os.execute, _G.package, _G.debug.sethook"),
                              load("return _G._G.io, nil, _G.require == nil", "x", "t", _ENV) }) do
           local ok, a, b, c, d = pcall(f)
           if ok and (a or b or c or d) then return "found" end
         end
         return "refused"
         """

  attack "CVE-2026-41196: getfenv", {:error, ~r/getfenv/}, ~S"""
  return getfenv(0).io
  """

  attack "CVE-2026-40960: functions that trusted code calls are replaced, and listen",
         {:value, "done"},
         ~S"""
         local listen = function(...) hijacked = { ... } return ... end
         for _, name in ipairs({ "init", "terminate", "upgrade", "handle_call", "handle_info", "dispatch", "pcall", "error" }) do
           pcall(rawset, _G, name, listen)
           pcall(rawset, erl, name, listen)
         end
         pcall(rawset, erl, "from", listen)
         pcall(rawset, erl, "reply", listen)
         return "done"
         """

  # }====

  # {==== Lua on the BEAM ========================================================================

  attack "tv-labs/lua#305: string.rep of a petabyte", {:error, ~r/too large/}, ~S"""
  return ("x"):rep(1000000000000000)
  """

  attack "tv-labs/lua#305: by a float", {:error, ~r/too large/}, ~S"""
  return ("x"):rep(1e15)
  """

  attack "tv-labs/lua#305: half a billion results of table.unpack",
         {:error, ~r/too many results/},
         ~S"""
         return table.unpack({}, 1, 500000000)
         """

  attack "tv-labs/lua#305: a reader of load that never ends", :refused, ~S"""
  assert(load(function() return "x = 1 " end))
  """

  attack "luerl#80: strings that no heap counts",
         :memory,
         [limits: [time: 3_000, deadline: 3_000], takes: 6_000],
         ~S"""
         local t = {}
         while true do t[#t + 1] = ("x"):rep(100000) .. #t end
         """

  attack "luerl#80: the same inside pcall",
         :memory,
         [limits: [time: 3_000, deadline: 3_000], takes: 6_000],
         ~S"""
         local t = {}
         while true do pcall(function() t[#t + 1] = ("x"):rep(100000) .. #t end) end
         """

  attack "luerl#77: _G is emptied while it is walked",
         fn outcome -> assert {:value, _} = outcome end,
         ~S"""
         local n = 0
         local pairs, pcall, rawset = pairs, pcall, rawset
         for name in pairs(_G) do
           pcall(rawset, _G, name, nil)
           n = n + 1
           if n > 1000 then break end
         end
         return n
         """

  attack "luerl#85: a string that is doubled for ever",
         :memory,
         [limits: [time: 3_000, deadline: 3_000], takes: 6_000],
         ~S"""
         x = "a"
         while true do x = x .. x end
         """

  # }====
end
