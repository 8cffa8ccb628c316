defmodule Lunode.LinksMonitorsTest do
  @moduledoc """
  Links, monitors and exit signals. What one process does to another holds for every pair of Lua
  and BEAM, first of all for two of the BEAM's own.
  """
  use ExUnit.Case, async: true

  import Lunode.Test.OS, only: [eventually: 1, now: 0, script: 2]
  import Lunode.Test.Proc
  alias Lunode.Test.OtherBeam

  @moduletag :capture_log

  setup_all do
    start_nodes()
  end

  defp process(:beam, _nodes, n), do: start(node(), n)
  defp process(:lua, nodes, n), do: start(nodes.lua, n)

  # A signal to a living process, which has arrived when this returns: what the test itself does to
  # the process goes another way, and could be there before.
  defp tell(pid, {_signal, other} = request) do
    value = ask(pid, request)
    ask(pid, {:call_there, other, :pid, 5_000})
    value
  end

  for {here, there} <- [beam: :beam, lua: :beam, beam: :lua, lua: :lua] do
    describe "#{here} to #{there}:" do
      setup %{nodes: nodes} do
        %{a: process(unquote(here), nodes, 0), b: process(unquote(there), nodes, 0)}
      end

      test "a monitor tells of an end by an error", %{a: a, b: b} do
        ref = tell(a, {:monitor, b})
        catch_exit(ask(b, {:fail, "oops"}))
        eventually(fn -> ask(a, :messages) != [] end)

        assert [{:DOWN, ^ref, :process, ^b, {:lua_error, "oops", trace}}] = ask(a, :messages)
        assert trace =~ "stack traceback"
      end

      test "a monitor tells of a normal end, and of one with any reason", %{
        a: a,
        nodes: nodes
      } do
        for reason <- [:normal, :shutdown, {:shutdown, 1}, [what: "ever"]] do
          b = process(unquote(there), nodes, 0)
          ref = tell(a, {:monitor, b})
          quit(b, reason)
          assert_message(a, {:DOWN, ref, :process, b, reason})
        end
      end

      test "a monitor of a process that has ended tells noproc", %{a: a, b: b} do
        assert reason_after(b, fn -> Process.exit(b, :kill) end) == :killed
        ref = ask(a, {:monitor, b})
        assert_messages(a, [{:DOWN, ref, :process, b, :noproc}])
      end

      test "a monitor of a name tells the name, of a process or of none", %{a: a, nodes: nodes} do
        there = nodes[unquote(there)]
        name = {:proc, there}
        none = ask(a, {:monitor, {:nobody, there}})
        assert_messages(a, [{:DOWN, none, :process, {:nobody, there}, :noproc}])

        ref = tell(a, {:monitor, name})
        Process.exit(ask(name, :pid), :kill)
        assert_message(a, {:DOWN, ref, :process, name, :killed})
        eventually(fn -> registered(there) end)
      end

      test "each monitor tells once, and one that was taken back doesn't", %{a: a, b: b} do
        [one, two, three] = for _ <- 1..3, do: tell(a, {:monitor, b})
        assert ask(a, {:demonitor, two}) == nil
        assert reason_after(b, fn -> Process.exit(b, :done) end) == :done
        eventually(fn -> length(ask(a, :messages)) >= 2 end)

        assert Enum.sort(ask(a, :messages)) ==
                 Enum.sort(for ref <- [one, three], do: {:DOWN, ref, :process, b, :done})
      end

      test "a monitor that was taken back leaves no message either", %{a: a, b: b} do
        ref = tell(a, {:monitor, b})
        Process.exit(b, :done)
        assert_message(a, {:DOWN, ref, :process, b, :done})
        assert ask(a, {:demonitor, ref}) == nil
        assert_lives(a)
      end

      test "the end of a process ends those linked to it, for the same reason", %{a: a, b: b} do
        assert tell(a, {:link, b}) == nil

        assert {:lua_error, "oops", _trace} =
                 reason_after(a, fn -> catch_exit(ask(b, {:fail, "oops"})) end)
      end

      test "a link works both ways", %{a: a, b: b} do
        tell(a, {:link, b})
        assert reason_after(b, fn -> Process.exit(a, :oops) end) == :oops
      end

      test "a normal end leaves those linked alive", %{a: a, b: b} do
        tell(a, {:link, b})
        assert reason_after(b, fn -> quit(b, :normal) end) == :normal
        assert_lives(a)
      end

      test "a killed process ends those linked with killed, which can be trapped", %{
        a: a,
        b: b,
        nodes: nodes
      } do
        trapping = process(unquote(here), nodes, :trap)
        tell(a, {:link, b})
        tell(trapping, {:link, b})
        assert reason_after(a, fn -> Process.exit(b, :kill) end) == :killed
        assert_messages(trapping, [{:EXIT, b, :killed}])
      end

      test "a link that was taken back does nothing", %{a: a, b: b} do
        tell(a, {:link, b})
        tell(a, {:link, b})
        assert tell(a, {:unlink, b}) == nil
        assert reason_after(b, fn -> Process.exit(b, :oops) end) == :oops
        assert_lives(a)
      end

      test "a process that traps exits gets them as messages", %{a: a, b: b} do
        assert ask(a, {:trap, true}) == false
        assert ask(a, {:trap, true}) == true
        tell(a, {:link, b})
        quit(b, :normal)
        assert_messages(a, [{:EXIT, b, :normal}])
        assert ask(a, {:trap, false}) == true
      end

      test "a link to a process that has ended is an exit signal noproc", %{nodes: nodes} do
        # The BEAM raises noproc instead where it can know at once.
        unless unquote(here) == :beam and unquote(there) == :beam do
          a = process(unquote(here), nodes, :trap)
          b = process(unquote(there), nodes, 0)
          assert reason_after(b, fn -> Process.exit(b, :kill) end) == :killed
          ask(a, {:link, b})
          assert_messages(a, [{:EXIT, b, :noproc}])
        end
      end

      test "an exit signal ends a process, normal doesn't", %{a: a, b: b} do
        ask(a, {:signal, b, :normal})
        assert_lives(b)
        assert reason_after(b, fn -> ask(a, {:signal, b, :oops}) end) == :oops
        assert_lives(a)
      end

      test "a trapped exit signal is a message, also normal, kill is not", %{a: a, b: b} do
        ask(b, {:trap, true})
        ask(a, {:signal, b, :normal})
        ask(a, {:signal, b, {:some, "reason"}})
        assert_messages(b, [{:EXIT, a, :normal}, {:EXIT, a, {:some, "reason"}}])
        assert reason_after(b, fn -> ask(a, {:signal, b, :kill}) end) == :killed
      end

      test "a signal to a process that has ended does nothing", %{a: a, b: b} do
        assert reason_after(b, fn -> Process.exit(b, :kill) end) == :killed
        ask(a, {:signal, b, :kill})
        assert_lives(a)
      end

      test "an exit signal runs no terminate, a quit does", %{a: a, b: b} do
        ask(a, {:tell, self()})
        ask(b, {:tell, self()})
        assert reason_after(a, fn -> Process.exit(a, :oops) end) == :oops
        assert reason_after(b, fn -> quit(b, :enough) end) == :enough
        assert_receive {:terminated, :enough}
        refute_received {:terminated, _}
      end
    end
  end

  defp assert_message(pid, message) do
    eventually(fn -> message in ask(pid, :messages) end)
  end

  for on <- [:beam, :lua] do
    describe "from a BEAM to #{on}:" do
      setup %{nodes: nodes}, do: %{node: nodes[unquote(on)]}

      test "a name can be monitored", %{node: node} do
        ref = Process.monitor({:proc, node})
        Process.exit(ask({:proc, node}, :pid), :kill)
        assert_receive {:DOWN, ^ref, :process, {:proc, ^node}, :killed}, 5_000
        eventually(fn -> registered(node) end)
      end

      test "the registered process starts again after an abnormal end", %{node: node} do
        pid = ask({:proc, node}, :pid)
        assert ask(pid, {:add, 1}) == 1
        assert reason_after(pid, fn -> Process.exit(pid, :kill) end) == :killed
        eventually(fn -> registered(node) not in [nil, pid] end)
        assert ask({:proc, node}, :get) == 0
      end

      for reason <- [:normal, :shutdown, {:shutdown, :enough}] do
        test "it stays down after #{inspect(reason)}" do
          node = fresh_node(unquote(on))
          pid = ask({:proc, node}, :pid)
          assert reason_after(pid, fn -> quit(pid, unquote(reason)) end) == unquote(reason)
          assert {:noproc, _call} = catch_exit(ask({:proc, node}, :get))
          assert registered(node) == nil
        end
      end

      test "a call to a name that nobody has exits noproc at once", %{node: node} do
        began = now()
        assert {:noproc, _} = catch_exit(ask({:nobody, node}, :get, 60_000))
        assert now() - began < 10_000
        ref = Process.monitor({:nobody, node})
        assert_receive {:DOWN, ^ref, :process, {:nobody, ^node}, :noproc}, 5_000
      end

      test "a call to a process that has ended exits noproc", %{node: node} do
        pid = start(node)
        assert reason_after(pid, fn -> Process.exit(pid, :kill) end) == :killed
        assert {:noproc, _} = catch_exit(ask(pid, :get))
      end

      test "a call exits with the reason for which the process ended meanwhile", %{node: node} do
        for {signal, reason} <- [oops: :oops, kill: :killed] do
          pid = start(node)
          spawn(fn -> Process.sleep(100) && Process.exit(pid, signal) end)
          assert {^reason, _call} = catch_exit(ask(pid, {:sleep, 60_000}, 60_000))
        end
      end

      test "an error runs terminate with the reason", %{node: node} do
        pid = start(node)
        ask(pid, {:tell, self()})
        catch_exit(ask(pid, {:fail, "oops"}))
        assert_receive {:terminated, {:lua_error, "oops", trace}}, 5_000
        assert trace =~ "stack traceback"
      end

      test "an exit signal ends it also while it sleeps or computes", %{node: node} do
        for busy <- [{:sleep, 60_000}, :spin] do
          pid = start(node)
          GenServer.cast(pid, busy)
          Process.sleep(50)
          assert reason_after(pid, fn -> Process.exit(pid, :oops) end) == :oops
        end
      end

      test "Process.link and Process.unlink", %{node: node} do
        Process.flag(:trap_exit, true)
        [one, two] = for _ <- 1..2, do: start(node)
        for pid <- [one, two], do: Process.link(pid)
        Process.unlink(two)
        for pid <- [two, one], do: catch_exit(ask(pid, {:fail, "oops"}))
        assert_receive {:EXIT, ^one, {:lua_error, "oops", _trace}}, 5_000
        refute_received {:EXIT, ^two, _}
      end

      test "Process.demonitor", %{node: node} do
        pid = start(node)
        [one, two] = for _ <- 1..2, do: Process.monitor(pid)
        assert Process.demonitor(one)
        Process.exit(pid, :oops)
        assert_receive {:DOWN, ^two, :process, ^pid, :oops}, 5_000
        refute_received {:DOWN, ^one, _, _, _}
      end

      test "a pid that was never given out is a dead process", %{node: node} do
        bytes = :erlang.term_to_binary(start(node))
        before = byte_size(bytes) - 12
        <<head::binary-size(before), number::32, rest::binary>> = bytes
        stranger = :erlang.binary_to_term(<<head::binary, number + 10_000::32, rest::binary>>)
        assert node(stranger) == node
        ref = Process.monitor(stranger)
        assert_receive {:DOWN, ^ref, :process, ^stranger, :noproc}, 5_000
        for reason <- [:kill, :oops], do: Process.exit(stranger, reason)
        send(stranger, :hello)
        assert {:noproc, _} = catch_exit(ask(stranger, :get))
      end

      test "a chain of linked processes ends as one", %{node: node} do
        [first | _] = pids = for _ <- 1..20, do: start(node)
        for {a, b} <- Enum.zip(pids, tl(pids)), do: ask(a, {:link, b})
        refs = for pid <- pids, do: {pid, Process.monitor(pid)}
        Process.exit(first, :oops)
        for {pid, ref} <- refs, do: assert_receive({:DOWN, ^ref, :process, ^pid, :oops}, 5_000)
      end

      test "Node.ping answers pong, also to a node that is not connected yet", %{node: node} do
        assert Node.ping(node) == :pong
        beam = start_beam()
        assert OtherBeam.apply(beam, Node, :ping, [node]) == :pong
        OtherBeam.stop(beam)
      end

      test "a BEAM that is lost frees the links and monitors it had", %{node: node} do
        beam = start_beam()
        OtherBeam.connect(beam, node)
        [trapping, plain] = [start(node, :trap), start(node)]
        watcher = OtherBeam.apply(beam, :proc, :child, [0])

        for pid <- [trapping, plain], request <- [:link, :monitor] do
          OtherBeam.call(beam, watcher, {request, pid})
        end

        # The monitor is there when the process answers: the end comes by another way.
        lost = fn -> assert_lives(plain) && OtherBeam.halt(beam) end
        assert reason_after(plain, lost) == :noconnection
        assert_messages(trapping, [{:EXIT, watcher, :noconnection}])
      end
    end
  end

  defp registered(node) do
    with :undefined <- :erpc.call(node, :erlang, :whereis, [:proc]), do: nil
  end

  defp fresh_node(:lua), do: start_node()
  defp fresh_node(:beam), do: start_beam() |> elem(1)

  for here <- [:beam, :lua] do
    describe "#{here}, when the other's node is lost:" do
      setup %{nodes: nodes} do
        beam = {_peer, name} = start_beam()
        a = process(unquote(here), nodes, :trap)
        assert_lives(a)
        OtherBeam.connect(beam, node(a))
        %{beam: beam, name: name, a: a, b: OtherBeam.idle(beam)}
      end

      test "monitors and links tell noconnection", %{
        a: a,
        b: b,
        beam: beam,
        name: name,
        nodes: nodes
      } do
        plain = process(unquote(here), nodes, 0)
        ask(plain, {:link, b})
        ask(a, {:link, b})
        by_pid = ask(a, {:monitor, b})
        by_name = ask(a, {:monitor, {:init, name}})

        lost = fn -> assert_lives(plain) && OtherBeam.disconnect(beam, node(a)) end
        assert reason_after(plain, lost) == :noconnection

        eventually(fn -> length(ask(a, :messages)) >= 3 end)

        assert Enum.sort(ask(a, :messages)) ==
                 Enum.sort([
                   {:EXIT, b, :noconnection},
                   {:DOWN, by_pid, :process, b, :noconnection},
                   {:DOWN, by_name, :process, {:init, name}, :noconnection}
                 ])
      end

      test "a halt of the other BEAM tells noconnection too", %{a: a, b: b, beam: beam} do
        ref = ask(a, {:monitor, b})
        OtherBeam.halt(beam)
        assert_messages(a, [{:DOWN, ref, :process, b, :noconnection}])
      end

      test "nothing more comes after the connection is there again", %{a: a, b: b, beam: beam} do
        ref = ask(a, {:monitor, b})
        OtherBeam.disconnect(beam, node(a))
        eventually(fn -> ask(a, :messages) != [] end)
        assert OtherBeam.connect(beam, node(a))
        OtherBeam.apply(beam, Process, :exit, [b, :kill])
        again = ask(a, {:monitor, b})

        assert_messages(a, [
          {:DOWN, ref, :process, b, :noconnection},
          {:DOWN, again, :process, b, :noproc}
        ])
      end
    end
  end

  test "the DOWN of an error names file and line", %{nodes: nodes} do
    pid = start(nodes.lua)
    reason = reason_after(pid, fn -> GenServer.cast(pid, {:lua, "local x; return x.field"}) end)

    assert {:lua_error, text, trace} = reason
    assert text =~ "test:1: attempt to index a nil value"
    assert trace =~ "stack traceback:" and trace =~ "test:1:"
  end

  test "a table that was raised is the term of the reason", %{nodes: nodes} do
    pid = start(nodes.lua)
    source = "error(erl.amap{code = 5})"
    reason = reason_after(pid, fn -> GenServer.cast(pid, {:lua, source}) end)
    assert {:lua_error, %{code: 5}, _trace} = reason
  end

  test "a Lua process is told by its own words: EXIT and DOWN" do
    script = """
    local t = {}
    function t:init() erl.trap_exit(true) end
    function t:start_one() self.pid = erl.spawn(function() erl.receive() end)
      erl.link(self.pid) self.ref = erl.monitor(self.pid) erl.exit(self.pid, atom.oops) end
    function t:EXIT(from, reason) self.exit = from == self.pid and reason end
    function t:DOWN(ref, kind, from, reason)
      self.down = ref == self.ref and from == self.pid and kind == atom.process and reason end
    function t:told() return self.exit, self.down end
    return t
    """

    path = script("words.lua", script)
    lua = start_supervised!({Lunode, handlers: path}, id: :words)
    Lunode.call(lua, :words, :start_one)
    eventually(fn -> Lunode.call(lua, :words, :told) == {:oops, :oops} end)
  end
end
