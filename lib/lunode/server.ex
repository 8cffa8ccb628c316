defmodule Lunode.Server do
  @moduledoc false
  # The process that stands for a node on this BEAM: it owns the port of the program, lives as long
  # as the program does, and ends it when it ends itself. Messages to handlers don't pass through.
  use GenServer
  require Logger

  alias Lunode.{Distribution, Names, Options, Output, Program, Telemetry}

  # A node that has lost its owner ends within a second.
  @end_timeout 1_500

  @enforce_keys [:port, :node, :output]
  defstruct @enforce_keys

  @doc """
  Starts the program and connects to it. A start that fails does not end the caller.
  """
  @spec start_link(Options.t()) :: GenServer.on_start()
  def start_link(options) do
    GenServer.start_link(__MODULE__, {options, self()}, server_options(options))
  end

  @doc """
  The same, without a link.
  """
  @spec start(Options.t()) :: GenServer.on_start()
  def start(options) do
    GenServer.start(__MODULE__, {options, self()}, server_options(options))
  end

  defp server_options(%{name: nil}), do: []
  defp server_options(%{name: name}), do: [name: name]

  @doc """
  The name of the node, or `nil` when that server doesn't run. Doesn't wait for the server, which
  may be busy with output. A node that no server here stands for is its own name.
  """
  @spec fetch_node(GenServer.server()) :: node | nil
  def fetch_node(server) do
    case GenServer.whereis(server) do
      nil -> node_name(server)
      pid when is_pid(pid) and node(pid) == node() -> lookup(pid)
      elsewhere -> GenServer.call(elsewhere, :node)
    end
  end

  defp node_name(server) do
    if is_atom(server) and Atom.to_string(server) =~ "@", do: server
  end

  defp lookup(pid) do
    case Registry.lookup(Lunode.Registry, pid) do
      # An entry outlives its process by a moment.
      [{^pid, node}] -> if Process.alive?(pid), do: node
      [] -> nil
    end
  end

  # {==== Starting ==============================================================================

  @impl true
  def init({options, starter}) do
    Process.flag(:trap_exit, true)

    with :ok <- distribute(),
         {:ok, state} <- open(options),
         {:ok, state} <- await_ready(state, starter, options.start_timeout),
         :ok <- connect(state) do
      {:ok, _owner} = Registry.register(Lunode.Registry, self(), state.node)
      if Telemetry.available?(), do: Telemetry.subscribe(state.node)
      {:ok, state}
    else
      {:error, reason} -> refuse(reason, starter)
      {:error, reason, state} -> refuse(reason, starter, state)
    end
  end

  # Unlinked first: the starter learns the reason from what start_link returns, not from a signal
  # that would end it.
  defp refuse(reason, starter) do
    Process.unlink(starter)
    {:stop, reason}
  end

  # No connection is this node's own yet: one under its name is to another program, which lives on.
  defp refuse(reason, starter, state) do
    if state.port, do: Program.await_end(state.port, 0)
    log_rest(state)
    refuse(reason, starter)
  end

  defp distribute do
    with {:error, text} <- Distribution.ensure(), do: {:error, {:start_failed, text}}
  end

  defp open(options) do
    {alive, creation} = Names.take(options.node_name)
    host = node() |> Atom.to_string() |> String.split("@") |> List.last()
    node = :"#{alive}@#{host}"

    case Program.open(alive, host, creation, options) do
      {:ok, port} ->
        {:ok, %__MODULE__{port: port, node: node, output: Output.new(node, options.log)}}

      {:error, text} ->
        {:error, {:start_failed, text}}
    end
  end

  defp await_ready(state, starter, timeout) do
    timer = Process.send_after(self(), {:start_timeout, timeout}, timeout)
    result = await_ready(state, starter)
    Process.cancel_timer(timer)
    result
  end

  # Nothing is dropped here, however many messages of others wait: it might be `ready`.
  defp await_ready(%{port: port} = state, starter) do
    receive do
      {^port, {:data, piece}} ->
        {lines, output} = Output.add(state.output, piece)
        starting_lines(lines, %{state | output: output}, starter)

      {^port, {:exit_status, status}} ->
        text = "the program ended with status #{status} before it was ready"
        {:error, {:start_failed, text}, %{state | port: nil}}

      {:EXIT, ^starter, reason} ->
        {:error, reason, state}

      {:start_timeout, timeout} ->
        {:error, {:start_failed, "the program was not ready within #{timeout} ms"}, state}
    end
  end

  defp starting_lines([], state, starter), do: await_ready(state, starter)
  defp starting_lines(["ready" | lines], state, _starter), do: {:ok, log(lines, state)}

  defp starting_lines(["[error] lunode: cannot start: " <> reason | _lines], state, _starter) do
    {:error, {:start_failed, reason}, state}
  end

  defp starting_lines([line | lines], state, starter) do
    starting_lines(lines, log([line], state), starter)
  end

  defp log(lines, state) do
    %{state | output: Enum.reduce(lines, state.output, &Output.log(&2, &1))}
  end

  defp connect(state) do
    if Node.connect(state.node) == true do
      Node.monitor(state.node, true)
      :ok
    else
      text = "the program is ready but #{state.node} does not take a connection"
      {:error, {:connect_failed, text}, state}
    end
  end

  # }==== Running ===============================================================================

  @impl true
  def handle_call(:node, _from, state), do: {:reply, state.node, state}

  @impl true
  def handle_info({port, {:data, piece}}, %{port: port} = state) do
    {lines, output} = Output.add_or_drop(state.output, piece)
    {:noreply, log(lines, %{state | output: output})}
  end

  def handle_info({port, {:exit_status, status}}, %{port: port} = state) do
    {:stop, {:lunode_exit, status}, %{state | port: nil}}
  end

  # Comes where telemetry was there at the start.
  def handle_info({:lunode, node, event, handler, details}, %{node: node} = state)
      when is_map(details) do
    Telemetry.emit(event, Map.merge(details, %{node: node, handler: handler, cnode: self()}))
    {:noreply, state}
  end

  # The program ends now by itself, or has been killed: its exit status says which.
  def handle_info({:nodedown, node}, %{node: node} = state) do
    Process.send_after(self(), :end_timeout, Options.patience(@end_timeout))
    {:noreply, state}
  end

  def handle_info(:end_timeout, state) do
    Logger.warning(
      "lunode: the connection to #{state.node} was lost but its program runs on: killed"
    )

    Program.kill(state.port)
    {:noreply, state}
  end

  # From the port: its exit status comes too.
  def handle_info({:EXIT, port, _reason}, state) when is_port(port), do: {:noreply, state}

  # Somebody linked to this process: the same happens as to one that traps no exits.
  def handle_info({:EXIT, _pid, :normal}, state), do: {:noreply, state}
  def handle_info({:EXIT, _pid, reason}, state), do: {:stop, reason, state}

  def handle_info(_other, state), do: {:noreply, state}

  # {==== Ending ================================================================================

  @impl true
  def terminate(_reason, state), do: end_program(state)

  # Losing the connection is what tells a node to end.
  defp end_program(state) do
    Node.disconnect(state.node)
    if state.port, do: Program.await_end(state.port, Options.patience(@end_timeout))
    log_rest(state)
  end

  # What the program wrote before it ended, its `terminate` callbacks too.
  defp log_rest(%{port: port} = state) do
    receive do
      {^port, {:data, piece}} ->
        {lines, output} = Output.add_or_drop(state.output, piece)
        log_rest(log(lines, %{state | output: output}))
    after
      0 -> :ok
    end
  end

  # }====
end
