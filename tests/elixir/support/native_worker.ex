defmodule Lunode.Test.NativeWorker do
  @moduledoc """
  A node whose workers do what they are told, in native code: the program `lunode_native`, which
  LUNODE_TESTS builds. Its untrusted scripts have a table `native`: see `tests/c/native.c`.
  """

  import ExUnit.Assertions
  alias Lunode.Test.{OS, RawNode}

  defstruct [:raw, :node, :log]

  @doc "The program; a test that has none fails, and says what it takes."
  def program do
    path =
      System.get_env("LUNODE_NATIVE_PROGRAM") ||
        Path.join(Path.dirname(Lunode.Program.path()), "tests/lunode_native")

    if not File.exists?(path) do
      flunk(
        "there is no #{path}: build with -DLUNODE_TESTS=ON, or name it in LUNODE_NATIVE_PROGRAM"
      )
    end

    path
  end

  @doc "Starts a node, for the module or test that calls. Options as of `RawNode.start`."
  def start(opts \\ []) do
    env = Map.merge(%{"LUNODE_OWNER" => Atom.to_string(node())}, opts[:env] || %{})
    raw = RawNode.start_connected(Keyword.merge(opts, program: program(), env: env))
    log = spawn_link(fn -> keep_lines(raw.port, []) end)
    Port.connect(raw.port, log)
    %__MODULE__{raw: raw, node: raw.node, log: log}
  end

  defp keep_lines(port, lines) do
    receive do
      {^port, {:data, {_, line}}} -> keep_lines(port, [line | lines])
      {^port, {:exit_status, status}} -> keep_lines(port, ["exit #{status}" | lines])
      {:lines, from} -> send(from, {:lines, Enum.reverse(lines)}) && keep_lines(port, lines)
    end
  end

  @doc "What it has logged."
  def lines(native) do
    send(native.log, {:lines, self()})

    receive do
      {:lines, lines} -> lines
    after
      OS.limit(30_000) -> flunk("no lines")
    end
  end

  @runner """
  local handler = {}
  function handler:lua(source, ...) return assert(load(source, "=test"))(...) end
  function handler:ping() return "pong" end
  function handler:self() return erl.self() end
  function handler:sleep(ms) erl.sleep(ms) return "slept" end
  return handler
  """

  @doc "Source of a handler that runs what it is sent, by `{:lua, source, argument...}`."
  def runner, do: @runner

  @doc "Loads a handler that runs what it is sent in a worker of its own; gives its name."
  def load(native, name \\ nil, options \\ []) do
    name = name || :"evil_#{System.unique_integer([:positive])}"
    options = Keyword.merge([isolation: :own], options)
    assert {:ok, _} = Lunode.load(native.node, name, @runner, options)
    name
  end

  def ask(native, name, request, timeout \\ 60_000) do
    GenServer.call({name, native.node}, request, timeout)
  end

  @doc "Lets it run the script in Lua."
  def cast(native, name, source, args \\ []) do
    GenServer.cast({name, native.node}, List.to_tuple([:lua, source | args]))
  end

  @doc "Waits until the worker of the handler has ended for the `count`th time; gives the reason."
  def why_ended(native, name, count \\ 1) do
    OS.eventually(
      fn ->
        native
        |> lines()
        |> Enum.flat_map(
          &(Regex.run(~r/worker of 1 handler \(#{name}\) has ended: (.*)/, &1) || [])
        )
        |> Enum.drop(2 * count - 1)
        |> List.first()
      end,
      60_000
    )
  end

  @doc "The bytes of a term, without version byte."
  def ext(term) do
    <<131, bytes::binary>> = :erlang.term_to_binary(term, minor_version: 2)
    bytes
  end

  @doc "The bytes of a frame on a channel to a node; control message and payload as bytes."
  def frame(node, control, payload \\ "") do
    payload = if payload == "", do: "", else: <<131, payload::binary>>
    body = <<112, 131, ext(node)::binary, control::binary, payload::binary>>
    <<byte_size(body)::32, body::binary>>
  end
end
