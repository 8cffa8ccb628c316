defmodule Lunode.Attacks.ReachTest do
  @moduledoc "What a script may not find: files, processes, bytecode, addresses, and other tenants."
  use Lunode.Test.Attack

  # {==== What is not there =====================================================================

  # Gives the names of those that are there.
  @found ~S"""
  local found = {}
  local function step(t, name) return t[name] end
  for path in names:gmatch("%S+") do
    local ok, value = true, _ENV
    for name in path:gmatch("[^.]+") do
      if ok and value ~= nil then ok, value = pcall(step, value, name) end
    end
    if ok and value ~= nil then found[#found + 1] = path end
  end
  return erl.list(found)
  """

  for {what, names} <- [
        {"files",
         "io io.open io.popen io.lines io.read io.write io.tmpfile io.stdout io.stderr io.input " <>
           "io.output os.remove os.rename os.tmpname dofile loadfile lfs"},
        {"processes and the environment",
         "os.execute os.getenv os.exit os.setlocale io.popen posix signal"},
        {"modules",
         "package package.loadlib package.path package.cpath package.searchers package.preload " <>
           "package.loaded package.config package.searchpath"},
        {"the inside of the VM",
         "debug.getinfo debug.getlocal debug.getupvalue debug.setupvalue debug.upvaluejoin " <>
           "debug.upvalueid debug.getregistry debug.getmetatable debug.setmetatable debug.sethook " <>
           "debug.gethook debug.setlocal debug.getuservalue debug.setuservalue debug.debug " <>
           "debug.setcstacklimit string.dump"},
        {"what older and other Luas have",
         "newproxy getfenv setfenv module loadstring unpack table.getn table.maxn string.gfind gcinfo " <>
           "jit ffi bit bit32 redis cjson cmsgpack struct ngx kong os.sleep sandbox"}
      ] do
    attack "a search for #{what}", {:value, []}, "local names = '#{names}'\n" <> @found
  end

  attack "the password file", {:error, ~r/io/}, ~S"""
  return io.open("/etc/passwd"):read("a")
  """

  attack "a secret of the environment", {:error, ~r/getenv/}, ~S"""
  return os.getenv("LUNODE_CANARY")
  """

  attack "a program", {:error, ~r/execute/}, ~S"""
  return os.execute("id")
  """

  attack "the end of the node", {:error, ~r/exit/}, ~S"""
  os.exit(1, true)
  """

  attack "a program through a pipe", {:error, ~r/io/}, ~S"""
  return io.popen("id"):read("a")
  """

  attack "a script from a file", {:error, ~r/dofile/}, ~S"""
  return dofile("/etc/passwd")
  """

  attack "a file by its error", {:error, ~r/loadfile/}, ~S"""
  return loadfile("/etc/passwd")
  """

  attack "a module with a path in its name", {:error, ~r/require|module/}, ~S"""
  return require("../../../../etc/passwd")
  """

  for name <- ["io", "os", "debug", "package", "ffi", "posix", "socket"] do
    attack "require of #{name}",
           fn outcome ->
             case outcome do
               {:ended, :call, {:lua_error, text, _}} -> assert text =~ ~r/require|module/
               {:value, value} -> assert value == "none of it"
             end
           end,
           """
           local m = require("#{name}")
           local bad = m.open or m.execute or m.getregistry or m.loadlib or m.cdef or m.fork or m.tcp
           return bad == nil and "none of it" or "got it"
           """
  end

  attack "the program's own modules, of which there is one", {:value, "erl alone"}, ~S"""
  for _, name in ipairs({ "lunode", "lunode.meta", "lunode.term.core", "engine", "_G._G", "" }) do
    if pcall(require, name) then return name end
  end
  local term = require("lunode.term")
  return term == erl and require("_G") == _G and "erl alone" or "more"
  """

  # }====

  # {==== Bytecode ==============================================================================

  # Nothing in it is hostile: it would run.
  defp bytecode(context, name) do
    source = "string.dump(function() return 'bytecode ran' end)"
    {:ok, [bytes]} = Lunode.eval(context.lua, :bystander, source)
    call(context, name, {:go, bytes})
  end

  for {what, call} <- [
        {"bytecode", "load(bytes)"},
        {"bytecode that is asked for", ~S|load(bytes, "x", "b")|},
        {"bytecode or text, whichever it is", ~S|load(bytes, "x", "bt")|},
        {"bytecode with a mode that is none", ~S|load(bytes, "x", "tb\0b")|},
        {"bytecode in pieces",
         ~S|load(coroutine.wrap(function() for b in bytes:gmatch(".") do coroutine.yield(b) end end))|},
        {"bytecode whose first byte comes late",
         ~S|load(coroutine.wrap(function() coroutine.yield(bytes) end), "x", "b", {})|},
        {"bytecode behind a comment", ~S|load("#\n" .. bytes)|}
      ] do
    attack what,
           fn outcome ->
             refute outcome == {:value, "bytecode ran"}

             case outcome do
               {:value, {nil, text}} ->
                 assert text =~ ~r/binary|text|mode|unexpected|expected|near/

               {:ended, _, {:lua_error, text, _}} ->
                 assert text =~ ~r/binary|text|mode/
             end
           end,
           [run: &bytecode(&1, &2), script: true],
           """
           local t = {}
           function t:go(bytes)
             local f, why = #{call}
             if f then return f() end
             return f, why
           end
           return t
           """
  end

  attack "a script that is bytecode",
         {:error, ~r/binary|text/},
         [script: true, at: :load],
         "\eLua" <> <<0x54, 0, 25, 147, 13, 10, 26, 10, 4, 8, 8, 0x78, 0x56>>

  attack "an evaluation that is bytecode",
         {:error, ~r/binary|text/},
         [at: :eval, run: &__MODULE__.eval_bytecode/2],
         ~S"""
         """

  def eval_bytecode(context, name) do
    {:ok, [bytes]} = Lunode.eval(context.lua, :bystander, "string.dump(function() return 1 end)")
    {:error, reason} = Lunode.eval(context.lua, name, bytes)
    {:ended, :eval, reason}
  end

  # }====

  # {==== What all share ========================================================================

  attack "the string metatable", {:value, "xxx"}, ~S"""
  local evil = function() return function() hijacked = true return "hijacked" end end
  pcall(function() getmetatable("").__index = evil end)
  pcall(function() rawset(getmetatable(""), "__index", evil) end)
  pcall(function() setmetatable(getmetatable(""), { __index = evil }) end)
  pcall(function() getmetatable("").__add = evil end)
  pcall(function() rawset(getmetatable("").__index, "rep", evil()) end)
  return ("x"):rep(3)
  """

  attack "a metatable for all strings, numbers, functions and nil", {:value, nil}, ~S"""
  for _, v in ipairs({ "x", 1, 1.5, true, print, coroutine.running() }) do
    local ok = pcall(setmetatable, v, { __index = function() hijacked = true end })
    if ok then return type(v) end
  end
  if pcall(setmetatable, nil, {}) then return "nil" end
  return nil
  """

  attack "the functions of every library", fn outcome -> assert {:value, _} = outcome end, ~S"""
  local evil = function() hijacked = true return "hijacked" end
  for _, library in ipairs({ "string", "table", "math", "os", "coroutine", "utf8", "debug", "erl" }) do
    local t = _ENV[library]
    local names = {}
    pcall(function() for name in pairs(t) do names[#names + 1] = name end end)
    for _, name in ipairs(names) do
      pcall(function() t[name] = evil end)
      pcall(rawset, t, name, evil)
    end
    pcall(setmetatable, t, { __index = evil })
  end
  return "done"
  """

  attack "the functions of the base library, for the next version",
         {:value, "intact"},
         [run: &__MODULE__.next_version/2],
         ~S"""
         local evil = function() hijacked = true return "hijacked" end
         local names = {}
         for name in pairs(_G) do names[#names + 1] = name end
         for _, name in ipairs(names) do
           pcall(rawset, _G, name, evil)
           pcall(function() _ENV[name] = evil end)
         end
         """

  # The first version has spoilt what it could; the second must be as new.
  def next_version(context, name) do
    call(context, name, {:go, 1, 2})

    {:ok, _} =
      load(context, name, ~S"""
      local t = {}
      function t:alive() return "alive" end
      function t:go()
        return type(print) == "function" and ("x"):rep(2) == "xx" and string.rep("x", 2) == "xx"
          and table.concat({ 1, 2 }) == "12" and tostring(1) == "1" and select("#") == 0
          and pcall(error) == false and "intact" or "spoilt"
      end
      return t
      """)

    call(context, name, :go)
  end

  attack "functions that evaluations use", {:value, [7]}, [run: &__MODULE__.spoilt_eval/2], ~S"""
  local pcall, rawset = pcall, rawset
  local evil = function() hijacked = true while true do end end
  for _, name in ipairs({ "pcall", "load", "tostring", "error", "select", "print", "type" }) do
    pcall(function() _ENV[name] = evil end)
    pcall(rawset, _G, name, evil)
  end
  """

  def spoilt_eval(context, name) do
    call(context, name, {:go, 1, 2})
    {:ok, values} = Lunode.eval(context.lua, name, "3 + 4")
    {:value, values}
  end

  attack "the globals of another handler", {:value, nil}, ~S"""
  return secret or _G.secret or rawget(_G, "secret") or (neighbour and neighbour.secret)
  """

  # Nothing with the secret in it is found, whatever leads from _G to elsewhere.
  attack "every string that can be reached",
         fn outcome ->
           assert {:value, texts} = outcome
           assert is_list(texts)
         end,
         ~S"""
         local seen, texts = {}, {}
         local function walk(v, depth)
           if type(v) == "string" then
             if #texts < 2000 then texts[#texts + 1] = v:sub(1, 100) end
           elseif (type(v) == "table" or type(v) == "userdata") and not seen[v] and depth < 12 then
             seen[v] = true
             pcall(function() for k, x in pairs(v) do walk(k, depth + 1) walk(x, depth + 1) end end)
             pcall(function() for k, x in next, v do walk(k, depth + 1) walk(x, depth + 1) end end)
             local ok, meta = pcall(getmetatable, v)
             if ok then walk(meta, depth + 1) end
           end
         end
         walk(_ENV, 1)
         walk(_G, 1)
         walk(self, 1)
         walk(getmetatable(""), 1)
         walk(getmetatable(erl.self()), 1)
         walk(getmetatable(home), 1)
         return erl.list(texts)
         """

  attack "what the collector may be told",
         fn outcome ->
           case outcome do
             {:value, done} -> assert done == []
             {:ended, :call, {:lua_error, text, _}} -> assert text =~ "collectgarbage"
           end
         end,
         ~S"""
         local done = {}
         for _, option in ipairs({ "stop", "restart", "setpause", "setstepmul", "generational", "incremental" }) do
           if pcall(collectgarbage, option, 1000000) then done[#done + 1] = option end
         end
         return erl.list(done)
         """

  # }====

  # {==== Addresses =============================================================================

  attack "addresses by tostring", &__MODULE__.no_address/1, ~S"""
  local texts = {}
  local values = {
    print, string.rep, {}, coroutine.create(print), function() end, erl.self(), erl.ref(), erl.from(),
    erl.tuple(1), erl.list({}), erl.map({}), erl.null, erl.noreply, erl.bits("a", 3), erl.improper({ 1 }, 2),
    setmetatable({}, { __name = "name" }), getmetatable(erl.self()) or {}, erl.bigint("100000000000000000000"),
  }
  for i, v in pairs(values) do texts[#texts + 1] = tostring(v) end
  return erl.list(texts)
  """

  attack "addresses by string.format", &__MODULE__.no_address/1, ~S"""
  local texts = {}
  for _, format in ipairs({ "%p", "%s", "%q", "%20p", "%-20p", "%.20s", "%%%p", "%5.3s%p" }) do
    for _, v in ipairs({ print, {}, coroutine.create(print), "x", erl.self(), home }) do
      local ok, text = pcall(string.format, format, v, v, v)
      texts[#texts + 1] = tostring(text)
    end
  end
  return erl.list(texts)
  """

  attack "addresses by errors", &__MODULE__.no_address/1, ~S"""
  local texts = {}
  local function try(f, ...)
    local _, e = pcall(f, ...)
    texts[#texts + 1] = tostring(e)
    local _, trace = xpcall(f, debug.traceback, ...)
    texts[#texts + 1] = tostring(trace)
  end
  try(function() error({}) end)
  try(function() error(print) end)
  try(function() local t = {} t[nil] = 1 end)
  try(function() return {} .. print end)
  try(function() return {} < {} end)
  try(function() ("x"):rep({}) end)
  try(table.concat, { {}, print })
  try(erl.encode, print)
  try(erl.encode, { [{}] = coroutine.create(print) })
  try(setmetatable, 1, print)
  try(string.format, "%d", {})
  try(erl.send, {}, 1)
  try(erl.send, print, 1)
  try(tostring)
  try(next, {}, {})
  return erl.list(texts)
  """

  attack "addresses by an error that nobody catches", &__MODULE__.no_address/1, ~S"""
  error(setmetatable({}, { __name = "name" }))
  """

  attack "addresses by an error that is a function", &__MODULE__.no_address/1, ~S"""
  error(print)
  """

  attack "the seed of the random numbers", {:value, nil}, ~S"""
  return (math.randomseed())
  """

  attack "bytes of memory by string.pack and string.unpack",
         fn outcome ->
           assert {:value, texts} = outcome
           assert Enum.all?(texts, &(&1 == <<0>> or &1 == ""))
         end,
         ~S"""
         local texts = {}
         for _, format in ipairs({ "!16 x!16", "Xi16", "b Xi8", "c0", "x", "c100" }) do
           local ok, bytes = pcall(string.pack, format, "", "", "")
           if ok then for byte in bytes:gmatch(".") do texts[#texts + 1] = byte end end
         end
         return erl.list(texts)
         """

  def no_address(outcome) do
    text = inspect(outcome, limit: :infinity, printable_limit: :infinity)
    refute text =~ ~r/0x[0-9a-f]{5}/i
    # One in decimal: a user's addresses begin at some 0x5500_0000_0000.
    refute text =~ ~r/\b\d{14,15}\b/
  end

  # }====

  # {==== Our own functions and objects ==========================================================

  attack "the metatables of terms", fn outcome -> assert {:value, "done"} = outcome end, ~S"""
  local evil = function() hijacked = true return "hijacked" end
  for _, v in ipairs({ erl.self(), erl.ref(), erl.from(), home, erl.tuple(1), erl.list({ 1 }), erl.map({ a = 1 }),
                       erl.bits("a", 3), erl.improper({ 1 }, 2), erl.bigint("100000000000000000000"), erl.null, atom }) do
    local meta = getmetatable(v)
    if type(meta) == "table" then
      for _, event in ipairs({ "__index", "__newindex", "__gc", "__eq", "__tostring", "__name", "__metatable", "__len" }) do
        pcall(function() meta[event] = evil end)
        pcall(rawset, meta, event, evil)
      end
    end
    pcall(setmetatable, v, { __index = evil, __gc = evil })
    pcall(rawset, v, "__index", evil)
  end
  return "done"
  """

  # Type confusion: a finalizer or an index function of ours that is handed what it does not expect.
  attack "functions out of metatables with strange arguments",
         fn outcome -> assert {:value, _} = outcome end,
         ~S"""
         local values = { erl.self(), erl.ref(), erl.from(), home, erl.tuple(1), erl.list({ 1 }), erl.map({ a = 1 }),
                          erl.bits("a", 3), erl.improper({ 1 }, 2), erl.bigint("100000000000000000000"), erl.null, "x", 1, 1.5, {}, print,
                          coroutine.create(print), true }
         local functions, seen = {}, {}
         local function collect(t)
           if type(t) ~= "table" or seen[t] then return end
           seen[t] = true
           for _, f in next, t do
             if type(f) == "function" then functions[#functions + 1] = f end
             collect(f)
           end
           collect(getmetatable(t))
         end
         for _, v in ipairs(values) do
           local ok, meta = pcall(getmetatable, v)
           if ok then collect(meta) end
         end
         local calls = 0
         for _, f in ipairs(functions) do
           for _, a in ipairs(values) do
             for _, b in ipairs(values) do
               pcall(coroutine.wrap(function() pcall(f, a, b) pcall(f, a) end))
               calls = calls + 1
             end
           end
         end
         return calls
         """

  for seed <- 1..3 do
    # Whatever it does, it does to itself.
    attack "every function with strange arguments, in an order of its own (#{seed})",
           fn outcome ->
             case outcome do
               {:value, _} -> :ok
               {:ended, :call, reason} -> assert reason != :killed
             end
           end,
           [limits: [time: 1_000, deadline: 2_000], takes: 6_000],
           """
           math.randomseed(#{seed})
           """ <>
             ~S"""
             local values = {
               erl.self(), erl.ref(), erl.from(), home, victim, erl.tuple(1), erl.list({ 1 }), erl.map({ a = 1 }), {},
               erl.bits("a", 3), erl.improper({ 1 }, 2), erl.bigint("100000000000000000000"), erl.null, "x", "", "%s%d%q", "\0\255", 0, -1,
               1.5, 0 / 0, 1 / 0, math.mininteger, math.maxinteger, 1 << 31, print, function(...) return ... end,
               coroutine.create(function() coroutine.yield() end), true, false, erl.noreply, erl.encode({ 1 }),
               setmetatable({}, { __index = function() return 1 end, __len = function() return 3 end }),
               setmetatable({}, { __tostring = function() return 1 end, __name = 7, __close = 3 }),
             }
             local functions, seen = {}, {}
             local skip = { [erl.sleep] = true, [erl.receive] = true, [erl.exit] = true, [print] = true, [erl.spawn] = true }
             local function collect(t, depth)
               if type(t) ~= "table" or seen[t] or depth > 4 then return end
               seen[t] = true
               for _, f in next, t do
                 if type(f) == "function" and not skip[f] then functions[#functions + 1] = f end
                 if type(f) == "table" then collect(f, depth + 1) end
               end
               local meta = getmetatable(t)
               if type(meta) == "table" then
                 for _, f in pairs(meta) do if type(f) == "table" then collect(f, depth + 1) end end
               end
             end
             collect(_G, 1)
             collect(erl, 1)
             for _, library in ipairs({ string, table, math, coroutine, utf8, os }) do
               for _, name in ipairs({ "rep", "format", "find", "gsub", "pack", "unpack", "move", "concat", "sort", "insert",
                                       "remove", "wrap", "resume", "close", "status", "codepoint", "offset", "char", "len",
                                       "byte", "date", "time", "fmod", "random", "tointeger" }) do
                 if library[name] then functions[#functions + 1] = library[name] end
               end
             end
             local function any() return values[math.random(#values)] end
             local calls = 0
             for _ = 1, 20000 do
               local f = functions[math.random(#functions)]
               pcall(f, any(), any(), any(), any())
               calls = calls + 1
             end
             return calls
             """
  end

  attack "a finalizer of ours, called by hand",
         fn outcome -> assert {:value, "done"} = outcome end,
         ~S"""
         for _, v in ipairs({ erl.self(), erl.ref(), erl.from(), erl.bigint("100000000000000000000"), erl.bits("a", 3) }) do
           local meta = getmetatable(v)
           local gc = type(meta) == "table" and rawget(meta, "__gc")
           if gc then for _ = 1, 10 do pcall(gc, v) pcall(gc, {}) pcall(gc, "x") pcall(gc) end end
         end
         return "done"
         """

  # }====
end
