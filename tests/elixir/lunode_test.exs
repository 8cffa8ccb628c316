defmodule LunodeTest do
  use ExUnit.Case

  import ExUnit.CaptureLog
  import Lunode.Test.OS

  @counter """
  local counter = {}
  function counter:init() self.n = 0 end
  function counter:add(k) self.n = self.n + k; return self.n end
  function counter:get() return self.n end
  function counter:crash() error("on purpose") end
  function counter:value() error({ code = 7 }) end
  return counter
  """

  # Keeps a caller waiting until it is told to answer.
  @late """
  local late = { waiting = {} }
  local waiting = {}
  function late:ask() table.insert(waiting, erl.from()); return erl.noreply end
  function late:answer(value)
    for _, from in ipairs(waiting) do erl.reply(from, value) end
    waiting = {}
  end
  function late:echo(value) return value end
  return late
  """

  setup do
    %{handlers: folder(%{"counter.lua" => @counter, "late.lua" => @late})}
  end

  defp start(opts), do: start_supervised!({Lunode, opts})

  describe "start_link" do
    test "starts a node that is linked to the caller", %{handlers: handlers} do
      assert {:ok, cnode} = Lunode.start_link(handlers: handlers)
      assert Lunode.node(cnode) in Node.list(:hidden)
      assert {:links, links} = Process.info(self(), :links)
      assert cnode in links
      assert Lunode.stop(cnode) == :ok
    end

    test "takes a script, or a folder, relative or not", %{handlers: handlers} do
      assert Lunode.call(start(handlers: Path.join(handlers, "counter.lua")), :any, {:add, 1}) ==
               1

      stop_supervised!(Lunode)
      relative = Path.relative_to_cwd(handlers)
      assert Lunode.call(start(handlers: relative), :counter, {:add, 1}) == 1
    end

    test "without handlers starts an empty node" do
      assert {:noproc, _} = catch_exit(Lunode.call(start([]), :any, 1))
    end

    test "registers the names that GenServer knows", %{handlers: handlers} do
      start_supervised!({Registry, keys: :unique, name: LunodeTest.Registry})

      for name <- [
            LunodeTest.Named,
            {:global, :lunode_test},
            {:via, Registry, {LunodeTest.Registry, 1}}
          ] do
        start_supervised!({Lunode, name: name, handlers: handlers})
        assert Lunode.call(name, :counter, {:add, 2}) == 2
        assert Lunode.cast(name, :counter, {:add, 3}) == :ok
        assert Lunode.call(name, :counter, :get) == 5
        assert is_atom(Lunode.node(name))
        stop_supervised!(name)
        assert Lunode.node(name) == nil
      end
    end

    test "a name that is taken is the usual error", %{handlers: handlers} do
      cnode = start(name: LunodeTest.Taken, handlers: handlers)
      assert Lunode.start_link(name: LunodeTest.Taken) == {:error, {:already_started, cnode}}
    end

    test "env: a map, a keyword list or pairs; nil removes a variable" do
      source = "return function(name) return os.getenv(name) end"
      handlers = script("env.lua", source)
      System.put_env("LUNODE_TEST_INHERITED", "yes")

      for env <- [
            %{"LUNODE_TEST_A" => "a b", "LUNODE_TEST_INHERITED" => nil},
            [LUNODE_TEST_A: "a b", LUNODE_TEST_INHERITED: nil],
            [{"LUNODE_TEST_A", "a b"}, {"LUNODE_TEST_INHERITED", nil}]
          ] do
        {:ok, cnode} = Lunode.start_link(handlers: handlers, env: env)
        assert Lunode.call(cnode, :any, "LUNODE_TEST_A") == "a b"
        assert Lunode.call(cnode, :any, "LUNODE_TEST_INHERITED") == nil
        Lunode.stop(cnode)
      end

      {:ok, cnode} = Lunode.start_link(handlers: handlers)
      assert Lunode.call(cnode, :any, "LUNODE_TEST_INHERITED") == "yes"
      assert Lunode.call(cnode, :any, "BUNDLEX_ERLANG_COOKIE") == nil
      Lunode.stop(cnode)
    end

    test "config: names the configuration file", %{handlers: handlers} do
      config =
        script("mine.lua", """
        return { handlers = { renamed = { path = "#{handlers}/counter.lua" } } }
        """)

      assert Lunode.call(start(config: config), :renamed, {:add, 4}) == 4
    end

    test "node_name: the name before the @", %{handlers: handlers} do
      cnode = start(node_name: "my_lua", handlers: handlers)
      assert Lunode.node(cnode) |> Atom.to_string() |> String.starts_with?("my_lua@")
    end

    test "unknown options and wrong values raise, and say what is known" do
      message = catch_error(Lunode.start_link(handler: "x")) |> Exception.message()
      assert message =~ ":handler" and message =~ ":handlers" and message =~ ":start_timeout"

      for {wrong, says} <- [
            {[handlers: 1], "handlers: must be a path"},
            {[config: :c], "config: must be a path"},
            {[env: [1]], "env: must be a map or list"},
            {[env: %{"A" => 1}], "env: must be a map or list"},
            {[handlers: "a\0b"], "handlers: must be a path"},
            {[handlers: [1, :a]], "handlers: must be a path"},
            {[env: %{"A=B" => "1"}], "env: must be a map or list"},
            {[env: %{"A" => "1\0"}], "env: must be a map or list"},
            {[node_name: "a@b"], "node_name: must be what stands before the @"},
            {[node_name: String.duplicate("a", 300)], "node_name: must be what stands"},
            {[start_timeout: 0], "start_timeout: must be milliseconds"},
            {[log: :loud], "log: must be true, false, or one of"}
          ] do
        assert_raise ArgumentError, ~r/#{says}/, fn -> Lunode.start_link(wrong) end
      end
    end
  end

  test "a start isn't upset by the messages of others" do
    Task.start_link(fn ->
      pid = eventually(fn -> Process.whereis(:awaited) end)
      for i <- 1..200, do: send(pid, {:hello, i})
    end)

    assert {:ok, cnode} = Lunode.start_link(name: :awaited, start_timeout: limit(10_000))
    Lunode.stop(cnode)
  end

  describe "a start that fails" do
    # The caller traps no exits: it must live on.
    test "gives the reason at once: a script that doesn't compile" do
      began = now()
      broken = script("broken.lua", "return {\n  add = function( end\n}")
      assert {:error, {:start_failed, reason}} = Lunode.start_link(handlers: broken)
      assert reason =~ ~r/broken\.lua:2:/
      assert now() - began < limit(2_000)
    end

    test "gives the reason: handlers that aren't there" do
      assert {:error, {:start_failed, reason}} = Lunode.start_link(handlers: "/no/such.lua")
      assert reason =~ "/no/such.lua"
    end

    test "gives the reason: no program" do
      with_program("/no/such/program", fn ->
        assert Lunode.start_link([]) ==
                 {:error,
                  {:start_failed, "cannot run /no/such/program: no such file or directory"}}
      end)
    end

    test "gives the reason: a program that ends before it is ready" do
      with_program("/bin/true", fn ->
        assert {:error, {:start_failed, reason}} = Lunode.start_link([])
        assert reason =~ "ended with status 0"
      end)
    end

    test "gives the reason: a program that is never ready, and ends it" do
      hanging = script("hang", "#!/bin/sh\ntrap '' TERM\necho $$\nwhile :; do sleep 1; done\n")
      File.chmod!(hanging, 0o755)

      with_program(hanging, fn ->
        {result, log} = with_log(fn -> Lunode.start_link(start_timeout: 300) end)
        assert result == {:error, {:start_failed, "the program was not ready within 300 ms"}}
        [os_pid] = Regex.run(~r/\b\d+$/m, log)
        eventually(fn -> not running?(os_pid) end)
      end)
    end

    test "of a second node under a name in use leaves the first alone", %{handlers: handlers} do
      name = "twice_#{System.unique_integer([:positive])}_#{System.pid()}"
      first = start(node_name: name, handlers: handlers)
      assert {:error, {:start_failed, text}} = Lunode.start_link(node_name: name)
      assert text =~ "in use" or text =~ "not ready"
      assert Lunode.call(first, :counter, {:add, 1}) == 1
      refute_receive _, 1_000
      assert Lunode.call(first, :counter, {:add, 1}) == 2
    end

    test "leaves nothing behind: no process, no port, no message" do
      ports = length(Port.list())
      broken = script("broken.lua", "oops")
      assert {:error, _} = Lunode.start_link(handlers: broken)
      eventually(fn -> length(Port.list()) <= ports end)
      assert Process.info(self(), :messages) == {:messages, []}
      assert Process.info(self(), :links) == {:links, []}
    end

    defp with_program(path, fun) do
      before = System.get_env("LUNODE_PROGRAM")
      System.put_env("LUNODE_PROGRAM", path)

      try do
        fun.()
      after
        if before,
          do: System.put_env("LUNODE_PROGRAM", before),
          else: System.delete_env("LUNODE_PROGRAM")
      end
    end
  end

  describe "call" do
    test "returns what the function returns", %{handlers: handlers} do
      cnode = start(handlers: handlers)
      assert Lunode.call(cnode, :counter, {:add, 5}) == 5
      assert Lunode.call(cnode, :counter, {:add, -7}) == -2
      assert Lunode.call(cnode, :counter, :get) == -2
    end

    test "exits as GenServer.call does", %{handlers: handlers} do
      cnode = start(handlers: handlers)
      assert {:noproc, _} = catch_exit(Lunode.call(cnode, :nobody, 1))

      assert {{:undef, :nothing, 2}, _} =
               catch_exit(Lunode.call(cnode, :counter, {:nothing, 1, 2}))

      capture_log(fn ->
        assert {{:lua_error, message, traceback}, _} =
                 catch_exit(Lunode.call(cnode, :counter, :crash))

        assert message =~ ~r/counter\.lua:5: on purpose/
        assert traceback =~ "counter.lua:5:"

        assert {{:lua_error, %{"code" => 7}, _}, _} =
                 catch_exit(Lunode.call(cnode, :counter, :value))
      end)

      assert Lunode.call(cnode, :counter, :get) == 0
      assert {:timeout, _} = catch_exit(Lunode.call(cnode, :late, :ask, 50))
    end

    test "to a node that doesn't run exits with noproc", %{handlers: handlers} do
      {:ok, cnode} = Lunode.start_link(handlers: handlers)
      Lunode.stop(cnode)

      for gone <- [cnode, LunodeTest.Nobody, {:global, :nobody}] do
        assert {:noproc, {Lunode, :call, [^gone, :counter, :get, 5_000]}} =
                 catch_exit(Lunode.call(gone, :counter, :get))
      end
    end

    test "in flight when the node dies exits with nodedown", %{handlers: handlers} do
      cnode = start(handlers: handlers)
      node = Lunode.node(cnode)
      os_pid = os_pid(cnode)
      spawn(fn -> Process.sleep(100) && kill(os_pid) end)

      capture_log(fn ->
        assert {{:nodedown, ^node}, _} = catch_exit(Lunode.call(cnode, :late, :ask))
      end)
    end

    test "that timed out leaves nothing in the mailbox, and nothing to later calls", context do
      cnode = start(handlers: context.handlers)

      for i <- 1..20 do
        assert {:timeout, _} = catch_exit(Lunode.call(cnode, :late, :ask, 10))
        Lunode.cast(cnode, :late, {:answer, {:late, i}})
        assert Lunode.call(cnode, :late, {:echo, i}) == i
      end

      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "doesn't wait for a busy server process", %{handlers: handlers} do
      cnode = start(handlers: handlers)
      :sys.suspend(cnode)
      assert Lunode.call(cnode, :counter, {:add, 1}) == 1
      :sys.resume(cnode)
    end
  end

  describe "cast and send" do
    test "return at once and run the functions", %{handlers: handlers} do
      cnode = start(handlers: handlers)
      assert Lunode.cast(cnode, :counter, {:add, 1}) == :ok
      assert Lunode.send(cnode, :counter, {:add, 2}) == :ok
      assert Lunode.call(cnode, :counter, :get) == 3
      assert Process.info(self(), :messages) == {:messages, []}
    end

    test "a plain message to `any` is answered to the mailbox", %{handlers: handlers} do
      cnode = start(handlers: Path.join(handlers, "counter.lua"))
      node = Lunode.node(cnode)
      assert Lunode.send(cnode, :any, {:add, 2}) == :ok
      assert_receive {^node, 2}
    end

    test "to a node that doesn't run are :ok" do
      assert Lunode.cast(LunodeTest.Nobody, :counter, 1) == :ok
      assert Lunode.send(LunodeTest.Nobody, :counter, 1) == :ok
    end
  end

  describe "stop" do
    test "when it returns, the process, its port and its connection are gone", context do
      {:ok, cnode} = Lunode.start_link(handlers: context.handlers)
      os_pid = os_pid(cnode)
      node = Lunode.node(cnode)
      port = :sys.get_state(cnode).port

      assert Lunode.stop(cnode) == :ok
      refute Process.alive?(cnode)
      refute running?(os_pid)
      refute node in Node.list(:hidden)
      assert Port.info(port) == nil
      assert Lunode.node(cnode) == nil
      assert :noproc = catch_exit(Lunode.stop(cnode)) |> unwrap()
    end

    test "kills a program that doesn't end", %{handlers: handlers} do
      {:ok, cnode} = Lunode.start_link(handlers: handlers)
      os_pid = os_pid(cnode)
      kill(os_pid, "STOP")
      began = now()
      assert Lunode.stop(cnode) == :ok
      assert (now() - began) in 1_000..limit(3_000)
      refute running?(os_pid)
    end

    test "the end of the starter ends the node", %{handlers: handlers} do
      me = self()

      {_pid, ref} =
        spawn_monitor(fn ->
          {:ok, cnode} = Lunode.start_link(handlers: handlers)
          send(me, {cnode, os_pid(cnode)})
        end)

      assert_receive {:DOWN, ^ref, :process, _, :normal}, limit(5_000)
      assert_received {cnode, os_pid}
      eventually(fn -> not Process.alive?(cnode) end)
      refute running?(os_pid)
    end

    test "a server that is killed takes the program along", %{handlers: handlers} do
      Process.flag(:trap_exit, true)
      {:ok, cnode} = Lunode.start_link(handlers: handlers)
      os_pid = os_pid(cnode)
      Process.exit(cnode, :kill)
      eventually(fn -> not running?(os_pid) end, 2_000)
    end

    defp unwrap({reason, _}), do: reason
    defp unwrap(reason), do: reason
  end

  describe "the death of the program" do
    test "exits the process with its status", %{handlers: handlers} do
      Process.flag(:trap_exit, true)

      capture_log(fn ->
        {:ok, cnode} = Lunode.start_link(handlers: handlers)
        kill(os_pid(cnode))
        assert_receive {:EXIT, ^cnode, {:lunode_exit, 137}}, limit(2_000)
      end)
    end

    test "of its own will too", %{handlers: handlers} do
      Process.flag(:trap_exit, true)
      quitter = Path.join(handlers, "quitter.lua")
      File.write!(quitter, "return function() os.exit(3) end")

      capture_log(fn ->
        {:ok, cnode} = Lunode.start_link(handlers: quitter)
        Lunode.cast(cnode, :quitter, :now)
        assert_receive {:EXIT, ^cnode, {:lunode_exit, 3}}, limit(2_000)
      end)
    end

    test "a lost connection ends both", %{handlers: handlers} do
      Process.flag(:trap_exit, true)

      capture_log(fn ->
        {:ok, cnode} = Lunode.start_link(handlers: handlers)
        Node.disconnect(Lunode.node(cnode))
        assert_receive {:EXIT, ^cnode, {:lunode_exit, 0}}, limit(2_000)
      end)
    end

    test "a lost connection to a program that hangs ends both", %{handlers: handlers} do
      Process.flag(:trap_exit, true)

      log =
        capture_log(fn ->
          {:ok, cnode} = Lunode.start_link(handlers: handlers)
          kill(os_pid(cnode), "STOP")
          Node.disconnect(Lunode.node(cnode))
          assert_receive {:EXIT, ^cnode, {:lunode_exit, 137}}, limit(4_000)
        end)

      assert log =~ "was lost but its program runs on"
    end

    test "under a supervisor it starts again, and calls work", %{handlers: handlers} do
      capture_log(fn ->
        cnode = start(name: LunodeTest.Supervised, handlers: handlers)
        assert Lunode.call(LunodeTest.Supervised, :counter, {:add, 5}) == 5
        ref = Process.monitor(cnode)
        kill(os_pid(cnode))
        assert_receive {:DOWN, ^ref, :process, _, {:lunode_exit, 137}}, limit(2_000)

        eventually(fn -> Lunode.node(LunodeTest.Supervised) end)
        assert Lunode.call(LunodeTest.Supervised, :counter, :get) == 0
        refute Process.whereis(LunodeTest.Supervised) == cnode
      end)
    end
  end

  describe "child_spec" do
    test "has the name as its id", %{handlers: handlers} do
      assert Lunode.child_spec(handlers: handlers).id == Lunode
      assert Lunode.child_spec(name: A).id == A
      start_supervised!({Lunode, name: LunodeTest.A, handlers: handlers})
      start_supervised!({Lunode, name: LunodeTest.B, handlers: handlers})
      assert Lunode.call(LunodeTest.A, :counter, {:add, 1}) == 1
      assert Lunode.call(LunodeTest.B, :counter, {:add, 2}) == 2
    end

    test "makes a pool with PartitionSupervisor", %{handlers: handlers} do
      spec = {Lunode, handlers: handlers}

      start_supervised!(
        {PartitionSupervisor, name: LunodeTest.Pool, child_spec: spec, partitions: 3}
      )

      pool = fn key -> {:via, PartitionSupervisor, {LunodeTest.Pool, key}} end

      assert 0..2 |> Enum.map(&Lunode.node(pool.(&1))) |> Enum.uniq() |> length() == 3
      for key <- 0..2, do: assert(Lunode.call(pool.(key), :counter, {:add, key}) == key)
    end
  end

  describe "names" do
    test "are used again, so that restarts make no new atoms", %{handlers: handlers} do
      nodes =
        for _ <- 1..5 do
          {:ok, cnode} = Lunode.start_link(handlers: handlers)
          node = Lunode.node(cnode)
          Lunode.stop(cnode)
          node
        end

      atoms = :erlang.system_info(:atom_count)

      for _ <- 1..20 do
        {:ok, cnode} = Lunode.start_link(handlers: handlers)
        Lunode.stop(cnode)
      end

      assert :erlang.system_info(:atom_count) == atoms
      assert length(Enum.uniq(nodes)) <= 5
    end

    test "the creation goes up by one with each start under a name" do
      {name, first} = Lunode.Names.take("creations_of_mine")
      assert {^name, second} = Lunode.Names.take("creations_of_mine")
      assert second == first + 1
    end

    test "stop and start under one name, 20 times at once", %{handlers: handlers} do
      for i <- 1..20 do
        {:ok, cnode} = Lunode.start_link(node_name: "again", handlers: handlers)
        assert Lunode.call(cnode, :counter, {:add, i}) == i
        Lunode.stop(cnode)
      end
    end
  end

  describe "output" do
    @talker """
    local talker = {}
    function talker:print(text) print(text) end
    function talker:write(text) io.write(text) end
    function talker:log(level, text) erl.log[tostring(level)](text) end
    function talker:many(n) for i = 1, n do print(i) end end
    return talker
    """

    setup do
      %{handlers: script("talker.lua", @talker)}
    end

    # Gives what is logged until the handler has answered, a line an event.
    defp logged(cnode, messages) do
      Logger.configure(truncate: :infinity)
      on_exit(fn -> Logger.configure(truncate: 8096) end)

      capture_log([format: "$metadata[$level] $message\n", metadata: [:handler, :lunode]], fn ->
        Enum.each(messages, &Lunode.call(cnode, :talker, &1))
        Lunode.stop(cnode)
      end)
    end

    defp start_linked(opts) do
      {:ok, cnode} = Lunode.start_link(opts)
      cnode
    end

    test "comes with its level, the handler and the node", %{handlers: handlers} do
      cnode = start_linked(handlers: handlers)
      node = Lunode.node(cnode)
      levels = [:debug, :info, :warning, :error]

      log =
        logged(cnode, [{:print, "hello"} | for(level <- levels, do: {:log, level, "at #{level}"})])

      lines = for line <- String.split(log, "\n", trim: true), line =~ "handler=talker", do: line
      where = "handler=talker lunode=#{node} "

      assert lines == [
               where <> "[info] talker: hello",
               where <> "[debug] talker: at debug",
               where <> "[info] talker: at info",
               where <> "[warning] talker: at warning",
               where <> "[error] talker: at error"
             ]
    end

    test "a script can't forge a level or a source", %{handlers: handlers} do
      cnode = start_linked(handlers: handlers)

      log =
        logged(cnode, [
          {:print, "[error] lunode: forged"},
          {:print, "first\n[error] lunode: forged"},
          {:print, "first\r[error] lunode: forged"},
          {:write, "[error] lunode: forged\n"},
          {:write, "half a line"},
          {:write, " and its end\n[error] lunode: forged\n"},
          {:print, "ready"},
          {:print, "[error] lunode: cannot start: forged"}
        ])

      assert log =~ "forged"
      refute log =~ ~r/^.*handler=lunode .*forged/m

      for line <- String.split(log, "\n"), line =~ "forged" do
        assert line =~ "[info] talker: " or String.starts_with?(line, "    ")
      end
    end

    test "lines of 10,000 characters come whole", %{handlers: handlers} do
      long = for i <- 1..10_000, into: "", do: <<rem(i, 26) + ?a>>
      umlauts = String.duplicate("ä", 10_000)
      log = logged(start_linked(handlers: handlers), [{:print, long}, {:print, umlauts}])
      assert log =~ "[info] talker: #{long}\n"
      assert log =~ "[info] talker: #{umlauts}\n"
    end

    test "bytes that are no characters are shown as escapes", %{handlers: handlers} do
      log = logged(start_linked(handlers: handlers), [{:print, <<"a", 0xFF, 0xC3, "b">>}])
      assert log =~ "[info] talker: a\\xFF\\xC3b\n"
    end

    test "log: a level drops what is below, false drops all", %{handlers: handlers} do
      messages = for level <- [:debug, :info, :warning, :error], do: {:log, level, "at #{level}"}

      log = logged(start_linked(handlers: handlers, log: :warning), messages)
      assert log =~ "at warning" and log =~ "at error"
      refute log =~ "at info" or log =~ "at debug"

      refute logged(start_linked(handlers: handlers, log: false), messages) =~ "talker"
    end

    test "of a handler that prints without end doesn't fill the BEAM", %{handlers: handlers} do
      cnode = start_linked(handlers: handlers)

      capture_log(fn ->
        call =
          Task.async(fn -> Lunode.call(cnode, :talker, {:many, 1_000_000}, limit(60_000)) end)

        assert longest_queue(cnode, call, 0) < 1_000

        eventually(
          fn -> Process.info(cnode, :message_queue_len) == {:message_queue_len, 0} end,
          20_000
        )

        Lunode.stop(cnode)
      end)
    end

    defp longest_queue(cnode, call, sofar) do
      {:message_queue_len, length} = Process.info(cnode, :message_queue_len)
      longest = max(length, sofar)
      if Task.yield(call, 1), do: longest, else: longest_queue(cnode, call, longest)
    end
  end
end
