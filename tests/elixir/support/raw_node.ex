defmodule Lunode.Test.RawNode do
  @moduledoc """
  The program itself, started as Bundlex starts it, without the package in between.
  """

  import ExUnit.Assertions
  alias Lunode.Test.OS

  defstruct [:port, :os_pid, :alive, :host, :node, :stderr]

  @doc """
  Options: `:host`, `:alive`, `:creation`, `:cookie`, `:env` (a map), `:handlers`, `:config`; `:args`
  in place of Bundlex's four; `:through`, a command that runs the one that follows it; `:program`, in
  place of `lunode`. What it writes to standard error goes to the file `stderr`.
  """
  def start(opts \\ []) do
    host = opts[:host] || own_host()
    alive = opts[:alive] || "raw_#{System.unique_integer([:positive])}_#{System.pid()}"
    node = "#{alive}@#{host}"
    stderr = Path.join(OS.folder([]), "stderr")
    args = opts[:args] || [host, alive, node, "#{opts[:creation] || 1}"]
    program = Path.expand(opts[:program] || Lunode.Program.path())
    command = (opts[:through] || []) ++ [program | args]

    port =
      Port.open({:spawn_executable, "/bin/sh"}, [
        :binary,
        :exit_status,
        line: 1_000_000,
        args: ["-c", "exec \"$@\" 2>#{stderr}", "sh" | command],
        env: env(opts)
      ])

    {:os_pid, os_pid} = Port.info(port, :os_pid)

    ExUnit.Callbacks.on_exit(fn ->
      System.cmd("kill", ["-KILL", "#{os_pid}"], stderr_to_stdout: true)
    end)

    raw = %__MODULE__{port: port, os_pid: os_pid, alive: alive, host: host, stderr: stderr}
    %{raw | node: String.to_atom(node)}
  end

  @doc """
  `lunode start` with these arguments after the `--name`, which is NAME@HOST unless `:name` says
  otherwise; waits until it is ready. It inherits no cookie: `:env` has to say.
  """
  def start_standalone(args, opts \\ []) do
    alive = opts[:alive] || "alone_#{System.unique_integer([:positive])}_#{System.pid()}"
    name = opts[:name] || "#{alive}@#{own_host()}"
    env = Map.merge(%{"BUNDLEX_ERLANG_COOKIE" => nil}, opts[:env] || %{})
    raw = start(alive: alive, args: ["start", "--name", name | args], env: env)
    ready = "[info] lunode: #{raw.node} is ready"
    assert first_line(raw) == ready, File.read!(raw.stderr)
    raw
  end

  @doc "Starts it, and asserts that its first line is `ready`."
  def start_ready(opts \\ []) do
    raw = start(opts)
    assert first_line(raw) == "ready"
    raw
  end

  @doc "Starts it and connects."
  def start_connected(opts \\ []) do
    raw = start_ready(opts)
    assert Node.connect(raw.node)
    raw
  end

  # But for the warning of a system that can't confine a process, as it is under valgrind.
  defp first_line(raw) do
    case next(raw) do
      "[warning] lunode: scripts that are not trusted are refused: " <> _ -> next(raw)
      line -> line
    end
  end

  defp env(opts) do
    given = %{
      "BUNDLEX_ERLANG_COOKIE" => opts[:cookie] || Atom.to_string(Node.get_cookie()),
      "LUNODE_HANDLERS" => opts[:handlers],
      "LUNODE_CONFIG" => opts[:config],
      "LUNODE_OWNER" => nil
    }

    for {name, value} <- Map.merge(given, opts[:env] || %{}) do
      {String.to_charlist(name), if(value, do: String.to_charlist(value), else: false)}
    end
  end

  def own_host, do: node() |> Atom.to_string() |> String.split("@") |> List.last()

  @doc "The next line of output, `{:exit, status}`, or `:nothing` after `OS.limit(ms)`."
  def next(%{port: port}, ms \\ 5_000) do
    receive do
      {^port, {:data, {:eol, line}}} -> line
      {^port, {:exit_status, status}} -> {:exit, status}
    after
      OS.limit(ms) -> :nothing
    end
  end

  @doc "The lines of output up to one that matches, that one last."
  def lines_until(raw, pattern) do
    case next(raw) do
      line when is_binary(line) ->
        if line =~ pattern, do: [line], else: [line | lines_until(raw, pattern)]

      other ->
        flunk("no line matched #{inspect(pattern)}: #{inspect(other)}")
    end
  end

  @doc "Asserts that it ends by itself, with status 0, within about a second."
  def assert_ends(raw, ms \\ 1_000) do
    assert {:exit, 0} = skip_lines(raw, ms), File.read!(raw.stderr)
  end

  defp skip_lines(raw, ms) do
    with line when is_binary(line) <- next(raw, ms), do: skip_lines(raw, ms)
  end

  @doc "Ends its standard input. Its exit status isn't known after that."
  def close_stdin(%{port: port}), do: Port.close(port)

  @doc "Asserts that the process is gone within about a second."
  def assert_gone(raw, ms \\ 1_000) do
    OS.eventually(fn -> not OS.running?(raw.os_pid) end, ms)
  end

  @doc "A plain message to the default handler; gives what comes back."
  def ask(raw, message, ms \\ 5_000) do
    send({:any, raw.node}, message)
    answer(raw, ms)
  end

  def answer(%{node: node}, ms \\ 5_000) do
    receive do
      {^node, value} -> value
    after
      OS.limit(ms) -> :nothing
    end
  end

  @doc "The TCP port that epmd tells for it."
  def listening_port(raw) do
    {:port, port, _version} =
      :erl_epmd.port_please(String.to_charlist(raw.alive), String.to_charlist(raw.host))

    port
  end
end
