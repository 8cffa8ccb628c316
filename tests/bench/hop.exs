# The round trip of a small call to a trusted handler and to one in a worker, in turns: see workers.sh.
{:ok, lua} = Lunode.start_link(log: false)
node = Lunode.node(lua)
echo = "return { echo = function(self, value) return value end }"
{:ok, 1} = Lunode.load(lua, :trusted, echo, trust: :full)
{:ok, 1} = Lunode.load(lua, :untrusted, echo)

round_trip = fn name ->
  calls = 5_000
  {us, _} = :timer.tc(fn -> for n <- 1..calls, do: GenServer.call({name, node}, {:echo, n}) end)
  us / calls
end

for name <- [:trusted, :untrusted], do: round_trip.(name)

rounds =
  for _ <- 1..15 do
    {trusted, untrusted} = {round_trip.(:trusted), round_trip.(:untrusted)}
    {untrusted / trusted, trusted, untrusted}
  end

{ratio, trusted, untrusted} = rounds |> Enum.sort() |> Enum.at(7)

IO.puts(
  "hop: #{Float.round(trusted, 1)} us a call to a trusted handler, #{Float.round(untrusted, 1)} us " <>
    "to one in a worker: #{Float.round(ratio, 2)} times (median of 15 rounds)"
)

Lunode.stop(lua)
