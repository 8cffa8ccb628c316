# What processes cost, and what running beside others costs. Run by processes.sh
# and run.sh.

alias Lunode.Test.OS

work = """
local work = {}

function work.fib(n)
  if n < 2 then return n end
  return work.fib(n - 1) + work.fib(n - 2)
end

function work.floats(n)
  local x = 0.0
  for i = 1, n do x = x + i * 0.5 end
  return x
end

function work.strings(n)
  local t = {}
  for i = 1, n do t[i] = "item " .. i end
  return #table.concat(t, ",")
end

return work
"""

handler = """
local work = require "work.work"
local bench = {}
function bench:init(n) self.n = n or 0 end
function bench:get() return self.n end
function bench:spin() while true do end end
function bench:time(name, n)
  local start = os.clock()
  work[name](n)
  return os.clock() - start
end
return bench
"""

plain = """
package.path = arg[1] .. "/?.lua"
local work = require "work"
for name, n in arg[2]:gmatch("(%w+)=(%d+)") do
  local start = os.clock()
  work[name](math.tointeger(n))
  io.write(name, " ", os.clock() - start, "\\n")
end
"""

median = fn list -> Enum.at(Enum.sort(list), div(length(list), 2)) end
dir = Path.join(System.tmp_dir!(), "lunode_bench_#{System.pid()}")
File.mkdir_p!(Path.join(dir, "work"))
File.write!(Path.join(dir, "bench.lua"), handler)
File.write!(Path.join(dir, "other.lua"), handler)
File.write!(Path.join([dir, "work", "work.lua"]), work)
File.write!(Path.join([dir, "work", "plain.lua"]), plain)
{:ok, lua} = Lunode.start_link(handlers: dir, log: false)
node = Lunode.node(lua)
Lunode.call(lua, :bench, :get)

IO.puts(
  "Computing in a handler, to the plain lua5.4 program (CPU time, medians of 9, interleaved)"
)

jobs = [fib: 30, floats: 20_000_000, strings: 400_000]

rounds =
  for _ <- 1..9 do
    arguments = Enum.map_join(jobs, ",", fn {name, n} -> "#{name}=#{n}" end)
    file = Path.join([dir, "work", "plain.lua"])
    {output, 0} = System.cmd("lua5.4", [file, Path.join(dir, "work"), arguments])

    plain =
      for line <- String.split(output, "\n", trim: true), into: %{} do
        [name, seconds] = String.split(line)
        {String.to_atom(name), String.to_float(seconds)}
      end

    for {name, n} <- jobs do
      seconds = GenServer.call({:bench, node}, {:time, "#{name}", n}, 60_000)
      {name, seconds / plain[name]}
    end
  end
  |> List.flatten()

for {name, _} <- jobs do
  ratios = for {^name, ratio} <- rounds, do: ratio
  {low, high} = Enum.min_max(ratios)
  shown = Enum.map([median.(ratios), low, high], &:erlang.float_to_binary(&1, decimals: 3))
  [middle, low, high] = shown
  IO.puts("  #{name}: #{middle} (#{low} to #{high})")
end

calls = fn count ->
  times =
    for _ <- 1..count, do: elem(:timer.tc(fn -> GenServer.call({:other, node}, :get) end), 0)

  sorted = Enum.sort(times)
  {Enum.at(sorted, div(count, 2)), Enum.at(sorted, div(count * 99, 100)), List.last(sorted)}
end

show = fn title, {p50, p99, worst} ->
  IO.puts("  #{title}: p50 #{p50} us, p99 #{p99} us, longest #{worst} us")
end

IO.puts("1,000 calls of another handler")
show.("alone", calls.(1_000))
spinner = Node.spawn(node, :bench, :spin, [])
Process.sleep(50)
show.("beside a process that loops", calls.(1_000))
Process.exit(spinner, :kill)

Lunode.stop(lua)

IO.puts("Processes, each count in a node of its own")

for count <- [10_000, 100_000] do
  {:ok, lua} = Lunode.start_link(handlers: dir, log: false)
  node = Lunode.node(lua)
  Lunode.call(lua, :bench, :get)
  before = OS.memory(OS.os_pid(lua))

  {us, pids} =
    :timer.tc(fn ->
      pids = for i <- 1..count, do: Node.spawn(node, :bench, :start, [i])
      ^count = GenServer.call(List.last(pids), :get, 60_000)
      pids
    end)

  kib = (OS.memory(OS.os_pid(lua)) - before) / count
  shown = :erlang.float_to_binary(kib, decimals: 2)
  IO.puts("  #{count}: #{shown} KiB each, started in #{div(us, 1000)} ms")
  refs = Enum.map(pids, &Process.monitor/1)

  {us, _} =
    :timer.tc(fn ->
      Enum.each(pids, &Process.exit(&1, :kill))
      for ref <- refs, do: receive(do: ({:DOWN, ^ref, _, _, :killed} -> :ok))
    end)

  IO.puts("  #{count}: all killed, and each monitor told, in #{div(us, 1000)} ms")
  Lunode.stop(lua)
end

File.rm_rf!(dir)
