defmodule Lunode.TopTableTest do
  @moduledoc "The table of `Lunode.top/2`, line by line."
  use ExUnit.Case, async: true

  alias Lunode.Stats
  alias Lunode.Test.StandIn
  alias Lunode.Top.Table

  defp stats(handlers, fields \\ %{}), do: handlers |> StandIn.stats(fields) |> Stats.new()

  defp fifty, do: for(n <- 1..50, into: %{}, do: {:"handler_#{n}", %{messages: n}})

  defp render(handlers, opts \\ []) do
    stats = if is_struct(handlers), do: handlers, else: stats(handlers)
    size = opts[:size] || {80, 24}
    Table.render("calc@host", stats, opts[:previous], size, opts[:sort] || :messages)
  end

  # The columns of a line of the table, by their titles.
  defp row(lines, name) do
    [_summary, _traffic, titles | rows] = lines
    row = Enum.find(rows, &String.starts_with?(&1, name <> " "))
    Enum.zip(String.split(titles), String.split(row)) |> Map.new()
  end

  defp names(lines),
    do: for([_, name] <- Enum.map(lines, &Regex.run(~r/^(h\w*) .*\d/, &1)), do: name)

  test "above it stand the node's own figures" do
    [summary, traffic | _rest] = render(%{calc: %{}})
    assert summary == "calc@host   up 1m   memory 11.4M   processes 1   atoms 150"

    assert traffic == "peers 1   in 10 frames/s 1.0K/s   out 20 frames/s 97.7K/s"
  end

  test "what happens per second is what happened since the last time" do
    before = stats(%{calc: %{messages: 1_000, run_time: 500_000}}, uptime: 10_000)
    now = stats(%{calc: %{messages: 3_000, run_time: 1_500_000}}, uptime: 12_000)
    assert %{"*Msg/s" => "1000", "Cpu%" => "50.0"} = row(render(now, previous: before), "calc")
  end

  test "the first time it is what happened since the node's start" do
    now = stats(%{calc: %{messages: 120, run_time: 6_000_000}}, uptime: 60_000)
    assert %{"*Msg/s" => "2.0", "Cpu%" => "10.0"} = row(render(now), "calc")
  end

  test "a handler that is new, or came back, has no figure below 0" do
    before = stats(%{back: %{messages: 1_000_000}}, uptime: 10_000)
    now = stats(%{back: %{messages: 50}, new: %{messages: 50}}, uptime: 15_000)
    lines = render(now, previous: before)
    assert row(lines, "back")["*Msg/s"] == "10"
    assert row(lines, "new")["*Msg/s"] == "10"
  end

  test "a node that was started again is not compared with what it was" do
    before = stats(%{calc: %{messages: 10}}, uptime: 100_000)
    now = stats(%{calc: %{messages: 20}}, uptime: 2_000)
    assert row(render(now, previous: before), "calc")["*Msg/s"] == "10"
  end

  test "figures are short, with units" do
    handler = %{
      messages: 60_000_000,
      mailbox: 1_234_567,
      errors: 99_999,
      longest_slice: 1_234,
      memory: 32 * 1024 * 1024
    }

    row = row(render(%{calc: handler}, size: {120, 24}), "calc")

    assert %{
             "*Msg/s" => "1.0M",
             "Waiting" => "1.2M",
             "Errors" => "99999",
             "Slice" => "1.2ms",
             "memorY" => "32.0M"
           } = row
  end

  test "no figure is wider than its column" do
    wide =
      for key <- [:messages, :errors, :mailbox, :run_time, :longest_slice, :memory],
          into: %{},
          do: {key, 0}

    for digits <- 1..11, value <- [10 ** digits - 1, 10 ** digits, 10 ** digits + 1] do
      handler = Map.new(wide, fn {key, _} -> {key, value} end) |> Map.put(:run_time, 0)
      [_, _, titles, line, _footer] = render(%{calc: handler}, size: {120, 24})
      assert String.length(line) == String.length(titles)
      assert length(String.split(line)) == length(String.split(titles)), line
    end
  end

  test "50 handlers in 80 by 24: the top of them, and how many are hidden" do
    lines = render(fifty())
    assert length(lines) == 24
    assert Enum.all?(lines, &(String.length(&1) <= 80))
    assert List.last(lines) =~ "q quits"
    assert Enum.at(lines, -2) == "... and 31 more"
    assert length(names(lines)) == 19
    assert hd(names(lines)) == "handler_50"
  end

  test "as many as there is room for, and nothing is hidden" do
    twenty = fifty() |> Enum.take(20) |> Map.new()
    lines = render(twenty)
    assert length(lines) == 24
    assert length(names(lines)) == 20
    refute Enum.any?(lines, &(&1 =~ "more"))
  end

  test "no window is too small" do
    for columns <- 1..100//3, rows <- 1..30, sort <- [:messages, :reloads, :name] do
      lines = render(fifty(), size: {columns, rows}, sort: sort)
      assert length(lines) <= rows
      assert Enum.all?(lines, &(String.length(&1) <= columns))
    end
  end

  test "in a narrow window the least important columns are left out" do
    titles = fn columns ->
      fifty() |> render(size: {columns, 24}) |> Enum.at(2) |> String.split()
    end

    assert length(titles.(100)) == 10
    assert "reLoads" in titles.(100)
    refute "reLoads" in titles.(80)
    assert titles.(40) == ["Handler", "*Msg/s", "Cpu%", "Waiting"]
    assert titles.(15) == ["Handler"] or titles.(15) == ["Handler", "*Msg/s"]
  end

  test "the column that it is sorted by stays" do
    titles = fifty() |> render(size: {40, 24}, sort: :reloads) |> Enum.at(2) |> String.split()
    assert "*reLoads" in titles
  end

  test "every key sorts, the largest first, equals by name" do
    for key <- Table.keys() -- [:name, :messages, :cpu] do
      lines = render(%{ha: %{key => 1}, hb: %{key => 3}, hc: %{key => 3}}, sort: key)
      assert names(lines) == ["hb", "hc", "ha"], inspect(key)
    end

    assert names(render(%{ha: %{run_time: 1}, hb: %{run_time: 2}}, sort: :cpu)) == ["hb", "ha"]
    assert names(render(%{hb: %{messages: 9}, ha: %{}}, sort: :name)) == ["ha", "hb"]
  end

  test "the capital letter of a title is its key" do
    titles = render(%{calc: %{}}, size: {120, 24}, sort: :name) |> Enum.at(2)

    letters =
      Regex.scan(~r/[A-Z]/, titles) |> Enum.map(fn [letter] -> String.downcase(letter) end)

    assert Enum.map(letters, &Table.key_of/1) == Table.keys()
    assert Table.key_of("x") == nil
  end

  test "names that are long, or not for terminals, do no harm" do
    long = String.to_atom(String.duplicate("h", 200))
    lines = render(%{:"h\e[2J\nx" => %{messages: 1}, long => %{}})
    assert Enum.all?(lines, &(String.length(&1) <= 80))
    assert Enum.any?(lines, &(&1 =~ "h\\27[2J x"))
    assert Enum.any?(lines, &(&1 =~ ~r/^h+~ /))
  end

  test "a node without handlers has a table without lines" do
    assert [_, _, titles, _] = render(%{})
    assert titles =~ "Handler"
  end
end
