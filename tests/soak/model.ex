# What OTP would answer: processes on three nodes, their links, monitors and names, as plain data.
#
# Every operation gives the model after it and what must be seen of it: `{:ended, pid, reason}` for
# each process that ends, `{:event, pid, message}` for each message that reaches a living one.
# The nodes are :d (the driver's), :p (a second BEAM) and :t (the one under test); between :p and :t
# the connection may be down.
defmodule Soak.Model do
  defstruct actors: %{}, links: MapSet.new(), monitors: %{}, names: %{}, connected: true, seen: []

  @type t :: %__MODULE__{}

  def add(model, pid, node, parent \\ nil) do
    actor = %{node: node, alive: true, trap: false, parent: parent}
    model = %{model | actors: Map.put(model.actors, pid, actor)}
    if parent, do: put_link(model, pid, parent), else: model
  end

  def alive(model), do: for({pid, %{alive: true}} <- model.actors, do: pid)
  def alive?(model, pid), do: model.actors[pid].alive
  def dead(model), do: for({pid, %{alive: false}} <- model.actors, do: pid)
  def node_of(model, pid), do: model.actors[pid].node
  def trap?(model, pid), do: model.actors[pid].trap

  def reachable?(model, a, b) do
    model.connected or Enum.sort([node_of(model, a), node_of(model, b)]) != [:p, :t]
  end

  @doc """
  What was to be seen since the last time. What reaches a process that ends at the same time may be
  seen or not: those come second. Until now the ended ones kept their links and monitors, for the
  order in which things that have one cause happen is open.
  """
  def take_seen(model) do
    {must, may} =
      model.seen
      |> Enum.reverse()
      |> Enum.split_with(fn
        {:ended, _pid, _reason} -> true
        {:event, pid, _message} -> alive?(model, pid)
      end)

    {must, may, forget_ended(%{model | seen: []})}
  end

  defp forget_ended(model) do
    %{
      model
      | links:
          model.links
          |> Enum.filter(fn {a, b} -> alive?(model, a) and alive?(model, b) end)
          |> MapSet.new(),
        monitors:
          Map.filter(model.monitors, fn {_ref, {watcher, _, _}} -> alive?(model, watcher) end),
        names: Map.filter(model.names, fn {_name, holder} -> alive?(model, holder) end)
    }
  end

  # {==== Operations ==========================================================================

  def trap(model, pid, on), do: put_in(model.actors[pid].trap, on)

  def link(model, a, b) do
    cond do
      a == b -> model
      not reachable?(model, a, b) -> signal(model, :link, b, a, :noconnection)
      not alive?(model, b) -> signal(model, :link, b, a, :noproc)
      true -> put_link(model, a, b)
    end
  end

  def unlink(model, a, b), do: %{model | links: MapSet.delete(model.links, pair(a, b))}

  @doc "`shown` is what the message DOWN names: the pid, or {name, node}."
  def monitor(model, watcher, target, ref, shown) do
    cond do
      target != nil and not reachable?(model, watcher, target) ->
        down(model, watcher, ref, shown, :noconnection)

      target == nil or not alive?(model, target) ->
        down(model, watcher, ref, shown, :noproc)

      true ->
        %{model | monitors: Map.put(model.monitors, ref, {watcher, target, shown})}
    end
  end

  def demonitor(model, ref), do: %{model | monitors: Map.delete(model.monitors, ref)}

  def register(model, name, pid), do: %{model | names: Map.put(model.names, name, pid)}

  @doc "An exit signal, sent by a process or (`from` is no actor) by the driver."
  def exit_signal(model, from, to, reason) do
    if is_map_key(model.actors, from) and not reachable?(model, from, to) do
      model
    else
      signal(model, :exit, from, to, reason)
    end
  end

  @doc "The process ends by itself."
  def quit(model, pid, reason), do: die(model, pid, reason)

  def reconnect(model), do: %{model | connected: true}

  def disconnect(model) do
    cut? = fn a, b -> Enum.sort([node_of(model, a), node_of(model, b)]) == [:p, :t] end
    links = Enum.filter(model.links, fn {a, b} -> cut?.(a, b) end)
    monitors = Enum.filter(model.monitors, fn {_ref, {a, b, _}} -> cut?.(a, b) end)

    model = %{
      model
      | connected: false,
        links: MapSet.difference(model.links, MapSet.new(links)),
        monitors: Map.drop(model.monitors, Enum.map(monitors, &elem(&1, 0)))
    }

    model =
      Enum.reduce(monitors, model, fn {ref, {watcher, _target, shown}}, model ->
        down(model, watcher, ref, shown, :noconnection)
      end)

    Enum.reduce(links, model, fn {a, b}, model ->
      model
      |> signal(:link, a, b, :noconnection)
      |> signal(:link, b, a, :noconnection)
    end)
  end

  # }==== Signals =============================================================================

  # `:link` when it comes over a link (also a link that could not be made), `:exit` when it was
  # sent: only then does the reason `kill` kill.
  defp signal(model, how, from, to, reason) do
    actor = model.actors[to]

    cond do
      not actor.alive and not (actor.trap and ending?(model, to)) -> model
      how == :exit and reason == :kill -> die(model, to, :killed)
      actor.trap and from == actor.parent -> die(model, to, reason)
      actor.trap -> see(model, {:event, to, {:EXIT, from, reason}})
      reason == :normal and from != to -> model
      true -> die(model, to, reason)
    end
  end

  # It has ended in this very operation, and may have seen the message before.
  defp ending?(model, pid), do: Enum.any?(model.seen, &match?({:ended, ^pid, _reason}, &1))

  defp die(model, pid, reason) do
    if alive?(model, pid), do: end_actor(model, pid, reason), else: model
  end

  defp end_actor(model, pid, reason) do
    linked = for {a, b} <- model.links, pid in [a, b], do: if(a == pid, do: b, else: a)
    watched = for {ref, {_w, ^pid, _} = monitor} <- model.monitors, do: {ref, monitor}

    model = put_in(model.actors[pid].alive, false)

    model = %{model | monitors: Map.drop(model.monitors, Enum.map(watched, &elem(&1, 0)))}
    model = see(model, {:ended, pid, reason})

    model =
      Enum.reduce(watched, model, fn {ref, {watcher, _pid, shown}}, model ->
        down(model, watcher, ref, shown, reason)
      end)

    Enum.reduce(linked, model, &signal(&2, :link, pid, &1, reason))
  end

  defp down(model, watcher, ref, shown, reason) do
    see(model, {:event, watcher, {:DOWN, ref, :process, shown, reason}})
  end

  defp see(model, what), do: %{model | seen: [what | model.seen]}

  defp put_link(model, a, b), do: %{model | links: MapSet.put(model.links, pair(a, b))}
  defp pair(a, b), do: if(a < b, do: {a, b}, else: {b, a})

  # }====
end
