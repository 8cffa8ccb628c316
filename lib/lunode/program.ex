defmodule Lunode.Program do
  @moduledoc false
  # The operating-system process: where its file is, starting it, and being sure of its end.

  alias Lunode.Options

  @doc """
  Starts the program under the name `alive@host`. The calling process gets its output and its exit
  status as messages from the port.
  """
  @spec open(alive :: String.t(), host :: String.t(), Lunode.Names.creation(), Options.t()) ::
          {:ok, port} | {:error, String.t()}
  def open(alive, host, creation, options) do
    port =
      Port.open({:spawn_executable, path()}, [
        :binary,
        :exit_status,
        args: [host, alive, "#{alive}@#{host}", Integer.to_string(creation)],
        env: env(options)
      ])

    {:ok, port}
  rescue
    error in ErlangError ->
      {:error, "cannot run #{path()}: #{:file.format_error(error.original)}"}
  end

  @doc """
  The program that came with this package, or the one that the variable LUNODE_PROGRAM names.
  """
  @spec path :: Path.t()
  def path do
    System.get_env("LUNODE_PROGRAM") || Application.app_dir(:lunode, "priv/lunode")
  end

  # What is not set here the program inherits from this BEAM.
  defp env(options) do
    own = [
      {"BUNDLEX_ERLANG_COOKIE", Atom.to_string(Node.get_cookie())},
      {"LUNODE_OWNER", Atom.to_string(node())}
    ]

    paths = [{"LUNODE_HANDLERS", options.handlers}, {"LUNODE_CONFIG", options.config}]
    given = Enum.filter(paths, fn {_name, path} -> path end)
    for {name, value} <- Map.new(options.env ++ given ++ own), do: to_charlists(name, value)
  end

  defp to_charlists(name, nil), do: {String.to_charlist(name), false}
  defp to_charlists(name, value), do: {String.to_charlist(name), String.to_charlist(value)}

  @doc """
  Waits up to `timeout` ms for the process to end, which it does when it is told to; then kills
  it. The calling process must own the port.
  """
  @spec await_end(port, timeout :: non_neg_integer) :: :ok
  def await_end(port, timeout) do
    receive do
      {^port, {:exit_status, _status}} -> :ok
    after
      timeout ->
        kill(port)
        await_killed(port)
    end
  end

  # A process that hangs in the kernel takes no signal: it is left to the kernel then.
  defp await_killed(port) do
    receive do
      {^port, {:exit_status, _status}} -> :ok
    after
      1_000 -> close(port)
    end
  end

  @doc """
  Ends the process at once, whatever it does. Its exit status arrives as if it had ended by
  itself.
  """
  @spec kill(port) :: :ok
  def kill(port) do
    with {:os_pid, os_pid} <- Port.info(port, :os_pid) do
      # The shell's own `kill`: a slim container has no other.
      System.cmd("/bin/sh", ["-c", "kill -KILL #{os_pid}"], stderr_to_stdout: true)
    end

    :ok
  end

  defp close(port) do
    Port.close(port)
    :ok
  rescue
    ArgumentError -> :ok
  end
end
