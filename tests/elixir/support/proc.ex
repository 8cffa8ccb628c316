defmodule :proc do
  @moduledoc """
  What `handlers/proc.lua` is in Lua: a process that does what it is told. A test that holds for
  both, and for one of each, states what OTP does.
  """
  use GenServer

  @doc """
  What `Node.spawn_link(node, :proc, :start, [n])` runs: a GenServer whose parent is who spawned it.
  One that was spawned without a link has none, as by `GenServer.start`.
  """
  def start(n \\ 0) do
    [parent: parent, links: links] = Process.info(self(), [:parent, :links])
    Process.put(:"$ancestors", [if(parent in links, do: parent, else: self())])
    {:ok, state} = init(n)
    :gen_server.enter_loop(__MODULE__, [], state)
  end

  @doc "Registered, and started again as a handler's process is, for as long as the BEAM lives."
  def serve do
    child = %{
      id: :proc,
      restart: :transient,
      start: {GenServer, :start_link, [:proc, 0, [name: :proc]]}
    }

    {:ok, _pid} =
      Supervisor.start_link([child], strategy: :one_for_one, max_restarts: 5, max_seconds: 10)

    Process.sleep(:infinity)
  end

  def echo(value), do: value
  def pid, do: self()
  def quit(reason), do: exit(reason)
  def fail(text), do: :erlang.error({:lua_error, text, "stack traceback"})
  def spin, do: spin()
  def signal(pid, reason), do: Process.exit(pid, reason) && nil
  def trap(on), do: Process.flag(:trap_exit, on)
  def link(pid), do: Process.link(pid) && nil
  def unlink(pid), do: Process.unlink(pid) && nil
  def monitor(server), do: Process.monitor(server)
  def demonitor(ref), do: Process.demonitor(ref, [:flush]) && nil
  def reset(state), do: %{state | "n" => 0}
  def throw_it(term), do: throw(term)
  def child(n), do: spawn(__MODULE__, :start, [n])

  def sleep(ms) do
    Process.sleep(ms)
    ms
  end

  def call_there(server, request, ms), do: GenServer.call(server, request, ms)

  @impl true
  def init(:fail), do: exit({:lua_error, "no start", "stack traceback"})

  def init(n) do
    if n == :trap, do: Process.flag(:trap_exit, true)
    {:ok, %{"n" => n, "seen" => []}}
  end

  @impl true
  def handle_call(request, _from, state) do
    {value, state} = run(request, state)
    {:reply, value, state}
  end

  @impl true
  def handle_cast(request, state) do
    {_value, state} = run(request, state)
    {:noreply, state}
  end

  @impl true
  def handle_info(message, state) do
    {:noreply, Map.update!(state, "seen", &(&1 ++ [message]))}
  end

  @impl true
  def terminate(reason, state) do
    if state["told"], do: send(state["told"], {:terminated, reason})
  end

  defp run(request, state) do
    [name | args] = if is_tuple(request), do: Tuple.to_list(request), else: [request]
    run(name, args, state)
  end

  defp run(:add, [k], state), do: {state["n"] + k, Map.update!(state, "n", &(&1 + k))}
  defp run(:get, [], state), do: {state["n"], state}
  defp run(:set, [n], state), do: {nil, %{state | "n" => n}}
  defp run(:messages, [], state), do: {state["seen"], state}
  defp run(:count, [], state), do: {length(state["seen"]), state}
  defp run(:sizes, [], state), do: {Enum.uniq(Enum.map(state["seen"], &byte_size/1)), state}
  defp run(:tell, [pid], state), do: {nil, Map.put(state, "told", pid)}
  # An error in a GenServer has a stack beside the reason, a Lua error has it within.
  defp run(:fail, [text], _state), do: exit({:lua_error, text, "stack traceback"})
  defp run(name, args, state), do: {apply(__MODULE__, name, args), state}
end

defmodule Lunode.Test.Proc do
  @moduledoc "Processes that do what they are told, in Lua and on a BEAM: see `:proc`."

  import ExUnit.Assertions
  alias Lunode.Test.{OS, OtherBeam}

  @handler Path.expand("../handlers/proc.lua", __DIR__)

  @doc "The path of the handler in Lua."
  def handler, do: @handler

  @doc "A node with the handler, for the module or test that calls; gives its name."
  def start_node(opts \\ []) do
    {Lunode, Keyword.merge([handlers: @handler], opts)}
    |> ExUnit.Callbacks.start_supervised!()
    |> Lunode.node()
  end

  @doc "A lasting process on a node, linked to nobody."
  def start(node, n \\ 0), do: Node.spawn(node, :proc, :start, [n])

  @doc "A second BEAM with the module `:proc`."
  def start_beam(opts \\ []) do
    beam = {_peer, node} = OtherBeam.start([{:code, true} | opts])
    OtherBeam.apply(beam, :erlang, :spawn, [:proc, :serve, []])
    OS.eventually(fn -> OtherBeam.apply(beam, :erlang, :whereis, [:proc]) != :undefined end)
    assert Node.connect(node)
    beam
  end

  @doc "For the context of a module: a node of each kind, connected to each other."
  def start_nodes do
    {_peer, name} = beam = start_beam()
    lua = start_node()
    assert OtherBeam.connect(beam, lua)
    %{nodes: %{lua: lua, beam: name}}
  end

  @doc "A message for its mailbox, of which no reply comes: the process ends while it serves it."
  def quit(pid, reason), do: GenServer.cast(pid, {:quit, reason})

  def ask(server, request, timeout \\ 5_000), do: GenServer.call(server, request, timeout)

  @doc "Runs Lua in a process of the handler: see its function `lua`."
  def lua(server, source, args \\ [], timeout \\ 5_000) do
    ask(server, List.to_tuple([:lua, source | args]), timeout)
  end

  @doc "Asserts that these messages, and no others, have come to a process when it is quiet."
  def assert_messages(pid, wanted) do
    OS.eventually(fn -> length(ask(pid, :messages)) >= length(wanted) end)
    assert ask(pid, :messages) == wanted
  end

  @doc "Asserts that a process ends; gives the reason."
  def assert_ends(pid, timeout \\ 5_000) do
    ref = Process.monitor(pid)
    assert_receive {:DOWN, ^ref, :process, _, reason}, timeout
    reason
  end

  @doc "Monitors, does `fun`, and gives the reason with which the process ended."
  def reason_after(pid, fun, timeout \\ 5_000) do
    ref = Process.monitor(pid)
    fun.()
    assert_receive {:DOWN, ^ref, :process, _, reason}, timeout
    reason
  end

  @doc "Asserts that a process lives: it answers."
  def assert_lives(pid), do: assert(ask(pid, {:echo, :alive}) == :alive)
end
