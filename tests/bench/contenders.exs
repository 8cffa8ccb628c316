# The nodes that are measured side by side, each an operating-system process started afresh.
defmodule Contenders do
  @cookie :bench

  def start_driver do
    {_, 0} = System.cmd("epmd", ["-daemon"])
    {:ok, _} = Node.start(:"bench_#{System.pid()}", :shortnames)
    Node.set_cookie(@cookie)
  end

  @doc "Starts one on the core, and connects to it: `to` is the process that answers calls."
  def start(kind, core) do
    node = :"bench_#{kind}_#{System.unique_integer([:positive])}_#{System.pid()}@#{host()}"
    [program | args] = command(kind, node)
    port = open(["taskset", "-c", "#{core}", program | args])
    {:os_pid, pid} = Port.info(port, :os_pid)
    true = Node.connect(node)
    %{kind: kind, node: node, port: port, pid: pid, to: {:echo, node}}
  end

  def stop(%{port: port, pid: pid}) do
    Port.close(port)
    System.cmd("kill", ["-KILL", "#{pid}"], stderr_to_stdout: true)
  end

  defp command(kind, node) when kind in [:plain, :batch],
    do: [Path.expand("build/tests/bench_#{kind}"), "#{node}"]

  defp command(:beam, node) do
    ["elixir", "--sname", "#{node}", "--cookie", "#{@cookie}", "tests/bench/nodes/beam.exs"]
  end

  defp command(:lunode, node),
    do: [lunode(), "start", "--name", "#{node}", "tests/bench/nodes/echo.lua"]

  defp command(:worker, node),
    do: [lunode(), "start", "--name", "#{node}", "--config", "tests/bench/nodes/untrusted.lua"]

  defp lunode, do: System.get_env("LUNODE_PROGRAM") || Path.expand("build/lunode")

  # Until it says that it is ready.
  defp open([program | args]) do
    env = [{'BUNDLEX_ERLANG_COOKIE', '#{@cookie}'}]
    options = [:binary, :stderr_to_stdout, args: args, env: env]
    port = Port.open({:spawn_executable, System.find_executable(program)}, options)
    await_ready(port, "")
    port
  end

  defp await_ready(port, said) do
    receive do
      {^port, {:data, data}} ->
        unless said <> data =~ "ready", do: await_ready(port, said <> data)
    after
      10_000 -> raise "not ready: #{said}"
    end
  end

  def host, do: node() |> Atom.to_string() |> String.split("@") |> List.last()

  @doc "A round trip without a monitor: the least that a call is."
  def call(to, function, term) do
    ref = make_ref()
    send(to, {:"$gen_call", {self(), ref}, {function, term}})

    receive do
      {^ref, reply} -> reply
    after
      60_000 -> raise "no answer from #{inspect(to)}"
    end
  end

  @doc "Nanoseconds of processor time that the process and its children have had."
  def processor_ns(pid) do
    for p <- [pid | children(pid)], path <- Path.wildcard("/proc/#{p}/task/*/schedstat") do
      path |> File.read!() |> String.split() |> hd() |> String.to_integer()
    end
    |> Enum.sum()
  end

  defp children(pid) do
    Path.wildcard("/proc/#{pid}/task/*/children")
    |> Enum.flat_map(&String.split(File.read!(&1)))
  end
end
