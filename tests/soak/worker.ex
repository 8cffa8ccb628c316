# What handlers/worker.lua is in Lua, for a BEAM: a GenServer that does what it is told, and tells
# its collector of every DOWN and EXIT that it gets. Named as the Lua handler is, so that one call
# starts either.
defmodule :worker do
  @behaviour GenServer

  @doc "Runs in the new process. The parent is who started it with a link; nil: nobody did."
  def start(collector, parent) do
    Process.put(:"$ancestors", [parent || spawn(fn -> :ok end)])
    :gen_server.enter_loop(__MODULE__, [], collector)
  end

  @impl true
  def init(collector), do: {:ok, collector}

  @impl true
  def handle_info({:EXIT, _, _} = event, collector), do: tell(event, collector)
  def handle_info({:DOWN, _, _, _, _} = event, collector), do: tell(event, collector)
  def handle_info(told, collector), do: storm(told, collector)

  defp tell(event, collector) do
    send(collector, {:event, self(), event})
    {:noreply, collector}
  end

  @impl true
  def handle_cast(told, collector) do
    handle_call(told, nil, collector)
    {:noreply, collector}
  end

  # {==== Told one by one =====================================================================

  @impl true
  def handle_call(:mute, _from, collector), do: {:noreply, collector}
  def handle_call(told, _from, collector), do: {:reply, act(told, collector), collector}

  # On its own node a process that traps no exits gets an error where others get a signal.
  defp act({:link, pid}, _collector) do
    Process.link(pid)
    :ok
  rescue
    error in ErlangError -> exit(error.original)
  end

  defp act({:unlink, pid}, _collector), do: ok(Process.unlink(pid))
  defp act({:monitor, server}, _collector), do: Process.monitor(server)
  defp act({:demonitor, ref}, _collector), do: ok(Process.demonitor(ref, [:flush]))
  defp act({:trap, on}, _collector), do: Process.flag(:trap_exit, on)
  defp act({:signal, pid, reason}, _collector), do: ok(Process.exit(pid, reason))
  defp act({:register, name}, _collector), do: ok(Process.register(self(), name))
  defp act({:quit, reason}, _collector), do: exit(reason)
  defp act(:crash, _collector), do: exit({:lua_error, "boom", "traceback"})
  defp act({:echo, value}, _collector), do: value
  defp act(:breed, collector), do: spawn(__MODULE__, :start, [collector, nil])

  defp act({:breed_link, node}, collector) do
    Node.spawn_link(node, __MODULE__, :start, [collector, self()])
  end

  defp act({:ask, server, request, ms}, _collector) do
    {:ok, GenServer.call(server, request, ms)}
  catch
    :exit, {{:nodedown, _node}, {GenServer, :call, _}} -> {:failed, {:exit, :noconnection}}
    :exit, {reason, {GenServer, :call, _}} -> {:failed, {:exit, reason}}
  end

  defp ok(true), do: :ok

  # }==== Told in a storm, without waiting for an answer ======================================

  defp storm({:watch, pid}, collector) do
    send(collector, {:watched, self(), pid, Process.monitor(pid)})
    {:noreply, collector}
  end

  defp storm({:unwatch, ref}, collector) do
    Process.demonitor(ref, [:flush])
    send(collector, {:unwatched, self(), ref})
    {:noreply, collector}
  end

  defp storm({:tie, pid}, collector) do
    act({:link, pid}, collector)
    send(collector, {:tied, self(), pid})
    {:noreply, collector}
  end

  defp storm({:untie, pid}, collector) do
    Process.unlink(pid)
    send(collector, {:untied, self(), pid})
    {:noreply, collector}
  end

  # A late answer to a call that was given up, and the like.
  defp storm(_other, collector), do: {:noreply, collector}

  # }==== Asked by erpc =======================================================================

  def peers, do: Node.list([:visible, :hidden])

  def memory do
    for pid <- Process.list(), do: :erlang.garbage_collect(pid)
    :erlang.memory(:total) / 1024
  end

  # }====
end
