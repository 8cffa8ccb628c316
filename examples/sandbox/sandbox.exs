# Run by examples/sandbox.sh; or, when everything is installed: mix run examples/sandbox/sandbox.exs
Code.require_file("../show.exs", __DIR__)
Logger.configure(level: :none)

binding = [
  config: Path.join(__DIR__, "lunode.lua"),
  discount: File.read!(Path.join(__DIR__, "tenants/discount.lua")),
  greedy: File.read!(Path.join(__DIR__, "tenants/greedy.lua"))
]

Show.say("""
1. A node whose configuration says what handlers called tenant_* may use: examples/sandbox/lunode.lua.
   Their scripts come from users, here as two texts. A load is not trusted unless it says so.\
""")

binding =
  Show.run(
    """
    {:ok, lua} = Lunode.start_link(config: config)
    Lunode.load(lua, :tenant_1, discount, start: node())\
    """,
    binding
  )

binding = Show.run("Lunode.load(lua, :tenant_2, greedy)", binding)

Show.say("""
2. The first is a good one. It may send to the process :audit, and to no other.\
""")

binding =
  Show.run(
    """
    Process.register(self(), :audit)
    order = %{id: 7, items: [%{price: 4_500, count: 2}, %{price: 3_000, count: 1}]}
    Lunode.call(lua, :tenant_1, {:price, order})\
    """,
    binding
  )

binding = Show.run("receive do message -> message after 5_000 -> :nothing end", binding)

Show.say("""
3. The second tries what it can. First for ever, and then with all memory: each time the limit ends
   it, and the caller gets an exception that says which.\
""")

binding =
  Show.run(
    """
    try_it = fn what ->
      try do
        Lunode.call(lua, :tenant_2, what)
      catch
        :exit, reason -> Exception.message(Lunode.Error.from_reason(:tenant_2, reason))
      end
    end

    try_it.(:spin)\
    """,
    binding
  )

binding = Show.run("try_it.(:hoard)", binding)

Show.say(
  "4. Files, the functions of other nodes, and the processes that run them are out of reach."
)

binding = Show.run("try_it.(:read) |> String.split(\"\\n\") |> hd()", binding)
binding = Show.run("try_it.(:command) |> String.split(\"\\n\") |> hd()", binding)
binding = Show.run("try_it.(:stop) |> String.split(\"\\n\") |> hd()", binding)

Show.say("5. The first has noticed nothing.")

binding = Show.run("Lunode.call(lua, :tenant_1, {:price, order})", binding)
Show.run("Lunode.stop(lua)", binding)
