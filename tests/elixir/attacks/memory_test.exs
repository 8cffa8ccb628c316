defmodule Lunode.Attacks.MemoryTest do
  @moduledoc "Whatever grows, grows up to the handler's limit, and is gone afterwards."
  use Lunode.Test.Attack

  # Time enough to come to the limit of memory first.
  @slowly [limits: [time: 5_000, deadline: 5_000], takes: 8_000]

  # {==== In the VM =============================================================================

  attack "a string that doubles", :memory, @slowly, ~S"""
  local s = "x"
  while true do s = s .. s end
  """

  attack "a string that doubles, inside pcall", :memory, @slowly, ~S"""
  local s = "x"
  while true do pcall(function() s = s .. s end) end
  """

  attack "a list that grows", :memory, @slowly, ~S"""
  local t = {}
  for i = 1, math.maxinteger do t[i] = i end
  """

  attack "a map that grows", :memory, @slowly, ~S"""
  local t = {}
  for i = 1, math.maxinteger do t["k" .. i] = {} end
  """

  attack "globals that grow, and stay", :memory, @slowly, ~S"""
  for i = 1, math.maxinteger do _G["g" .. i] = ("x"):rep(100) .. i end
  """

  attack "closures", :memory, @slowly, ~S"""
  local f
  while true do local g = f f = function() return g end end
  """

  attack "coroutines", :memory, @slowly, ~S"""
  local t = {}
  while true do
    local co = coroutine.create(function() coroutine.yield() end)
    coroutine.resume(co)
    t[#t + 1] = co
  end
  """

  attack "arguments, ever more of them", {:limit, [:memory, :time]}, @slowly, ~S"""
  local t = { 1 }
  while true do t = { table.unpack(t), table.unpack(t) } end
  """

  attack "arguments that are handed on with one more", {:limit, [:memory, :time]}, @slowly, ~S"""
  local function f(...) return f(1, 2, 3, 4, 5, 6, 7, 8, ...) end
  f()
  """

  attack "tables in tables", :memory, @slowly, ~S"""
  local t = {}
  while true do t = { t } end
  """

  attack "a stack that is deep", :memory, @slowly, ~S"""
  local function f(a) local b, c, d, e = a, a, a, a return f(b) + c end
  f(1)
  """

  attack "string.rep of a billion", :memory, ~S"""
  return #("x"):rep(1000000000)
  """

  attack "string.rep of a billion, caught, again and again", :memory, ~S"""
  while true do pcall(string.rep, "x", 1000000000) end
  """

  attack "string.gsub that makes much of little", :memory, @slowly, ~S"""
  return #("x"):rep(1000):gsub("x", (("y"):rep(100000)))
  """

  attack "string.format that makes much of little", :memory, @slowly, ~S"""
  local s, t = ("x"):rep(100000), {}
  for i = 1, 200 do t[i] = s end
  return #("%s"):rep(200):format(table.unpack(t))
  """

  attack "table.concat that makes much of little", :memory, @slowly, ~S"""
  local s, t = ("x"):rep(100000), {}
  for i = 1, 1000 do t[i] = s end
  return #table.concat(t)
  """

  attack "collectgarbage is told to stop, or is not there", :refused, @slowly, ~S"""
  pcall(collectgarbage, "stop")
  pcall(collectgarbage, "setpause", 1000000)
  pcall(collectgarbage, "generational")
  local t = {}
  while true do t[#t + 1] = ("x"):rep(1000) .. #t end
  """

  attack "big integers", :memory, @slowly, ~S"""
  local t, x = {}, erl.bigint("100000000000000000000") ^ 100
  while true do t[#t + 1] = x + #t end
  """

  attack "a big integer that grows", :refused, @slowly, ~S"""
  local x = erl.bigint("100000000000000000000")
  while true do x = x << 1000000 end
  """

  attack "references and pids", :memory, @slowly, ~S"""
  local t = {}
  while true do t[#t + 1] = erl.ref() end
  """

  attack "bitstrings and improper lists", :memory, @slowly, ~S"""
  local t = {}
  while true do t[#t + 1] = erl.improper({ erl.bits("abc", 23) }, 1) end
  """

  attack "what was decoded", :memory, @slowly, ~S"""
  local t, bytes = {}, erl.encode({ { "a", "b" }, { x = 1 }, erl.tuple(1, 2) })
  while true do t[#t + 1] = erl.decode(bytes) end
  """

  attack "what was encoded", :memory, @slowly, ~S"""
  local t, s = {}, ("x"):rep(10000)
  while true do t[#t + 1] = erl.encode({ s, #t }) end
  """

  attack "erl.encode of one string ten thousand times", :refused, @slowly, ~S"""
  local t, s = {}, ("x"):rep(100000)
  for i = 1, 10000 do t[i] = s end
  return #erl.encode(t)
  """

  # }====

  # {==== The compiler ==========================================================================

  # `load` takes no more than it is good for to compile in one go.
  defp too_long(outcome) do
    case outcome do
      {:value, {nil, text}} -> assert text =~ ~r/bytes at the most/
      {:ended, :call, reason} -> assert {:limit, :memory, _, _} = reason
    end
  end

  attack "a constant table without an end", &too_long/1, @slowly, ~S"""
  local i = 0
  return load(function()
    i = i + 1
    return i == 1 and "return {" or "'k" .. i .. "',"
  end)
  """

  attack "a string literal without an end", &too_long/1, @slowly, ~S"""
  local first, part = true, ("x"):rep(10000)
  return load(function()
    if first then first = false return "return [[" end
    return part
  end)
  """

  attack "a name without an end", &too_long/1, @slowly, ~S"""
  local part = ("x"):rep(10000)
  return load(function() return part end)
  """

  for {what, start, opening} <- [
        {"parentheses", "return ", "("},
        {"braces", "return ", "{"},
        {"functions", "", "return function() "},
        {"blocks", "", "do "},
        {"loops", "", "while x do "},
        {"negations", "return ", "not "},
        {"concatenations", "return ", "x .. "},
        {"calls", "return ", "f("}
      ] do
    attack "a chunk of #{what} in one another, 50,000 deep",
           fn outcome ->
             assert {:value, {nil, text}} = outcome
             assert text =~ ~r/overflow|levels|limit|registers/
           end,
           "return load('#{start}' .. ('#{opening}'):rep(50000))"
  end

  attack "more locals than a function has",
         fn outcome ->
           assert {:value, {nil, text}} = outcome
           assert text =~ "too many local variables"
         end,
         ~S"""
         return load(("local x "):rep(201))
         """

  attack "more upvalues than a function has",
         fn outcome ->
           assert {:value, {nil, text}} = outcome
           assert text =~ ~r/too many upvalues/
         end,
         ~S"""
         local p = {}
         for level = 1, 3 do
           for i = 1, 100 do p[#p + 1] = "local v" .. level .. "_" .. i end
           p[#p + 1] = "local function f" .. level .. "()"
         end
         p[#p + 1] = "return function() local s"
         for level = 1, 3 do
           for i = 1, 100 do p[#p + 1] = "s = v" .. level .. "_" .. i end
         end
         p[#p + 1] = "end end end end"
         return load(table.concat(p, "\n"))
         """

  attack "a call with more arguments than there are registers",
         fn outcome ->
           assert {:value, {nil, text}} = outcome
           assert text =~ "registers"
         end,
         ~S"""
         return load("return f(" .. ("x,"):rep(300) .. "x)")
         """

  attack "a script that grows while it is loaded",
         :memory,
         [script: true, at: :load, limits: [time: 5_000, deadline: 5_000], takes: 8_000],
         ~S"""
         local t = {}
         for i = 1, math.maxinteger do t[i] = i end
         """

  attack "a script of braces in one another",
         {:error, ~r/overflow|levels|limit/},
         [script: true, at: :load],
         "return " <> String.duplicate("{", 200_000)

  attack "a script whose constants alone are too much",
         :memory,
         [script: true, at: :load, limits: [time: 5_000, deadline: 5_000], takes: 8_000],
         "return {" <> Enum.map_join(1..400_000, ",", &"'#{&1}'") <> "}"

  # }====

  # {==== Outside of the VM =====================================================================

  # What a handler has outside of its VM has the same limit, and says so where it asked for more.
  defp no_room(outcome) do
    case outcome do
      {:ended, :call, {:lua_error, text, _}} -> assert text =~ ~r/may take 8388608 bytes/
      {:ended, :call, reason} -> assert {:limit, _, _, _} = reason
    end
  end

  attack "long messages to itself that it never takes",
         {:limit, [:memory, :mailbox, :time]},
         @slowly,
         ~S"""
         local s = ("x"):rep(1000000)
         while true do erl.send(erl.self(), s) end
         """

  attack "short messages to itself that it never takes",
         {:limit, [:memory, :mailbox, :time]},
         ~S"""
         while true do erl.send(erl.self(), 1) end
         """

  attack "long messages to many processes of its own", &no_room/1, @slowly, ~S"""
  local s = ("x"):rep(1000000)
  while true do
    local pid = erl.spawn(function() erl.sleep(math.huge) end)
    for _ = 1, 100 do erl.send(pid, s) end
  end
  """

  attack "processes that sleep", {:limit, [:memory, :time]}, @slowly, ~S"""
  while true do erl.spawn(function() erl.sleep(1000000) end) end
  """

  attack "processes that make processes", &no_room/1, ~S"""
  local function bomb() while true do erl.spawn(bomb) end end
  bomb()
  """

  # No process of it has too much time; what all of them take, they take from their own.
  attack "processes that make one another anew as they end",
         {:value, "begun"},
         [run: &__MODULE__.beside_neighbour/2, takes: 8_000],
         ~S"""
         local function bomb() erl.spawn(bomb) erl.spawn(bomb) end
         bomb()
         return "begun"
         """

  attack "a process that sends messages to itself for ever",
         {:value, "begun"},
         [run: &__MODULE__.beside_neighbour/2, takes: 8_000],
         ~S"""
         local function circle() while true do erl.send(erl.self(), 1) erl.receive() end end
         for _ = 1, 100 do erl.spawn(circle) end
         return "begun"
         """

  attack "timers", &no_room/1, @slowly, ~S"""
  while true do erl.send_after(erl.self(), 1, 1000000000) end
  """

  attack "timers with long messages", &no_room/1, @slowly, ~S"""
  local s = ("x"):rep(1000000)
  while true do erl.send_after(erl.self(), s, 1000000000) end
  """

  attack "monitors of one process", &no_room/1, @slowly, ~S"""
  local pid = erl.spawn(function() erl.sleep(1000000) end)
  while true do erl.monitor(pid) end
  """

  attack "monitors of processes that are gone",
         {:limit, [:memory, :mailbox, :time]},
         @slowly,
         ~S"""
         local pid = erl.spawn(function() end)
         erl.sleep(10)
         while true do erl.monitor(pid) end
         """

  attack "a flood of lines for the log", :time, ~S"""
  local s = ("x"):rep(1000)
  while true do print(s) end
  """

  attack "a flood of long lines for the log", :time, ~S"""
  local s = ("x\n"):rep(200000)
  while true do erl.log.error(s) end
  """

  attack "state that grows from call to call",
         :memory,
         [script: true, run: &__MODULE__.call_often/2],
         ~S"""
         local t = {}
         function t:go()
           self.kept = self.kept or {}
           table.insert(self.kept, ("x"):rep(100000) .. #self.kept)
         end
         return t
         """

  attack "callers that are kept and never answered",
         :memory,
         [script: true, run: &__MODULE__.ask_often/2],
         ~S"""
         local t, kept = {}, {}
         function t:go(padding)
           kept[#kept + 1] = { erl.from(), padding .. #kept }
           return erl.noreply
         end
         return t
         """

  # }====

  # {==== What is told of it ====================================================================

  # What a caller gets is bounded, whatever the script makes of its error.
  defp short_error(outcome) do
    assert {:ended, _where, reason} = outcome
    assert elem(reason, 0) in [:lua_error, :limit]
    assert byte_size(:erlang.term_to_binary(reason)) < 1_200_000
  end

  attack "an error of three million characters", &short_error/1, ~S"""
  error(("x"):rep(3000000))
  """

  attack "an error whose value is a long list", &short_error/1, ~S"""
  local t = {}
  for i = 1, 100000 do t[i] = "element " .. i % 10 end
  error(t)
  """

  attack "an error in a chunk with a name of a million characters", &short_error/1, ~S"""
  load("error('x')", "=" .. ("n"):rep(1000000))()
  """

  attack "an error in a function with a name of a million characters", &short_error/1, ~S"""
  local name = ("f"):rep(1000000)
  load("function " .. name .. "() error('x') end " .. name .. "()")()
  """

  attack "an error about a field with a name of a million characters", &short_error/1, ~S"""
  local name = ("f"):rep(1000000)
  load("local t = {} return t." .. name .. ".x")()
  """

  attack "an error from ten thousand calls deep", &short_error/1, ~S"""
  local function f(n) if n == 0 then error("deep") end return 1 + f(n - 1) end
  f(10000)
  """

  attack "a reason of an exit of three million characters", &short_reason/1, ~S"""
  erl.exit(("x"):rep(3000000))
  """

  defp short_reason(outcome) do
    assert {:ended, :call, reason} = outcome
    assert byte_size(:erlang.term_to_binary(reason)) < 1_200_000
  end

  attack "a reply of three million characters", {:error, ~r/message|large|long|limit/}, ~S"""
  return ("x"):rep(3000000)
  """

  attack "a reply of a list of numbers that is too long",
         {:error, ~r/message|large|long|limit/},
         [limits: [memory: 64 * 1_048_576, time: 5_000], takes: 8_000],
         ~S"""
         local t = {}
         for i = 1, 300000 do t[i] = 1.5 end
         return t
         """

  attack "a message that is too long, to itself",
         {:error, ~r/erl\.send.*(message|large|long|limit)/},
         ~S"""
         erl.send(erl.self(), ("x"):rep(3000000))
         """

  # }====

  # While it goes on, its neighbour, which may share its worker, is served.
  def beside_neighbour(context, name) do
    outcome = call(context, name, {:go, node(), context.victim})

    for _ <- 1..20 do
      {took, answer} = :timer.tc(fn -> call(context, :neighbour, :intact) end)
      assert answer == {:value, true}
      assert took < Lunode.Test.OS.stretch(context.os_pid, 1_000_000)
    end

    outcome
  end

  def call_often(context, name) do
    Enum.find_value(1..200, {:value, "never ended"}, fn _ ->
      outcome = call(context, name, :go)
      if outcome != {:value, nil}, do: outcome
    end)
  end

  # Some thousand callers, of whom at most a few hundred wait to be served at a time.
  def ask_often(context, name) do
    server = {name, context.node}
    padding = String.duplicate("x", 5_000)
    ref = Process.monitor(server)

    Enum.find_value(1..200, {:value, "never ended"}, fn _ ->
      for _ <- 1..50, do: :gen_server.send_request(server, {:go, padding})

      receive do
        {:DOWN, ^ref, :process, _, reason} -> {:ended, :call, reason}
      after
        20 -> nil
      end
    end)
  end
end
