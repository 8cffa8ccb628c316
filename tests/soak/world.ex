# A set of processes on three nodes, and one process on the driver's that does random operations on
# them, one after the other, and compares what is seen with the model. Several worlds run at once
# against the same nodes.
defmodule Soak.World do
  alias Soak.Model

  # How long something that must be seen may take.
  @patience 20_000
  @most_actors 14

  @reasons [
    :normal,
    :shutdown,
    {:shutdown, [1]},
    :boom,
    :kill,
    "text",
    {:odd, nil, 2.5, %{a: nil}}
  ]
  @names [:a, :b, :c, :d]

  defstruct [
    :id,
    :nodes,
    model: %Model{},
    observed: %{},
    must: [],
    may: [],
    history: [],
    steps: 0
  ]

  def start_link(id, nodes, seed) do
    coordinator = self()

    spawn_link(fn ->
      :rand.seed(:exsss, {seed, id, 7})
      loop(%__MODULE__{id: id, nodes: nodes}, coordinator)
    end)
  end

  @doc "Tells all worlds to do something, and waits until they have; gives the steps they did."
  def all(worlds, what) do
    for world <- worlds, do: send(world, what)

    worlds
    |> Enum.map(fn world ->
      receive do
        {:done, ^world, steps} -> steps
      end
    end)
    |> Enum.sum()
  end

  defp loop(world, coordinator) do
    receive do
      {:run, steps} -> Enum.reduce(1..steps, world, fn _, world -> step(world) end)
      :disconnected -> apply_model(world, "disconnected", &Model.disconnect/1)
      :reconnected -> apply_model(world, "reconnected", &Model.reconnect/1)
      :finish -> finish(world)
    end
    |> then(fn world ->
      send(coordinator, {:done, self(), world.steps})
      loop(%{world | steps: 0}, coordinator)
    end)
  end

  # {==== One step ============================================================================

  defp step(world) do
    count = length(Model.alive(world.model))

    operation =
      cond do
        count < 4 -> :spawn
        count >= @most_actors -> Enum.random(operations() -- [:spawn, :breed, :breed_link])
        true -> Enum.random(operations())
      end

    %{operate(operation, world) | steps: world.steps + 1}
  end

  # As often as it stands here.
  defp operations do
    ~w[spawn spawn spawn breed breed_link breed_link link link link link link link unlink monitor
       monitor monitor monitor monitor_name demonitor trap trap trap exit exit exit world_exit quit
       quit crash stop register ask ask ask_name ask_quit ask_mute]a
  end

  defp operate(:spawn, world) do
    node = Enum.random([:d, :p, :t, :t])
    pid = Node.spawn(world.nodes[node], :worker, :start, [self(), nil])
    world |> note("#{node} #{inspect(pid)}: spawned") |> adopt(pid, node, nil)
  end

  defp operate(:breed, world) do
    parent = actor(world)
    {pid, world} = tell(world, parent, :breed)
    adopt(world, pid, Model.node_of(world.model, parent), nil)
  end

  # By Node.spawn_link: a BEAM does it.
  defp operate(:breed_link, world) do
    node = Enum.random([:d, :p, :t, :t])
    from = if world.model.connected or node != :t, do: [:d, :p], else: [:d]

    with_actor(world, from, fn parent ->
      {pid, world} = tell(world, parent, {:breed_link, world.nodes[node]})
      if pid == :ended, do: fail(world, "a spawn did not answer")
      adopt(world, pid, node, parent)
    end)
  end

  defp operate(:link, world) do
    {a, b} = {actor(world), other(world)}
    {_reply, world} = tell(world, a, {:link, b})
    world |> apply_model(nil, &Model.link(&1, a, b)) |> settle(a, b)
  end

  defp operate(:unlink, world) do
    {a, b} =
      case Enum.random([nil | MapSet.to_list(world.model.links)]) do
        nil -> {actor(world), other(world)}
        {a, b} -> Enum.random([{a, b}, {b, a}])
      end

    {:ok, world} = tell(world, a, {:unlink, b})
    world |> apply_model(nil, &Model.unlink(&1, a, b)) |> settle(a, b)
  end

  defp operate(:monitor, world) do
    {a, b} = {actor(world), other(world)}
    {ref, world} = tell(world, a, {:monitor, b})

    if a == b,
      do: world,
      else: world |> apply_model(nil, &Model.monitor(&1, a, b, ref, b)) |> settle(a, b)
  end

  defp operate(:monitor_name, world) do
    {a, name} = {actor(world), name(world)}
    holder = world.model.names[name]

    if holder == a or not see_t?(world, a) do
      world
    else
      target = {name, world.nodes.t}
      {ref, world} = tell(world, a, {:monitor, target})
      world = apply_model(world, nil, &Model.monitor(&1, a, holder, ref, target))
      if holder, do: settle(world, a, holder), else: world
    end
  end

  defp operate(:demonitor, world) do
    case Map.to_list(world.model.monitors) do
      [] ->
        world

      monitors ->
        {ref, {watcher, target, _}} = Enum.random(monitors)
        {:ok, world} = tell(world, watcher, {:demonitor, ref})
        world |> apply_model(nil, &Model.demonitor(&1, ref)) |> settle(watcher, target)
    end
  end

  defp operate(:trap, world) do
    {pid, on} = {actor(world), Enum.random([true, true, false])}
    {before, world} = tell(world, pid, {:trap, on})
    expect(world, before, Model.trap?(world.model, pid))
    apply_model(world, nil, &Model.trap(&1, pid, on))
  end

  defp operate(:exit, world) do
    {a, b, reason} = {actor(world), other(world), Enum.random(@reasons)}
    {_reply, world} = tell(world, a, {:signal, b, reason})
    world |> apply_model(nil, &Model.exit_signal(&1, a, b, reason)) |> settle(a, b)
  end

  defp operate(:world_exit, world) do
    {pid, reason} = {other(world), Enum.random(@reasons)}
    Process.exit(pid, reason)

    apply_model(
      world,
      "exit(#{inspect(pid)}, #{inspect(reason)})",
      &Model.exit_signal(&1, self(), pid, reason)
    )
  end

  defp operate(:quit, world) do
    {pid, reason} = {actor(world), Enum.random(@reasons)}
    GenServer.cast(pid, {:quit, reason})
    apply_model(world, "#{inspect(pid)}: quits #{inspect(reason)}", &Model.quit(&1, pid, reason))
  end

  defp operate(:crash, world) do
    pid = actor(world)
    {reply, world} = tell(world, pid, :crash)
    expect(world, reply, :ended)
    apply_model(world, nil, &Model.quit(&1, pid, {:lua_error, "boom", :traceback}))
  end

  defp operate(:stop, world) do
    {pid, reason} = {actor(world), Enum.random(@reasons)}
    :ok = GenServer.stop(pid, reason, @patience)
    apply_model(world, "stop #{inspect(pid)} #{inspect(reason)}", &Model.quit(&1, pid, reason))
  end

  defp operate(:register, world) do
    free = Enum.map(@names, &own(world, &1)) -- Map.keys(world.model.names)

    with_actor(world, [:t], fn pid ->
      if free == [] or pid in Map.values(world.model.names) do
        world
      else
        {:ok, world} = tell(world, pid, {:register, hd(free)})
        apply_model(world, nil, &Model.register(&1, hd(free), pid))
      end
    end)
  end

  defp operate(:ask, world) do
    {a, b, value} = {actor(world), other(world), Enum.random(@reasons)}
    {reply, world} = tell(world, a, {:ask, b, {:echo, value}, @patience})

    expected =
      cond do
        a == b -> {:failed, {:exit, :calling_self}}
        not Model.reachable?(world.model, a, b) -> {:failed, {:exit, :noconnection}}
        not Model.alive?(world.model, b) -> {:failed, {:exit, :noproc}}
        true -> {:ok, value}
      end

    expect(world, reply, expected)
  end

  defp operate(:ask_name, world) do
    {a, name} = {actor(world), name(world)}
    holder = world.model.names[name]

    if holder == a or not see_t?(world, a) do
      world
    else
      {reply, world} = tell(world, a, {:ask, {name, world.nodes.t}, {:echo, 1}, @patience})
      expect(world, reply, if(holder, do: {:ok, 1}, else: {:failed, {:exit, :noproc}}))
    end
  end

  # What is called ends without an answer; so does the caller if the two are linked.
  defp operate(:ask_quit, world) do
    {a, b, reason} = {actor(world), actor(world), Enum.random(@reasons)}

    if a == b or not Model.reachable?(world.model, a, b) do
      world
    else
      {reply, world} = tell(world, a, {:ask, b, {:quit, reason}, @patience})
      world = apply_model(world, nil, &Model.quit(&1, b, reason))

      if reply == :ended and not Model.alive?(world.model, a),
        do: world,
        else: expect(world, reply, {:failed, {:exit, reason}})
    end
  end

  defp operate(:ask_mute, world) do
    {a, b} = {actor(world), actor(world)}

    if a == b or not Model.reachable?(world.model, a, b) do
      world
    else
      {reply, world} = tell(world, a, {:ask, b, :mute, 20})
      expect(world, reply, {:failed, {:exit, :timeout}})
    end
  end

  # }==== Choosing ============================================================================

  defp actor(world), do: world.model |> Model.alive() |> Enum.random()

  # Sometimes one that has ended.
  defp other(world) do
    dead = Model.dead(world.model)
    if dead != [] and :rand.uniform(6) == 1, do: Enum.random(dead), else: actor(world)
  end

  defp with_actor(world, nodes, fun) do
    case Enum.filter(Model.alive(world.model), &(Model.node_of(world.model, &1) in nodes)) do
      [] -> world
      pids -> fun.(Enum.random(pids))
    end
  end

  defp name(world), do: own(world, Enum.random(@names))
  defp own(world, name), do: :"soak_#{world.id}_#{name}"
  defp see_t?(world, pid), do: world.model.connected or Model.node_of(world.model, pid) != :p

  # }==== Doing and seeing ====================================================================

  # From now on its end is observed. A call to it, so that it has begun.
  defp adopt(world, pid, node, parent) do
    ref = Process.monitor(pid)
    world = %{world | observed: Map.put(world.observed, ref, pid)}
    world = apply_model(world, nil, &Model.add(&1, pid, node, parent))
    {reply, world} = tell(world, pid, {:echo, :begun})
    expect(world, reply, :begun)
  end

  defp tell(world, pid, request) do
    reply =
      try do
        GenServer.call(pid, request, @patience)
      catch
        :exit, {:timeout, _} -> :no_answer
        :exit, {_reason, {GenServer, :call, _}} -> :ended
      end

    node = Model.node_of(world.model, pid)
    world = note(world, "#{node} #{inspect(pid)}: #{inspect(request)} -> #{inspect(reply)}")
    if reply == :no_answer, do: fail(world, "no answer")
    {reply, world}
  end

  # What `a` sent to `b` has arrived when `b` has answered `a`: nothing that comes by way of another
  # node overtakes it.
  defp settle(%{model: model} = world, a, b) do
    if a != b and Model.alive?(model, a) and Model.alive?(model, b) and
         Model.reachable?(model, a, b) do
      {reply, world} = tell(world, a, {:ask, b, {:echo, :settled}, @patience})
      expect(world, reply, {:ok, :settled})
    else
      world
    end
  end

  defp expect(world, got, expected) do
    if got != expected, do: fail(world, "got #{inspect(got)}, expected #{inspect(expected)}")
    world
  end

  defp apply_model(world, text, change) do
    world = if text, do: note(world, text), else: world
    {must, may, model} = world.model |> change.() |> Model.take_seen()
    await(%{world | model: model, must: must, may: may ++ world.may})
  end

  # Waits for all that must be seen; then takes what else is there.
  defp await(world) do
    receive do
      message -> world |> take(message) |> await()
    after
      if(world.must == [], do: 0, else: @patience) ->
        if world.must != [], do: fail(world, "lost: #{inspect(world.must)}")
        world
    end
  end

  defp take(world, message) do
    seen = seen(world, message)

    cond do
      seen in world.must -> %{world | must: List.delete(world.must, seen)}
      seen in world.may -> %{world | may: List.delete(world.may, seen)}
      true -> fail(world, "unexpected: #{inspect(seen)}, expected: #{inspect(world.must)}")
    end
  end

  defp seen(world, {:DOWN, ref, :process, pid, reason}) when is_map_key(world.observed, ref) do
    {:ended, pid, plain(reason)}
  end

  defp seen(_world, {:event, pid, {:DOWN, ref, kind, who, reason}}) do
    {:event, pid, {:DOWN, ref, kind, who, plain(reason)}}
  end

  defp seen(_world, {:event, pid, {:EXIT, from, reason}}) do
    {:event, pid, {:EXIT, from, plain(reason)}}
  end

  defp seen(_world, other), do: other

  defp plain({:lua_error, text, traceback}) when is_binary(traceback) do
    {:lua_error, text, :traceback}
  end

  defp plain(reason), do: reason

  # Ends every process; nothing may be seen afterwards.
  defp finish(world) do
    world =
      Enum.reduce(Model.alive(world.model), world, fn pid, world ->
        Process.exit(pid, :kill)
        apply_model(world, "finish", &Model.exit_signal(&1, self(), pid, :kill))
      end)

    Process.sleep(200)
    await(world)
    %{world | model: %{world.model | actors: %{}}, observed: %{}, may: []}
  end

  # }==== Telling =============================================================================

  defp note(world, text), do: %{world | history: [text | Enum.take(world.history, 59)]}

  defp fail(world, text) do
    IO.puts(:stderr, """
    world #{world.id}: #{text}
    connection between :p and :t: #{if world.model.connected, do: "up", else: "down"}
    the last operations:
      #{world.history |> Enum.reverse() |> Enum.join("\n  ")}
    """)

    System.halt(1)
  end

  # }====
end
