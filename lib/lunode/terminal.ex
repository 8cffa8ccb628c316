defmodule Lunode.Terminal do
  @moduledoc false
  # What the terminal can do: its size, single keys, and text that doesn't upset it.

  # Until a line or the end of its input comes, which the end of this BEAM is too, keys arrive one by
  # one and unseen, Ctrl-C among them. The terminal is standard input: the port's own ends are 3 and
  # 4. A process in the background that changes a terminal is stopped, unless it ignores the signal.
  # Without a terminal it waits for the line all the same: a port that writes to a program which has
  # ended ends its owner.
  @single_keys """
  trap '' TTOU
  saved=$(stty -g 2>/dev/null) && stty -icanon -echo -isig min 1 time 0
  read _ <&3
  [ -z "$saved" ] || stty "$saved"
  """

  @doc """
  Text without control characters but newline and tab: others come as Lua writes them (`\\27`).
  """
  @spec printable(String.t()) :: String.t()
  def printable(text) do
    text
    |> Logger.Formatter.prune()
    |> String.replace(~r/[\x00-\x08\x0b-\x1f\x7f-\x{9f}]/u, fn <<code::utf8>> -> "\\#{code}" end)
  end

  @doc """
  Its size; 80 by 24 where it isn't known.
  """
  @spec size :: {columns :: pos_integer, rows :: pos_integer}
  def size, do: {dimension(:columns, 80), dimension(:rows, 24)}

  defp dimension(which, default) do
    case apply(:io, which, []) do
      {:ok, n} -> n
      {:error, _unknown} -> default
    end
  end

  @doc """
  Calls `fun`, in which `key/0` gives a key as soon as it is pressed.
  """
  @spec with_single_keys((() -> result)) :: result when result: term
  def with_single_keys(fun) do
    tty = open_tty()
    opts = set_opts()

    try do
      fun.()
    after
      :io.setopts(opts)
      close_tty(tty)
    end
  end

  # In IEx it is the group leader that makes lines of keys, unless they aren't to be seen. It takes a
  # key for the end of the input when it has to give it as a binary.
  defp set_opts do
    case :io.getopts() do
      [_ | _] = opts ->
        old = Keyword.take(opts, [:echo, :binary])
        if opts[:echo], do: :io.setopts(echo: false, binary: false)
        old

      _unknown ->
        []
    end
  end

  @doc """
  The next key; `:eof` when there are no more.
  """
  @spec key :: String.t() | :eof
  def key do
    case :io.get_chars("", 1) do
      [_ | _] = chars -> List.to_string(chars)
      char when is_binary(char) -> char
      _eof_or_error -> :eof
    end
  end

  defp open_tty do
    Port.open({:spawn_executable, "/bin/sh"}, [
      :nouse_stdio,
      :exit_status,
      args: ["-c", @single_keys]
    ])
  end

  # When it returns the terminal is as it was.
  defp close_tty(tty) do
    send(tty, {self(), {:command, "\n"}})

    receive do
      {^tty, {:exit_status, _status}} -> :ok
    end
  end
end
