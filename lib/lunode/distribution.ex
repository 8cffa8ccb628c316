defmodule Lunode.Distribution do
  @moduledoc false
  # Makes this BEAM a distributed node, which it must be to talk to another node.

  @epmd_timeout 2_000

  @doc """
  Does nothing when this BEAM has a name already. Else starts epmd if need be, and gives the BEAM
  a short name and the cookie that Erlang gives every node of this user (`~/.erlang.cookie`).
  """
  @spec ensure :: :ok | {:error, String.t()}
  def ensure do
    if Node.alive?() do
      :ok
    else
      with :ok <- ensure_epmd(), do: start_node()
    end
  end

  defp start_node do
    case Node.start(:"lunode_owner_#{Lunode.Names.random_id()}", :shortnames) do
      {:ok, _pid} ->
        :ok

      {:error, {:already_started, _pid}} ->
        :ok

      {:error, reason} ->
        {:error,
         "cannot make this BEAM a node; start it with --sname and --cookie: #{inspect(reason)}"}
    end
  end

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
