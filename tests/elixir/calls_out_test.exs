defmodule Lunode.CallsOutTest do
  @moduledoc "What a Lua process asks of others, and how it waits."
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Lunode.Test.OS, only: [eventually: 1, folder: 1, limit: 1, now: 0, script: 2]
  import Lunode.Test.Proc
  alias Lunode.Test.OtherBeam

  @moduletag :capture_log

  setup_all do
    start_nodes()
  end

  setup %{nodes: nodes} do
    %{node: nodes.lua, pid: start(nodes.lua)}
  end

  # What a call raised: {class, reason}.
  @raised "local ok, e = pcall(erl.call, a, b, c) return ok, e"

  for there <- [:beam, :lua] do
    describe "to #{there}:" do
      setup %{nodes: nodes} do
        %{there: nodes[unquote(there)], server: start(nodes[unquote(there)])}
      end

      test "erl.call gives the reply, by pid and by name",
           %{pid: pid, server: server} = context do
        assert lua(pid, "return erl.call(a, b)", [server, {:add, 5}]) == 5
        assert lua(pid, "return erl.call(a, b, 60000)", [server, {:add, 1}]) == 6
        assert lua(pid, "return erl.call(a, b, math.huge)", [server, :get]) == 6
        assert lua(pid, "return erl.call(a, b)", [server, {:echo, [nil, {}]}]) == [nil, {}]

        name = {:proc, context.there}
        assert lua(pid, "return erl.call(a, atom.pid)", [name]) == ask(name, :pid)
      end

      test "a server that isn't there is noproc", %{pid: pid, server: server, there: there} do
        assert lua(pid, @raised, [{:nobody, there}, :get]) == {false, {:exit, :noproc}}
        assert reason_after(server, fn -> Process.exit(server, :kill) end) == :killed
        assert lua(pid, @raised, [server, :get]) == {false, {:exit, :noproc}}
      end

      test "a server that ends meanwhile raises the reason", %{pid: pid, server: server} do
        assert lua(pid, @raised, [server, {:quit, :oops}]) == {false, {:exit, :oops}}
      end

      test "an error there raises it here", %{pid: pid, server: server} do
        assert {false, {:exit, {:lua_error, "oops", _trace}}} =
                 lua(pid, @raised, [server, {:fail, "oops"}])
      end

      test "what nobody catches ends the process with it", %{pid: pid, server: server} do
        assert {reason, _call} = catch_exit(lua(pid, "erl.call(a, b)", [server, {:quit, :oops}]))
        assert {:lua_error, {:exit, :oops}, _trace} = reason
      end

      test "a call that takes too long is a time-out, and its reply never comes", context do
        %{pid: pid, server: server} = context
        timeout = {false, {:exit, :timeout}}
        for _ <- 1..3, do: assert(lua(pid, @raised, [server, {:sleep, 200}, 20]) == timeout)
        assert lua(pid, "return erl.call(a, atom.get)", [server]) == 0
        Process.sleep(100)
        assert ask(pid, :messages) == []
        assert lua(pid, "return erl.receive(0)") == {nil, "timeout"}
      end

      test "erl.cast and erl.send arrive, in the order they were sent", context do
        %{pid: pid, server: server} = context

        source = """
        for i = 1, 100 do erl.cast(a, erl.tuple(atom.add, 1)) erl.send(a, i) end
        return erl.call(a, atom.get)
        """

        assert lua(pid, source, [server]) == 100
        assert_messages(server, Enum.to_list(1..100))
      end

      test "erl.send and erl.cast to nobody do nothing", %{pid: pid, server: server} = context do
        assert reason_after(server, fn -> Process.exit(server, :kill) end) == :killed

        for dest <- [server, {:nobody, context.there}], fun <- ["send", "cast"] do
          lua(pid, "erl.#{fun}(a, 'hello')", [dest])
        end

        assert_lives(pid)
      end

      test "50 calls at once, from 50 processes, don't wait for each other", context do
        servers = for _ <- 1..50, do: start(context.there)

        requests =
          for server <- servers do
            args = {:lua, "return erl.call(a, b)", server, {:sleep, 300}}
            :gen_server.send_request(start(context.node), args)
          end

        began = now()
        for r <- requests, do: assert(:gen_server.receive_response(r, 60_000) == {:reply, 300})
        # One after the other they would take 15 s.
        assert now() - began < 10_000
      end

      test "erl.rpc gives the result, and raises what the function raises", context do
        %{pid: pid, there: there} = context
        rpc = "return erl.rpc(a, atom.proc, b, c, d)"
        raised = "local ok, e = pcall(erl.rpc, a, atom.proc, b, c, d) return ok, e"
        assert lua(pid, rpc, [there, :echo, [{1, nil}]]) == {1, nil}
        assert lua(pid, raised, [there, :quit, [:oops]]) == {false, {:exit, :oops}}
        assert lua(pid, raised, [there, :sleep, [500], 20]) == {false, {:exit, :timeout}}
        assert lua(pid, raised, [there, :nope, [1]]) == {false, {:error, :undef}}

        assert {false, {:error, {:lua_error, "oops", _}}} =
                 lua(pid, raised, [there, :fail, ["oops"]])
      end
    end
  end

  describe "erl.call" do
    test "of a name on its own node", %{pid: pid, node: node} do
      assert lua(pid, "return erl.call(atom.proc, atom.pid)") == ask({:proc, node}, :pid)
      assert lua(pid, @raised, [:nobody, :get]) == {false, {:exit, :noproc}}
    end

    test "of itself is an error at once", %{pid: pid, node: node} do
      wanted = {false, {:exit, :calling_self}}
      assert lua(pid, @raised, [pid, :get]) == wanted

      for name <- [:proc, {:proc, node}] do
        assert lua({:proc, node}, @raised, [name, :get]) == wanted
      end
    end

    test "of a node that isn't connected is noconnection", %{pid: pid} do
      assert lua(pid, @raised, [{:proc, :nobody@nowhere}, :get]) ==
               {false, {:exit, :noconnection}}

      source = "local ok, e = pcall(erl.rpc, a, atom.proc, atom.echo, {1}) return ok, e"
      assert lua(pid, source, [:nobody@nowhere]) == {false, {:exit, :noconnection}}
      assert lua(pid, "return pcall(erl.send, a, 1)", [{:proc, :nobody@nowhere}]) == true
      assert {false, _} = lua(pid, "return pcall(erl.send, a, 1)", [{:proc, :no_host}])
      assert_lives(pid)
    end

    test "of a node that isn't connected yet connects to it", %{pid: pid} do
      {_peer, name} = start_beam()
      there = {:proc, name}
      refute name in lua(pid, "return erl.nodes()")

      assert lua(pid, "erl.send(b, 'hello') return erl.call(a, erl.tuple(atom.add, 5))", [
               there,
               there
             ]) == 5

      assert name in lua(pid, "return erl.nodes()")
      assert :sys.get_state(there)["seen"] == ["hello"]
    end

    test "of a node that is lost meanwhile is noconnection", %{pid: pid} do
      beam = start_beam()
      server = OtherBeam.apply(beam, :proc, :child, [0])
      request = :gen_server.send_request(pid, {:lua, @raised, server, {:sleep, 60_000}, 60_000})
      assert :gen_server.wait_response(request, 200) == :timeout
      OtherBeam.halt(beam)

      assert :gen_server.receive_response(request, 10_000) ==
               {:reply, {false, {:exit, :noconnection}}}
    end

    test "of each other ends by time-out", %{pid: a, node: node} do
      b = start(node)
      there = {:lua, @raised, a, :get, 100}
      assert lua(a, @raised, [b, there, 10_000]) == {true, {false, {:exit, :timeout}}}
    end

    test "inside a coroutine of the script's own", %{pid: pid, node: node} do
      server = start(node())

      source = """
      local log = {}
      local co = coroutine.wrap(function(x)
        local y = coroutine.yield(erl.call(a, erl.tuple(atom.add, x)))
        erl.sleep(10)
        coroutine.yield(erl.call(b, erl.tuple(atom.add, y)))
        return "end"
      end)
      return co(1), co(2), co()
      """

      assert lua(pid, source, [server, start(node)]) == {1, 2, "end"}
    end

    test "where Lua lets a function wait: pcall, metamethods, iterators, sort no", %{pid: pid} do
      source = """
      local function ask() return erl.call(a, erl.tuple(atom.add, 1)) end
      local ok, one = pcall(ask)
      local two = setmetatable({}, {__index = ask}).x
      local three = setmetatable({}, {__add = ask}) + 1
      local four
      for n in ask do four = n break end
      local five do
        local c <close> = setmetatable({}, {__close = function() five = ask() end})
      end
      local six = select(2, xpcall(ask, print))
      return ok, one, two, three, four, five, six
      """

      assert lua(pid, source, [start(node())]) == {true, 1, 2, 3, 4, 5, 6}
    end
  end

  test "a module of the script's folder may wait at its top level" do
    folder = folder(%{"any.lua" => "return { go = function() return require('lib.slow').n end }"})
    File.mkdir_p!(Path.join(folder, "lib"))
    File.write!(Path.join(folder, "lib/slow.lua"), "\nerl.sleep(1)\nreturn { n = 5 }")
    lua = start_supervised!({Lunode, handlers: folder}, id: :require)
    assert Lunode.call(lua, :any, :go) == 5
    assert Lunode.call(lua, :any, :go) == 5
  end

  describe "waiting inside a C function that calls back is an error that says where:" do
    for {what, source} <- [
          {"table.sort", "table.sort({3, 1, 2}, function(x, y) erl.sleep(1) return x < y end)"},
          {"string.gsub", "return ('x'):gsub('x', function() erl.sleep(1) end)"},
          {"load's reader", "return assert(load(function() erl.sleep(1) end))"},
          {"__tostring",
           "return tostring(setmetatable({}, {__tostring = function() erl.sleep(1) end}))"},
          {"an xpcall's handler",
           """
           local function handler()
             return select(2, pcall(function() erl.sleep(1) end))
           end
           error(select(2, xpcall(error, handler)), 0)
           """},
          {"__gc",
           """
           local e
           local function collect() e = select(2, pcall(function() erl.sleep(1) end)) end
           setmetatable({}, {__gc = collect})
           collectgarbage()
           error(e, 0)
           """},
          {"coroutine.close",
           """
           local co = coroutine.create(function()
             local c <close> = setmetatable({}, {__close = function() erl.sleep(1) end})
             coroutine.yield()
           end)
           coroutine.resume(co)
           local ok, e = coroutine.close(co)
           error(e, 0)
           """}
        ] do
      test what, %{pid: pid} do
        source = "local ok, e = pcall(function() #{unquote(source)} end) return e"
        text = lua(pid, source)
        assert text =~ ~r/^(test:\d+: )+erl\.sleep: cannot wait inside a C function/
        assert lua(pid, "erl.sleep(1) return 1") == 1
      end
    end

    test "each function that waits has its name in it", %{pid: pid} do
      for call <- [
            "erl.call(a, 1)",
            "erl.rpc(erl.node(), atom.proc, atom.echo, {1})",
            "erl.receive()",
            "erl.sleep(1)"
          ] do
        [name] = Regex.run(~r/^erl\.\w+/, call)
        source = "return select(2, pcall(string.gsub, 'x', 'x', function() #{call} end))"
        assert lua(pid, source, [self()]) =~ ~r/^test:1: #{name}: cannot wait inside a C function/
      end
    end

    test "the top level of a script" do
      path =
        script(
          "top.lua",
          "\nlocal ok, e = pcall(erl.sleep, 1)\nreturn { why = function() return e end }"
        )

      lua = start_supervised!({Lunode, handlers: path}, id: :top)
      assert Lunode.call(lua, :top, :why) =~ "no process runs at the top level of a script"
    end
  end

  describe "an Elixir fun" do
    test "is called as a function, on its own node", %{pid: pid} do
      kept = 40
      assert lua(pid, "return a(1, 2)", [fn x, y -> {x + y + kept, node()} end]) == {43, node()}
      assert lua(pid, "return a()", [fn -> nil end]) == nil
      assert lua(pid, "return a('x')", [&String.upcase/1]) == "X"
    end

    test "of a module runs on the node whose message is handled", %{pid: pid, nodes: nodes} do
      assert lua(pid, "return a()", [&:proc.pid/0]) |> node() == node()

      there =
        :erpc.call(nodes.beam, :proc, :call_there, [
          pid,
          {:lua, "return a()", &:proc.pid/0},
          5_000
        ])

      assert node(there) == nodes.beam
    end

    test "raises as erl.rpc does", %{pid: pid} do
      raised = "local ok, e = pcall(a) return ok, e"
      assert lua(pid, raised, [fn -> exit(:oops) end]) == {false, {:exit, :oops}}
      assert lua(pid, raised, [fn -> throw(:ball) end]) == {false, {:throw, :ball}}

      assert {false, {:error, %RuntimeError{message: "no"}}} =
               lua(pid, raised, [fn -> raise "no" end])

      assert {false, {:error, _bad_arity}} = lua(pid, raised, [fn x -> x end])
    end

    test "may call back into Lua meanwhile", %{pid: pid, node: node} do
      other = start(node)
      assert lua(pid, "return a()", [fn -> ask(other, {:add, 1}) end]) == 1
    end

    test "keeps no other process waiting", %{pid: pid, node: node} do
      request = :gen_server.send_request(pid, {:lua, "return a()", fn -> Process.sleep(500) end})
      assert ask(start(node), {:add, 1}) == 1
      assert :gen_server.wait_response(request, 0) == :timeout
      assert :gen_server.receive_response(request, 10_000) == {:reply, :ok}
    end
  end

  describe "erl.receive" do
    test "takes the messages in their order, and waits for one", %{pid: pid} do
      source = "local t = {} for i = 1, 3 do t[i] = erl.receive() end return t"
      request = :gen_server.send_request(pid, {:lua, source})
      for i <- 1..3, do: send(pid, i)
      assert :gen_server.receive_response(request, 5_000) == {:reply, [1, 2, 3]}
    end

    test "gives up after its time", %{pid: pid} do
      assert lua(pid, "return erl.receive(0)") == {nil, "timeout"}
      began = now()
      assert lua(pid, "return erl.receive(100)") == {nil, "timeout"}
      assert now() - began >= 100
    end

    test "with a filter leaves the others where they are", %{pid: pid} do
      source = """
      local function even(m) return math.type(m) == "integer" and m % 2 == 0 end
      local t = {}
      for i = 1, 3 do t[i] = erl.receive(nil, even) end
      t[4] = erl.receive(0, even) or "none"
      for i = 5, 7 do t[i] = erl.receive(0) end
      return t
      """

      request = :gen_server.send_request(pid, {:lua, source})
      for i <- 1..6, do: send(pid, i)
      assert :gen_server.receive_response(request, 5_000) == {:reply, [2, 4, 6, "none", 1, 3, 5]}
    end

    test "gives calls with their from, which erl.reply answers", %{pid: pid} do
      source = "local m, from = erl.receive() erl.reply(from, erl.tuple(atom.got, m)) return m"
      request = :gen_server.send_request(pid, {:lua, source})
      assert ask(pid, {:any, "thing"}) == {:got, {:any, "thing"}}
      assert :gen_server.receive_response(request, 5_000) == {:reply, {:any, "thing"}}

      request =
        :gen_server.send_request(pid, {:lua, "local m, f = erl.receive() return m, f == nil"})

      GenServer.cast(pid, :of_a_cast)
      assert :gen_server.receive_response(request, 5_000) == {:reply, {:of_a_cast, true}}
    end

    test "what it leaves is served afterwards", %{pid: pid} do
      request = :gen_server.send_request(pid, {:lua, "erl.sleep(100) return 1"})
      GenServer.cast(pid, {:add, 5})
      send(pid, "later")
      assert :gen_server.receive_response(request, 5_000) == {:reply, 1}
      assert ask(pid, :get) == 5
      assert_messages(pid, ["later"])
    end

    test "takes a DOWN", %{pid: pid} do
      source = """
      local child = erl.spawn(function() erl.exit(atom.oops) end)
      local ref = erl.monitor(child)
      local m = erl.receive(5000, function(m) return m[2] == ref end)
      return m[1], m[4] == child, m[5]
      """

      assert {:DOWN, true, reason} = lua(pid, source)
      assert reason in [:oops, :noproc]
    end
  end

  describe "time:" do
    test "erl.sleep sleeps, and the shorter sleep ends first", %{pid: pid, node: node} do
      began = now()
      assert lua(pid, "erl.sleep(200) return 1") == 1
      assert now() - began >= 200
      assert lua(pid, "erl.sleep(0) erl.sleep(0.5) return 2") == 2

      for ms <- [600, 300, 1] do
        GenServer.cast(start(node), {:lua, "erl.sleep(a) erl.send(b, a)", ms, self()})
      end

      assert_receive first, 5_000
      assert_receive second, 5_000
      assert_receive third, 5_000
      assert [first, second, third] == [1, 300, 600]
    end

    test "erl.send_after sends after its time, to a pid, a name, and itself", %{pid: pid} do
      me = :"calls_out_#{System.unique_integer([:positive])}"
      Process.register(self(), me)
      began = now()

      source = """
      erl.send_after(a, "to a pid", 200)
      erl.send_after(b, "to a name", 10)
      erl.send_after(erl.self(), "to itself", 10)
      """

      lua(pid, source, [self(), {me, node()}])
      assert_receive "to a name", 5_000
      assert_receive "to a pid", 5_000
      assert now() - began >= 200
      assert_messages(pid, ["to itself"])
    end

    test "erl.cancel tells what was left, and nothing is sent", %{pid: pid} do
      source = """
      local timer = erl.send_after(a, "never", 60000)
      local left = erl.cancel(timer)
      return left, erl.cancel(timer)
      """

      assert {left, false} = lua(pid, source, [self()])
      assert left > 50_000 and left <= 60_000

      source = "local t = erl.send_after(a, 'sent', 0) erl.sleep(50) return erl.cancel(t)"
      assert lua(pid, source, [self()]) == false
      assert_receive "sent", 5_000
      refute_received "never"
    end

    test "a timer outlives the process that set it", %{node: node} do
      pid = start(node)
      lua(pid, "erl.send_after(a, 'late', 200)", [self()])
      Process.exit(pid, :kill)
      assert_receive "late", 5_000
    end

    test "timers end in the order of their times", %{pid: pid} do
      source = "for i = 30, 1, -1 do erl.send_after(a, i, #{limit(30)} * i) end"
      lua(pid, source, [self()], 60_000)
      got = for _ <- 1..30, do: assert_receive(n when is_integer(n), 30_000)
      assert got == Enum.to_list(1..30)
    end

    test "erl.now is the time of day in milliseconds", %{pid: pid} do
      before = System.os_time(:millisecond)
      told = lua(pid, "return erl.now()")
      assert is_float(told)
      assert told >= before - 1 and told <= System.os_time(:millisecond) + 1
    end
  end

  describe "processes:" do
    test "erl.spawn of a function runs it with its arguments, and ends", %{pid: pid} do
      source =
        "return erl.spawn(function(...) erl.send(a, erl.list{erl.self(), ...}) end, 1, 'two')"

      child = lua(pid, source, [self()])
      assert_receive [^child, 1, "two"], 5_000
      assert assert_ends(child) in [:normal, :noproc]
    end

    test "it shares the locals, and may wait", %{pid: pid} do
      source = """
      local n = 0
      for i = 1, 10 do erl.spawn(function() erl.sleep(10) n = n + i end) end
      while n < 55 do erl.sleep(5) end
      return n
      """

      assert lua(pid, source) == 55
    end

    test "an error in it ends it alone", %{pid: pid} do
      source = """
      local child = erl.spawn(function() erl.receive() error("oops", 0) end)
      return child
      """

      child = lua(pid, source)
      assert {:lua_error, "oops", _} = reason_after(child, fn -> send(child, :go) end)
      assert_lives(pid)
    end

    test "erl.spawn of a name starts a lasting process of that handler", %{pid: pid} do
      child = lua(pid, "return erl.spawn(atom.proc, 7)")
      assert ask(child, :get) == 7
      assert ask(child, {:add, 1}) == 8
      child = lua(pid, "return erl.spawn(atom.proc, atom.fail)")
      assert {:lua_error, "no start", _} = or_noproc(assert_ends(child))
    end

    # The process may have ended before it could be monitored.
    defp or_noproc(:noproc), do: {:lua_error, "no start", ""}
    defp or_noproc(reason), do: reason

    test "erl.register gives a process a name, for as long as it lives", %{pid: pid, node: node} do
      name = :given
      assert lua(pid, "return erl.whereis(a)", [name]) == nil
      lua(pid, "erl.register(a)", [name])
      assert ask({name, node}, :pid) == pid
      assert lua(pid, "return erl.whereis(a) == erl.self()", [name])
      assert :erpc.call(node, :erlang, :whereis, [name]) == pid

      other = start(node)
      assert {false, text} = lua(other, "return pcall(erl.register, a)", [name])
      assert text =~ "given"
      ref = Process.monitor({name, node})
      Process.exit(pid, :kill)
      assert_receive {:DOWN, ^ref, :process, {^name, ^node}, :killed}, 5_000
      third = start(node)
      lua(other, "erl.register(a, b)", [name, third])
      assert ask({name, node}, :pid) == third
    end

    test "a name on its own node can be monitored", %{pid: pid, node: node} do
      other = start(node)
      lua(other, "erl.register(atom.monitored)")
      ref = lua(pid, "return erl.monitor(atom.monitored)")
      none = lua(pid, "return erl.monitor(atom.nobody)")
      assert_messages(pid, [{:DOWN, none, :process, {:nobody, node}, :noproc}])
      Process.exit(other, :oops)
      eventually(fn -> ask(pid, :count) == 2 end)

      assert List.last(ask(pid, :messages)) ==
               {:DOWN, ref, :process, {:monitored, node}, :oops}
    end

    test "erl.whereis finds the handlers", %{pid: pid, node: node} do
      assert lua(pid, "return erl.whereis(atom.proc)") == ask({:proc, node}, :pid)
    end

    test "erl.self, erl.node and erl.nodes", %{pid: pid, node: node} do
      assert lua(pid, "return erl.self()") == pid
      assert lua(pid, "return erl.node()") == node
      assert node() in lua(pid, "return erl.nodes()")

      beam = {_peer, name} = start_beam()
      OtherBeam.connect(beam, node)
      eventually(fn -> name in lua(pid, "return erl.nodes()") end)
      OtherBeam.stop(beam)
      eventually(fn -> name not in lua(pid, "return erl.nodes()") end)
    end

    test "erl.ref gives a new reference each time", %{pid: pid, node: node} do
      source = "local t = {} for i = 1, 1000 do t[i] = erl.ref() end return t"
      refs = lua(pid, source) ++ lua(start(node), source)
      assert Enum.all?(refs, &is_reference/1)
      assert Enum.all?(refs, &(node(&1) == node))
      assert length(Enum.uniq(refs)) == 2_000
    end

    test "erl.from is the caller that is served", %{pid: pid} do
      assert lua(pid, "erl.reply(erl.from(), 'early') return erl.noreply") == "early"
      send(pid, {:lua, "erl.send(a, erl.from() == nil)", self()})
      assert_receive true, 5_000
    end

    test "one that waits keeps its messages and no one else's", %{pid: pid, node: node} do
      GenServer.cast(pid, {:lua, "erl.sleep(300) self.n = 100"})
      request = :gen_server.send_request(pid, {:add, 1})
      assert ask(start(node), {:add, 1}) == 1
      assert ask({:proc, node}, :pid) != pid
      assert :gen_server.receive_response(request, 10_000) == {:reply, 101}
    end
  end

  test "what the BEAM prints for a Lua process does not hang", %{pid: pid} do
    source = "return erl.rpc(a, atom 'Elixir.IO', atom.puts, erl.list{'printed for Lua'})"
    log = capture_log(fn -> assert lua(pid, source, [node()]) == :ok end)
    assert is_binary(log)
    assert lua(pid, "return a()", [fn -> IO.puts("printed for Lua") end]) == :ok
  end

  test "a wrong argument is an error with file and line", %{pid: pid} do
    for call <- [
          "erl.sleep('x')",
          "erl.sleep(-1)",
          "erl.call(1, 2)",
          "erl.send('name', 1)",
          "erl.link(1)",
          "erl.monitor(nil)",
          "erl.demonitor(1)",
          "erl.receive('x')",
          "erl.spawn(1)",
          "erl.register('text')",
          "erl.trap_exit()",
          "erl.send_after(erl.self(), 1)",
          "erl.rpc('node', 1, 2)"
        ] do
      text = lua(pid, "return select(2, pcall(function() #{call} end))")
      assert text =~ ~r/^test:1: /, "#{call}: #{inspect(text)}"
    end
  end
end
