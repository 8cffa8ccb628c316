defmodule Lunode.SandboxTest do
  @moduledoc "What a script that nobody vouches for sees, and where it ends."
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  @moduletag :capture_log
  @moduletag timeout: 180_000

  # Runs what it is sent; a table of names in which functions can be kept.
  @runner """
  local kept = {}
  local handler = { kept = kept }
  function handler:lua(source, ...)
    local run, why = load(source, "=test")
    if not run then error(why, 0) end
    return run(...)
  end
  function handler:ping() return "pong" end
  return handler
  """

  defp start(options \\ []) do
    lua = start_supervised!(Lunode)
    {:ok, _} = Lunode.load(lua, :tenant, @runner, options)
    lua
  end

  defp lua(lua, source), do: Lunode.call(lua, :tenant, {:lua, source}, 60_000)

  # The message of the error that the source ends with.
  defp message_of(lua, source) do
    assert [false, message] = lua(lua, "return erl.list{pcall(function() #{source} end)}")
    message
  end

  describe "what there is:" do
    setup do
      %{lua: start()}
    end

    test "the libraries, by what they are used for", %{lua: lua} do
      for {source, value} <- [
            {"return ('a,b'):gsub(',', ';')", {"a;b", 1}},
            {"return string.format('%5.2f %s %d %%', 1.5, true, 3)", " 1.50 true 3 %"},
            {"return table.concat({1, 2, 3}, '-')", "1-2-3"},
            {"return math.max(1, 2)", 2},
            {"return utf8.char(228)", "ä"},
            {"return type(os.time())", "number"},
            {"return os.date('!%Y', 0)", "1970"},
            {"return select('#', 1, 2)", 2},
            {"return load('return 1 + 1')()", 2},
            {"return load(function() return nil end)()", nil},
            {"return load('return x', 'x', 't', {x = 3})()", 3},
            {"return collectgarbage('count') > 0", true},
            {"return require('string').upper('a')", "A"},
            {"return require('lunode.term') == erl", true},
            {"local co = coroutine.wrap(function() coroutine.yield(1) end) return co()", 1},
            {"return atom.ok == atom('ok')", true},
            {"return tostring(erl.tuple(1, 2))", "{1, 2}"},
            {"x = 5 return _G.x", 5},
            {"return setmetatable({}, {__index = {a = 1}}).a", 1},
            {"return (debug.traceback('here'):match('^here\\nstack traceback:') ~= nil)", true}
          ] do
        assert lua(lua, source) == value, source
      end
    end

    test "nothing that reaches beyond it", %{lua: lua} do
      for name <- ~w(io package dofile loadfile loadstring setfenv os.execute os.getenv os.exit
              os.remove os.rename os.tmpname os.setlocale debug.getinfo debug.sethook
              debug.getregistry debug.getupvalue debug.setmetatable debug.getmetatable
              string.dump) do
        assert lua(lua, "return #{name} == nil") == true, name
      end

      assert message_of(lua, "require('io')") =~ "the module 'io' is not available"
      assert message_of(lua, "collectgarbage('stop')") =~ "an untrusted script has"
    end

    test "text alone is loaded, with the script's own globals", %{lua: lua} do
      assert [nil, why] = lua(lua, "return erl.list{load('\\27Lua', 'x', 'b')}")
      assert why =~ "attempt to load"
      assert [nil, why] = lua(lua, "return erl.list{load('\\27Lua')}")
      assert why =~ "attempt to load a binary chunk"
      assert [nil, why] = lua(lua, "return erl.list{load((' '):rep(2000000))}")
      assert why =~ "at the most"
      assert lua(lua, "return load('return _G')() == _G") == true
    end

    test "no finalizers, now or later", %{lua: lua} do
      assert message_of(lua, "setmetatable({}, {__gc = function() end})") =~ "__gc"

      assert lua(lua, """
             ran = false
             for i = 1, 100 do
               local meta = {}
               setmetatable({}, meta)
               meta.__gc = function() ran = true end
             end
             collectgarbage()
             collectgarbage()
             return ran
             """) == false
    end

    test "no addresses", %{lua: lua} do
      assert lua(lua, """
             local co = coroutine.create(function() end)
             local texts = {}
             for _, v in ipairs{{}, print, co, erl.self(), erl.noreply, erl.null, atom, string,
                                setmetatable({}, {__name = "mine"}), function() end, erl.decode,
                                erl.list{print, {}}, erl.map{a = co}, erl.from()} do
               texts[#texts + 1] = tostring(v)
               texts[#texts + 1] = string.format("%s", v)
               texts[#texts + 1] = ("%10.50s"):format(v)
             end
             for _, f in ipairs{function() erl.tuple(1)[{}] = 1 end, function() error({}) end,
                                function() local x = {} .. {} end, function() ("x"):rep({}) end,
                                function() erl.send({}, 1) end} do
               texts[#texts + 1] = tostring(select(2, pcall(f)))
             end
             local found = {}
             for _, text in ipairs(texts) do
               if text:find("0x%x") then found[#found + 1] = text end
             end
             return erl.list(found)
             """) == []

      assert message_of(lua, "string.format('%p', {})") =~ "%p is not available"
      assert message_of(lua, "('%-20p'):format({})") =~ "%p is not available"
      assert lua(lua, "return select('#', math.randomseed())") == 0
    end

    test "the libraries and the strings' metatable stay as they are", %{lua: lua} do
      assert message_of(lua, "string.rep = nil") =~ "string is read-only"
      assert message_of(lua, "erl.send = nil") =~ "erl is read-only"
      assert message_of(lua, "erl.log.info = nil") =~ "erl.log is read-only"
      assert message_of(lua, "setmetatable(string, {})") =~ "protected"
      assert message_of(lua, "atom.x = 1") =~ "atoms cannot be assigned to"
      assert lua(lua, "return getmetatable('')") == "string"
      assert lua(lua, "return getmetatable('').__index") == nil

      # What it spoils by rawset, it spoils for itself: not even for its own next version.
      lua(lua, """
      for _, t in ipairs{string, erl, erl.log, atom, table, math, coroutine} do
        for _, name in ipairs{"format", "upper", "send", "info", "ok", "concat", "wrap", "encode"} do
          rawset(t, name, "spoilt")
        end
      end
      for k, v in pairs(string) do
        if type(v) == "table" then rawset(v, "upper", "spoilt") end
      end
      tostring, print, pairs = nil, nil, nil
      """)

      assert lua(lua, "return ('x'):upper()") == "X"
      assert {:ok, _} = Lunode.load(lua, :tenant, @runner)

      assert lua(lua, "return string.upper('x') .. tostring(atom.ok) .. table.concat{1}") ==
               "Xok1"
    end

    test "an evaluation in it has no more than it has", %{lua: lua} do
      assert {:ok, [nil]} = Lunode.eval(lua, :tenant, "io")
      assert {:ok, ["string"]} = Lunode.eval(lua, :tenant, "getmetatable('')")
      assert {:ok, [true]} = Lunode.eval(lua, :tenant, "load('return _G')().erl ~= nil")
    end

    test "an error in a chunk that claims to be a file does not show the file", %{lua: lua} do
      log =
        capture_log(fn ->
          catch_exit(lua(lua, "load('error(1)', '@/etc/passwd')()"))
          assert lua(lua, "return 1") == 1
        end)

      refute log =~ "root:"
    end
  end

  # Over and over: what the source is to end with.
  defp reason_of(lua, source) do
    {reason, _call} = catch_exit(lua(lua, source))
    reason
  end

  defp stats(lua), do: Lunode.stats(lua).handlers.tenant

  defp eventually(check, left \\ 1_000) do
    cond do
      check.() -> true
      left == 0 -> flunk("it does not come true")
      true -> Process.sleep(10) && eventually(check, left - 1)
    end
  end

  describe "memory:" do
    @hogs %{
      strings: "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end",
      a_string: "return #('x'):rep(1e9)",
      a_table: "local t = {} for i = 1, 1e9 do t[i] = i end",
      concat: "local t = {} for i = 1, 1000 do t[i] = ('x'):rep(1e5) end return #table.concat(t)",
      closures: "local f for i = 1, 1e9 do local g = f f = function() return g end end",
      coroutines: "local t = {} for i = 1, 1e9 do t[i] = coroutine.create(print) end",
      deep: "local function f(n) return {f(n + 1)} end return f(1)",
      caught: "while true do pcall(string.rep, 'x', 1e9) end",
      caught_inside:
        "local t = {} while true do pcall(function() t[#t + 1] = ('x'):rep(1e6) .. #t end) end",
      a_comparator: """
      local t = {} for i = 1, 1000 do t[i] = i end
      local u = {}
      table.sort(t, function(a, b) pcall(function() u[#u + 1] = ('x'):rep(1e5) .. #u end) return a < b end)
      return erl.sleep(100)
      """,
      message_handler: """
      kept = {}
      return xpcall(error, function() while true do kept[#kept + 1] = {} end end)
      """,
      format: "return #string.format('%s%s%s', ('x'):rep(1e7), ('y'):rep(1e7), ('z'):rep(1e7))",
      bigints: "local t = {} for i = 1, 1e6 do t[i] = erl.bigint(2) ^ 1000000 + i end",
      decoded:
        "local b = erl.encode(erl.list{('x'):rep(9e5)}) local t = {} for i = 1, 1e6 do t[i] = erl.decode(b) end"
    }

    for {name, source} <- @hogs do
      @tag source: source
      test "#{name} beyond the limit", %{source: source} do
        max = 8 * 1024 * 1024
        lua = start(limits: [memory: max, time: 60_000])
        :ok = Lunode.subscribe(lua)

        log =
          capture_log(fn ->
            send(self(), {:reason, reason_of(lua, source)}) && Process.sleep(50)
          end)

        assert_received {:reason, {:limit, :memory, ^max, used}}
        assert used > max
        assert log =~ ~r"ended: wanted #{used} bytes of memory: the limit is #{max}"
        assert length(String.split(log, "wanted")) == 2

        assert_receive {:lunode, _, :limit, :tenant, %{kind: :memory, max: ^max, used: ^used}},
                       5_000

        # It starts again, with what it had.
        assert Lunode.call(lua, :tenant, :ping) == "pong"
        assert %{restarts: 1, memory: memory, memory_peak: peak} = stats(lua)
        assert memory < 1_000_000 and peak < 1_000_000
        assert [%{version: 1, state: :running}] = Lunode.handlers(lua)
      end
    end

    test "what it takes, and the most it has taken, are reported" do
      lua = start()
      lua(lua, "kept = ('x'):rep(5e6) return nil")
      lua(lua, "kept = nil collectgarbage() return nil")
      assert %{memory: memory, memory_peak: peak} = stats(lua)
      assert memory < 1_000_000
      assert peak > 5_000_000
    end

    test "all processes of the handler end, other handlers' do not" do
      lua = start(limits: [memory: 4_000_000])
      {:ok, _} = Lunode.load(lua, :other, @runner)
      {:ok, pid} = Lunode.start_process(lua, :other)
      Process.flag(:trap_exit, true)
      {:ok, mate} = Lunode.start_process(lua, :tenant)
      assert {:limit, :memory, _, _} = reason_of(lua, "return #('x'):rep(1e7)")
      assert_receive {:EXIT, ^mate, {:limit, :memory, 4_000_000, _}}, 5_000
      assert GenServer.call(pid, :ping) == "pong"
      assert Lunode.call(lua, :other, :ping) == "pong"
    end

    test "garbage alone does not end it" do
      lua = start(limits: [memory: 2_000_000, time: 60_000])

      assert lua(
               lua,
               "for i = 1, 100 do local s = ('x'):rep(500):rep(1000) .. i end return 'done'"
             ) ==
               "done"
    end

    test "a script that does not fit is told so" do
      lua = start_supervised!(Lunode)

      assert {:error, {:limit, :memory, 1_000_000, _}} =
               Lunode.load(lua, :big, "local s = ('x'):rep(1e7) return {}",
                 limits: [memory: 1_000_000]
               )

      assert {:error, {:limit, :memory, 1_000_000, _}} =
               Lunode.load(lua, :big, "local t = {#{String.duplicate("{},", 100_000)}} return {}",
                 limits: [memory: 1_000_000]
               )

      assert {:error, {_, text}} = Lunode.load(lua, :big, "return {}", limits: [memory: 1_000])
      assert text =~ "1000 bytes of memory is too small"
      assert Lunode.handlers(lua) == []
    end

    test "an evaluation that takes too much ends the handler's processes" do
      lua = start(limits: [memory: 4_000_000])

      assert {:error, {:limit, :memory, 4_000_000, _}} =
               Lunode.eval(lua, :tenant, "('x'):rep(1e7)")

      assert Lunode.call(lua, :tenant, :ping) == "pong"
    end

    test "again and again, it stays down" do
      lua = start(limits: [memory: 4_000_000])
      for _ <- 1..6, do: reason_of(lua, "return #('x'):rep(1e7)")
      eventually(fn -> match?([%{state: :down}], Lunode.handlers(lua)) end)
      assert {{:limit, :memory, 4_000_000, _}, _} = catch_exit(Lunode.call(lua, :tenant, :ping))
      # Another version brings it back.
      assert {:ok, 2} = Lunode.load(lua, :tenant, @runner)
      assert Lunode.call(lua, :tenant, :ping) == "pong"
    end

    test "what it has of callers and messages goes with it" do
      lua = start(limits: [memory: 4_000_000])

      for _ <- 1..5 do
        tasks =
          for _ <- 1..10,
              do:
                Task.async(fn ->
                  catch_exit(lua(lua, "kept = {erl.from(), kept} return erl.noreply"))
                end)

        Process.sleep(50)

        assert {:limit, :memory, _, _} =
                 reason_of(
                   lua,
                   "local x = pcall(erl.encode, {1, {2, print}}) return #('x'):rep(1e7)"
                 )

        for task <- tasks, do: assert({{:limit, :memory, _, _}, _} = Task.await(task))
      end
    end
  end

  test "a name is a trusted script's or an untrusted one's, not both in turn" do
    lua = start()
    assert {:error, {:bad_name, why}} = Lunode.load(lua, :tenant, @runner, trust: :full)
    assert why =~ "unload it first"
  end
end
