# Run by examples/quickstart.sh; or, when everything is installed:
# mix run examples/quickstart/quickstart.exs

Code.require_file("../show.exs", __DIR__)

# A copy, since it is going to be edited.
handlers = Path.join(System.tmp_dir!(), "lunode_quickstart_#{System.pid()}")
File.cp_r!(Path.join(__DIR__, "handlers"), handlers)
binding = [handlers: handlers]

Show.say("""
1. A node starts: an operating-system process of its own that runs the Lua scripts of a folder.
   Here it stands under a supervisor, as in an application.\
""")

binding =
  Show.run(
    """
    children = [{Lunode, name: MyLua, handlers: handlers}]
    {:ok, supervisor} = Supervisor.start_link(children, strategy: :one_for_one)
    Lunode.node(MyLua)\
    """,
    binding
  )

Show.say("""
2. A call. examples/quickstart/handlers/counter.lua is the handler :counter;
   {:add, 5} runs its function `add` with 5. It keeps its state in `self`.\
""")

binding = Show.run("Lunode.call(MyLua, :counter, {:add, 5})", binding)
binding = Show.run("Lunode.call(MyLua, :counter, {:add, 37})", binding)

Show.say("3. Any Erlang term goes in and comes out: a map with atom keys, a list, strings.")

binding =
  Show.run(
    ~s|Lunode.call(MyLua, :counter, {:describe, %{name: "Ada", langs: ["elixir", "lua"]}})|,
    binding
  )

Show.say("""
4. To OTP a handler is a process like any other. Its registered name is {:counter, node}.\
""")

binding = Show.run("GenServer.call({:counter, Lunode.node(MyLua)}, :get)", binding)

Show.say("""
5. An error in Lua ends the handler's process, and the caller learns why. The lines with [error]
   are the node's log. The handler starts again, with a new state.\
""")

binding =
  Show.run(
    """
    try do
      Lunode.call(MyLua, :counter, {:divide, 1, 0})
    catch
      :exit, {{:lua_error, message, _traceback}, _call} -> message
    end\
    """,
    binding
  )

binding = Show.run("Lunode.call(MyLua, :counter, :get)", binding)

Show.say(
  "6. Even the whole program may die: the BEAM doesn't notice, and the supervisor starts it again."
)

binding =
  Show.run(
    """
    ref = Process.monitor(MyLua)
    {:os_pid, os_pid} = Port.info(:sys.get_state(MyLua).port, :os_pid)
    System.cmd("sh", ["-c", "kill -9 \#{os_pid}"])
    receive do: ({:DOWN, ^ref, :process, _, reason} -> reason)\
    """,
    binding
  )

Enum.find(1..100, fn _ -> Process.sleep(50) && Lunode.node(MyLua) end)
binding = Show.run("Lunode.call(MyLua, :counter, {:add, 1})", binding)

Show.say("""
7. Behaviour is changed while it runs: somebody asks all the time, the script is saved with another
   division, and the answers change. No call is lost, and the state in `self` stays.\
""")

binding =
  Show.run(
    """
    asking =
      Task.async(fn ->
        for _ <- 1..60 do
          Process.sleep(5)
          Lunode.call(MyLua, :counter, {:divide, 7, 2})
        end
      end)

    script = Path.join(handlers, "counter.lua")
    File.write!(script, String.replace(File.read!(script), "a / b", "a // b"))
    asking |> Task.await() |> Enum.dedup()\
    """,
    binding
  )

binding = Show.run("Lunode.call(MyLua, :counter, :get)", binding)

Show.say("8. The end: with its supervisor the node stops, and its process is gone.")

Show.run("Supervisor.stop(supervisor)", binding)
File.rm_rf!(handlers)
