# What a node costs apart from echoes: its start, many handlers, an edit, memory. Prints a table:
# see run.sh.
Code.require_file("contenders.exs", __DIR__)

Contenders.start_driver()
median = fn list -> Enum.at(Enum.sort(list), div(length(list), 2)) end
show = fn x -> :erlang.float_to_binary(x / 1, decimals: 2) end

line = fn title, value, ratio, base ->
  ratio = if ratio, do: "#{show.(ratio)} times #{base}", else: ""
  IO.puts("  #{String.pad_trailing(title, 58)} #{String.pad_trailing(value, 14)} #{ratio}")
end

IO.puts("A node (medians)")

# From the command to the first answer, in turns.
starts =
  for _ <- 1..15, kind <- [:plain, :lunode] do
    start = System.monotonic_time(:microsecond)
    contender = Contenders.start(kind, 0)
    1 = Contenders.call(contender.to, :echo, 1)
    took = System.monotonic_time(:microsecond) - start
    Contenders.stop(contender)
    {kind, took}
  end
  |> Enum.group_by(&elem(&1, 0), &elem(&1, 1))

[plain, lunode] = for kind <- [:plain, :lunode], do: median.(starts[kind])
line.("start to first reply", "#{show.(lunode / 1000)} ms", lunode / plain, "the plain C node")

# A call of one of many.
{:ok, lua} = Lunode.start_link(log: false)
node = Lunode.node(lua)
source = "return { echo = function(self, term) return term end }"

load = fn names ->
  for name <- names, do: {:ok, 1} = Lunode.load(lua, name, source, trust: :full)
end

per_call = fn names ->
  names = List.to_tuple(names)

  median.(
    for _ <- 1..9 do
      {us, _} =
        :timer.tc(fn ->
          for n <- 1..2_000 do
            Contenders.call({elem(names, rem(n, tuple_size(names))), node}, :echo, n)
          end
        end)

      us / 2_000
    end
  )
end

one = [:handler_1]
hundred = for n <- 1..100, do: :"handler_#{n}"
many = for n <- 1..10_000, do: :"handler_#{n}"
load.(one)
alone = per_call.(one)
load.(hundred -- one)

some = per_call.(hundred)

line.(
  "call of one handler of 100, each in its turn",
  "#{show.(some)} us",
  some / alone,
  "of one alone"
)

memory = Lunode.stats(lua).memory
load.(many -- hundred)
each = (Lunode.stats(lua).memory - memory) / 9_900 / 1024
same = per_call.(one)

line.(
  "call of one handler of 10,000, the same each time",
  "#{show.(same)} us",
  same / alone,
  "of one alone"
)

all = per_call.(many)

line.(
  "call of one handler of 10,000, each in its turn",
  "#{show.(all)} us",
  all / alone,
  "of one alone"
)

line.("memory of a handler", "#{show.(each)} KiB", nil, nil)
Lunode.stop(lua)

# An edit, until the new text answers.
folder = Path.join(System.tmp_dir!(), "lunode_bench_#{System.pid()}")
File.mkdir_p!(folder)
file = Path.join(folder, "edited.lua")
write = fn n -> File.write!(file, "return { get = function() return #{n} end }") end
write.(0)
{:ok, lua} = Lunode.start_link(handlers: folder, log: false)
await = fn await, n -> if Lunode.call(lua, :edited, :get) != n, do: await.(await, n) end

edits =
  for n <- 1..20 do
    {us, _} = :timer.tc(fn -> write.(n) && await.(await, n) end)
    Process.sleep(20)
    us / 1000
  end

line.("from the edit of a file to its first answer", "#{show.(median.(edits))} ms", nil, nil)
Lunode.stop(lua)
File.rm_rf!(folder)
