# 1,000 handlers that nobody trusts in one node: how long they take to load, what memory each takes,
# and how long a call of one of them takes: see workers.sh.
count = 1_000

source = """
local tenant = {}
function tenant:init() self.n = 0 end
function tenant:add(k) self.n = self.n + k return self.n end
return tenant
"""

{:ok, lua} = Lunode.start_link(log: false)
node = Lunode.node(lua)
name = fn n -> :"tenant_#{n}" end

# One alone starts the workers.
{:ok, 1} = Lunode.load(lua, :first, source)
{:ok, 1} = Lunode.load(lua, :second, source)
before = Lunode.stats(lua).memory

{us, _} =
  :timer.tc(fn -> for n <- 1..count, do: {:ok, 1} = Lunode.load(lua, name.(n), source) end)

for n <- 1..count, do: GenServer.call({name.(n), node}, {:add, 1})
memory = Lunode.stats(lua).memory - before

times =
  for _ <- 1..20_000 do
    tenant = {name.(:rand.uniform(count)), node}
    {us, _} = :timer.tc(fn -> GenServer.call(tenant, {:add, 1}) end)
    us
  end
  |> Enum.sort()

IO.puts(
  "tenants: #{count} loaded in #{div(us, 1000)} ms (#{div(us, count)} us each), " <>
    "#{div(memory, count * 1024)} KiB each, a call #{Enum.at(times, 10_000)} us (median), " <>
    "#{Enum.at(times, 19_800)} us (p99)"
)

Lunode.stop(lua)
