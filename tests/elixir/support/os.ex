defmodule Lunode.Test.OS do
  @moduledoc "What the tests ask of the operating system."

  import ExUnit.Assertions

  @doc "Writes scripts into a folder of their own, which goes when the test ends; gives its path."
  def folder(files) do
    path =
      Path.join(System.tmp_dir!(), "lunode_#{System.unique_integer([:positive])}_#{System.pid()}")

    File.mkdir_p!(path)
    ExUnit.Callbacks.on_exit(fn -> File.rm_rf!(path) end)
    for {name, text} <- files, do: File.write!(Path.join(path, name), text)
    path
  end

  @doc "One script as a file of its own; gives its path."
  def script(name, text), do: Path.join(folder(%{name => text}), name)

  @doc "A handler that returns every message."
  def echo, do: "return function(message) return message end\n"

  @doc """
  A time limit of `ms` milliseconds, times LUNODE_TEST_SLOWER: how much slower the program runs than
  it does by itself, under valgrind for example.
  """
  def limit(ms), do: ms * String.to_integer(System.get_env("LUNODE_TEST_SLOWER") || "1")

  @doc "Waits until `fun` gives a true value, and gives that; fails after `limit(ms)`."
  def eventually(fun, ms \\ 5_000), do: poll(fun, now() + limit(ms))

  defp poll(fun, deadline) do
    value = fun.()

    cond do
      value -> value
      now() > deadline -> flunk("did not happen in time")
      true -> Process.sleep(5) && poll(fun, deadline)
    end
  end

  def now, do: System.monotonic_time(:millisecond)

  def running?(os_pid) do
    match?({_output, 0}, System.cmd("kill", ["-0", "#{os_pid}"], stderr_to_stdout: true))
  end

  def kill(os_pid, signal \\ "KILL"), do: {_, 0} = System.cmd("kill", ["-#{signal}", "#{os_pid}"])

  @doc "The process id of the program behind a server of the package."
  def os_pid(server) do
    {:os_pid, os_pid} = server |> :sys.get_state() |> Map.fetch!(:port) |> Port.info(:os_pid)
    os_pid
  end

  @doc "Resident memory in KiB."
  def memory(os_pid) do
    [_, kib] = Regex.run(~r/VmRSS:\s+(\d+)/, File.read!("/proc/#{os_pid}/status"))
    String.to_integer(kib)
  end

  @doc "Built with sanitizers or under valgrind: it keeps freed memory then."
  def keeps_freed?(os_pid), do: maps(os_pid) =~ ~r/libasan|vgpreload/

  @doc "A limit of time for a node with this process id: longer with sanitizers."
  def stretch(os_pid, ms), do: limit(if maps(os_pid) =~ "libasan", do: 5 * ms, else: ms)

  defp maps(os_pid), do: File.read!("/proc/#{os_pid}/maps")
end
