defmodule Lunode.Distribution do
  @moduledoc false
  # Makes this BEAM a distributed node, which it must be to talk to another node.

  @epmd_timeout 2_000

  @doc """
  Does nothing when this BEAM has a name already. Else starts epmd if need be, and gives the BEAM
  a name and the cookie that Erlang gives every node of this user (`~/.erlang.cookie`). The name is
  a short one, unless that of a `host` that it will talk to is long: the two kinds don't mix.
  """
  @spec ensure(host :: String.t() | nil) :: :ok | {:error, String.t()}
  def ensure(host \\ nil) do
    if Node.alive?() do
      :ok
    else
      with :ok <- ensure_epmd(), do: start_node(host)
    end
  end

  defp start_node(host) do
    {name, kind} = own_name("lunode_owner_#{Lunode.Names.random_id()}", host || "")

    case Node.start(:"#{name}", kind) do
      {:ok, _pid} ->
        :ok

      {:error, {:already_started, _pid}} ->
        :ok

      {:error, reason} ->
        {:error,
         "cannot make this BEAM a node; start it with --sname and --cookie: #{inspect(reason)}"}
    end
  end

  defp own_name(alive, "127.0.0.1"), do: {alive <> "@127.0.0.1", :longnames}
  defp own_name(alive, host), do: {alive, if(host =~ ".", do: :longnames, else: :shortnames)}

  defp ensure_epmd do
    if epmd_answers?(), do: :ok, else: start_epmd()
  end

  defp start_epmd do
    case find_epmd() do
      nil ->
        {:error, "epmd does not run, and the program epmd was not found"}

      epmd ->
        System.cmd(epmd, ["-daemon"], stderr_to_stdout: true)
        await_epmd(System.monotonic_time(:millisecond) + @epmd_timeout)
    end
  end

  defp await_epmd(deadline) do
    cond do
      epmd_answers?() ->
        :ok

      System.monotonic_time(:millisecond) > deadline ->
        {:error, "epmd was started but does not answer"}

      true ->
        Process.sleep(10)
        await_epmd(deadline)
    end
  end

  defp epmd_answers? do
    match?({:ok, _names}, :erl_epmd.names())
  end

  # A release brings epmd along without being in PATH.
  defp find_epmd do
    erts = "erts-#{:erlang.system_info(:version)}"
    in_release = Path.join([:code.root_dir(), erts, "bin", "epmd"])
    System.find_executable("epmd") || System.find_executable(in_release)
  end
end
