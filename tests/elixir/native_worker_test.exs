defmodule Lunode.NativeWorkerTest do
  @moduledoc """
  A worker that somebody has taken over, with native code of his own: what it sends past the engine
  ends it, and the log says what it was; nobody else notices.
  """
  use ExUnit.Case, async: false

  import Lunode.Test.NativeWorker
  alias Lunode.Test.{NativeWorker, OS}

  @moduletag timeout: 600_000

  @trusted """
  local handler = {}
  function handler:ping() return "pong" end
  function handler:seen() return self.seen or 0 end
  function handler:sleep(ms) erl.sleep(ms) return "slept" end
  return handler
  """

  setup_all do
    folder = OS.folder(%{"trusted.lua" => @trusted})
    native = NativeWorker.start(handlers: folder)
    load(native, :neighbour)
    %{native: native}
  end

  setup %{native: native} do
    Process.flag(:trap_exit, true)
    Node.monitor(native.node, true)
    on_exit(fn -> Node.monitor(native.node, false) end)
    evil = load(native)
    %{evil: evil, pid: ask(native, evil, :self)}
  end

  # Nobody but the evil one has noticed, and this process has got nothing.
  defp assert_nobody_noticed(native, title) do
    assert ask(native, :neighbour, :ping) == "pong", title
    assert ask(native, :trusted, :ping) == "pong", title
    assert Process.info(self(), :messages) == {:messages, []}, title
    assert native.node in Node.list(:hidden), title
  end

  # Each of the frames ends the worker that emits it, for a reason that matches.
  defp assert_each_ends_it(%{native: native, evil: evil}, frames) do
    for {{title, bytes, wanted}, count} <- Enum.with_index(frames, 1) do
      OS.eventually(fn -> match?("pong", catch_exit_of(fn -> ask(native, evil, :ping) end)) end, 60_000)
      cast(native, evil, "native.frame(...) erl.sleep(20000)", [bytes])
      why = why_ended(native, evil, count)
      assert why =~ wanted, "#{title}: #{why}"
      assert_nobody_noticed(native, title)
    end
  end

  defp catch_exit_of(fun) do
    fun.()
  catch
    :exit, reason -> reason
  end

  defp there(native, control, payload \\ "") do
    {native.node, control, payload}
  end

  # To this BEAM: a control message as a term, the payload too.
  defp here(control, payload), do: frame(node(), ext(control), ext(payload))
  defp here(control), do: frame(node(), ext(control))
  defp inside(native, control, payload), do: frame(native.node, ext(control), ext(payload))
  defp inside(native, control), do: frame(native.node, ext(control))

  describe "messages that nothing allows:" do
    test "to processes of the BEAM and of the node", %{native: native, pid: pid} = context do
      Process.register(self(), :native_victim)
      neighbour = ask(native, :neighbour, :self)
      kernel = Process.whereis(:net_kernel)
      control = :erpc.call(native.node, :erlang, :whereis, [:lunode])

      assert_each_ends_it(context, [
        {"to a pid", here({2, :"", self()}, :forged), ~r/a message to a pid that nothing allows/},
        {"to a pid, as a cast", here({2, :"", self()}, {:"$gen_cast", :forged}), ~r/to a pid/},
        {"with a token", here({12, :"", self(), :token}, :forged), ~r/to a pid/},
        {"to a name", here({6, pid, :"", :native_victim}, :forged), ~r/to a name .*native_victim/},
        {"to net_kernel", here({6, pid, :"", :net_kernel}, :forged), ~r/to a name .*net_kernel/},
        {"to its pid", here({2, :"", kernel}, :forged), ~r/to a pid/},
        {"to init", here({6, pid, :"", :init}, {:stop, :stop}), ~r/to a name/},
        {"to the node's lunode", inside(native, {6, pid, :"", :lunode}, :forged), ~r/to a name/},
        {"to its pid", inside(native, {2, :"", control}, :forged), ~r/to a pid/},
        {"to its net_kernel", inside(native, {6, pid, :"", :net_kernel}, :forged), ~r/to a name/},
        {"to a trusted handler", inside(native, {6, pid, :"", :trusted}, {:"$gen_cast", :x}),
         ~r/to a name/},
        {"to another worker's handler", inside(native, {6, pid, :"", :neighbour}, :forged),
         ~r/to a name/},
        {"to another worker's pid", inside(native, {2, :"", neighbour}, :forged), ~r/to a pid/},
        {"to a name that is no atom", here({6, pid, :"", "native_victim"}, :forged), ~r/to a name/},
        {"to a node that there isn't", frame(:nobody@nowhere, ext({6, pid, :"", :x}), ext(1)),
         ~r/to a name/}
      ])
    end

    test "in another's name", %{native: native} = context do
      Process.register(self(), :native_victim)
      neighbour = ask(native, :neighbour, :self)
      :ok = Lunode.unload(native.node, context.evil)
      load(native, context.evil, allow: [send: ["native_victim"]])

      assert_each_ends_it(context, [
        {"another worker's pid", here({6, neighbour, :"", :native_victim}, :forged), ~r/to a name/},
        {"a pid of the BEAM", here({6, self(), :"", :native_victim}, :forged), ~r/to a name/},
        {"no pid", here({6, :me, :"", :native_victim}, :forged), ~r/to a name/},
        {"a monitor", here({19, neighbour, :native_victim, make_ref()}), ~r/a monitor/},
        {"an rpc", here({29, make_ref(), neighbour, neighbour, {:erpc, :execute_call, 4}, [:monitor]},
           [make_ref(), :os, :cmd, [~c"true"]]), ~r/a call by rpc/}
      ])
    end
  end

  describe "replies that nobody waits for:" do
    test "to another worker's call, and with a wrong tag", %{native: native} = context do
      ref = make_ref()
      send({:neighbour, native.node}, {:"$gen_call", {self(), ref}, {:sleep, 60_000}})
      alias = :erlang.alias()
      tag = [:alias | alias]
      send({:neighbour, native.node}, {:"$gen_call", {self(), tag}, {:sleep, 60_000}})
      pid = context.pid

      assert_each_ends_it(context, [
        {"by its tag", here({2, :"", self()}, {ref, :forged}), ~r/a message to a pid/},
        {"by its alias", here({33, pid, alias}, {tag, :forged}), ~r/an answer to a call/},
        {"to a tag that there isn't", here({2, :"", self()}, {make_ref(), :forged}), ~r/to a pid/},
        {"to an alias that there isn't", here({33, pid, make_ref()}, {tag, :forged}),
         ~r/an answer to a call/}
      ])
    end

    test "a second one, one to a wrong pid, one of a wrong form", %{native: native} = context do
      %{evil: evil, pid: pid} = context
      other = spawn(fn -> Process.sleep(:infinity) end)

      cases = [
        {"the second", fn ref -> here({2, :"", self()}, {ref, :first}) end, 2, [:first]},
        {"to another", fn ref -> here({2, :"", other}, {ref, :forged}) end, 1, []},
        {"more than {Tag, Value}", fn ref -> here({2, :"", self()}, {ref, :forged, 1}) end, 1, []},
        {"as an alias, without its tag", fn ref -> here({33, pid, ref}, {:"$gen_cast", :x}) end, 1, []},
        {"as an alias, with another form of the tag",
         fn ref -> here({33, pid, ref}, {[:alias | ref], :forged}) end, 1, []},
        {"by another form of its tag", fn ref -> here({2, :"", self()}, {[:alias | ref], 1}) end, 1, []}
      ]

      for {{title, forge, times, answers}, count} <- Enum.with_index(cases, 1) do
        OS.eventually(fn -> catch_exit_of(fn -> ask(native, evil, :ping) end) == "pong" end, 60_000)
        ref = make_ref()
        source = "native.frame(...) erl.sleep(20000)"
        request = {:lua, source, forge.(ref), times}
        send({evil, native.node}, {:"$gen_call", {self(), ref}, request})
        assert why_ended(native, evil, count) =~ ~r/a message to a pid|an answer to a call/, title
        for answer <- answers, do: assert_receive({^ref, ^answer}, 5_000, title)
        assert_nobody_noticed(native, title)
      end
    end
  end

  describe "signals that are not due:" do
    test "each ends the worker", %{native: native, pid: pid} = context do
      ref = Process.monitor({:neighbour, native.node})
      neighbour = ask(native, :neighbour, :self)
      Process.link(neighbour)
      own = make_ref()
      leader = Process.group_leader()
      cmd = [make_ref(), :os, :cmd, [~c"touch /tmp/lunode_native_was_here"]]

      assert_each_ends_it(context, [
        {"monitor", here({19, pid, self(), own}), ~r/a monitor/},
        {"monitor by name", here({19, pid, :init, own}), ~r/a monitor/},
        {"link", here({1, pid, self()}), ~r/a link/},
        {"unlink", here({35, 5, pid, self()}), ~r/an unlink/},
        {"old unlink", here({4, pid, self()}), ~r/control message|an unlink/},
        {"acknowledged unlink", here({36, 5, pid, self()}), ~r/an acknowledged unlink/},
        {"exit through no link", here({3, pid, self(), :kill}), ~r/an exit signal through a link/},
        {"exit in the neighbour's name", here({3, neighbour, self(), :kill}), ~r/an exit signal/},
        {"exit", here({8, pid, self(), :kill}), ~r/an exit signal/},
        {"exit in the neighbour's name", here({8, neighbour, self(), :kill}), ~r/an exit signal/},
        {"group leader", here({7, pid, self()}), ~r/a change of the group leader/},
        {"DOWN of another's", here({21, neighbour, self(), ref, :forged}), ~r/a DOWN/},
        {"DOWN by the name", here({21, :neighbour, self(), ref, :forged}), ~r/a DOWN/},
        {"DOWN of nothing", here({21, pid, self(), own, :forged}), ~r/a DOWN/},
        {"spawn reply", here({31, own, self(), 0, pid}), ~r/an answer to a spawn/},
        {"spawn", here({29, own, pid, leader, {:os, :cmd, 1}, []}, [~c"true"]), ~r/a call by rpc/},
        {"erpc", here({29, own, pid, leader, {:erpc, :execute_call, 4}, [:monitor]}, cmd),
         ~r/a call by rpc/},
        {"NODE_DOWN", here({64}), ~r/a control message/}
      ])

      refute File.exists?("/tmp/lunode_native_was_here")
      Process.unlink(neighbour)
      Process.demonitor(ref)
    end
  end

  describe "frames that are no frames:" do
    test "each ends the worker", context do
      node = ext(node())

      assert_each_ends_it(context, [
        {"no term", <<6::32, 112, 131, 255, 255, 255, 255>>, ~r/cannot be read/},
        {"no control message", here({99, 1}), ~r/cannot be read/},
        {"a control message without a part", here({19, context.pid}), ~r/cannot be read/},
        {"bytes behind it", frame(node(), ext({2, :"", self()}) <> "bytes"), ~r/cannot be read/},
        {"a cut one", <<2 + byte_size(node)::32, 112, 131, node::binary>>, ~r/cannot be read/},
        {"no version", <<4::32, 112, 1, 2, 3>>, ~r/cannot be read/},
        {"another type", <<4::32, 68, 131, 68, 0>>, ~r/frame of unknown type 68/},
        {"of 4 GiB", <<0xFFFFFFFF::32, 112, 131>>, ~r/a frame of 4294967295 bytes/},
        {"just above the limit", <<256 * 1024 * 1024 + 1::32, 112, 131>>, ~r/a frame of 268435457/}
      ])
    end

    test "one that never ends: the node waits for it, and nobody else does", context do
      %{native: native, evil: evil} = context
      cast(native, evil, "native.frame(...) native.spin()", [<<1_000_000::32, 112, 131, "half">>])
      assert_nobody_noticed(native, "half a frame")
      assert why_ended(native, evil) =~ ~r/did not answer for \d+ ms/
      assert_nobody_noticed(native, "half a frame")
    end
  end

  test "pings and ticks mean nothing", %{native: native, evil: evil} do
    ping = here({65})
    source = "native.frame(...) return 'done'"
    assert ask(native, evil, {:lua, source, ping, 1_000}) == "done"
    assert ask(native, evil, {:lua, source, <<0::32>>, 1_000}) == "done"
    assert_nobody_noticed(native, "pings")
  end
end
