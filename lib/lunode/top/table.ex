defmodule Lunode.Top.Table do
  @moduledoc false
  # The table of `Lunode.top/2` as lines of text, from what the node counted now and a while ago.

  alias Lunode.{Stats, Terminal}

  # The letter that sorts by a column is the capital one of its title. Where all don't fit, those
  # with the lowest `worth` are left out.
  @columns [
    %{key: :messages, title: "Msg/s", width: 8, worth: 8},
    %{key: :cpu, title: "Cpu%", width: 7, worth: 7},
    %{key: :mailbox, title: "Waiting", width: 9, worth: 6},
    %{key: :errors, title: "Errors", width: 8, worth: 4},
    %{key: :restarts, title: "Restarts", width: 10, worth: 1},
    %{key: :reloads, title: "reLoads", width: 9, worth: 0},
    %{key: :processes, title: "Procs", width: 7, worth: 2},
    %{key: :longest_slice, title: "Slice", width: 8, worth: 3},
    %{key: :memory, title: "memorY", width: 8, worth: 5}
  ]

  @keys [:name | Enum.map(@columns, & &1.key)]
  @letters %{
    "h" => :name,
    "m" => :messages,
    "c" => :cpu,
    "w" => :mailbox,
    "e" => :errors,
    "r" => :restarts,
    "l" => :reloads,
    "p" => :processes,
    "s" => :longest_slice,
    "y" => :memory
  }

  # Handlers' names get at least this, if they are as long.
  @name_width 16
  @unseen %{messages: 0, run_time: 0}
  @counted [:frames_in, :bytes_in, :frames_out, :bytes_out]

  @typedoc "A column: the handlers' names, or a figure."
  @type key :: atom
  @type size :: {columns :: pos_integer, rows :: pos_integer}

  @doc "What a table can be sorted by."
  @spec keys :: [key]
  def keys, do: @keys

  @doc "What a key of the keyboard sorts by, or `nil`."
  @spec key_of(letter :: String.t()) :: key | nil
  def key_of(letter), do: @letters[letter]

  @doc """
  At most as many lines as there are rows, none of them longer than there are columns. What happens
  per second is what happened since `previous`; without that, since the node's start.
  """
  @spec render(title :: String.t(), Stats.t(), previous :: Stats.t() | nil, size, key) ::
          [String.t()]
  def render(title, stats, previous, {columns, rows}, sort) do
    # Two lines are above it, and one below.
    body = stats |> table(previous, columns, sort) |> cut(rows - 3)

    (summary(title, stats, previous) ++ body ++ ["A capital letter sorts by its column, q quits."])
    |> Enum.take(rows)
    |> Enum.map(&String.slice(&1, 0, columns))
  end

  @doc "The titles, and a line for each handler."
  @spec table(Stats.t(), previous :: Stats.t() | nil, columns :: pos_integer, key) :: [String.t()]
  def table(stats, previous, columns, sort) do
    handlers = stats |> handlers(comparable(previous, stats)) |> sort(sort)
    longest = handlers |> Enum.map(&String.length(&1.name)) |> Enum.max(fn -> 0 end)
    {name_width, shown} = fit(columns, max(longest, String.length("*Handler")), sort)

    titles =
      line(title("Handler", sort == :name), name_width, shown, &title(&1.title, &1.key == sort))

    [
      titles
      | Enum.map(
          handlers,
          &line(&1.name, name_width, shown, fn column -> cell(column.key, &1) end)
        )
    ]
  end

  # A node that was started again counts from 0.
  defp comparable(previous, stats) do
    if previous && previous.uptime < stats.uptime, do: previous, else: %Stats{}
  end

  # {==== The figures ===========================================================================

  defp handlers(stats, previous) do
    ms = max(stats.uptime - previous.uptime, 1)

    for {name, handler} <- stats.handlers do
      before = Map.get(previous.handlers, name, @unseen)

      Map.merge(handler, %{
        name: name |> Atom.to_string() |> Terminal.printable() |> String.replace(~r/\s/, " "),
        messages: rate(handler.messages, before.messages, ms),
        # Microseconds a millisecond are thousandths.
        cpu: grown(handler.run_time, before.run_time) / ms / 10
      })
    end
  end

  defp rate(now, before, ms), do: grown(now, before) * 1000 / ms

  # A handler that was removed and came back counts from 0.
  defp grown(now, before), do: if(now >= before, do: now - before, else: now)

  defp sort(handlers, :name), do: Enum.sort_by(handlers, & &1.name)
  defp sort(handlers, key), do: Enum.sort_by(handlers, &{-Map.fetch!(&1, key), &1.name})

  # }==== What fits =============================================================================

  # The column that is sorted by stays.
  defp fit(columns, longest, sort) do
    wanted = min(longest, @name_width)

    shown =
      @columns
      |> Enum.sort_by(&if(&1.key == sort, do: 100, else: &1.worth))
      |> drop(columns, wanted)

    {min(longest, max(columns - width(shown), 1)), Enum.filter(@columns, &(&1 in shown))}
  end

  defp drop([_least | rest] = shown, columns, wanted) do
    if width(shown) + wanted > columns, do: drop(rest, columns, wanted), else: shown
  end

  defp drop([], _columns, _wanted), do: []

  defp width(shown), do: shown |> Enum.map(& &1.width) |> Enum.sum()

  defp cut(table, rows) when length(table) <= rows, do: table

  defp cut(table, rows) do
    kept = max(rows - 1, 1)
    Enum.take(table, kept) ++ ["... and #{length(table) - kept} more"]
  end

  # }==== The text ==============================================================================

  @doc "Two lines about the node as a whole."
  @spec summary(title :: String.t(), Stats.t(), previous :: Stats.t() | nil) :: [String.t()]
  def summary(title, stats, previous) do
    [totals(title, stats), traffic(stats, comparable(previous, stats))]
  end

  defp totals(title, stats) do
    "#{title}   up #{duration(stats.uptime)}   memory #{bytes(stats.memory)}   " <>
      "processes #{count(stats.processes)}   atoms #{count(stats.atoms)}"
  end

  defp traffic(stats, previous) do
    ms = max(stats.uptime - previous.uptime, 1)
    rates = Map.new(@counted, &{&1, rate(total(stats, &1), total(previous, &1), ms)})

    "peers #{map_size(stats.peers)}   " <>
      "in #{number(rates.frames_in)} frames/s #{bytes(rates.bytes_in)}/s   " <>
      "out #{number(rates.frames_out)} frames/s #{bytes(rates.bytes_out)}/s"
  end

  defp total(stats, key),
    do: stats.peers |> Enum.map(fn {_node, peer} -> peer[key] end) |> Enum.sum()

  defp line(name, name_width, shown, cell) do
    name = name |> shorten(name_width) |> String.pad_trailing(name_width)
    Enum.join([name | Enum.map(shown, &String.pad_leading(cell.(&1), &1.width))])
  end

  defp shorten(name, width) do
    if String.length(name) > width, do: String.slice(name, 0, width - 1) <> "~", else: name
  end

  defp title(title, true), do: "*" <> title
  defp title(title, false), do: title

  defp cell(:messages, handler), do: number(handler.messages)
  defp cell(:cpu, handler), do: :erlang.float_to_binary(handler.cpu, decimals: 1)
  defp cell(:memory, handler), do: bytes(handler.memory)
  defp cell(:longest_slice, handler), do: microseconds(handler.longest_slice)
  defp cell(key, handler), do: count(Map.fetch!(handler, key))

  defp count(n) when n < 100_000, do: Integer.to_string(n)
  defp count(n), do: scaled(n, 1000)

  # Less than one a second is not nothing.
  defp number(n) when n > 0 and n < 10, do: :erlang.float_to_binary(n / 1, decimals: 1)
  defp number(n) when n < 100_000, do: Integer.to_string(round(n))
  defp number(n), do: scaled(n, 1000)

  defp bytes(n) when n < 1000, do: "#{round(n)}B"
  defp bytes(n), do: scaled(n, 1024)

  defp scaled(n, unit), do: scaled(n / unit, unit, ["K", "M", "G", "T"])
  defp scaled(n, unit, [_ | [_ | _] = larger]) when n >= 1000, do: scaled(n / unit, unit, larger)

  defp scaled(n, _unit, [suffix | _]) when n < 100,
    do: :erlang.float_to_binary(n, decimals: 1) <> suffix

  defp scaled(n, _unit, [suffix | _]), do: Integer.to_string(round(n)) <> suffix

  defp microseconds(us) when us < 1000, do: "#{us}us"

  defp microseconds(us) when us < 100_000,
    do: :erlang.float_to_binary(us / 1000, decimals: 1) <> "ms"

  defp microseconds(us) when us < 10_000_000, do: "#{div(us, 1000)}ms"
  defp microseconds(us), do: "#{div(us, 1_000_000)}s"

  defp duration(ms) do
    minutes = div(ms, 60_000)

    cond do
      minutes < 1 -> "#{div(ms, 1000)}s"
      minutes < 60 -> "#{minutes}m"
      minutes < 24 * 60 -> "#{div(minutes, 60)}h #{rem(minutes, 60)}m"
      true -> "#{div(minutes, 24 * 60)}d #{div(rem(minutes, 24 * 60), 60)}h"
    end
  end

  # }====
end
