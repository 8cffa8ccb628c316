defmodule Lunode.Test.Attack.Victim do
  @moduledoc "Keeps whatever is sent to it."
  use GenServer

  def start_link(name), do: GenServer.start_link(__MODULE__, [], name: name)
  def messages(server), do: :sys.get_state(server)

  @impl true
  def init(messages), do: {:ok, messages}
  @impl true
  def handle_call(message, _from, messages), do: {:reply, :reached, [message | messages]}
  @impl true
  def handle_cast(message, messages), do: {:noreply, [message | messages]}
  @impl true
  def handle_info(message, messages), do: {:noreply, [message | messages]}
end

defmodule Lunode.Test.Attack do
  @moduledoc """
  Hostile scripts. Each is a short entry: its name, what must come back, and the script.

      attack "an endless loop inside pcall", :time, ~S\"""
      while true do pcall(function() while true do end end) end
      \"""

  The text is the body of a function `go(home, victim)`: `home` is the name of the BEAM that attacks
  it, `victim` a process there that nobody may reach. With `script: true` it is the whole script.

  What must come back:

    * `:time`, `:memory`, `:atoms`, `:mailbox` – the process ends by that limit;
    * `:stopped` – it ends by `:time`, or, where Lua can't be interrupted, by `:deadline`;
    * `{:limit, [kind]}` – it ends by one of these;
    * `:refused` – it ends by a limit or by a Lua error;
    * `:crash` – the worker may fall, as Lua itself has a hole there: it ends by whatever reason;
    * `{:error, regex}` – a Lua error with that text;
    * `{:value, value}` – exactly this;
    * a function – it asserts what it is given: `{:value, value}` or `{:ended, where, reason}`.

  Options: `limits`, `allow`, `script`; `call`, what is sent instead of `{:go, home, victim}`;
  `run`, a function that does the attack itself; `at: :load`, when the load is what fails.

  While it runs, another handler of the node is called all the time, and must be served at once. When
  it is over the handler must serve again, and then go; the node must be the same process, with the
  memory and descriptors that it had; a neighbour must find its own libraries and globals as they
  were; and nothing may have come to the victim, or have been told of what is secret.
  """

  import ExUnit.Assertions
  import Lunode.Test.OS, only: [eventually: 2, memory: 1, stretch: 2]
  alias Lunode.Test.OS
  alias __MODULE__.Victim

  # As numbers: bytes and milliseconds.
  @limits %{memory: 8 * 1_048_576, time: 100, deadline: 500}

  # A bystander is answered within so many milliseconds, 99 times of 100.
  @p99 20

  # How often it is called at least, at each of three attempts.
  @samples [30, 150, 300]

  # What may stay behind, for all attacks of a module together.
  @spare_kib 32 * 1024
  @spare_descriptors 4

  # What all the node's processes may take beyond what they had, while an attack runs.
  @peak_kib 160 * 1024

  @canary "canary-7f3a91"

  defmacro __using__(_opts) do
    quote do
      # Not beside other tests: how long others wait is measured.
      use ExUnit.Case, async: false
      import Lunode.Test.Attack

      @moduletag :attacks
      @moduletag :capture_log
      @moduletag timeout: 120_000

      setup_all do: Lunode.Test.Attack.start()
    end
  end

  defmacro attack(name, expected, options \\ [], source) do
    quote do
      # Where Lua can't be interrupted, only the end of its worker stops it.
      @tag worker: unquote(deadline?(expected))
      @tag source: unquote(source)
      test unquote(name), context do
        run(context, context.source, unquote(expected), unquote(options))
      end
    end
  end

  defp deadline?({:limit, kinds}), do: :deadline in kinds
  defp deadline?(expected), do: expected in [:stopped, :refused, :crash]

  @doc "The limits of an attack's handler."
  def limits, do: @limits

  @doc "What nobody may find: it is in the node's environment, and in a file."
  def canary, do: @canary

  # {==== The node and who lives in it ==========================================================

  @bystander """
  local bystander = {}
  function bystander:ping() return "pong" end
  return bystander
  """

  # An untrusted handler beside the attackers.
  @neighbour """
  secret = "canary-7f3a91"
  local neighbour = {}
  function neighbour:intact()
    return hijacked == nil and self.got == nil and secret ~= nil
      and ("x"):rep(3) == "xxx" and ("abc"):upper() == "ABC" and ("%d"):format(7) == "7"
      and string.find("abc", "c") == 3 and table.concat({1, 2}, ",") == "1,2"
      and math.max(1, 2) == 2 and math.type(1) == "integer" and tostring(12) == "12"
      and type(print) == "function" and select("#", 1, 2) == 2 and next({}) == nil
      and pcall(error) == false and rawequal(1, 1) and utf8.char(65) == "A"
      and tostring(atom.ok) == "ok" and erl.type(erl.tuple(1)) == "tuple"
      and coroutine.wrap(function() return 5 end)() == 5
  end
  function neighbour:handle_info(message) self.got = message end
  function neighbour:handle_cast(message) self.got = message end
  return neighbour
  """

  @doc "For `setup_all`: a node with a bystander and a neighbour, as it is when they are warm."
  def start do
    folder = Path.join(System.tmp_dir!(), "lunode_attack_#{System.pid()}_#{unique()}")
    File.mkdir_p!(folder)
    ExUnit.Callbacks.on_exit(fn -> File.rm_rf!(folder) end)
    File.write!(Path.join(folder, "bystander.lua"), @bystander)
    File.write!(Path.join(folder, "secret.txt"), @canary)

    options = [handlers: folder, env: %{"LUNODE_CANARY" => @canary}]
    lua = ExUnit.Callbacks.start_supervised!({Lunode, options})
    victim = ExUnit.Callbacks.start_supervised!({Victim, victim_name()})

    context = %{
      lua: lua,
      node: Lunode.node(lua),
      os_pid: OS.os_pid(lua),
      folder: folder,
      victim: victim
    }

    assert {:ok, _version} = load(context, :neighbour, @neighbour)
    warm_up(context)
    Map.merge(context, %{memory: all_memory(context.os_pid), files: files(context.os_pid)})
  end

  @doc "The name that the victim is registered by."
  def victim_name, do: :attack_victim

  defp warm_up(context) do
    for _ <- 1..2 do
      name = name()
      {:ok, _version} = load(context, name, whole("while true do end"))
      call(context, name, :go)
      :ok = Lunode.unload(context.lua, name)
    end

    for _ <- 1..200, do: GenServer.call({:bystander, context.node}, :ping)
    Process.sleep(500)
  end

  # }====

  # {==== One attack ============================================================================

  @doc "Loads the script as a handler of that name, untrusted and with small limits."
  def load(context, name, source, options \\ []) do
    limits = Map.merge(@limits, Map.new(options[:limits] || []))
    allow = Map.new(options[:allow] || [])
    Lunode.load(context.lua, name, source, %{limits: limits, allow: allow})
  end

  @doc "Calls a handler; gives `{:value, value}` or `{:ended, :call, reason}`."
  def call(context, name, message, timeout \\ 8_000) do
    {:value, GenServer.call({name, context.node}, message, stretch(context.os_pid, timeout))}
  catch
    :exit, {reason, {GenServer, :call, _arguments}} -> {:ended, :call, reason}
  end

  def run(context, source, expected, options) do
    source = if options[:script], do: source, else: whole(source)
    attempt(context, source, expected, options, @samples)
  end

  # The machine may be busy with others: what takes too long may do so twice, and each time more is
  # measured. A bystander may wait longer only when it does so without an attack.
  defp attempt(context, source, expected, options, [samples | more]) do
    name = name()
    sampler = start_sampler(context.node, samples)
    watcher = start_watcher(context.os_pid)
    started = OS.now()
    outcome = strike(context, name, source, options)
    took = OS.now() - started
    p99 = stop_sampler(sampler)
    peak = stop_watcher(watcher)

    try do
      check(expected, outcome, Map.merge(@limits, Map.new(options[:limits] || [])), options)
      assert_serves(context, name, outcome, options)
    after
      Lunode.unload(context.lua, name)
    end

    assert_unharmed(context, outcome)
    unless OS.keeps_freed?(context.os_pid), do: assert(peak - context.memory < @peak_kib)

    longest = stretch(context.os_pid, options[:takes] || @limits.deadline + 1_000)
    wait = stretch(context.os_pid, @p99 * 1_000)

    cond do
      took <= longest and p99 <= wait -> :ok
      more != [] -> attempt(context, source, expected, options, more)
      took <= longest and p99 <= 2 * idle_p99(context.node, samples) -> :ok
      true -> flunk("took #{took} ms; a bystander's p99 was #{p99 / 1_000} ms")
    end
  end

  defp strike(context, name, source, options) do
    case load(context, name, source, options) do
      {:ok, _version} ->
        run = options[:run] || (&call(&1, &2, options[:call] || {:go, node(), context.victim}))
        run.(context, name)

      {:error, reason} ->
        {:ended, :load, reason}
    end
  end

  defp whole(body) do
    """
    local t = {}
    function t:alive() return "alive" end
    function t:go(home, victim)
    #{body}
    end
    return t
    """
  end

  defp name, do: :"attack_#{unique()}"
  defp unique, do: System.unique_integer([:positive])

  # }====

  # {==== What must come back ===================================================================

  defp check(expected, outcome, limits, options) do
    if is_function(expected) do
      expected.(outcome)
    else
      assert right?(expected, outcome, limits),
             "expected #{inspect(expected)}, got #{inspect(outcome, limit: 20, printable_limit: 2_000)}"
    end

    with {:ended, where, _reason} <- outcome, false <- is_function(expected) do
      assert where == (options[:at] || :call), "failed at #{where}: #{inspect(outcome)}"
    end
  end

  defp right?({:value, value}, outcome, _limits), do: outcome === {:value, value}

  defp right?({:error, regex}, outcome, _limits) do
    match?(
      {:ended, _, {:lua_error, text, trace}} when is_binary(text) and is_binary(trace),
      outcome
    ) and
      elem(elem(outcome, 2), 1) =~ regex
  end

  defp right?(:refused, outcome, limits) do
    right?({:error, ~r//}, outcome, limits) or
      right?({:limit, [:time, :deadline, :memory, :message, :mailbox, :atoms]}, outcome, limits)
  end

  defp right?(:crash, outcome, _limits), do: match?({:ended, _where, _reason}, outcome)

  defp right?(:stopped, outcome, limits),
    do: right?({:limit, [:time, :deadline]}, outcome, limits)

  defp right?(kind, outcome, limits) when is_atom(kind) do
    right?({:limit, [kind]}, outcome, limits)
  end

  defp right?({:limit, kinds}, {:ended, _where, {:limit, kind, max, used}}, limits) do
    kind in kinds and is_integer(used) and used > 0 and max == Map.get(limits, kind, max) and
      (kind in [:memory, :atoms] or used >= max)
  end

  defp right?({:limit, _kinds}, _outcome, _limits), do: false

  # }====

  # {==== Nobody else is harmed =================================================================

  # In time it serves again, if its script is one that can.
  defp assert_serves(context, name, outcome, options) do
    unless options[:script] || match?({:ended, :load, _}, outcome) do
      eventually(fn -> call(context, name, :alive) == {:value, "alive"} end, 10_000)
    end
  end

  defp assert_unharmed(context, outcome) do
    %{lua: lua, os_pid: os_pid, victim: victim} = context
    assert Process.alive?(lua) and OS.os_pid(lua) == os_pid and OS.running?(os_pid)
    assert Node.ping(context.node) == :pong
    eventually(fn -> call(context, :neighbour, :intact) == {:value, true} end, 10_000)
    assert Victim.messages(victim) == []
    assert_silent(outcome)
    eventually(fn -> files(os_pid) <= context.files + @spare_descriptors end, 10_000)

    unless OS.keeps_freed?(os_pid) do
      eventually(fn -> all_memory(os_pid) <= context.memory + @spare_kib end, 15_000)
    end
  end

  defp assert_silent(outcome) do
    secrets = [@canary, Atom.to_string(Node.get_cookie())]
    assert :binary.match(:erlang.term_to_binary(outcome), secrets) == :nomatch
  end

  defp files(os_pid), do: length(File.ls!("/proc/#{os_pid}/fd"))

  # Of the node and of its children, in KiB. One may end while it is looked at.
  defp all_memory(os_pid) do
    memory(os_pid) + (os_pid |> children() |> Enum.map(&all_memory/1) |> Enum.sum())
  rescue
    _gone in [File.Error, MatchError] -> 0
  end

  defp children(os_pid) do
    "/proc/#{os_pid}/task/#{os_pid}/children"
    |> File.read!()
    |> String.split()
    |> Enum.map(&String.to_integer/1)
  end

  # }====

  # {==== How long a bystander waits ============================================================

  defp start_sampler(node, least) do
    spawn_link(fn ->
      Process.flag(:priority, :high)
      sample({:bystander, node}, [], least, nil)
    end)
  end

  defp idle_p99(node, samples), do: node |> start_sampler(samples) |> stop_sampler()

  # The 99th percentile, in microseconds.
  defp stop_sampler(sampler) do
    ref = make_ref()
    send(sampler, {:stop, self(), ref})
    assert_receive {^ref, times}, 60_000
    sorted = Enum.sort(times)
    Enum.at(sorted, ceil(length(sorted) * 0.99) - 1)
  end

  defp sample(_server, times, least, {from, ref}) when length(times) >= least do
    send(from, {ref, times})
  end

  defp sample(server, times, least, stop) do
    receive do
      {:stop, from, ref} -> sample(server, times, least, {from, ref})
    after
      2 ->
        started = System.monotonic_time(:microsecond)
        "pong" = GenServer.call(server, :ping, 60_000)
        sample(server, [System.monotonic_time(:microsecond) - started | times], least, stop)
    end
  end

  # }====

  # {==== What memory the node takes meanwhile, in KiB ==========================================

  defp start_watcher(os_pid), do: spawn_link(fn -> watch(os_pid, 0) end)

  defp stop_watcher(watcher) do
    ref = make_ref()
    send(watcher, {:stop, self(), ref})
    assert_receive {^ref, peak}, 5_000
    peak
  end

  defp watch(os_pid, peak) do
    peak = max(peak, all_memory(os_pid))

    receive do
      {:stop, from, ref} -> send(from, {ref, peak})
    after
      20 -> watch(os_pid, peak)
    end
  end

  # }====
end
