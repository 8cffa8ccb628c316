defmodule Lunode.SpawnTest do
  @moduledoc """
  Processes that Elixir starts on a node: of a function, and lasting ones, also under a supervisor.
  What has no `Lunode` in it holds for a BEAM as well as for Lua.
  """
  use ExUnit.Case, async: true

  import Lunode.Test.OS, only: [eventually: 1]
  import Lunode.Test.Proc

  @moduletag :capture_log

  setup_all do
    start_nodes()
  end

  for on <- [:beam, :lua] do
    describe "on #{on}:" do
      setup %{nodes: nodes}, do: %{node: nodes[unquote(on)]}

      test "Node.spawn runs the function in a new process, which ends with it", %{node: node} do
        listener = start(node)
        pid = Node.spawn(node, :proc, :signal, [listener, :oops])
        assert node(pid) == node
        assert assert_ends(listener) in [:oops, :noproc]
        assert assert_ends(pid) in [:normal, :noproc]
        assert {:noproc, _} = catch_exit(ask(pid, :get))
      end

      test "Node.spawn gives the pid at once, and the process goes on alone", %{node: node} do
        pid = Node.spawn(node, :proc, :sleep, [60_000])
        assert :erpc.call(node, :erlang, :is_process_alive, [pid])
        assert reason_after(pid, fn -> Process.exit(pid, :kill) end) == :killed
        refute :erpc.call(node, :erlang, :is_process_alive, [pid])
      end

      test "Node.spawn_link links", %{node: node} do
        Process.flag(:trap_exit, true)
        pid = Node.spawn_link(node, :proc, :quit, [:oops])
        assert_receive {:EXIT, ^pid, :oops}, 5_000
        pid = Node.spawn_link(node, :proc, :echo, [1])
        assert_receive {:EXIT, ^pid, :normal}, 5_000
      end

      test "a spawned process ends with the one it is linked to", %{node: node} do
        me = self()

        owner =
          spawn(fn ->
            send(me, {:pid, Node.spawn_link(node, :proc, :sleep, [60_000])})
            Process.sleep(:infinity)
          end)

        assert_receive {:pid, pid}, 5_000
        assert reason_after(pid, fn -> Process.exit(owner, :oops) end) == :oops
      end

      test "Node.spawn_monitor monitors", %{node: node} do
        {pid, ref} = Node.spawn_monitor(node, :proc, :echo, [1])
        assert_receive {:DOWN, ^ref, :process, ^pid, :normal}, 5_000
        {pid, ref} = Node.spawn_monitor(node, :proc, :quit, [:oops])
        assert_receive {:DOWN, ^ref, :process, ^pid, :oops}, 5_000
      end

      test "link and monitor together give EXIT and DOWN", %{node: node} do
        Process.flag(:trap_exit, true)
        {pid, ref} = Node.spawn(node, :proc, :quit, [:oops], [:link, :monitor])
        assert_receive {:EXIT, ^pid, :oops}, 5_000
        assert_receive {:DOWN, ^ref, :process, ^pid, :oops}, 5_000
      end

      test "spawn_request is answered by a message", %{node: node} do
        id = :erlang.spawn_request(node, :proc, :echo, [1], reply_tag: :started)
        assert_receive {:started, ^id, :ok, pid}, 5_000
        assert node(pid) == node
      end

      test "a function that is not there ends the new process with undef", %{node: node} do
        for {module, fun} <- [proc: :no_such_function, no_such_module: :add] do
          {pid, ref} = Node.spawn_monitor(node, module, fun, [1, "two"])
          assert_receive {:DOWN, ^ref, :process, ^pid, reason}, 5_000
          assert {:undef, [{^module, ^fun, [1, "two"], _location} | _]} = reason
        end
      end

      test "start makes a lasting process with a state of its own", %{node: node} do
        [one, two] = for n <- [10, 20], do: Node.spawn_link(node, :proc, :start, [n])
        assert ask(one, {:add, 1}) == 11
        assert ask(two, {:add, 1}) == 21
        GenServer.cast(one, {:add, 1})
        assert ask(one, :get) == 12
        send(one, "plain")
        assert_messages(one, ["plain"])
        assert ask(one, :pid) == one
        assert ask({:proc, node}, :pid) not in [one, two]
        for pid <- [one, two], do: Process.unlink(pid)
      end

      test "an init that fails ends the lasting process with the error", %{node: node} do
        {pid, ref} = Node.spawn_monitor(node, :proc, :start, [:fail])
        assert_receive {:DOWN, ^ref, :process, ^pid, {:lua_error, "no start", _trace}}, 5_000
      end

      test "messages that come before init is done are kept, in order", %{node: node} do
        pid = Node.spawn(node, :proc, :start, [0])
        for i <- 1..100, do: send(pid, i)
        assert_messages(pid, Enum.to_list(1..100))
      end

      @tag timeout: 180_000
      test "10,000 processes at once, each with its own state", %{node: node} do
        pids = for n <- 1..10_000, do: start(node, n)
        assert length(Enum.uniq(pids)) == 10_000
        requests = for pid <- pids, do: :gen_server.send_request(pid, {:add, 1})

        for {request, n} <- Enum.zip(requests, 1..10_000) do
          assert :gen_server.receive_response(request, 120_000) == {:reply, n + 1}
        end

        refs = Enum.map(pids, &Process.monitor/1)
        for pid <- pids, do: Process.exit(pid, :enough)
        for ref <- refs, do: assert_receive({:DOWN, ^ref, :process, _, :enough}, 120_000)
      end

      test "one that traps exits ends with its parent, after terminate", %{node: node} do
        me = self()

        parent =
          spawn(fn ->
            pid = Node.spawn_link(node, :proc, :start, [:trap])
            ask(pid, {:tell, me})
            send(me, {:pid, pid})
            Process.sleep(:infinity)
          end)

        assert_receive {:pid, pid}, 5_000
        assert reason_after(pid, fn -> Process.exit(parent, :over) end) == :over
        assert_receive {:terminated, :over}, 5_000
      end

      test "one that traps exits and was spawned without a link takes its spawner's as a message",
           %{node: node} do
        pid = start(node, :trap)
        assert ask(pid, :messages) == []
        Process.exit(pid, :over)
        assert_messages(pid, [{:EXIT, self(), :over}])
      end
    end
  end

  describe "a Lua process in a supervisor:" do
    setup do
      %{lua: start_supervised!({Lunode, handlers: handlers()}, id: :own)}
    end

    defp supervise(children, opts \\ []) do
      start_supervised!(%{
        id: :supervisor,
        type: :supervisor,
        restart: :temporary,
        start: {Supervisor, :start_link, [children, [strategy: :one_for_one] ++ opts]}
      })
    end

    defp child(lua, id, args, opts \\ []) do
      Map.merge(
        %{id: id, start: {Lunode, :start_process, [lua, :proc, args]}},
        Map.new(opts)
      )
    end

    defp pid_of(supervisor, id) do
      {^id, pid, _type, _modules} =
        supervisor |> Supervisor.which_children() |> List.keyfind(id, 0)

      pid
    end

    test "it serves, and is started again when it crashes", %{lua: lua} do
      supervisor = supervise([child(lua, :one, [10]), child(lua, :two, [20])])
      [one, two] = for id <- [:one, :two], do: pid_of(supervisor, id)
      assert ask(one, {:add, 1}) == 11
      assert ask(two, {:add, 1}) == 21

      catch_exit(ask(one, {:fail, "oops"}))
      eventually(fn -> is_pid(pid_of(supervisor, :one)) and pid_of(supervisor, :one) != one end)
      assert ask(pid_of(supervisor, :one), :get) == 10
      assert ask(two, :get) == 21

      Process.exit(two, :kill)
      eventually(fn -> is_pid(pid_of(supervisor, :two)) and pid_of(supervisor, :two) != two end)
      assert ask(pid_of(supervisor, :two), :get) == 20
    end

    test "a transient one that ends normally is not", %{lua: lua} do
      supervisor = supervise([child(lua, :one, [10], restart: :transient)])
      pid = pid_of(supervisor, :one)
      assert reason_after(pid, fn -> quit(pid, :normal) end) == :normal
      eventually(fn -> pid_of(supervisor, :one) == :undefined end)
    end

    test "the supervisor ends its children the last first; those that trap run terminate", %{
      lua: lua
    } do
      supervisor =
        supervise([child(lua, :one, [:trap]), child(lua, :two, [0]), child(lua, :three, [:trap])])

      pids = for id <- [:one, :two, :three], do: pid_of(supervisor, id)
      for pid <- pids, do: ask(pid, {:tell, self()})
      refs = for pid <- pids, do: {pid, Process.monitor(pid)}
      Supervisor.stop(supervisor, :shutdown)

      ended =
        for _ <- pids, do: assert_receive({:DOWN, _, :process, _, :shutdown}, 5_000) |> elem(3)

      assert ended == Enum.reverse(pids)
      assert length(refs) == 3
      for _ <- 1..2, do: assert_receive({:terminated, :shutdown}, 5_000)
      refute_received {:terminated, _}
    end

    test "one that traps exits and does not end in time is killed", %{lua: lua} do
      supervisor = supervise([child(lua, :one, [:trap], shutdown: 100)])
      pid = pid_of(supervisor, :one)
      GenServer.cast(pid, {:sleep, 60_000})
      assert reason_after(pid, fn -> Supervisor.stop(supervisor, :shutdown) end) == :killed
    end

    test "an init that fails fails the supervisor, and says why", %{lua: lua} do
      Process.flag(:trap_exit, true)
      children = [child(lua, :one, [0]), child(lua, :two, [:fail])]
      assert {:error, reason} = Supervisor.start_link(children, strategy: :one_for_one)

      assert {:shutdown, {:failed_to_start_child, :two, {:lua_error, "no start", trace}}} = reason
      assert trace =~ "proc.lua:"
    end

    test "a handler that isn't there, and a node that doesn't run, say so", %{lua: lua} do
      Process.flag(:trap_exit, true)
      assert {:error, {:undef, _}} = Lunode.start_process(lua, :no_such_handler, [1])
      stop_supervised!(:own)
      assert Lunode.start_process(lua, :proc, [1]) == {:error, :noproc}
      refute_received {:EXIT, _, _}
    end

    test "start_process waits for init, and gives a linked process", %{lua: lua} do
      Process.flag(:trap_exit, true)
      began = Lunode.Test.OS.now()
      assert {:ok, slow} = Lunode.start_process(lua, :slow, [300])
      assert Lunode.Test.OS.now() - began >= 300
      assert ask(slow, :get) == "ready"
      Process.exit(slow, :oops)
      assert_receive {:EXIT, ^slow, :oops}, 5_000

      assert {:ok, pid} = Lunode.start_process(lua, :proc)
      assert ask(pid, :get) == 0
      assert {:messages, []} = Process.info(self(), :messages)
    end

    test "start_process starts a handler that is its own loop, also one that never receives", %{
      lua: lua
    } do
      assert {:ok, pid} = Lunode.start_process(lua, :ticker, [self()])
      assert_receive {:tick, ^pid}, 5_000
      assert_receive {:tick, ^pid}, 5_000
      Process.unlink(pid)
    end

    test "all end with the node, noconnection", %{lua: lua} do
      Process.flag(:trap_exit, true)
      {:ok, pid} = Lunode.start_process(lua, :proc, [1])
      stop_supervised!(:own)
      assert_receive {:EXIT, ^pid, :noconnection}, 5_000
    end
  end

  defp handlers do
    Lunode.Test.OS.folder(%{
      "proc.lua" => File.read!(handler()),
      "slow.lua" => """
      local slow = {}
      function slow:init(ms) if ms then erl.sleep(ms) end end
      function slow:get() return "ready" end
      return slow
      """,
      "ticker.lua" => """
      local ticker = {}
      function ticker:init(pid) self.to = pid end
      function ticker:run()
        while self.to do
          erl.send(self.to, erl.tuple(atom.tick, erl.self()))
          erl.sleep(20)
        end
      end
      return ticker
      """
    })
  end
end
