defmodule Lunode.StopTest do
  @moduledoc "The node ends within a second, with status 0, whatever its processes do."
  use ExUnit.Case

  import Lunode.Test.OS
  import Lunode.Test.Proc, only: [handler: 0]
  alias Lunode.Test.RawNode

  @busy [
    {"waits for a message that nobody sends", "erl.receive(nil, function() return false end)"},
    {"waits for an answer that nobody gives", "erl.call(a, 1, math.huge)"},
    {"sleeps", "erl.sleep(1e9)"},
    {"sleeps in a coroutine of a coroutine",
     "coroutine.wrap(function() coroutine.wrap(function() erl.sleep(1e9) end)() end)()"},
    {"spins", "while true do pcall(function() while true do end end) end"},
    {"has messages to send later",
     "for i = 1, 1000 do erl.send_after(erl.self(), i, i % 2 == 0 and 1e7 or 600) end"},
    {"is linked with others that spin",
     "local me = erl.self() for _ = 1, 3 do erl.link(erl.spawn(function() erl.monitor(me) while true do end end)) end erl.sleep(1e9)"},
    {"starts and links processes without end",
     "erl.trap_exit(true) while true do local p = erl.spawn(erl.sleep, 10) erl.link(p) erl.monitor(p) end"},
    {"starts and kills processes without end",
     "while true do erl.exit(erl.spawn(erl.sleep, 1e9), atom.kill) end"}
  ]

  for {what, source} <- @busy, how <- [:disconnected, :terminated] do
    test "#{how} while a process #{what}" do
      raw = RawNode.start_connected(handlers: handler())
      for name <- [:proc, :net_kernel], do: Process.monitor({name, raw.node})
      GenServer.cast({:proc, raw.node}, {:lua, unquote(source), self()})
      Process.sleep(100)
      slow = keeps_freed?(raw.os_pid)
      stop(unquote(how), raw)
      RawNode.assert_ends(raw, 2_000)
      said = File.read!(raw.stderr)
      # Looking for leaks takes a sanitizer longer than there is time.
      assert said == "" or (slow and said == "lunode: terminate took too long\n")
    end
  end

  defp stop(:disconnected, raw), do: Node.disconnect(raw.node)
  defp stop(:terminated, raw), do: kill(raw.os_pid, "TERM")
end
