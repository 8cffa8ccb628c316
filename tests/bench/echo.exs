# Echoes of all kinds through every contender, in turns: see run.sh. Prints a table of ratios to the
# plain C node, and writes the plot's data to a file.
#
#     mix run tests/bench/echo.exs one|two FILE [ROUNDS]
Code.require_file("contenders.exs", __DIR__)

defmodule Work do
  import Contenders, only: [call: 3]

  # What a round measures: of each figure the title, its name in the plot, whether more is better;
  # who takes part; what gives the figures.
  def all do
    every = [:plain, :batch, :beam, :lunode, :worker]
    processor = "  its processor time in the node (us)"
    asking = "  and in the BEAM that asks (us)"

    [
      {[
         {"small term, one after the other, p50 (us)", "small", :less},
         {processor, "small, CPU", :less},
         {asking, nil, :less}
       ], every, &in_sequence/1},
      {[{"64 callers (calls/s)", "64 callers", :more}], every,
       &callers(&1, fn to, n -> call(to, :echo, n) end)},
      {[{"64 callers by GenServer.call (calls/s)", nil, :more}], [:beam, :lunode, :worker],
       &genserver/1},
      {[
         {"100,000 fired (messages/s)", "fired", :more},
         {processor, "fired, CPU", :less},
         {asking, nil, :less}
       ], every, &fired/1},
      large("100,000 integers, each read (ms)", "integers", every, :list, integers()),
      large("map of 10,000 keys, each read (ms)", "map", every, :map, map()),
      large("document of 1 MB (ms)", "document", every, :echo, document()),
      large("document of 1 MB, a field read (ms)", nil, every, :field, document()),
      large("binary of 1 MiB (ms)", "1 MiB", every, :echo, binary(1)),
      large("binary of 16 MiB (ms)", "16 MiB", every, :echo, binary(16))
    ]
  end

  defp ns(fun) do
    start = System.monotonic_time(:nanosecond)
    fun.()
    System.monotonic_time(:nanosecond) - start
  end

  defp us(fun), do: ns(fun) / 1000
  defp median(list), do: Enum.at(Enum.sort(list), div(length(list), 2))

  defp in_sequence(%{to: to} = contender) do
    calls = 2_000

    {times, processor, asking} =
      with_processor(contender, fn ->
        for n <- 1..calls, do: us(fn -> call(to, :echo, n) end)
      end)

    [median(times), processor / calls, asking / calls]
  end

  # What the function gives, and what processor time the node and this BEAM had meanwhile, in
  # microseconds.
  defp with_processor(contender, fun) do
    had = fn -> Enum.map([contender.pid, System.pid()], &Contenders.processor_ns/1) end
    before = had.()
    result = fun.()
    [node, own] = Enum.zip_with(had.(), before, &((&1 - &2) / 1000))
    {result, node, own}
  end

  defp callers(%{to: to}, call) do
    us =
      us(fn ->
        1..64
        |> Enum.map(fn _ -> Task.async(fn -> for n <- 1..150, do: call.(to, n) end) end)
        |> Task.await_many(60_000)
      end)

    [64 * 150 * 1.0e6 / us]
  end

  defp genserver(%{kind: :beam, node: node} = contender),
    do: genserver_at(%{contender | to: {:server, node}})

  defp genserver(contender), do: genserver_at(contender)
  defp genserver_at(contender), do: callers(contender, &GenServer.call(&1, {:echo, &2}))

  defp fired(%{to: to} = contender) do
    count = 100_000

    {us, processor, asking} =
      with_processor(contender, fn ->
        us(fn ->
          for n <- 1..count, do: send(to, {:"$gen_call", {self(), make_ref()}, {:echo, n}})
          for _ <- 1..count, do: receive(do: ({ref, _} when is_reference(ref) -> :ok))
        end)
      end)

    [count * 1.0e6 / us, processor / count, asking / count]
  end

  defp large(title, name, who, function, term) do
    measure = fn %{to: to} ->
      [median(for _ <- 1..5, do: us(fn -> ^term = call(to, function, term) end)) / 1000]
    end

    {[{title, name, :less}], who, measure}
  end

  defp integers, do: Enum.map(1..100_000, &(&1 * 7))
  defp map, do: Map.new(1..10_000, &{"key #{&1}", &1})
  defp binary(mib), do: :crypto.strong_rand_bytes(mib * 1_048_576)

  # Decoded JSON, about 1 MB of external term format.
  defp document do
    items =
      for n <- 1..6_000 do
        %{
          "id" => n,
          "name" => "item number #{n}",
          "price" => n * 1.25,
          "tags" => ["new", "sale", "x#{n}"],
          "stock" => %{"here" => n, "there" => nil, "open" => true}
        }
      end

    %{"id" => 1, "items" => items}
  end
end

defmodule Table do
  @kinds [:plain, :batch, :beam, :lunode, :worker]

  # Each contender's figure, and its ratio to the base's in the same round: middle, lowest, highest.
  def rows(figures) do
    base = if figures[:plain], do: :plain, else: :beam

    for kind <- @kinds, list = figures[kind] do
      ratios = list |> Enum.zip_with(figures[base], &(&1 / &2)) |> Enum.sort()
      {kind, middle(Enum.sort(list)), middle(ratios), hd(ratios), List.last(ratios)}
    end
  end

  defp middle(sorted), do: Enum.at(sorted, div(length(sorted), 2))

  def print(title, rows) do
    IO.puts(title)

    for {kind, figure, ratio, low, high} <- rows do
      columns = [String.pad_trailing("  #{kind}", 10), pad(figure, 12), pad(ratio, 8)]
      IO.puts(columns ++ ["   (", number(low), " to ", number(high), ")"])
    end
  end

  defp pad(x, width), do: String.pad_leading(number(x), width)
  defp number(x), do: :erlang.float_to_binary(x / 1, decimals: 2)

  # A line of the plot's data: what each takes of the time of the plain node.
  def plotted(name, better, rows) do
    times =
      for kind <- @kinds -- [:plain] do
        {_, _, ratio, _, _} = List.keyfind(rows, kind, 0)
        number(if better == :more, do: 1 / ratio, else: ratio)
      end

    Enum.join([name | times], "\t")
  end
end

[cores, file | rest] = System.argv()
rounds = if rest == [], do: 9, else: String.to_integer(hd(rest))
Contenders.start_driver()
core = if cores == "one", do: 0, else: 1

contenders =
  for kind <- [:plain, :batch, :beam, :lunode, :worker], do: Contenders.start(kind, core)

where = if cores == "one", do: "on the caller's core", else: "on a core of its own"
IO.puts("Node #{where}: figure, ratio to the plain C node (lowest, highest of #{rounds} rounds)")

lines =
  for {figures, who, measure} <- Work.all() do
    some = Enum.filter(contenders, &(&1.kind in who))
    Enum.each(some, measure)
    all = for _ <- 1..rounds, contender <- some, do: {contender.kind, measure.(contender)}

    for {{title, name, better}, at} <- Enum.with_index(figures) do
      rows = all |> Enum.group_by(&elem(&1, 0), &Enum.at(elem(&1, 1), at)) |> Table.rows()

      Table.print(title, rows)
      if name, do: [Table.plotted(name, better, rows), "\n"], else: []
    end
  end

File.write!(file, lines)
Enum.each(contenders, &Contenders.stop/1)
