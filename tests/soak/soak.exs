# Random operations on processes, against a model of OTP. See tests/soak.sh.
for file <- ~w[model world storm], do: Code.require_file("#{file}.ex", __DIR__)

defmodule Soak do
  alias Soak.{Storm, World}

  # For the other BEAMs.
  [{:worker, code}] = Code.compile_file("worker.ex", __DIR__)
  @worker code

  @worlds 4
  @epochs 4
  @steps 25

  def main(args) do
    {options, []} =
      OptionParser.parse!(args,
        strict: [seed: :integer, seconds: :integer, rounds: :integer, against: :string]
      )

    against = options[:against] || "lunode"
    seed = options[:seed] || :rand.uniform(1_000_000)
    IO.puts("soak against #{against}, seed #{seed}")
    :logger.set_primary_config(:level, :none)
    :ok = Lunode.Distribution.ensure()

    nodes = start(against)
    steps = rounds(nodes, seed, 1, limit(options), %{steps: 0, memory: []})
    if nodes.lua, do: end_program(nodes)
    IO.puts("soak: #{steps} operations, all as OTP would answer")
  end

  # A number of rounds, or a time.
  defp limit(options) do
    ends = now() + 1_000 * (options[:seconds] || 60)
    fn round -> if options[:rounds], do: round > options[:rounds], else: now() > ends end
  end

  defp now, do: System.monotonic_time(:millisecond)

  # {==== The nodes ===========================================================================

  defp start(against) do
    p = beam("p")
    t = target(against)
    nodes = %{d: node(), p: p.node, t: t.node, peer: p.peer, os_pid: t.os_pid, lua: t[:lua]}
    connect(nodes, true)
    nodes
  end

  # Connections between nodes are made and cut by us alone.
  defp beam(name) do
    {:ok, peer, node} =
      :peer.start_link(%{
        name: :"soak_#{name}_#{System.pid()}",
        connection: :standard_io,
        args:
          ['-hidden', '-setcookie', Atom.to_charlist(Node.get_cookie())] ++
            ['-kernel', 'dist_auto_connect', 'never', '-kernel', 'logger_level', 'none'] ++
            ['-pa', Application.app_dir(:elixir, "ebin") |> to_charlist()]
      })

    true = Node.connect(node)
    {:module, :worker} = :peer.call(peer, :code, :load_binary, [:worker, 'worker.ex', @worker])
    os_pid = :peer.call(peer, :os, :getpid, []) |> List.to_integer()
    %{peer: peer, node: node, os_pid: os_pid}
  end

  defp target("beam"), do: beam("t")

  defp target("lunode") do
    handlers = Path.join(__DIR__, "handlers")
    {:ok, lua} = Lunode.start_link(handlers: handlers, log: false)
    {:os_pid, os_pid} = lua |> :sys.get_state() |> Map.fetch!(:port) |> Port.info(:os_pid)
    %{node: Lunode.node(lua), os_pid: os_pid, lua: lua}
  end

  # Built with sanitizers, it searches itself for leaks as it ends, and its status tells.
  defp end_program(%{lua: lua, t: t}) do
    Process.flag(:trap_exit, true)
    Node.disconnect(t)

    receive do
      {:EXIT, ^lua, {:lunode_exit, 0}} -> :ok
      {:EXIT, ^lua, reason} -> stop("the program ended with #{inspect(reason)}")
    end
  end

  # Both sides know when it returns. Lua connects to a node by itself when it sends to it: while the
  # connection is down the peer takes another cookie from it.
  defp connect(nodes, up?) do
    cookie = if up?, do: Node.get_cookie(), else: :another
    true = :peer.call(nodes.peer, :erlang, :set_cookie, [nodes.t, cookie])

    if up? do
      # An attempt from the other side may still be ending.
      await(fn -> :peer.call(nodes.peer, :net_kernel, :connect_node, [nodes.t]) end)
    else
      true = :peer.call(nodes.peer, :erlang, :disconnect_node, [nodes.t])
    end

    await(fn -> nodes.t in :peer.call(nodes.peer, :worker, :peers, []) == up? end)
    await(fn -> nodes.p in :erpc.call(nodes.t, :worker, :peers, []) == up? end)
  end

  defp await(done?, tries \\ 2_000) do
    cond do
      done?.() -> :ok
      tries == 0 -> stop("the connection between two nodes did not go up or down")
      true -> Process.sleep(5) && await(done?, tries - 1)
    end
  end

  # }==== Rounds ==============================================================================

  defp rounds(nodes, seed, round, over?, sum) do
    if over?.(round) do
      sum.steps
    else
      steps = worlds(nodes, seed + 1000 * round)
      faults = Storm.run(nodes, seed + 1000 * round, &connect_if_new(nodes, &1))
      if faults != [], do: stop("round #{round}:\n" <> Enum.join(Enum.take(faults, 20), "\n"))
      memory = memory(nodes)
      IO.puts("round #{round}: #{steps} operations, #{text(memory)}")
      sum = %{steps: sum.steps + steps, memory: sum.memory ++ [memory]}
      check_leak(sum.memory, slack(nodes))
      rounds(nodes, seed, round + 1, over?, sum)
    end
  end

  defp connect_if_new(nodes, up?) do
    if nodes.t in :peer.call(nodes.peer, :worker, :peers, []) != up?, do: connect(nodes, up?)
  end

  defp worlds(nodes, seed) do
    worlds = for id <- 1..@worlds, do: World.start_link(id, nodes, seed)

    steps =
      for epoch <- 1..@epochs do
        steps = World.all(worlds, {:run, @steps})
        up? = rem(epoch, 2) == 0
        connect(nodes, up?)
        World.all(worlds, if(up?, do: :reconnected, else: :disconnected))
        steps
      end

    World.all(worlds, :finish)
    for world <- worlds, do: end_world(world)
    Enum.sum(steps)
  end

  defp end_world(world) do
    Process.unlink(world)
    Process.exit(world, :kill)
  end

  # }==== Memory ==============================================================================

  # In KiB: what the workers' code uses, and the operating system's process.
  defp memory(nodes) do
    [_, rss] = Regex.run(~r/VmRSS:\s+(\d+)/, File.read!("/proc/#{nodes.os_pid}/status"))

    %{
      heap: round(:erpc.call(nodes.t, :worker, :memory, [])),
      rss: String.to_integer(rss),
      sanitized?: File.read!("/proc/#{nodes.os_pid}/maps") =~ "libasan"
    }
  end

  defp text(memory), do: "#{memory.heap} KiB of heap, #{memory.rss} KiB resident"

  # Everything has ended after a round: memory must be what it was after the second one. A round
  # makes hundreds of monitors and of the other things: when each of one kind is kept, that shows
  # after a few rounds. Sanitizers keep freed memory.
  defp check_leak(list, _slack) when length(list) < 3, do: :ok

  defp check_leak([_, second | _] = list, slack) do
    last = List.last(list)
    grown? = fn key -> Map.get(last, key) > Map.get(second, key) + slack[key] end
    if grown?.(:heap), do: stop("the heap has grown from #{second.heap} KiB")
    if grown?.(:rss) and not last.sanitized?, do: stop("grown from #{second.rss} KiB")
  end

  # In KiB. A BEAM's memory goes up and down by itself.
  defp slack(%{lua: nil}), do: %{heap: 4_096, rss: 16_384}
  defp slack(_nodes), do: %{heap: 32, rss: 256}

  # }====

  defp stop(text) do
    IO.puts(:stderr, "soak: failed: #{text}")
    System.halt(1)
  end
end

Soak.main(System.argv())
