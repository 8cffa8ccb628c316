defmodule Lunode.NativeWorkerTest do
  @moduledoc """
  A worker that somebody has taken over, with native code of his own: what it sends past the engine
  ends it, and the log says what it was; nobody else notices.
  """
  use ExUnit.Case, async: false

  import Lunode.Test.NativeWorker
  alias Lunode.Test.{NativeWorker, OS}

  @moduletag :native_workers
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
    load(native, :sleeper)
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
      OS.eventually(
        fn -> match?("pong", catch_exit_of(fn -> ask(native, evil, :ping) end)) end,
        60_000
      )

      cast(native, evil, "native.frame(...) erl.sleep(100000)", [bytes])
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

  # To this BEAM: a control message as a term, the payload too.
  defp here(control, payload), do: frame(node(), ext(control), ext(payload))
  defp here(control), do: frame(node(), ext(control))
  defp inside(native, control, payload), do: frame(native.node, ext(control), ext(payload))

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
        {"to a name", here({6, pid, :"", :native_victim}, :forged),
         ~r/to a name .*native_victim/},
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
        {"to a name that is no atom", here({6, pid, :"", "native_victim"}, :forged),
         ~r/to a name/},
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
        {"another worker's pid", here({6, neighbour, :"", :native_victim}, :forged),
         ~r/to a name/},
        {"a pid of the BEAM", here({6, self(), :"", :native_victim}, :forged), ~r/to a name/},
        {"no pid", here({6, :me, :"", :native_victim}, :forged), ~r/to a name/},
        {"a monitor", here({19, neighbour, :native_victim, make_ref()}), ~r/a monitor/},
        {"an rpc",
         here(
           {29, make_ref(), neighbour, neighbour, {:erpc, :execute_call, 4}, [:monitor]},
           [make_ref(), :os, :cmd, [~c"true"]]
         ), ~r/a call by rpc/}
      ])
    end
  end

  describe "replies that nobody waits for:" do
    test "to another worker's call, and with a wrong tag", %{native: native} = context do
      ref = make_ref()
      alias = :erlang.alias()
      tag = [:alias | alias]

      for tag <- [ref, tag] do
        send({:sleeper, native.node}, {:"$gen_call", {self(), tag}, {:sleep, 100_000}})
      end

      pid = context.pid

      assert_each_ends_it(context, [
        {"by its tag", here({2, :"", self()}, {ref, :forged}), ~r/a message to a pid/},
        {"by its alias", here({33, pid, alias}, {tag, :forged}), ~r/an answer to a call/},
        {"to a tag that there isn't", here({2, :"", self()}, {make_ref(), :forged}),
         ~r/to a pid/},
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
        {"more than {Tag, Value}", fn ref -> here({2, :"", self()}, {ref, :forged, 1}) end, 1,
         []},
        {"as an alias, without its tag", fn ref -> here({33, pid, ref}, {:"$gen_cast", :x}) end,
         1, []},
        {"as an alias, with another form of the tag",
         fn ref -> here({33, pid, ref}, {[:alias | ref], :forged}) end, 1, []},
        {"by another form of its tag", fn ref -> here({2, :"", self()}, {[:alias | ref], 1}) end,
         1, []}
      ]

      for {{title, forge, times, answers}, count} <- Enum.with_index(cases, 1) do
        OS.eventually(
          fn -> catch_exit_of(fn -> ask(native, evil, :ping) end) == "pong" end,
          60_000
        )

        ref = :erlang.alias()
        source = "native.frame(...) erl.sleep(100000)"
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
        {"exit through no link", here({3, pid, self(), :kill}),
         ~r/an exit signal through a link/},
        {"exit in the neighbour's name", here({3, neighbour, self(), :kill}), ~r/an exit signal/},
        {"exit", here({8, pid, self(), :kill}), ~r/an exit signal/},
        {"exit in the neighbour's name", here({8, neighbour, self(), :kill}), ~r/an exit signal/},
        {"group leader", here({7, pid, self()}), ~r/a change of the group leader/},
        {"DOWN of another's", here({21, neighbour, self(), ref, :forged}), ~r/a DOWN/},
        {"DOWN by the name", here({21, :neighbour, self(), ref, :forged}), ~r/a DOWN/},
        {"DOWN of nothing", here({21, pid, self(), own, :forged}), ~r/a DOWN/},
        {"spawn reply", here({31, own, self(), 0, pid}), ~r/an answer to a spawn/},
        {"spawn", here({29, own, pid, leader, {:os, :cmd, 1}, []}, [~c"true"]),
         ~r/a call by rpc/},
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
        {"just above the limit", <<256 * 1024 * 1024 + 1::32, 112, 131>>,
         ~r/a frame of 268435457/}
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

  describe "terms that a BEAM would not take:" do
    test "in the answer to its own call", %{native: native, evil: evil} do
      new = fn from, to -> for i <- from..to, into: "", do: <<119, 9, "nw#{1_000_000 + i}">> end
      many = <<108, 80_000::32, new.(1, 80_000)::binary, 106>>

      cases = [
        {"a float that is none", <<131, 70, 0x7FF8000000000000::64>>},
        {"an infinite float", <<131, 70, 0x7FF0000000000000::64>>},
        {"an atom that is no UTF-8", <<131, 119, 2, 0xFF, 0xFE>>},
        {"an atom of 256 characters", <<131, 118, 256::16, String.duplicate("a", 256)::binary>>},
        {"a map with equal keys", <<131, 116, 2::32, 97, 1, 97, 1, 97, 1, 97, 2>>},
        {"a compressed term", :erlang.term_to_binary(List.duplicate(1, 1000), [:compressed])},
        {"a tuple of 4 thousand million", <<131, 105, 0xFFFFFFFF::32>>},
        {"a list of as many", <<131, 108, 0xFFFFFFFF::32, 97, 1>>},
        {"a binary of as many", <<131, 109, 0xFFFFFFFF::32, "a">>},
        {"a bit string of 9 bits a byte", <<131, 77, 1::32, 9, 1>>},
        {"a fun made up", <<131, 112, 100::32, 0, 1, 2, 3>>},
        {"no term", <<131, 255>>},
        {"bytes behind it", <<131, 97, 1, 97, 1>>},
        {"deep lists without an end", <<131, String.duplicate(<<108, 1::32>>, 100_000)::binary>>},
        {"80,000 new atoms", <<131, many::binary>>}
      ]

      atoms = :erlang.system_info(:atom_count)

      for {{title, <<131, value::binary>>}, count} <- Enum.with_index(cases, 1) do
        OS.eventually(
          fn -> catch_exit_of(fn -> ask(native, evil, :ping) end) == "pong" end,
          60_000
        )

        ref = make_ref()
        bytes = frame(node(), ext({2, :"", self()}), <<104, 2, ext(ref)::binary, value::binary>>)
        request = {:lua, "native.frame(...) erl.sleep(100000)", bytes}
        send({evil, native.node}, {:"$gen_call", {self(), ref}, request})

        assert why_ended(native, evil, count) =~ ~r/may not leave|nothing allows|cannot be read/,
               title

        assert_nobody_noticed(native, title)
      end

      assert :erlang.system_info(:atom_count) - atoms < 1_000
    end

    test "in what the node reads itself", %{native: native, evil: evil} = context do
      control = :erpc.call(native.node, :erlang, :whereis, [:lunode])
      test = self()

      spawn_link(fn ->
        :ok = Lunode.subscribe(native.node)
        send(test, :subscribed)
        keep_forged(test)
      end)

      assert_receive :subscribed, 30_000
      to = ext({2, :"", control})

      event = fn node, name, details ->
        parts = [ext(:lunode), ext(node), ext(:forged), ext(name), details]
        frame(native.node, to, <<104, 5, IO.iodata_to_binary(parts)::binary>>)
      end

      assert_each_ends_it(context, [
        {"an event with no float", event.(native.node, evil, <<70, 0x7FF8000000000000::64>>),
         ~r/may not leave/},
        {"an event of another handler", event.(native.node, :neighbour, <<97, 1>>), ~r/to a pid/},
        {"an event of another node", event.(node(), evil, <<97, 1>>), ~r/to a pid/}
      ])
    end

    # On a node of its own the reference of its next request to the worker is known: the first two
    # were for the worker's events and the load.
    defp forge_answer(value_for, ask_node) do
      native = NativeWorker.start()
      evil = load(native)
      control = :erpc.call(native.node, :erlang, :whereis, [:lunode])
      creation = binary_part(ext(control), byte_size(ext(control)), -4)
      ref = <<90, 3::16, ext(native.node)::binary, creation::binary, 3::32, 0::32, 2::32>>
      answer = <<104, 2, ref::binary, value_for.(evil)::binary>>
      bytes = frame(native.node, ext({2, :"", control}), answer)
      cast(native, evil, "native.nap(250) native.frame(...) native.nap(500)", [bytes])
      Process.sleep(100)
      result = ask_node.(native.node, evil)
      why = why_ended(native, evil)
      assert native.node in Node.list(:hidden)
      {evil, result, why}
    end

    test "in the answer to a load" do
      none = <<70, 0x7FF8000000000000::64>>
      {_evil, result, why} = forge_answer(fn _evil -> none end, &Lunode.reload/2)
      # On a busy machine the load has its answer before.
      assert result in [{:error, {:worker_exit, why}}, {:ok, 2}]
      assert why =~ "may not leave"
    end

    test "in its part of the statistics: others' names, and its own twice" do
      part = fn evil ->
        pairs = for name <- [:lunode, evil, evil, :none], into: "", do: ext(name) <> ext(%{})
        <<116, 1::32, ext(:handlers)::binary, 116, 4::32, pairs::binary>>
      end

      {evil, stats, _why} = forge_answer(part, fn node, _evil -> Lunode.stats(node) end)
      # On a busy machine it is too late for the report.
      assert stats.handlers in [%{evil => %{}}, %{}]
    end

    test "a reply of 100 MiB, for which the node takes no memory", context do
      %{native: native, evil: evil} = context
      before = OS.memory(native.raw.os_pid)
      ref = make_ref()
      size = 100 * 1_048_576
      start = <<104, 2, ext(ref)::binary, 109, size::32>>
      <<_::32, head::binary>> = frame(node(), ext({2, :"", self()}), start)
      source = "native.frame(...) native.frame(('x'):rep(2^20), 100) erl.sleep(100000)"
      request = {:lua, source, <<byte_size(head) + size::32, head::binary>>}
      send({evil, native.node}, {:"$gen_call", {self(), ref}, request})
      assert why_ended(native, evil) =~ ~r/a frame of \d+ bytes; the limit is/
      assert_nobody_noticed(native, "100 MiB")
      assert OS.memory(native.raw.os_pid) - before < 40_000
    end

    test "new atoms one by one", %{native: native, evil: evil} = context do
      Process.register(self(), :native_victim)
      :ok = Lunode.unload(native.node, evil)
      load(native, evil, allow: [send: ["native_victim"]])
      pid = ask(native, evil, :self)
      atoms = :erlang.system_info(:atom_count)

      frames =
        for i <- 1..100_000, into: "" do
          frame(node(), ext({6, pid, :"", :native_victim}), <<119, 9, "no#{1_000_000 + i}">>)
        end

      # In parts that a message may have.
      cast(native, evil, "f = ''", [])

      for <<part::binary-size(500_000) <- frames>>, reduce: 1 do
        1 -> cast(native, evil, "native.frame(...)", [part]) && 2
        n -> n
      end

      assert why_ended(native, evil) =~ ~r/new atoms/
      count = :erlang.system_info(:atom_count) - atoms
      assert count in 100..2_000
      flush()
      assert_nobody_noticed(context.native, "atoms")
    end
  end

  # The BEAM has to decode events, wherever they go.
  defp keep_forged(test) do
    receive do
      {:lunode, _node, :forged, _handler, _details} = event -> send(test, event)
      _other -> :ok
    end

    keep_forged(test)
  end

  defp flush do
    receive do
      _ -> flush()
    after
      500 -> :ok
    end
  end

  describe "what it says:" do
    test "in nobody's name but its own", %{native: native, evil: evil} do
      words = [
        "[error] neighbour: forged 1",
        "[error] trusted: forged 2",
        "[error] lunode: forged 3",
        "[info] lunode: x is ready",
        "ready",
        "\r[error] trusted: forged 4",
        "\e[2J[error] trusted: forged 5",
        "[error] trusted| forged 6",
        "[error] #{evil}: its own"
      ]

      cast(native, evil, "native.log(...)", [Enum.map_join(words, &(&1 <> "\n"))])

      OS.eventually(
        fn -> Enum.any?(lines(native), &(&1 == "[error] #{evil}: its own")) end,
        30_000
      )

      forged = Enum.filter(lines(native), &(&1 =~ "forged"))
      assert length(forged) == 6
      for line <- forged, do: assert(line =~ ~r/^\[(error|warning)\] worker: /, inspect(line))
      refute Enum.any?(lines(native), &String.contains?(&1, ["\e", "\r"]))
      refute "[info] lunode: x is ready" in lines(native)
      assert Enum.count(lines(native), &(&1 == "ready")) <= 1
    end

    test "a name of a node that would be lines of the log", %{native: native} = context do
      bytes = frame(:"x\n[error] trusted: forged 7", ext({2, :"", self()}), ext(1))
      assert_each_ends_it(context, [{"a name of lines", bytes, ~r/nothing allows/}])
      refute Enum.any?(lines(native), &String.starts_with?(&1, "[error] trusted: forged 7"))
    end

    test "last words accuse nobody else", %{native: native, evil: evil} do
      words = for name <- [:neighbour, :trusted, :lunode, ""], do: "\n!deadline #{name} 5 x:1\n"
      cast(native, evil, "native.log(...) native.exit(1)", [Enum.join(words)])
      assert why_ended(native, evil) =~ "it ended with status 1"
      # Neither does it excuse what it does afterwards.
      OS.eventually(fn -> catch_exit_of(fn -> ask(native, evil, :ping) end) == "pong" end, 60_000)

      source =
        "native.log('!deadline ' .. ... .. ' 5 x:1\\n') native.nap(300) native.frame('abcdefgh') native.nap(9000)"

      cast(native, evil, source, [Atom.to_string(evil)])
      assert why_ended(native, evil, 2) =~ ~r/it sent a frame/
      assert_nobody_noticed(native, "last words")
    end
  end

  describe "ends of other kinds:" do
    test "a crash, a status, an end of its channel closed, a loop that sees no signal", %{
      native: native,
      evil: evil
    } do
      endings = [
        {"native.crash()", ~r/killed by signal 6|status/},
        {"native.exit(7)", ~r/it ended with status 7/},
        {"native.syscall('close', 3)", ~r/it was killed by signal 9/},
        {"native.syscall('close', 4)", ~r/it was killed by signal 9/},
        {"native.loop()", ~r/ran \d+ ms without a place to interrupt it/},
        {"native.spin()", ~r/it did not answer for \d+ ms/}
      ]

      for {{source, wanted}, count} <- Enum.with_index(endings, 1) do
        OS.eventually(
          fn -> catch_exit_of(fn -> ask(native, evil, :ping) end) == "pong" end,
          60_000
        )

        cast(native, evil, source)
        assert why_ended(native, evil, count) =~ wanted, source
        assert_nobody_noticed(native, source)
      end
    end
  end

  describe "floods:" do
    @bystanders [:trusted, :neighbour]

    test "of frames and of log bytes: others are served meanwhile", %{native: native, evil: evil} do
      before = OS.memory(native.raw.os_pid)
      ping = :binary.copy(here({65}), 1_000)

      floods = [
        {"pings", "native.frame(...)", ping},
        {"log lines", "native.log(...)", :binary.copy("[error] x: a line\n", 1_000)},
        {"log bytes without a line's end", "native.log(...)", :binary.copy("x", 65_536)},
        {"ticks", "native.frame(...)", :binary.copy(<<0::32>>, 10_000)}
      ]

      for {title, source, bytes} <- floods do
        cast(native, evil, "local t = os.time() while os.time() - t < 4 do #{source} end", [bytes])

        times = Enum.sort(for _ <- 1..300, name <- @bystanders, do: time_of_ping(native, name))
        p99 = Enum.at(times, div(length(times) * 99, 100))
        IO.puts("#{title}: a bystander's p99 #{p99 / 1000} ms")
        assert p99 < limit_ms(native, 20) * 1000, title
        assert OS.memory(native.raw.os_pid) - before < 60_000, title
        Process.sleep(3_000)
      end

      assert_nobody_noticed(native, "floods")
    end

    defp time_of_ping(native, name) do
      Process.sleep(2)
      {time, "pong"} = :timer.tc(fn -> ask(native, name, :ping) end)
      time
    end

    # On a machine that others use, and with sanitizers, more.
    defp limit_ms(native, ms), do: OS.stretch(native.raw.os_pid, ms)
  end

  describe "the system:" do
    # The zone, and what keeps the event loop from calls that it may not make.
    @environment ~r/\A((TZ=[^\0\n]*|UV_USE_IO_URING=0)[\0\n])*\z/

    test "each call that it may not make ends it, and the log names it", context do
      %{native: native, evil: evil} = context
      node = native.raw.os_pid

      calls = [
        {"openat", "-100, '/etc/passwd', 0"},
        {"openat", "-100, '/proc/#{node}/mem', 2"},
        {"openat", "-100, '/proc/self/environ', 0"},
        {"unlinkat", "-100, '/tmp/x', 0"},
        {"socket", "2, 1, 0"},
        {"socket", "1, 1, 0"},
        {"connect", "3, 'x', 1"},
        {"clone", "17, 0, 0, 0, 0"},
        {"execve", "'/bin/true', 0, 0"},
        {"ptrace", "16, #{node}, 0, 0"},
        {"process_vm_readv", "#{node}, 0, 0, 0, 0, 0"},
        {"kill", "#{node}, 9"},
        {"kill", "#{node}, 0"},
        {"tgkill", "#{node}, #{node}, 23"},
        {"getppid", ""},
        {"prctl", "4, 1, 0, 0, 0"},
        {"dup", "3"},
        {"memfd_create", "'x', 0"},
        {"sendmsg", "3, 0, 0"},
        {"recvmsg", "3, 0, 0"},
        {"mount", "'none', '/tmp', 'tmpfs', 0, 0"},
        {"setuid", "0"},
        {"mmap", "0, 4096, 7, 34, -1, 0"}
      ]

      for {{name, args}, count} <- Enum.with_index(calls, 1) do
        OS.eventually(
          fn -> catch_exit_of(fn -> ask(native, evil, :ping) end) == "pong" end,
          60_000
        )

        args = if args == "", do: "", else: ", " <> args
        cast(native, evil, "native.syscall('#{name}'#{args}) erl.sleep(100000)")
        assert why_ended(native, evil, count) =~ "it ended with status 31", name
        words = ~r/worker: lunode: a worker tried the system call \d+ \(#{name}\)/
        assert Enum.count(lines(native), &(&1 =~ words)) >= 1, name
        assert_nobody_noticed(native, name)
      end

      assert Enum.count(lines(native), &(&1 =~ "tried the system call")) == length(calls)
    end

    test "it has the channel, a pipe for its log, and nothing of the node or of others",
         context do
      %{native: native, evil: evil} = context
      assert ask(native, evil, {:lua, "return native.environment()"}) =~ @environment
      # Beside these: /dev/null, and what the event loop has of its own.
      [pid, other] =
        for name <- [evil, :neighbour],
            do: ask(native, name, {:lua, "return (native.syscall('getpid'))"})

      own = descriptors(pid)
      for {_, to} <- own, do: assert(to =~ ~r/^(\/dev\/null|pipe:|anon_inode:)/, to)

      # The other end of each is the node's alone.
      for fd <- ["2", "3", "4"] do
        assert "pipe:" <> _ = own[fd]
        assert Enum.count(own, fn {_, to} -> to == own[fd] end) == 1
        assert Enum.count(descriptors(native.raw.os_pid), fn {_, to} -> to == own[fd] end) == 1
        refute own[fd] in Map.values(descriptors(other))
      end

      assert File.read!("/proc/#{pid}/environ") =~ @environment
    end

    defp descriptors(pid) do
      for fd <- File.ls!("/proc/#{pid}/fd"),
          {:ok, to} <- [File.read_link("/proc/#{pid}/fd/#{fd}")],
          into: %{},
          do: {fd, to}
    end

    test "the cookie is nowhere in its memory", %{native: native} do
      evil = load(native, nil, limits: [time: "300s", deadline: "300s"])
      hidden = fn text -> for <<byte <- text>>, into: "", do: <<255 - byte>> end

      scan = fn text ->
        ask(native, evil, {:lua, "return erl.list{native.scan(...)}", hidden.(text)}, 300_000)
      end

      [found, pages] = scan.(Atom.to_string(Node.get_cookie()))
      IO.puts("looked for the cookie in #{pages} pages of a worker")
      assert {found, pages > 500} == {0, true}
      # It does find what is there: its own name, and the text of a library.
      assert [n, _] = scan.(Atom.to_string(evil))
      assert n > 0
      assert [n, _] = scan.("attempt to yield across a C-call boundary")
      assert n > 0
    end
  end

  test "pings and ticks mean nothing", %{native: native, evil: evil} do
    ping = here({66})
    source = "native.frame(...) return 'done'"
    assert ask(native, evil, {:lua, source, ping, 1_000}) == "done"
    assert ask(native, evil, {:lua, source, <<0::32>>, 1_000}) == "done"
    assert_nobody_noticed(native, "pings")
  end
end
