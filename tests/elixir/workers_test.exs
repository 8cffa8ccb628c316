defmodule Lunode.WorkersTest do
  @moduledoc "The processes in which untrusted handlers run: how they start, die, and come back."
  use ExUnit.Case, async: false

  import Lunode.Test.OS, except: [script: 2]
  alias Lunode.Test.RawNode

  @moduletag :capture_log
  @moduletag :not_under_valgrind
  @moduletag timeout: 300_000

  @source """
  local handler = { n = 0 }
  function handler:ping() return "pong" end
  function handler:add(k) self.n = self.n + k return self.n end
  function handler:sleep(ms) erl.sleep(ms) return "slept" end
  function handler:self() return erl.self() end
  -- In one call of a C function, which nothing interrupts.
  function handler:hang() return (("a"):rep(40) .. "b"):find(("a*"):rep(28) .. "c") end
  function handler:fail() error("failed") end
  function handler:init(told) if told then erl.send(told, "started") end end
  return handler
  """

  # Deadline and time of its own, so that a test of deaths does not take long.
  @hasty [limits: [time: "20s", deadline: "200ms"]]

  defp start(lines) do
    folder = folder(%{"lunode.lua" => "return { #{lines} }\n"})
    lua = start_supervised!({Lunode, handlers: folder})
    %{lua: lua, node: Lunode.node(lua), os_pid: os_pid(lua)}
  end

  defp load(lua, name, options \\ []) do
    assert {:ok, _} = Lunode.load(lua, name, @source, options)
    name
  end

  defp ask(node, name, request, timeout \\ 60_000) do
    GenServer.call({name, node}, request, timeout)
  end

  # The processes that the node has started.
  defp workers(os_pid) do
    {text, _} = System.cmd("ps", ["-o", "pid=,stat=", "--ppid", "#{os_pid}"])

    for line <- String.split(text, "\n", trim: true),
        [pid, stat] = String.split(line),
        not (stat =~ "Z") do
      String.to_integer(pid)
    end
  end

  defp pings?(node, name), do: catch_reason(fn -> ask(node, name, :ping) end) == "pong"

  defp catch_reason(fun) do
    fun.()
  catch
    :exit, {reason, _call} -> reason
    :exit, reason -> reason
  end

  # Starts many who wait for the handler in different ways; gives how many, and each tells
  # `{:told, kind, reason, when}`.
  defp crowd(node, name) do
    test = self()
    pid = ask(node, name, :self)
    tell = fn kind, reason -> send(test, {:told, kind, reason, now()}) end

    wait = fn kind, fun ->
      spawn(fn ->
        Process.flag(:trap_exit, true)
        tell.(kind, catch_reason(fun))
      end)
    end

    for _ <- 1..10,
        do: wait.(:call, fn -> GenServer.call({name, node}, {:sleep, 100_000}, :infinity) end)

    for _ <- 1..5,
        do: wait.(:call_pid, fn -> GenServer.call(pid, {:sleep, 100_000}, :infinity) end)

    for server <- [{name, node}, pid] do
      wait.(:monitor, fn ->
        ref = Process.monitor(server)
        receive do: ({:DOWN, ^ref, :process, _, reason} -> reason)
      end)
    end

    wait.(:link, fn ->
      Process.link(pid)
      receive do: ({:EXIT, ^pid, reason} -> reason)
    end)

    wait.(:erpc, fn ->
      try do
        :erpc.call(node, name, :sleep, [100_000], :infinity)
      catch
        kind, reason -> {kind, reason}
      end
    end)

    GenServer.cast({name, node}, {:sleep, 100_000})
    eventually(fn -> handler(node, name).processes >= 2 end)
    Process.sleep(300)
    19
  end

  defp handler(node, name), do: Enum.find(Lunode.handlers(node), &(&1.name == name))

  test "kill -9 of a worker under load: everybody is told at once, and it is back" do
    %{lua: lua, node: node, os_pid: os_pid} = start("workers = 1")
    load(lua, :tenant)
    load(lua, :neighbour)
    count = crowd(node, :tenant)
    [worker] = workers(os_pid)
    start = now()
    kill(worker)
    told = for _ <- 1..count, do: assert_receive({:told, _, _, _}, limit(5_000))
    slowest = Enum.max(for {:told, _, _, at} <- told, do: at - start)

    for {:told, kind, reason, _} <- told do
      assert inspect(reason) =~ "worker_exit" and inspect(reason) =~ "killed by signal 9",
             "#{kind}: #{inspect(reason)}"
    end

    eventually(fn -> pings?(node, :tenant) and pings?(node, :neighbour) end, 30_000)
    IO.puts("told within #{slowest} ms, back within #{now() - start} ms")
    assert slowest < stretch(os_pid, 1_000)
    assert now() - start < stretch(os_pid, 3_000)
    assert workers(os_pid) != [worker]
    refute_received {:told, _, _, _}
  end

  test "a caller in between is told, too, or served: nobody hangs" do
    %{lua: lua, node: node, os_pid: os_pid} = start("workers = 1")
    load(lua, :tenant)
    test = self()

    callers =
      for _ <- 1..20 do
        spawn_link(fn ->
          for _ <- 1..200 do
            reason = catch_reason(fn -> GenServer.call({:tenant, node}, :ping, 30_000) end)
            assert reason != :timeout
            Process.sleep(1)
          end

          send(test, :done)
        end)
      end

    for _ <- 1..5 do
      eventually(fn -> workers(os_pid) != [] end)

      for pid <- workers(os_pid),
          do: System.cmd("kill", ["-KILL", "#{pid}"], stderr_to_stdout: true)

      Process.sleep(50)
    end

    for _ <- callers, do: assert_receive(:done, limit(100_000))
    eventually(fn -> pings?(node, :tenant) end, 30_000)
  end

  test "a pool shares handlers, and one with isolation has its own worker" do
    %{lua: lua, node: node, os_pid: os_pid} = start("workers = 2")
    assert workers(os_pid) == []
    for i <- 1..6, do: load(lua, :"t#{i}")
    [first, second] = workers(os_pid)
    load(lua, :own, isolation: :own)
    [own] = workers(os_pid) -- [first, second]
    for i <- 1..6, do: ask(node, :"t#{i}", {:add, 1})
    ask(node, :own, {:add, 1})

    kill(own)
    eventually(fn -> pings?(node, :own) end)
    assert ask(node, :own, {:add, 1}) == 1
    for i <- 1..6, do: assert(ask(node, :"t#{i}", {:add, 1}) == 2)

    kill(first)
    eventually(fn -> Enum.all?(1..6, &pings?(node, :"t#{&1}")) end)
    assert ask(node, :own, {:add, 1}) == 2
    # Half of them have lost their state.
    assert Enum.sort(for i <- 1..6, do: ask(node, :"t#{i}", {:add, 1})) == [1, 1, 1, 3, 3, 3]
    assert Lunode.load(lua, :own, @source) |> elem(0) == :error
  end

  test "one that loops in C is ended at the deadline, and each caller gets his reason" do
    %{lua: lua, node: node} = start("workers = 1")
    load(lua, :looper, @hasty)
    load(lua, :neighbour)

    neighbour =
      Task.async(fn -> catch_reason(fn -> ask(node, :neighbour, {:sleep, 60_000}) end) end)

    waiting = Task.async(fn -> catch_reason(fn -> ask(node, :looper, {:sleep, 60_000}) end) end)
    # A process beside those two, whose spawn has been answered when it is asked to loop.
    looper = Node.spawn(node, :looper, :start, [])
    ref = Process.monitor(looper)
    Process.sleep(200)
    GenServer.cast(looper, :hang)
    assert {:limit, :deadline, 200, used} = Task.await(waiting, 60_000)
    assert used >= 200
    assert {:worker_exit, text} = Task.await(neighbour, 60_000)
    assert text =~ "the handler looper ran"
    assert_receive {:DOWN, ^ref, :process, ^looper, {kind, _}} when kind == :worker_exit, 30_000
    eventually(fn -> pings?(node, :looper) and pings?(node, :neighbour) end)
  end

  test "after six deaths within 10 s it stays down, and callers learn why; others run" do
    %{lua: lua, node: node} = start("workers = 1")
    load(lua, :looper, @hasty)
    load(lua, :neighbour)

    for i <- 1..6 do
      assert {:limit, :deadline, 200, _} = catch_reason(fn -> ask(node, :looper, :hang) end),
             "#{i}"

      eventually(fn -> pings?(node, :neighbour) end)
      if i < 6, do: eventually(fn -> pings?(node, :looper) end)
    end

    Process.sleep(1_500)
    assert {:limit, :deadline, 200, _} = catch_reason(fn -> ask(node, :looper, :ping) end)
    assert pings?(node, :neighbour)
    # It comes back when it is loaded anew.
    load(lua, :looper, @hasty)
    assert pings?(node, :looper)
    assert Lunode.unload(lua, :looper) == :ok
  end

  test "control works for handlers in workers, also while one is busy" do
    %{lua: lua, node: node} = start("workers = 1")
    :ok = Lunode.subscribe(lua)
    load(lua, :tenant)
    load(lua, :busy)
    GenServer.cast({:busy, node}, {:sleep, 60_000})
    assert {:ok, 2} = Lunode.reload(lua, :tenant)
    assert {:ok, 3} = Lunode.load(lua, :tenant, @source)
    assert Lunode.eval(lua, :tenant, "1 + 1") in [{:ok, 2}, {:ok, [2]}, 2]

    assert Enum.sort(for h <- Lunode.handlers(lua), h.name in [:tenant, :busy], do: h.name) == [
             :busy,
             :tenant
           ]

    assert %{tenant: %{messages: _}, busy: _} = Lunode.stats(lua).handlers
    assert {:ok, 2} = Lunode.load(lua, :busy, @source)
    assert {:error, reason} = Lunode.load(lua, :tenant, "return {")
    assert inspect(reason) =~ "tenant"
    assert {:error, _} = Lunode.load(lua, :tenant, "error('not today')")
    assert pings?(node, :tenant)
    assert handler(lua, :tenant).version == 3
    catch_reason(fn -> ask(node, :tenant, :fail) end)
    assert_receive {:lunode, ^node, _event, :tenant, _details}, 10_000
    assert Lunode.unload(lua, :tenant) == :ok
    assert Lunode.unload(lua, :tenant) == {:error, :noproc}
    assert catch_reason(fn -> ask(node, :tenant, :ping) end) == :noproc
    assert Lunode.unload(lua, :busy) == :ok
  end

  test "unloads of one handler at once" do
    %{lua: lua, node: node} = start("workers = 1")

    for _ <- 1..20 do
      load(lua, :tenant)
      GenServer.cast({:tenant, node}, {:sleep, 20})
      results = for _ <- 1..8, do: Task.async(fn -> Lunode.unload(node, :tenant) end)
      results = Task.await_many(results, 60_000)
      assert :ok in results
      assert Enum.all?(results, &(&1 in [:ok, {:error, :noproc}])), inspect(results)
    end

    assert {:ok, 1} = Lunode.load(lua, :tenant, @source)
  end

  test "what `init` sends is what the load allows" do
    Process.register(self(), :workers_told)
    %{lua: lua, node: node} = start("workers = 1")
    me = node()
    source = "return { init = function() erl.send({'workers_told', '#{me}'}, 'x') end }"

    source =
      String.replace(
        source,
        "{'workers_told', '#{me}'}",
        "erl.tuple(atom('workers_told'), atom('#{me}'))"
      )

    assert {:ok, 1} = Lunode.load(lua, :teller, source, allow: [send: ["workers_told"]])
    assert_receive "x", 10_000
    assert handler(node, :teller).version == 1
  end

  test "no worker before it is needed, and none some seconds after the last handler" do
    %{lua: lua, os_pid: os_pid} = start("workers = 1")
    assert workers(os_pid) == []
    load(lua, :tenant)
    assert [_] = workers(os_pid)
    assert Lunode.unload(lua, :tenant) == :ok
    eventually(fn -> workers(os_pid) == [] end, 30_000)
    load(lua, :tenant)
    assert [_] = workers(os_pid)
  end

  for {title, signal} <- [{"stops", "TERM"}, {"is killed", "KILL"}] do
    test "no worker is left when the node #{title}, even a busy one" do
      raw = RawNode.start_connected()
      {:ok, _} = Lunode.load(raw.node, :tenant, @source, limits: [time: "60s", deadline: "60s"])
      {:ok, _} = Lunode.load(raw.node, :own, @source, isolation: :own)
      GenServer.cast({:tenant, raw.node}, :hang)
      Process.sleep(200)
      pids = workers(raw.os_pid)
      assert length(pids) == 2
      kill(raw.os_pid, unquote(signal))
      eventually(fn -> not Enum.any?(pids, &alive?/1) end, 30_000)
    end
  end

  # A zombie that nobody has waited for is none.
  defp alive?(pid) do
    case File.read("/proc/#{pid}/stat") do
      {:ok, stat} -> not (stat =~ ~r/\) Z /)
      _ -> false
    end
  end

  test "memory and descriptors are back after 200 loads and unloads, and after 50 killed workers" do
    %{lua: lua, node: node, os_pid: os_pid} = start("workers = 1")
    load(lua, :tenant)
    cycle = fn i -> load(lua, :"c#{rem(i, 7)}") && Lunode.unload(lua, :"c#{rem(i, 7)}") end
    for i <- 1..30, do: cycle.(i)

    kill_one = fn ->
      [pid] = eventually(fn -> match?([_], workers(os_pid)) && workers(os_pid) end)
      kill(pid)
      eventually(fn -> workers(os_pid) != [pid] and pings?(node, :tenant) end, 30_000)
    end

    for _ <- 1..5, do: kill_one.()
    descriptors = fn -> length(File.ls!("/proc/#{os_pid}/fd")) end
    {memory, open} = {memory(os_pid), descriptors.()}
    for i <- 1..200, do: cycle.(i)
    for _ <- 1..50, do: kill_one.()
    eventually(fn -> descriptors.() <= open end)
    IO.puts("#{memory} KiB before, #{memory(os_pid)} KiB after")
    if not keeps_freed?(os_pid), do: assert(memory(os_pid) - memory < 3_000)
  end
end
