# Operations fired without waiting, also while the connection between the two nodes goes up and down.
# What happens is not known beforehand, but some things hold whatever the order. Watchers, which
# nobody ends and which trap exits, get
#   - exactly one DOWN for every monitor that they did not end, and none for one after they ended it,
#   - an EXIT from each process that they linked to and did not unlink from, and no more than links,
#   - with the reason that the process had, or noproc, or noconnection across the lost connection.
defmodule Soak.Storm do
  @patience 30_000

  @doc "`toggle` takes true or false, and makes the connection so. Gives what was wrong, as texts."
  def run(nodes, seed, toggle) do
    :rand.seed(:exsss, {seed, 11, 13})
    watchers = for node <- [:d, :p, :t], _ <- 1..2, do: start(nodes, node)
    for {watcher, _} <- watchers, do: GenServer.call(watcher, {:trap, true}, @patience)
    victims = for node <- [:d, :p, :t, :t], _ <- 1..10, do: start(nodes, node)
    observed = for {pid, _} <- victims, do: {Process.monitor(pid), pid}
    # An exit signal by way of a third node must not overtake the monitor.
    for {pid, _} <- victims, do: :observed = GenServer.call(pid, {:echo, :observed}, @patience)

    for burst <- 1..6 do
      for _ <- 1..80, do: fire(watchers, victims)
      toggle.(rem(burst, 2) == 0)
    end

    for {pid, _} <- Enum.shuffle(victims), do: Process.exit(pid, :kill)
    reasons = Map.new(observed, fn {ref, pid} -> {pid, await_end(ref)} end)
    faults = Enum.flat_map(watchers, &check(&1, Map.new(victims), reasons))
    for {pid, _} <- watchers, do: stop(pid)
    faults ++ leftovers(Map.new(watchers))
  end

  defp start(nodes, node) do
    pid = Node.spawn(nodes[node], :worker, :start, [self(), nil])
    :begun = GenServer.call(pid, {:echo, :begun}, @patience)
    {pid, node}
  end

  defp stop(pid) do
    ref = Process.monitor(pid)
    Process.exit(pid, :kill)
    :killed = await_end(ref)
  end

  defp await_end(ref) do
    receive do
      {:DOWN, ^ref, :process, _pid, reason} -> reason
    after
      @patience -> :lost
    end
  end

  defp fire(watchers, victims) do
    {watcher, _} = Enum.random(watchers)
    {a, _} = Enum.random(victims)
    {b, _} = Enum.random(victims)

    case :rand.uniform(100) do
      n when n <= 35 -> send(watcher, {:watch, a})
      n when n <= 50 -> unwatch_one(watcher)
      n when n <= 62 -> send(watcher, {:tie, a})
      n when n <= 66 -> send(watcher, {:untie, a})
      n when n <= 76 -> GenServer.cast(a, {:link, b})
      n when n <= 80 -> GenServer.cast(a, {:unlink, b})
      n when n <= 86 -> GenServer.cast(a, {:monitor, b})
      n when n <= 91 -> GenServer.cast(a, {:trap, true})
      n when n <= 95 -> GenServer.cast(a, {:signal, b, :boom})
      n when n <= 97 -> Process.exit(a, Enum.random([:kill, :boom, :normal]))
      _ -> GenServer.cast(a, {:quit, Enum.random([:normal, :boom])})
    end
  end

  # One of those that the watcher has told of by now.
  defp unwatch_one(watcher) do
    receive do
      {:watched, ^watcher, _pid, ref} = told ->
        send(self(), told)
        send(watcher, {:unwatch, ref})
    after
      0 -> :ok
    end
  end

  # {==== What a watcher saw ==================================================================

  defp check({watcher, node}, victims, reasons) do
    :drained = GenServer.call(watcher, {:echo, :drained}, @patience)
    log = await_all(watcher, told(watcher), System.monotonic_time(:millisecond) + @patience)
    good? = fn pid, reason -> good_reason?(reason, {node, victims[pid]}, reasons[pid]) end

    faults =
      lost_downs(log) ++
        lost_exits(log) ++
        double_downs(log) ++ too_many_exits(log) ++ wrong_reasons(log, good?, reasons)

    for fault <- faults, do: "watcher #{inspect(watcher)} on #{node}: #{fault}"
  end

  # All that the watcher has told, in order.
  defp told(watcher) do
    receive do
      {_what, ^watcher, _} = message -> [message | told(watcher)]
      {_what, ^watcher, _, _} = message -> [message | told(watcher)]
    after
      0 -> []
    end
  end

  # Then a moment more, for what comes twice.
  defp await_all(watcher, log, deadline) do
    complete? = lost_downs(log) == [] and lost_exits(log) == []

    if complete? or System.monotonic_time(:millisecond) > deadline do
      Process.sleep(100)
      log ++ told(watcher)
    else
      Process.sleep(20)
      await_all(watcher, log ++ told(watcher), deadline)
    end
  end

  defp downs(log), do: for({:event, _, {:DOWN, ref, :process, _pid, _reason}} <- log, do: ref)

  defp lost_downs(log) do
    watched = for {:watched, _, _pid, ref} <- log, do: ref
    unwatched = for {:unwatched, _, ref} <- log, do: ref
    for ref <- watched -- (unwatched ++ downs(log)), do: "lost DOWN #{inspect(ref)}"
  end

  defp double_downs(log) do
    refs = downs(log)
    twice = for ref <- Enum.uniq(refs -- Enum.uniq(refs)), do: "double DOWN #{inspect(ref)}"
    twice ++ late_downs(log, MapSet.new())
  end

  defp late_downs([], _unwatched), do: []

  defp late_downs([{:unwatched, _, ref} | log], unwatched) do
    late_downs(log, MapSet.put(unwatched, ref))
  end

  defp late_downs([{:event, _, {:DOWN, ref, _, _, _}} | log], unwatched) do
    if ref in unwatched do
      ["DOWN #{inspect(ref)} after demonitor" | late_downs(log, unwatched)]
    else
      late_downs(log, unwatched)
    end
  end

  defp late_downs([_ | log], unwatched), do: late_downs(log, unwatched)

  # Who must send an EXIT yet, after all of the log.
  defp lost_exits(log) do
    log
    |> Enum.reduce(MapSet.new(), fn
      {:tied, _, pid}, open -> MapSet.put(open, pid)
      {:untied, _, pid}, open -> MapSet.delete(open, pid)
      {:event, _, {:EXIT, pid, _reason}}, open -> MapSet.delete(open, pid)
      _other, open -> open
    end)
    |> Enum.map(&"lost EXIT of #{inspect(&1)}")
  end

  defp too_many_exits(log) do
    exits = for {:event, _, {:EXIT, pid, _reason}} <- log, do: pid
    ties = for {:tied, _, pid} <- log, do: pid
    for pid <- exits -- ties, do: "more EXITs than links of #{inspect(pid)}"
  end

  defp wrong_reasons(log, good?, reasons) do
    for {:event, _, event} <- log, {pid, reason} = about(event), not good?.(pid, reason) do
      "wrong reason: #{inspect(event)}; it was #{inspect(reasons[pid])}"
    end
  end

  defp about({:DOWN, _ref, :process, pid, reason}), do: {pid, reason}
  defp about({:EXIT, pid, reason}), do: {pid, reason}

  defp good_reason?(:lost, _nodes, _real), do: false
  defp good_reason?(reason, _nodes, reason), do: true
  defp good_reason?(:noproc, _nodes, _real), do: true
  defp good_reason?(:noconnection, nodes, _real), do: nodes in [{:p, :t}, {:t, :p}]
  defp good_reason?(_reason, _nodes, _real), do: false

  # }====

  # What the victims told is of no interest.
  defp leftovers(watchers) do
    receive do
      message when is_map_key(watchers, elem(message, 1)) ->
        ["late: #{inspect(message)}" | leftovers(watchers)]

      {:DOWN, _, _, _, _} = message ->
        ["double DOWN at the driver: #{inspect(message)}" | leftovers(watchers)]

      _other ->
        leftovers(watchers)
    after
      100 -> []
    end
  end
end
