defmodule Lunode.Attacks.LoopsTest do
  @moduledoc "Loops without an end, in every place where Lua runs. No script outlives its time."
  use Lunode.Test.Attack

  # {==== Where Lua can be interrupted ==========================================================

  attack "an empty loop", :time, ~S"""
  while true do end
  """

  attack "goto in a circle", :time, ~S"""
  ::again:: goto again
  """

  attack "repeat until false", :time, ~S"""
  repeat until false
  """

  attack "a numeric loop of 2^63 steps", :time, ~S"""
  for i = 1, math.maxinteger do end
  """

  attack "an iterator that never ends", :time, ~S"""
  for _ in function() return 1 end do end
  """

  attack "a loop over a loop inside pcall", :time, ~S"""
  while true do pcall(function() while true do end end) end
  """

  attack "pcall inside pcall, to catch whatever ends the inner one",
         {:limit, [:time, :memory]},
         ~S"""
         local function again() while true do pcall(again) end end
         again()
         """

  attack "a function that calls itself in its tail", :time, ~S"""
  local function f() return f() end
  f()
  """

  attack "a recursion without an end", {:limit, [:memory, :time]}, ~S"""
  local function f() return 1 + f() end
  f()
  """

  attack "a recursion without an end, caught and begun again", {:limit, [:memory, :time]}, ~S"""
  local function f() return 1 + f() end
  while true do pcall(f) end
  """

  attack "a message handler that fails, again and again",
         {:limit, [:time, :deadline]},
         ~S"""
         while true do xpcall(error, function(e) error(e) end, "x") end
         """

  attack "errors whose values are tables that are raised anew", :time, ~S"""
  local e = {}
  while true do local _, caught = pcall(error, e) e = { caught } e = caught end
  """

  attack "a coroutine that loops", :time, ~S"""
  coroutine.wrap(function() while true do end end)()
  """

  attack "a coroutine that loops, resumed", :time, ~S"""
  local co = coroutine.create(function() while true do end end)
  while true do coroutine.resume(co) end
  """

  attack "a coroutine that yields for ever", :time, ~S"""
  for _ in coroutine.wrap(function() while true do coroutine.yield(1) end end) do end
  """

  attack "two coroutines that hand over to each other's makers", :time, ~S"""
  while true do
    local co = coroutine.wrap(function() coroutine.yield(coroutine.running()) end)
    coroutine.close(co())
  end
  """

  attack "pcall in a coroutine in pcall in a coroutine", :time, ~S"""
  local function inner() while true do pcall(function() while true do end end) end end
  local function outer() while true do pcall(coroutine.wrap(inner)) end end
  while true do pcall(coroutine.wrap(outer)) end
  """

  attack "coroutines that start coroutines without an end", {:error, ~r/stack overflow/}, ~S"""
  local function f() return coroutine.wrap(f)() end
  f()
  """

  attack "coroutines that catch that there are too many of them",
         {:limit, [:memory, :time]},
         ~S"""
         local function f() while true do pcall(coroutine.wrap(f)) end end
         f()
         """

  attack "__close of a block", :time, ~S"""
  local x <close> = setmetatable({}, { __close = function() while true do end end })
  """

  attack "__close while an error goes through", :time, ~S"""
  pcall(function()
    local x <close> = setmetatable({}, { __close = function() while true do end end })
    error("x")
  end)
  """

  attack "__close that makes another one of itself", {:error, ~r/stack overflow/}, ~S"""
  local meta = {}
  function meta.__close()
    while true do local y <close> = setmetatable({}, meta) break end
    while true do end
  end
  local x <close> = setmetatable({}, meta)
  """

  attack "__close when the process ends by the limit", :time, ~S"""
  local x <close> = setmetatable({}, { __close = function() hijacked = true while true do end end })
  while true do end
  """

  # With a function each, as the interpreter calls it.
  for {event, expression} <- [
        __index: "x.y",
        __newindex: "x.y",
        __eq: "x == y",
        __lt: "x < y",
        __le: "x <= y",
        __concat: "x .. y",
        __len: "#x",
        __call: "x()",
        __add: "x + y",
        __idiv: "x // y",
        __bnot: "~x",
        __unm: "-x"
      ] do
    statement = if event == :__newindex, do: "#{expression} = 1", else: "local z = #{expression}"

    attack "a loop in #{event}", :time, """
    local meta = { #{event} = function() while true do end end }
    local x, y = setmetatable({}, meta), setmetatable({}, meta)
    #{statement}
    """
  end

  attack "__index that leads in a circle", {:error, ~r/loop/}, ~S"""
  local a, b = {}, {}
  setmetatable(a, { __index = b })
  setmetatable(b, { __index = a })
  return a.x
  """

  attack "a loop in __pairs", {:limit, [:time, :deadline]}, ~S"""
  for _ in pairs(setmetatable({}, { __pairs = function() while true do end end })) do end
  """

  attack "a loop that asks the time until a second has gone by", :time, ~S"""
  local t = os.clock()
  while os.clock() - t < 3600 do end
  """

  attack "a loop that pretends to sleep", :time, ~S"""
  while true do erl.sleep(0) end
  """

  attack "spawned processes that loop, while the caller waits", :time, ~S"""
  for _ = 1, 5 do erl.spawn(function() while true do end end) end
  while true do end
  """

  # }====

  # {==== Where it cannot =======================================================================

  attack "the message handler of xpcall", :stopped, ~S"""
  xpcall(error, function() while true do end end)
  """

  attack "a comparator of table.sort", :stopped, ~S"""
  table.sort({ 1, 2, 3 }, function() while true do end end)
  """

  attack "a callback of string.gsub", :stopped, ~S"""
  ("x"):gsub(".", function() while true do end end)
  """

  attack "__index of a table that string.gsub looks into", :stopped, ~S"""
  ("x"):gsub(".", setmetatable({}, { __index = function() while true do end end }))
  """

  attack "__tostring by tostring", :stopped, ~S"""
  tostring(setmetatable({}, { __tostring = function() while true do end end }))
  """

  attack "__tostring by print", :stopped, ~S"""
  print(setmetatable({}, { __tostring = function() while true do end end }))
  """

  attack "__tostring by erl.log", :stopped, ~S"""
  erl.log.error(setmetatable({}, { __tostring = function() while true do end end }))
  """

  attack "__tostring by string.format", :stopped, ~S"""
  return ("%s"):format(setmetatable({}, { __tostring = function() while true do end end }))
  """

  # Whoever reports the error asks the value for its text.
  attack "__tostring of an error that nobody catches",
         fn outcome ->
           assert {:ended, :call, reason} = outcome
           assert elem(reason, 0) in [:limit, :lua_error]
         end,
         ~S"""
         error(setmetatable({}, { __tostring = function() while true do end end }))
         """

  attack "the reader of load", :stopped, ~S"""
  load(function() while true do end end)
  """

  attack "a reader of load that gives one space after another",
         {:limit, [:time, :deadline, :memory]},
         ~S"""
         while true do load(function() return " " end) end
         """

  attack "__len by table.insert", :stopped, ~S"""
  table.insert(setmetatable({}, { __len = function() while true do end end }), 1)
  """

  attack "__index by table.concat", :stopped, ~S"""
  table.concat(setmetatable({}, { __index = function() while true do end end }), "", 1, 2)
  """

  attack "__index by ipairs", :stopped, ~S"""
  for _ in ipairs(setmetatable({}, { __index = function() while true do end end })) do end
  """

  attack "__close under coroutine.close", {:limit, [:time, :deadline]}, ~S"""
  local co = coroutine.create(function()
    local x <close> = setmetatable({}, { __close = function() while true do end end })
    coroutine.yield()
  end)
  coroutine.resume(co)
  coroutine.close(co)
  """

  attack "metamethods of what is returned, as it is sent",
         {:value, []},
         ~S"""
         local function loop() while true do end end
         return setmetatable({}, { __index = loop, __len = loop, __pairs = loop, __tostring = loop })
         """

  attack "the filter of erl.receive", {:limit, [:time, :deadline]}, ~S"""
  erl.send(erl.self(), "x")
  erl.receive(1000, function() while true do end end)
  """

  # A finalizer runs where no hook reaches it, so there is none.
  attack "__gc of a table",
         fn outcome ->
           case outcome do
             {:value, "never ran"} -> :ok
             {:ended, :call, {:lua_error, text, _}} -> assert text =~ "__gc"
           end
         end,
         ~S"""
         local ran = false
         do setmetatable({}, { __gc = function() ran = true while true do end end }) end
         for _ = 1, 200000 do local garbage = {} end
         return ran and "ran" or "never ran"
         """

  attack "__gc that is put into the metatable afterwards",
         fn outcome ->
           case outcome do
             {:value, "never ran"} -> :ok
             {:ended, :call, {:lua_error, text, _}} -> assert text =~ "__gc"
           end
         end,
         ~S"""
         local ran, meta = false, { __gc = true }
         do
           setmetatable({}, meta)
           meta.__gc = function() ran = true while true do end end
         end
         for _ = 1, 200000 do local garbage = {} end
         return ran and "ran" or "never ran"
         """

  # }====

  # {==== Where the node calls the script =======================================================

  attack "the top level", :stopped, [script: true, at: :load], ~S"""
  while true do end
  """

  attack "the top level, inside pcall", :stopped, [script: true, at: :load], ~S"""
  while true do pcall(function() while true do end end) end
  """

  attack "init", :time, [script: true, run: &__MODULE__.start_one/2, at: :init], ~S"""
  local t = {}
  function t:init(loops) if loops then while true do end end end
  return t
  """

  attack "terminate",
         {:limit, [:time, :deadline]},
         [script: true, run: &__MODULE__.stop_one/2, at: :stop],
         ~S"""
         local t = {}
         function t:terminate() while true do end end
         return t
         """

  attack "terminate at an unload, which is nobody else's end",
         {:value, 7},
         [script: true, run: &__MODULE__.unload_beside/2],
         ~S"""
         local t = {}
         function t:terminate() while true do end end
         return t
         """

  attack "upgrade",
         {:limit, [:time, :deadline]},
         [script: true, run: &__MODULE__.upgrade/2, at: :upgrade],
         ~S"""
         local t = {}
         function t:upgrade() while true do end end
         return t
         """

  attack "an evaluation", :time, [run: &__MODULE__.evaluate/2, at: :eval], ~S"""
  """

  attack "a cast", :time, [script: true, run: &__MODULE__.cast/2, at: :cast], ~S"""
  local t = {}
  function t:go() while true do end end
  return t
  """

  attack "a plain message, while a caller waits behind it",
         :time,
         [script: true, run: &__MODULE__.behind/2],
         ~S"""
         local t = {}
         function t:handle_info() while true do end end
         function t:ping() return "pong" end
         return t
         """

  attack "run()", :time, [script: true, run: &__MODULE__.run_one/2, at: :run], ~S"""
  local t = {}
  function t:init(loops) self.loops = loops end
  function t:run() while self.loops do end erl.receive() end
  return t
  """

  attack "a function by erpc",
         :time,
         [script: true, run: &__MODULE__.spawn_one/2, at: :spawn],
         ~S"""
         local t = {}
         function t:go() while true do end end
         return t
         """

  # With one message a time each, no process has had too much; all of them have.
  attack "a process that sends itself a message whenever it was served",
         fn outcome ->
           assert outcome == {:value, "begun"}
         end,
         [script: true, call: :go],
         ~S"""
         local t = {}
         function t:go() erl.send(erl.self(), atom.again) return "begun" end
         function t:again() erl.send(erl.self(), atom.again) end
         return t
         """

  # }====

  def start_one(context, name) do
    Process.flag(:trap_exit, true)
    {:error, reason} = Lunode.start_process(context.lua, name, [true])
    {:ended, :init, reason}
  end

  def stop_one(context, name) do
    {:ended, :stop, ended(Node.spawn(context.node, name, :start, []), &stop/1)}
  end

  defp stop(pid), do: send(pid, {:system, {self(), make_ref()}, {:terminate, :shutdown}})

  # Handlers that may share its worker, loaded before and after, keep their state.
  def unload_beside(context, name) do
    source = "return function(n) kept = kept or n return kept end"
    [before, later] = others = [:"#{name}_before", :"#{name}_later"]
    {:ok, _version} = load(context, before, source)
    {:value, 7} = call(context, before, 7)
    Lunode.unload(context.lua, name)
    {:ok, _version} = load(context, later, source)
    {:value, 7} = call(context, later, 7)
    Process.sleep(500)
    kept = for other <- others, do: call(context, other, 8)
    for other <- others, do: Lunode.unload(context.lua, other)
    Enum.find(kept, hd(kept), &(&1 != {:value, 7}))
  end

  def upgrade(context, name) do
    looping = "local t = {} function t:upgrade() while true do end end return t"
    pid = Node.spawn(context.node, name, :start, [])
    {:ended, :upgrade, ended(pid, fn _pid -> load(context, name, looping) end)}
  end

  def evaluate(context, name) do
    {:error, reason} = Lunode.eval(context.lua, name, "while true do end", 20_000)
    {:ended, :eval, reason}
  end

  def cast(context, name) do
    pid = Node.spawn(context.node, name, :start, [])
    {:ended, :cast, ended(pid, &GenServer.cast(&1, :go))}
  end

  def behind(context, name) do
    send({name, context.node}, "loop")
    call(context, name, :ping)
  end

  def run_one(context, name) do
    {:ended, :run, ended(Node.spawn(context.node, name, :start, [true]), fn _pid -> :ok end)}
  end

  def spawn_one(context, name) do
    {:ended, :spawn, ended(Node.spawn(context.node, name, :go, []), fn _pid -> :ok end)}
  end

  # Monitors it, does something, and gives the reason with which it ended.
  defp ended(pid, fun) do
    ref = Process.monitor(pid)
    fun.(pid)
    assert_receive {:DOWN, ^ref, :process, _, reason}, 20_000
    reason
  end
end
