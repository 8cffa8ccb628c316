defmodule Lunode.Top do
  @moduledoc false
  # The loop of `Lunode.top/2`: asks the node, draws, and waits for a key or the next time.

  alias Lunode.Terminal
  alias Lunode.Top.Table

  @defaults [sort: :messages, interval: 1_000]

  @home "\e[H"
  @to_line_end "\e[K"
  @to_screen_end "\e[J"

  @enforce_keys [:node, :interval, :sort, :reader]
  defstruct @enforce_keys ++ [:stats, :previous, :problem, :next]

  @doc """
  Returns when it is told to quit, or when there are no more keys. It runs in a process of its own:
  the caller's mailbox stays as it is.
  """
  @spec run(node, keyword) :: :ok
  def run(node, opts) do
    opts = opts |> Keyword.validate!(@defaults) |> Map.new() |> check!()

    fn -> Terminal.with_single_keys(fn -> start(node, opts) end) end
    |> Task.async()
    |> Task.await(:infinity)
  end

  defp check!(%{sort: sort, interval: interval} = opts) do
    unless sort in Table.keys() do
      raise ArgumentError, "sort: must be one of #{inspect(Table.keys())}, got: #{inspect(sort)}"
    end

    unless is_integer(interval) and interval > 0 do
      raise ArgumentError,
            "interval: must be milliseconds, more than 0, got: #{inspect(interval)}"
    end

    opts
  end

  defp start(node, opts) do
    top = self()
    reader = spawn_link(fn -> read_keys(top) end)

    state =
      struct!(%__MODULE__{node: node, interval: opts.interval, sort: opts.sort, reader: reader})

    IO.write([@home, @to_screen_end])
    refresh(state)
  end

  # No key is read before the one before it has been taken: when the loop ends nothing reads on.
  defp read_keys(top) do
    send(top, {:key, Terminal.key()})

    receive do
      :taken -> read_keys(top)
    end
  end

  defp refresh(state) do
    state = state |> ask() |> Map.put(:next, now() + state.interval)
    draw(state)
    await(state)
  end

  # What the node does not answer leaves the last figures as they are.
  defp ask(state) do
    %{state | stats: Lunode.stats(state.node), previous: state.stats, problem: nil}
  catch
    :exit, {reason, _call} -> %{state | problem: reason}
  end

  defp await(state) do
    receive do
      {:key, key} -> handle(key, state)
    after
      max(state.next - now(), 0) -> refresh(state)
    end
  end

  defp handle(key, _state) when key in ["q", "Q", <<3>>, :eof], do: IO.write("\n")

  defp handle(key, state) do
    send(state.reader, :taken)
    state = %{state | sort: Table.key_of(String.downcase(key)) || state.sort}
    draw(state)
    await(state)
  end

  defp draw(state) do
    size = Terminal.size()
    lines = state |> lines(size) |> Enum.map(&[&1, @to_line_end]) |> Enum.intersperse("\n")
    IO.write([@home, lines, @to_screen_end])
  end

  defp lines(%{stats: nil} = state, {columns, _rows}) do
    [String.slice(title(state), 0, columns), "q quits."]
  end

  defp lines(state, size),
    do: Table.render(title(state), state.stats, state.previous, size, state.sort)

  defp title(%{problem: nil, node: node}), do: "#{node}"
  defp title(%{problem: :noconnection, node: node}), do: "#{node} is not connected"
  defp title(%{problem: {:nodedown, node}}), do: "#{node} is not connected"
  defp title(%{node: node}), do: "#{node} does not answer"

  defp now, do: System.monotonic_time(:millisecond)
end
