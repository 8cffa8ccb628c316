defmodule Lunode.ControlTest do
  @moduledoc "What the process `lunode` of a node answers."
  use ExUnit.Case, async: true

  import Lunode.Test.OS
  alias Lunode.Test.RawNode

  @counter """
  local counter = {}
  limit = 10
  function counter:init(start) self.n = start or 0 end
  function counter:add(k) self.n = self.n + (k or 1) return self.n end
  function counter:get() return self.n end
  function counter:spin() while true do end end
  function counter:fail() error("broken", 0) end
  return counter
  """

  setup do
    folder = folder(%{"counter.lua" => @counter, "other.lua" => echo()})
    raw = RawNode.start_connected(handlers: folder)
    counter = {:counter, raw.node}
    assert GenServer.call(counter, :get, limit(5_000)) == 0
    assert GenServer.call({:other, raw.node}, 1, limit(5_000)) == 1
    %{folder: folder, raw: raw, counter: counter, lunode: {:lunode, raw.node}}
  end

  defp ask(%{lunode: lunode}, request, ms \\ 5_000),
    do: GenServer.call(lunode, request, limit(ms))

  defp eval(context, source, handler \\ :counter), do: ask(context, {:eval, handler, source})

  defp prompt(context, source, handler \\ nil, pid \\ self()),
    do: ask(context, {:eval, handler, source, %{prompt: pid}})

  describe "eval:" do
    test "an expression, several values, a statement, nothing", context do
      assert eval(context, "1 + 1") == {:ok, [2]}
      assert eval(context, "1, 'two', {3}") == {:ok, [1, "two", [3]]}
      assert eval(context, "local x = 5; return x") == {:ok, [5]}
      assert eval(context, "local x = 5") == {:ok, []}
      assert eval(context, "nil") == {:ok, [nil]}
    end

    test "it sees what the script returned, its state and its globals, and can change them",
         context do
      assert eval(context, "self.n, limit") == {:ok, [0, 10]}
      assert eval(context, "self:add(5)") == {:ok, [5]}
      assert GenServer.call(context.counter, :get) == 5
      assert eval(context, "limit = 20") == {:ok, []}
      assert eval(context, "limit") == {:ok, [20]}
      assert eval(context, "function handler:twice() return 2 * self.n end") == {:ok, []}
      assert GenServer.call(context.counter, :twice) == 10
    end

    test "a fresh environment has nothing of a handler, and keeps nothing", context do
      assert eval(context, "limit, handler, x", nil) == {:ok, [nil, nil, nil]}
      assert eval(context, "x = 1", nil) == {:ok, []}
      assert eval(context, "x", nil) == {:ok, [nil]}
      assert eval(context, "erl.node()", nil) == {:ok, [context.raw.node]}
    end

    test "errors", context do
      assert {:error, {:lua_error, "oops", trace}} = eval(context, "error('oops', 0)")
      assert trace =~ "stack traceback"
      assert {:error, {:lua_error, text, _}} = eval(context, "1 +")
      assert text =~ "unexpected symbol near <eof>"
      assert {:error, {:cannot_send, text}} = eval(context, "{1, {f = print}}")
      assert text =~ "value 1[2].f: cannot send a function"
      assert eval(context, "1", :nobody) == {:error, :noproc}
      assert eval(context, "1 + 1") == {:ok, [2]}
    end

    test "it may wait, and others are served meanwhile", context do
      request =
        :gen_server.send_request(context.lunode, {:eval, :counter, "erl.sleep(500) return 1"})

      assert eval(context, "2") == {:ok, [2]}
      assert GenServer.call(context.counter, :get) == 0
      assert {:reply, {:ok, [1]}} = :gen_server.wait_response(request, limit(5_000))
    end

    test "one that nobody waits for any more is ended", context do
      source = "erl.send(self.test, erl.self()) while true do end"
      me = self()
      :sys.replace_state(context.counter, &Map.put(&1, "test", me))

      for give_up <- [
            fn -> catch_exit(eval_within(context, source, limit(300))) end,
            fn -> spawn(fn -> eval_within(context, source, 60_000) end) |> later_kill() end
          ] do
        give_up.()
        assert_receive evaluation when is_pid(evaluation), limit(5_000)
        ref = Process.monitor(evaluation)
        assert_receive {:DOWN, ^ref, :process, _, reason}, limit(5_000)
        assert reason in [:killed, :noproc]
      end
    end

    defp eval_within(context, source, ms),
      do: GenServer.call(context.lunode, {:eval, :counter, source}, ms)

    defp later_kill(pid) do
      Process.sleep(limit(100))
      Process.exit(pid, :kill)
    end

    test "while the handler's process is busy", context do
      GenServer.cast(context.counter, :spin)
      assert eval(context, "1") == {:ok, [1]}
      assert ask(context, :version) =~ ~r/^\d+\.\d+\.\d+$/
    end
  end

  describe "a prompt:" do
    test "values as text, in depth; keeps its globals, apart from other prompts", context do
      assert prompt(context, "{1, {a = 'x'}}") == {:ok, [~s([1, %{"a" => "x"}])]}
      assert prompt(context, "print") == {:ok, ["function"]}
      assert prompt(context, "x = 5") == {:ok, []}
      assert prompt(context, "x") == {:ok, ["5"]}
      other = spawn(fn -> Process.sleep(:infinity) end)
      assert prompt(context, "x", nil, other) == {:ok, ["nil"]}
      assert prompt(context, "limit", :counter) == {:ok, ["10"]}
    end

    test "an unfinished chunk is told from a wrong one", context do
      assert prompt(context, "for i = 1, 2 do") == {:error, :incomplete}
      assert prompt(context, "x = [[") == {:error, :incomplete}
      assert {:error, {:lua_error, _, _}} = prompt(context, "x = = 1")
    end

    test "what is printed comes to the prompt, line by line, and not to the log", context do
      source = "print('a', 1) io.write('b', '\\nc') print('d') io.write('e') return 1"
      assert prompt(context, source) == {:ok, ["1"]}
      node = context.raw.node
      assert_received {:lunode_output, ^node, "a\t1"}
      assert_received {:lunode_output, ^node, "b"}
      assert_received {:lunode_output, ^node, "cd"}
      assert_received {:lunode_output, ^node, "e"}
      refute_received {:lunode_output, _, _}
      assert RawNode.next(context.raw, 100) == :nothing
      eval(context, "print('to the log')")
      assert RawNode.next(context.raw) =~ "to the log"
    end

    test "a loop is interrupted; the prompt goes on", context do
      source = "while true do pcall(function() while true do end end) end"
      options = %{prompt: self()}
      request = :gen_server.send_request(context.lunode, {:eval, nil, source, options})
      Process.sleep(50)
      assert ask(context, {:interrupt, self()}) == :ok
      assert {:reply, {:error, :interrupted}} = :gen_server.wait_response(request, limit(5_000))
      assert prompt(context, "1") == {:ok, ["1"]}
    end

    test "its evaluation ends with it", context do
      me = self()
      pid = spawn(fn -> Process.sleep(:infinity) end)
      source = "erl.send(erl.pid_of_test, erl.self()) while true do end"
      eval(context, "function tell(pid) to = pid end")
      :sys.replace_state(context.counter, &Map.put(&1, "test", me))
      source = String.replace(source, "erl.pid_of_test", "self.test")
      options = %{prompt: pid}
      request = :gen_server.send_request(context.lunode, {:eval, :counter, source, options})
      assert_receive evaluation when is_pid(evaluation), limit(5_000)
      ref = Process.monitor(evaluation)
      Process.exit(pid, :kill)
      assert_receive {:DOWN, ^ref, :process, _, :killed}, limit(5_000)
      assert {:reply, {:error, :killed}} = :gen_server.wait_response(request, limit(5_000))
    end

    test "completion of globals, fields, keywords and a handler's names", context do
      complete = &ask(context, {:complete, &1, &2, self()})
      assert "erl.send_after" in complete.(nil, "x = erl.se")
      assert complete.(nil, "string.form") == ["string.format"]
      assert "while" in complete.(nil, "wh")
      assert complete.(:counter, "self:ad") == ["self:add"]
      assert complete.(:counter, "handler.sp") == ["handler.spin"]
      assert complete.(:counter, "lim") == ["limit"]
      assert complete.(nil, "no.such.thing") == []
      assert complete.(:nobody, "x") == []
      prompt(context, "wild = setmetatable({}, {__index = function() error('ran') end})")
      assert complete.(nil, "wild.") == []
      assert length(complete.(nil, "")) > 20
    end
  end

  describe "load:" do
    @full %{trust: :full}

    test "the default handler stays what it was", context do
      raw = RawNode.start_connected(handlers: script("echo.lua", echo()))
      text = "return function() return 'loaded' end"
      assert GenServer.call({:lunode, raw.node}, {:load, :main, text, @full}) == {:ok, 1}
      assert RawNode.ask(raw, 5) == 5
      assert GenServer.call({:main, raw.node}, 5) == "loaded"
      assert ask(context, {:unload, :other}) == :ok
      assert ask(context, {:load, :main, text, @full}) == {:ok, 1}
      assert RawNode.ask(context.raw, 5) == {:error, :noproc}
    end

    test "options of a load that fails change nothing", context do
      options = %{trust: :full, limits: %{mailbox: 1}, start: 42}
      assert {:error, _} = ask(context, {:load, :counter, "return {", options})
      GenServer.stop(context.counter, :oops)
      eventually(fn -> GenServer.whereis(context.counter) end)
      assert GenServer.call(context.counter, :get) == 0
    end

    test "by a script: its own handler, too", context do
      source = "return { go = function(self, n, what) return erl.call(n, what) end }"
      assert ask(context, {:load, :me, source, @full}) == {:ok, 1}
      go = &GenServer.call({:me, context.raw.node}, {:go, :lunode, &1}, limit(5_000))
      assert go.({:eval, :me, "1 + 1"}) == {:ok, [2]}
      assert go.({:reload, :me}) == {:ok, 2}
      assert go.({:load, :me, source <> "\n", @full}) == {:ok, 3}
      assert {:shutdown, _} = catch_exit(go.({:unload, :me}))
    end

    test "unloading ends an evaluation, and whoever waits for it is told", context do
      source = "erl.sleep(1e6)"
      request = :gen_server.send_request(context.lunode, {:eval, :counter, source})
      Process.sleep(50)
      assert ask(context, {:unload, :counter}) == :ok
      assert {:reply, {:error, :shutdown}} = :gen_server.wait_response(request, limit(5_000))
    end

    test "a text becomes a handler; loaded again, a new version with the same state", context do
      node = context.raw.node
      assert ask(context, {:load, :fresh, @counter, @full}) == {:ok, 1}
      assert GenServer.call({:fresh, node}, :add) == 1
      text = @counter <> "-- more"
      text = String.replace(text, "(k or 1)", "(k or 100)")
      assert ask(context, {:load, :fresh, text, @full}) == {:ok, 2}
      eventually(fn -> GenServer.call({:fresh, node}, :add) == 101 end)
      assert ask(context, {:unload, :fresh}) == :ok
      assert {:noproc, _} = catch_exit(GenServer.call({:fresh, node}, :get))
      assert ask(context, {:unload, :fresh}) == {:error, :noproc}
    end

    test "`start` is the argument of init, `limits.mailbox` the size of the mailbox", context do
      options = Map.merge(@full, %{start: 42, limits: %{mailbox: 2}})
      assert ask(context, {:load, :fresh, @counter, options}) == {:ok, 1}
      server = {:fresh, context.raw.node}
      assert GenServer.call(server, :get) == 42
      GenServer.cast(server, :spin)
      eventually(fn -> ask(context, :stats).handlers.fresh.messages == 2 end)
      calls = for _ <- 1..3, do: :gen_server.send_request(server, :get)
      assert {:error, {reason, _}} = :gen_server.wait_response(List.last(calls), limit(5_000))
      assert reason == {:limit, :mailbox, 2, 2}
    end

    test "a script that does not load leaves nothing new, and the old one where it was",
         context do
      assert {:error, {:lua_error, text, _}} = ask(context, {:load, :fresh, "return {", @full})
      assert text =~ "fresh:1:"
      assert {:error, {:lua_error, _, _}} = ask(context, {:load, :fresh, "error('x')", @full})
      assert ask(context, {:unload, :fresh}) == {:error, :noproc}
      assert {:error, {:lua_error, _, _}} = ask(context, {:load, :counter, "return 5", @full})
      assert GenServer.call(context.counter, :add) == 1
    end

    test "in place of a file, until it is unloaded; a save of the file waits", context do
      text = "return { get = function() return 'loaded' end }"
      assert ask(context, {:load, :counter, text, @full}) == {:ok, 2}
      eventually(fn -> GenServer.call(context.counter, :get) == "loaded" end)
      File.write!(Path.join(context.folder, "counter.lua"), @counter <> "\n")
      Process.sleep(200)
      assert GenServer.call(context.counter, :get) == "loaded"
      File.write!(Path.join(context.folder, "counter.lua"), "return {")
      assert {:error, {:lua_error, _, _}} = ask(context, {:unload, :counter})
      assert GenServer.call(context.counter, :get) == "loaded"
      File.write!(Path.join(context.folder, "counter.lua"), @counter)
      assert ask(context, {:unload, :counter}) == :ok
      eventually(fn -> GenServer.call(context.counter, :get) == 0 end)
    end

    test "reload reads the file again, and says what is wrong", context do
      assert ask(context, {:reload, :counter}) == {:ok, 2}
      File.write!(Path.join(context.folder, "counter.lua"), "return {")
      assert {:error, {:lua_error, text, _}} = ask(context, {:reload, :counter})
      assert text =~ "counter.lua:1:"
      assert ask(context, {:reload, :nobody}) == {:error, :noproc}
    end

    @tag :not_under_valgrind
    test "options may be maps or keyword lists, amounts numbers or texts with units", context do
      for options <- [
            [],
            [trust: :none],
            %{trust: :none, limits: %{memory: 65_536, time: 50, deadline: 1_000, mailbox: 10}},
            [limits: [memory: "32M", message: "1K", time: "50ms", deadline: "1s", atoms: 0]],
            [allow: [send: ["audit", "log_*"], rpc: ["Elixir.MyApp.Api.*"]], isolation: :own],
            %{allow: %{send: [], rpc: []}, isolation: :shared, limits: []}
          ] do
        assert ask(context, {:load, :fresh, @counter, options}) == {:ok, 1}
        assert ask(context, {:unload, :fresh}) == :ok
      end

      assert ask(context, {:load, :fresh, @counter, [trust: :full, start: 7]}) == {:ok, 1}
      assert GenServer.call({:fresh, context.raw.node}, :get) == 7
    end

    test "what is not allowed is refused", context do
      for {options, text} <- [
            {%{trust: :some}, "trust: full or none expected"},
            {%{trust: "full"}, "trust: full or none expected"},
            {%{other: 1}, "other: unknown option; known: trust, limits, allow, isolation, start"},
            {%{"trust" => :full}, "the options: a map or keyword list expected"},
            {[{:trust, :full}, :limits], "the options: a map or keyword list expected"},
            {[{:trust, :full} | :limits], "the options: a map or keyword list expected"},
            {5, "the options: a map or keyword list expected"},
            {%{limits: 5}, "limits: a map or keyword list expected"},
            {%{limits: [5]}, "limits: a map or keyword list expected"},
            {%{limits: %{speed: 5}}, "limits.speed: unknown option; known: memory, time"},
            {%{limits: %{mailbox: 0}}, "limits.mailbox: a number of messages"},
            {%{limits: %{mailbox: "10"}}, "limits.mailbox: a number of messages"},
            {%{limits: %{memory: 5.0}}, "limits.memory: a size such as"},
            {%{limits: %{memory: 5_000_000_000}}, "limits.memory: a size such as"},
            {%{limits: %{memory: "32MB"}}, "limits.memory: a size such as"},
            {%{limits: %{memory: -1}}, "limits.memory: a size such as"},
            {%{limits: [time: "1 s"]}, "limits.time: a time such as"},
            {%{limits: [time: 100_000_000]}, "limits.time: a time such as"},
            {%{isolation: :mine}, "isolation: own or shared expected"},
            {%{allow: :audit}, "allow: a map or keyword list expected"},
            {%{allow: ["audit"]}, "allow: a map or keyword list expected"},
            {%{allow: %{call: []}}, "allow.call: unknown option; known: send, rpc"},
            {%{allow: %{send: "audit"}}, "allow.send: a list of texts expected"},
            {%{allow: %{send: ["audit", :log]}}, "allow.send: a list of texts expected"},
            {%{allow: %{send: ["audit" | "log"]}}, "allow.send: a list of texts expected"},
            {%{allow: %{send: 'ab'}}, "allow.send: a list of texts expected"},
            {%{allow: %{send: ["audit", ""]}}, "allow.send[2]: a pattern has one character"},
            {%{allow: %{rpc: ["erlang"]}}, "allow.rpc[1]: Module.function expected"},
            {%{trust: :full, limits: %{time: 5}}, "limits.time: only for a script that is not"},
            {%{trust: :full, allow: %{send: []}}, "allow: only for a script that is not"},
            {%{isolation: :own, trust: :full}, "isolation: only for a script that is not"}
          ] do
        assert {:error, {:bad_option, said}} = ask(context, {:load, :fresh, @counter, options})
        assert said =~ text
      end

      assert {:error, {:bad_name, text}} = ask(context, {:load, :erpc, @counter, @full})
      assert text =~ "reserved"
      assert {:error, {:bad_name, _}} = ask(context, {:load, :"a b", @counter, @full})
      assert {:error, {:bad_name, text}} = ask(context, {:load, :any, @counter, @full})
      assert text =~ "any is the default handler"
      assert {:error, {:lua_error, _, _}} = ask(context, {:load, :fresh, "\eLua", @full})
    end
  end

  describe "looking:" do
    test "handlers", context do
      handlers = Map.new(ask(context, :handlers), &{&1.name, &1})
      assert Map.keys(handlers) == [:counter, :other]
      now = System.system_time(:millisecond)
      assert %{version: 1, state: :running, processes: 1, last_error: nil} = handlers.counter
      assert handlers.counter.file == Path.join(context.folder, "counter.lua")
      assert abs(now - handlers.counter.since) < limit(60_000)
      ask(context, {:load, :fresh, @counter, %{trust: :full}})
      fresh = Enum.find(ask(context, :handlers), &(&1.name == :fresh))
      assert %{file: nil, version: 1} = fresh
      GenServer.stop(context.counter)
      assert %{state: :down} = Enum.find(ask(context, :handlers), &(&1.name == :counter))
    end

    test "stats", context do
      before = ask(context, :stats)
      for _ <- 1..10, do: GenServer.call(context.counter, :add)
      catch_exit(GenServer.call(context.counter, :fail))
      eval(context, "for i = 1, 1e7 do end")
      stats = ask(context, :stats)
      counter = stats.handlers.counter
      assert counter.messages - before.handlers.counter.messages == 11
      assert counter.errors == 1 and counter.restarts == 1 and counter.mailbox == 0
      assert counter.processes == 1 and counter.reloads == 0
      assert counter.run_time > before.handlers.counter.run_time
      assert counter.longest_slice in 100..counter.run_time
      assert counter.memory > 10_000
      assert stats.uptime >= before.uptime
      assert stats.memory > 1_000_000
      peer = stats.peers[node()]
      assert peer.frames_in - before.peers[node()].frames_in >= 12
      assert peer.bytes_out > before.peers[node()].bytes_out
      assert map_size(stats.handlers) == 2
    end
  end

  describe "subscribers:" do
    defp assert_event(event, handler) do
      assert_receive {:lunode, _, ^event, ^handler, details}, limit(5_000)
      details
    end

    test "loads, reloads, failures, crashes, limits and ends are told", context do
      assert ask(context, {:subscribe, self()}) == :ok
      ask(context, {:load, :fresh, @counter, %{trust: :full, limits: %{mailbox: 1}}})
      assert assert_event(:loaded, :fresh) == %{version: 1}
      path = Path.join(context.folder, "counter.lua")
      File.write!(path, @counter <> "\n")
      assert assert_event(:reloaded, :counter) == %{version: 2, old: 1}
      File.write!(path, "return {")
      assert %{version: 2, line: 1} = failed = assert_event(:reload_failed, :counter)
      assert failed.file == path
      catch_exit(GenServer.call(context.counter, :fail))
      assert %{message: "broken"} = assert_event(:crashed, :counter)
      fresh = {:fresh, context.raw.node}
      GenServer.cast(fresh, :spin)
      # It is taken; else it fills the mailbox itself, and a second time is told, too.
      eventually(fn -> ask(context, :stats).handlers.fresh.mailbox == 0 end)
      for _ <- 1..3, do: GenServer.cast(fresh, :get)
      assert %{kind: :mailbox, max: 1, used: 1} = assert_event(:limit, :fresh)
      ask(context, {:unload, :fresh})
      assert assert_event(:unloaded, :fresh) == %{}
      assert ask(context, {:unsubscribe, self()}) == :ok
      File.write!(path, @counter)
      refute_receive {:lunode, _, _, _, _}, 300
    end

    test "one that dies is forgotten", context do
      pid = spawn(fn -> Process.sleep(:infinity) end)
      assert ask(context, {:subscribe, pid}) == :ok
      Process.exit(pid, :kill)
      assert ask(context, {:subscribe, pid}) == :ok
      assert ask(context, {:reload, :counter}) == {:ok, 2}
    end
  end

  test "what is no request fails as undef does, and does no harm", context do
    for request <- [
          :nothing,
          {},
          {:eval},
          {:eval, "counter", "1"},
          {:eval, :counter, :source},
          {:eval, :counter, "1", %{prompt: :me}},
          {:eval, :counter, "1", %{other: self()}},
          {:eval, :counter, "1", %{}, 5},
          {:subscribe, :me},
          {:interrupt, 5},
          {:load, :x, "return {}"},
          {:load, :x, 'return {}', %{trust: :full}},
          {:complete, nil, "x", :me},
          {:reload, "counter"},
          %{a: 1},
          "text",
          [1, 2],
          List.to_tuple(Enum.to_list(1..300))
        ] do
      assert {{:undef, _, _}, _} = catch_exit(ask(context, request))
    end

    GenServer.cast(context.lunode, :anything)
    send(context.lunode, {:DOWN, make_ref(), :process, self(), :x})
    send(context.lunode, {:DOWN, 1, 2, 3, 4})
    assert ask(context, :version)
  end
end
