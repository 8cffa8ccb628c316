defmodule Lunode.SandboxTest do
  @moduledoc "What a script that nobody vouches for sees, and where it ends."
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  @moduletag :capture_log
  @moduletag :not_under_valgrind
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
          stop_supervised!(Lunode)
        end)

      assert log =~ "/etc/passwd"
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
            assert {:limit, :memory, ^max, used} = reason_of(lua, source)
            assert used > max

            assert_receive {:lunode, _, :limit, :tenant,
                            %{kind: :memory, max: ^max, used: ^used}},
                           5_000

            # It starts again, with what it had.
            assert Lunode.call(lua, :tenant, :ping) == "pong"
            assert %{restarts: 1, memory: memory, memory_peak: peak} = stats(lua)
            assert memory < 1_000_000 and peak < 1_000_000
            assert [%{version: 1, state: :running}] = Lunode.handlers(lua)
            stop_supervised!(Lunode)
            send(self(), {:used, used})
          end)

        assert_received {:used, used}
        assert log =~ ~r"ended: wanted #{used} bytes of memory: the limit is #{max}"
        assert length(String.split(log, "wanted")) == 2
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

  describe "time:" do
    @loops %{
      plain: "while true do end",
      caught: "while true do pcall(function() while true do end end) end",
      message_handler: "while true do xpcall(error, function() return 1 end) end",
      coroutines:
        "coroutine.wrap(function() while true do coroutine.wrap(function() while true do end end)() end end)()",
      metamethod: "return setmetatable({}, {__index = function() while true do end end}).x",
      to_be_closed:
        "local x <close> = setmetatable({}, {__close = function() while true do end end}) return 1",
      recursion: "local function f() return f() end return f()",
      tostring:
        "return tostring(setmetatable({}, {__tostring = function() while true do end end}))",
      sends_itself: "while true do erl.cast(erl.self(), 'x') end",
      goto_loop: "::top:: goto top"
    }

    for {name, source} <- @loops do
      @tag source: source
      test "#{name} without an end", %{source: source} do
        lua = start(limits: [time: 100])
        :ok = Lunode.subscribe(lua)

        log =
          capture_log(fn ->
            assert {:limit, :time, 100, used} = reason_of(lua, source)
            assert used > 100 and used < 5_000
            assert_receive {:lunode, _, :limit, :tenant, %{kind: :time, max: 100}}, 5_000
            assert Lunode.call(lua, :tenant, :ping) == "pong"
            stop_supervised!(Lunode)
          end)

        assert log =~ ~r"ended: ran for \d+ ms without an end: the limit is 100"
      end
    end

    test "waiting does not count, and each message has its own" do
      lua = start(limits: [time: 200])
      assert lua(lua, "erl.sleep(400) return 1") == 1

      for _ <- 1..5,
          do:
            assert(
              lua(lua, "local t = os.clock() while os.clock() - t < 0.08 do end return 1") == 1
            )
    end

    test "what runs when it starts, is loaded or is evaluated has a limit too" do
      lua = start(limits: [time: 100])
      endless = "while true do end"
      assert {:error, {:limit, :time, 100, _}} = Lunode.eval(lua, :tenant, endless)

      assert {:error, {:limit, :time, 100, _}} =
               Lunode.load(lua, :top, endless, limits: [time: 100])

      assert {:ok, 1} =
               Lunode.load(lua, :starts, "return { init = function() #{endless} end }",
                 limits: [time: 100]
               )

      eventually(fn ->
        Enum.any?(Lunode.handlers(lua), &match?(%{name: :starts, state: :down}, &1))
      end)

      assert {{:limit, :time, 100, _}, _} = catch_exit(Lunode.call(lua, :starts, :x))
    end

    test "a loop of its own has it for each message" do
      lua = start()

      loop =
        "return { run = function() while true do local m = erl.receive() if m == 'spin' then while true do end end local t = os.clock() while os.clock() - t < 0.05 do end end end }"

      assert {:ok, 1} = Lunode.load(lua, :loop, loop, limits: [time: 150])
      {:ok, pid} = Lunode.start_process(lua, :loop)
      Process.flag(:trap_exit, true)
      for _ <- 1..10, do: send(pid, "work")
      refute_receive {:EXIT, ^pid, _}, 1_000
      send(pid, "spin")
      assert_receive {:EXIT, ^pid, {:limit, :time, 150, _}}, 5_000
    end
  end

  describe "atoms:" do
    @makers %{
      called: "for i = 1, 1e3 do local a = atom('%s' .. i) end",
      field: "for i = 1, 1e3 do local a = atom['%s' .. i] end",
      caught: "for i = 1, 1e3 do pcall(atom, '%s' .. i) end return 1",
      amap: "local t = {} for i = 1, 1e3 do t['%s' .. i] = i end return erl.amap(t)",
      decode:
        "for i = 1, 1e3 do erl.decode('\\131\\119' .. string.char(#('%s' .. i)) .. '%s' .. i) end",
      decoded_list:
        "local t = {} for i = 1, 1e3 do local n = '%s' .. i t[i] = '\\119' .. string.char(#n) .. n end return erl.decode('\\131\\108' .. string.pack('>I4', 1000) .. table.concat(t) .. '\\106')",
      pids:
        "for i = 1, 1e3 do local n = '%s' .. i erl.decode('\\131\\88\\119' .. string.char(#n) .. n .. ('\\0'):rep(12)) end"
    }

    for {name, source} <- @makers do
      @tag source: source
      test "#{name} beyond the allowance", %{source: source} do
        lua = start(limits: [atoms: 20])
        fresh = "t#{System.unique_integer([:positive])}x"
        before = Lunode.stats(lua).atoms
        assert {:limit, :atoms, 20, 21} = reason_of(lua, String.replace(source, "%s", fresh))
        assert Lunode.stats(lua).atoms - before <= 40
        # It is the handler's, not the process's.
        assert {:limit, :atoms, 20, 21} = reason_of(lua, "return atom('#{fresh}again')")
        assert lua(lua, "return atom['true']") == true
      end
    end

    test "those that arrive are not counted" do
      lua = start(limits: [atoms: 1])

      for i <- 1..50,
          do:
            assert(
              Lunode.call(lua, :tenant, {:lua, "return select(1, ...)", :"arrives_#{i}"}) ==
                :"arrives_#{i}"
            )
    end
  end

  describe "messages:" do
    setup do
      %{lua: start(limits: [message: 10_000], allow: %{send: ["*"]})}
    end

    test "one that is too long is refused, and the process lives", %{lua: lua} do
      long = String.duplicate("x", 10_001)
      lua(lua, "here = true")
      assert {{:limit, :message, 10_000, used}, _} = catch_exit(lua(lua, long))
      assert used > 10_000

      log =
        capture_log(fn ->
          Lunode.cast(lua, :tenant, {:lua, long})
          assert lua(lua, "return here") == true
          stop_supervised!(Lunode)
        end)

      assert log =~ "dropped a message of"
    end

    test "one that is long takes as much room as it has bytes" do
      stop_supervised!(Lunode)
      lua = start(limits: [memory: 1_500_000, message: 1_200_000])

      for size <- [262_144, 700_000, 1_000_000, 1_150_000] do
        message = {:lua, "return 1", String.duplicate("x", size)}
        assert Lunode.call(lua, :tenant, message, 60_000) == 1
      end
    end

    test "what is sent or returned and too long is an error that says so", %{lua: lua} do
      for source <- [
            "erl.send(erl.self(), long)",
            "erl.cast(erl.self(), many)",
            "erl.send_after(erl.self(), nested, 1)",
            "erl.call(erl.spawn(function() erl.receive() end), ints)",
            "erl.encode(nested)",
            "erl.exit(long)",
            "erl.reply(erl.from(), long)"
          ] do
        made =
          "long, many, ints = ('x'):rep(20000), {}, {} for i = 1, 20000 do many[i], ints[i] = 1.5, i end nested = 'x' for i = 1, 30 do nested = {nested, nested} end"

        assert message_of(lua, "#{made} #{source}") =~ "more than 10000 bytes", source
      end

      assert {:lua_error, text, _} = reason_of(lua, "return ('x'):rep(10001)")
      assert text =~ "reply: more than 10000 bytes"

      assert {:lua_error, text, _} =
               reason_of(
                 lua,
                 "return table.unpack(setmetatable({}, {__index = function() return long or ('x'):rep(5000) end}), 1, 200)"
               )

      assert text =~ "more than 10000 bytes"
    end
  end

  describe "whom it may reach:" do
    setup do
      lua = start(allow: %{send: ["audit*"], rpc: ["Elixir.String.up*"]})
      {:ok, _} = Lunode.load(lua, :other, @runner, trust: :full)
      %{lua: lua, me: self()}
    end

    test "its own handler's processes, freely", %{lua: lua} do
      assert lua(lua, """
             local pid = erl.spawn(function() while true do local m, from = erl.receive() erl.reply(from, m) end end)
             local ref = erl.monitor(pid)
             local got = erl.call(pid, "hello")
             erl.trap_exit(true)
             erl.link(pid)
             erl.exit(pid, atom.kill)
             local lasting = erl.spawn(atom.tenant)
             return erl.list{got, erl.call(lasting, atom.ping), erl.whereis(atom.tenant) == erl.self(), #erl.nodes(),
               erl.rpc(erl.node(), atom.tenant, atom.ping, {})}
             """) == ["hello", "pong", true, 0, "pong"]
    end

    test "no one else, and it is told whom", %{lua: lua} do
      me = inspect(to_string(node()))

      for {source, text} <- [
            {"erl.send(atom.other, 1)",
             "erl.send: not allowed to send to other: allow.send does not name it"},
            {"erl.send(atom.lunode, 1)", "not allowed to send to lunode"},
            {"erl.send(atom.any, 1)", "not allowed to send to any"},
            {"erl.cast(atom.nobody, 1)", "erl.cast: not allowed to send to nobody"},
            {"erl.call(erl.tuple(atom.kernel, atom(#{me})), 1)",
             "erl.call: not allowed to send to kernel"},
            {"erl.send_after(atom.other, 1, 0)", "erl.send_after: not allowed to send to other"},
            {"erl.monitor(atom.other)", "erl.monitor: not allowed to send to other"},
            {"erl.send(PID, 1)",
             "erl.send: not allowed to send to a process that is not of this handler"},
            {"erl.link(PID)", "erl.link: not allowed to reach a process"},
            {"erl.exit(PID, 1)", "erl.exit: not allowed to reach a process"},
            {"erl.spawn(atom.other)", "erl.spawn: not allowed"},
            {"erl.register(atom.mine)", "erl.register: not allowed"},
            {"erl.rpc(atom(#{me}), atom.os, atom.cmd, {})",
             "erl.rpc: not allowed to call os.cmd: allow.rpc does not name it"},
            {"erl.rpc(erl.node(), atom.other, atom.ping, {})", "not allowed to call other.ping"},
            {"FUN('x')", "not allowed to call erlang.apply"},
            {"EXPORT('x')", "not allowed to call os.cmd"}
          ] do
        for pid <- [self(), Lunode.call(lua, :other, {:lua, "return erl.self()"})] do
          made = "local PID, FUN, EXPORT = ... return erl.list{pcall(function() #{source} end)}"

          assert [false, said] =
                   Lunode.call(lua, :tenant, {:lua, made, pid, fn x -> x end, &:os.cmd/1})

          assert said =~ text
        end
      end

      assert lua(lua, "return erl.whereis(atom.other)") == nil
      assert lua(lua, "return erl.whereis(atom.lunode)") == nil
    end

    test "a forged pid is no way to another handler", %{lua: lua} do
      other = Lunode.call(lua, :other, {:lua, "return erl.self()"})
      bytes = :erlang.term_to_binary(other)

      assert [false, said] =
               Lunode.call(
                 lua,
                 :tenant,
                 {:lua, "return erl.list{pcall(erl.send, erl.decode((...)), 1)}", bytes}
               )

      assert said =~ "not allowed"

      assert [false, said] =
               Lunode.call(
                 lua,
                 :tenant,
                 {:lua, "return erl.list{pcall(erl.exit, erl.decode((...)), atom.kill)}", bytes}
               )

      assert said =~ "not allowed"
    end

    test "what is named", %{lua: lua} do
      Process.register(self(), :audit_log)

      lua(
        lua,
        "erl.send(erl.tuple(atom.audit_log, atom(#{inspect(to_string(node()))})), 'noted') return nil"
      )

      assert_receive "noted", 5_000

      assert lua(
               lua,
               "return erl.rpc(atom(#{inspect(to_string(node()))}), atom['Elixir.String'], atom.upcase, {'x'})"
             ) == "X"

      assert Lunode.call(lua, :tenant, {:lua, "local f = ... return f('x')", &String.upcase/1}) ==
               "X"
    end

    test "another handler's timers are not its to cancel", %{lua: lua} do
      ref = Lunode.call(lua, :other, {:lua, "return erl.send_after(erl.self(), 1, 60000)"})
      assert Lunode.call(lua, :tenant, {:lua, "return erl.cancel((...))", ref}) == false
      assert Lunode.call(lua, :other, {:lua, "return erl.cancel((...))", ref}) > 0
    end

    test "no connections are made for it", %{lua: lua} do
      assert message_of(lua, "erl.send(erl.tuple(atom.audit, atom['no@nowhere']), 1)") =~
               "not connected to the node"
    end
  end

  describe "what is kept outside of the VM:" do
    test "processes, timers and monitors have a bound" do
      lua = start_supervised!(Lunode)

      for source <- [
            "while true do erl.spawn(erl.sleep, 1e6) end",
            "while true do erl.send_after(erl.self(), 'x', 1e6) end",
            "local pid = erl.spawn(erl.sleep, 1e6) while true do erl.monitor(pid) end"
          ] do
        {:ok, _} = Lunode.load(lua, :tenant, @runner, limits: [memory: 2_000_000, time: 20_000])

        case catch_exit(lua(lua, source)) do
          {{:lua_error, text, _}, _} -> assert text =~ "may take 2000000 bytes"
          {{:limit, :memory, _, _}, _} -> :ok
        end

        assert :ok = Lunode.unload(lua, :tenant)
      end
    end

    test "messages of all its processes together too" do
      lua = start(limits: [memory: 2_000_000])
      {:ok, pid} = Lunode.start_process(lua, :tenant)
      GenServer.cast(pid, {:lua, "erl.sleep(1000)"})
      Process.unlink(pid)
      for _ <- 1..900, do: send(pid, String.duplicate("x", 5_000))

      assert {{:limit, :mailbox_bytes, 2_000_000, _}, _} =
               catch_exit(GenServer.call(pid, String.duplicate("x", 5_000)))
    end

    test "the log takes no more than a share" do
      lua = start()

      log =
        capture_log(fn ->
          lua(lua, "for i = 1, 1e4 do print(('x'):rep(100)) end")
          Process.sleep(1_100)
          lua(lua, "print('still here')")
          stop_supervised!(Lunode)
        end)

      assert byte_size(log) < 300_000
      assert log =~ ~r"\d+ lines were dropped: the log takes 65536 bytes a second"
      assert log =~ "still here"
    end
  end

  test "a name is a trusted script's or an untrusted one's, not both in turn" do
    lua = start()
    assert {:error, {:bad_name, why}} = Lunode.load(lua, :tenant, @runner, trust: :full)
    assert why =~ "unload it first"
  end
end
