defmodule Lunode.ControlRoughTest do
  @moduledoc "The process `lunode` when it is treated badly: garbage, crowds, ends at a bad moment."
  use ExUnit.Case, async: true

  import Lunode.Test.OS
  alias Lunode.Test.RawNode
  alias Lunode.Test.WirePeer

  @full %{trust: :full}

  # Takes half a second.
  @long "local t = os.clock() while os.clock() - t < 0.5 do end "

  @counter """
  local counter = {}
  function counter:init(start) self.n = start or 0 end
  function counter:add(k) self.n = self.n + (k or 1) return self.n end
  function counter:get() return self.n end
  function counter:ask(what) return erl.call(atom.lunode, what) end
  return counter
  """

  setup do
    folder =
      folder(%{"counter.lua" => @counter, "broken.lua" => "return {", "other.lua" => echo()})

    raw = RawNode.start(handlers: folder)
    RawNode.lines_until(raw, ~r/^ready$/)
    assert Node.connect(raw.node)
    counter = {:counter, raw.node}
    assert GenServer.call(counter, :get, limit(10_000)) == 0
    %{folder: folder, raw: raw, counter: counter, lunode: {:lunode, raw.node}}
  end

  defp ask(%{lunode: lunode}, request, ms \\ 10_000),
    do: GenServer.call(lunode, request, limit(ms))

  defp eval(context, source, handler \\ :counter), do: ask(context, {:eval, handler, source})

  defp prompt(context, source, handler \\ nil, pid \\ self()),
    do: ask(context, {:eval, handler, source, %{prompt: pid}})

  defp begin(context, request), do: :gen_server.send_request(context.lunode, request)

  defp answer(request) do
    assert {:reply, reply} = :gen_server.wait_response(request, limit(10_000))
    reply
  end

  # Everything that a look at the node needs works still.
  defp assert_well(context) do
    assert ask(context, :version) =~ "."
    assert %{handlers: %{counter: _}} = ask(context, :stats)
    assert is_list(ask(context, :handlers))
    assert eval(context, "1 + 1") == {:ok, [2]}
    assert eval(context, "1 + 1", nil) == {:ok, [2]}
  end

  describe "names:" do
    test "one with a NUL in it is not the one before the NUL", context do
      assert {:error, {:bad_name, _}} = ask(context, {:load, :"counter\0x", @counter, @full})
      assert {:error, {:bad_name, _}} = ask(context, {:load, :"\0", @counter, @full})
      assert length(Enum.filter(ask(context, :handlers), &(&1.name == :counter))) == 1
      assert_well(context)
    end

    test "one that is too long is refused with a reason", context do
      name = String.to_atom(String.duplicate("é", 250))
      assert {:error, {:bad_name, text}} = ask(context, {:load, name, @counter, @full})
      assert text =~ "name"
      name = String.to_atom(String.duplicate("a", 255))
      assert ask(context, {:load, name, @counter, @full}) == {:ok, 1}
      assert_well(context)
    end
  end

  describe "loads and unloads that meet:" do
    test "who waits for a load learns that the handler was unloaded", context do
      request = begin(context, {:load, :fresh, "while true do end", @full})
      assert ask(context, {:unload, :fresh}) == :ok
      assert answer(request) == {:error, :shutdown}
      request = begin(context, {:load, :counter, "while true do end", @full})
      assert ask(context, {:unload, :counter}) == :ok
      assert answer(request) == {:error, :shutdown}
    end

    test "a function that is called while its handler loads for the first time waits", context do
      text = @long <> "return { twice = function(_, n) return 2 * n end }"
      load = begin(context, {:load, :late, text, @full})
      {:ok, _} = ask(context, {:eval, :counter, "return 1"})
      assert :erpc.call(context.raw.node, :late, :twice, [4], 10_000) == 8
      assert answer(load) == {:ok, 1}
    end

    test "and ends when it does not load", context do
      load = begin(context, {:load, :late, @long <> "error('no')", @full})
      {:ok, _} = ask(context, {:eval, :counter, "return 1"})
      {pid, ref} = Node.spawn_monitor(context.raw.node, :late, :twice, [4])
      assert_receive {:DOWN, ^ref, :process, ^pid, :shutdown}, limit(5_000)
      assert {:error, {:lua_error, _, _}} = answer(load)
    end

    test "a reload of what has never been live begins the text again", context do
      first = begin(context, {:load, :fresh, "while true do end", @full})
      second = begin(context, {:reload, :fresh})
      third = begin(context, {:load, :fresh, @counter, @full})
      for request <- [first, second, third], do: assert(answer(request) == {:ok, 1})
      assert_well(context)
    end

    test "with the file of a handler its limits and its start come back", context do
      text = String.replace(@counter, "return self.n end", "return -self.n end")
      options = %{trust: :full, start: 42, limits: %{mailbox: 1}}
      assert ask(context, {:load, :counter, text, options}) == {:ok, 2}
      assert ask(context, {:unload, :counter}) == :ok
      eventually(fn -> GenServer.call(context.counter, :get) == 0 end)
      GenServer.stop(context.counter, :oops)

      eventually(fn ->
        GenServer.whereis(context.counter) && GenServer.call(context.counter, :get) == 0
      end)

      :sys.suspend(context.counter)
      for _ <- 1..10, do: GenServer.cast(context.counter, :add)
      :sys.resume(context.counter)
      assert GenServer.call(context.counter, :get) == 10
    end

    test "a process that was killed just before keeps the reason of its end", context do
      source = "return { terminate = function() end, get = function() return 1 end }"
      assert ask(context, {:load, :fresh, source, @full}) == {:ok, 1}
      pid = :erpc.call(context.raw.node, :erlang, :whereis, [:fresh])
      ref = Process.monitor(pid)
      Process.exit(pid, :kill)
      request = begin(context, {:unload, :fresh})
      assert answer(request) == :ok
      assert_receive {:DOWN, ^ref, :process, _, :killed}, limit(5_000)
    end

    test "a terminate that does not end is given five seconds", context do
      before = ask(context, :stats).processes

      source = """
      return { get = function() return 1 end,
               terminate = function() erl.spawn(erl.sleep, 1e6) while true do end end }
      """

      for _ <- 1..2 do
        assert ask(context, {:load, :fresh, source, @full}) == {:ok, 1}
        assert GenServer.call({:fresh, context.raw.node}, :get) == 1
        assert ask(context, {:unload, :fresh}) == :ok
      end

      assert_well(context)
      assert ask(context, :stats).processes == before + 4
      eventually(fn -> ask(context, :stats).processes == before end, 15_000)
      assert_well(context)
    end

    test "again and again while others evaluate, call and look", context do
      stop = :atomics.new(1, [])
      node = context.raw.node

      others =
        for i <- 1..4 do
          Task.async(fn ->
            Stream.repeatedly(fn ->
              source =
                Enum.at(
                  ["self.n", "erl.sleep(1)", "error('x')", "erl.call(atom.other, 1)"],
                  i - 1
                )

              ask(context, {:eval, :fresh, source})
              prompt(context, "x = (x or 0) + 1", :fresh)
              ask(context, {:complete, :fresh, "self:", self()})
              ask(context, Enum.at([:stats, :handlers, :version, {:reload, :fresh}], i - 1))
              catch_exit(exit(GenServer.call({:fresh, node}, :add)))
            end)
            |> Enum.find(fn _ -> :atomics.get(stop, 1) == 1 end)
          end)
        end

      for i <- 1..150 do
        ask(context, {:load, :fresh, @counter <> "-- #{i}", @full})
        if rem(i, 3) == 0, do: ask(context, {:load, :fresh, "return {", @full})
        ask(context, {:unload, :fresh})
      end

      :atomics.put(stop, 1, 1)
      Task.await_many(others, limit(30_000))
      assert_well(context)
    end
  end

  describe "asked by scripts:" do
    test "unloading a handler that is busy leaves the asker as it was", context do
      busy = """
      local busy = {}
      function busy:work()
        local guard <close> = setmetatable({}, { __close = function()
          local ok, why = pcall(erl.spawn, function() while true do end end)
          print("closed", ok, why)
        end })
        print("begun")
        erl.sleep(1e6)
      end
      function busy:terminate() end
      return busy
      """

      assert ask(context, {:load, :busy, busy, @full}) == {:ok, 1}
      GenServer.cast({:busy, context.raw.node}, :work)
      RawNode.lines_until(context.raw, ~r/begun/)
      assert GenServer.call(context.counter, {:ask, {:unload, :busy}}) == :ok
      assert Enum.join(RawNode.lines_until(context.raw, ~r/closed/)) =~ "closed\tfalse"
      source = "erl.call(atom.lunode, {atom.unload}) "
      assert {:error, {:lua_error, _, _}} = eval(context, source)
      assert GenServer.call(context.counter, {:ask, :version}) =~ "."
      assert_well(context)
    end

    test "an evaluation that unloads its own handler", context do
      source = "erl.call(atom.lunode, erl.tuple(atom.unload, atom.counter)) return 1"
      assert eval(context, source) == {:error, :shutdown}
      assert ask(context, {:unload, :counter}) == {:error, :noproc}
    end

    test "a script that subscribes is told, until it ends", context do
      source = """
      local log = {}
      function log:init() self.seen = {} erl.call(atom.lunode, erl.tuple(atom.subscribe, erl.self())) end
      function log:lunode(node, event, handler) table.insert(self.seen, erl.tuple(event, handler)) end
      function log:seen_so_far() return erl.list(self.seen) end
      return log
      """

      assert ask(context, {:load, :log, source, @full}) == {:ok, 1}
      log = {:log, context.raw.node}
      assert GenServer.call(log, :seen_so_far) == []
      assert ask(context, {:reload, :counter}) == {:ok, 2}
      assert GenServer.call(log, :seen_so_far) == [{:reloaded, :counter}]
      assert ask(context, {:unload, :log}) == :ok
      assert ask(context, {:reload, :counter}) == {:ok, 3}
      assert_well(context)
    end
  end

  describe "evaluations:" do
    test "a prompt in a handler that does not load keeps nothing that belongs elsewhere",
         context do
      assert prompt(context, "x = 1") == {:ok, []}
      other = spawn(fn -> Process.sleep(:infinity) end)
      assert prompt(context, "y = 2", :broken, other) == {:ok, []}
      assert prompt(context, "print ~= nil", nil, other) == {:ok, ["true"]}
      assert prompt(context, "x = 3", nil, other) == {:ok, []}
      assert prompt(context, "x, y", nil, other) == {:ok, ["3", "nil"]}
      assert prompt(context, "print ~= nil, x", :broken) == {:ok, ["true", "nil"]}
      assert prompt(context, "x") == {:ok, ["1"]}
      Process.exit(other, :kill)
      eventually(fn -> prompt(context, "x", nil, other) != {:ok, ["3"]} end)
      assert prompt(context, "x") == {:ok, ["1"]}
    end

    test "a function that is spawned in a fresh environment runs", context do
      source = """
      local me = erl.self()
      erl.spawn(function(...) erl.send(me, erl.tuple(...)) end, 1, 2)
      return (erl.receive(5000))
      """

      assert eval(context, source, nil) == {:ok, [{1, 2}]}
      assert eval(context, source, :broken) == {:ok, [{1, 2}]}
      assert eval(context, source) == {:ok, [{1, 2}]}
    end

    test "many values, and none that can be shown or sent", context do
      many = "local t = {} for i = 1, 5000 do t[i] = erl.tuple(i, {a = i}) end "
      assert {:ok, values} = eval(context, many <> "return table.unpack(t)")
      assert List.last(values) == {5000, %{"a" => 5000}}
      assert {:ok, texts} = prompt(context, many <> "return table.unpack(t)")
      assert List.last(texts) == ~s({5000, %{"a" => 5000}})
      files = "local t = {} for i = 1, 300 do t[i] = io.stdout end return table.unpack(t)"
      assert {:ok, [_ | _]} = prompt(context, files)

      bad =
        "getmetatable(io.stdout).__tostring = function() error('no text') end return 1, io.stdout"

      assert {:error, {:lua_error, text, _}} = prompt(context, bad)
      assert text =~ "no text"
    end

    test "its failures are not the handler's", context do
      assert {:error, {:lua_error, _, _}} = eval(context, "error('typo')")
      assert {:error, :oops} = eval(context, "erl.exit(atom.oops)")
      assert {:error, :normal} = eval(context, "erl.exit(atom.normal)")
      assert ask(context, :stats).handlers.counter.errors == 0
      counter = Enum.find(ask(context, :handlers), &(&1.name == :counter))
      assert %{last_error: nil, state: :running} = counter
      refute Enum.join(logged(context.raw)) =~ ~r/typo|oops/
    end

    defp logged(raw) do
      line = RawNode.next(raw, 200)
      if is_binary(line), do: [line | logged(raw)], else: []
    end

    test "thousands at once, and thousands of prompts that die", context do
      requests =
        for i <- 1..2_000, do: begin(context, {:eval, :counter, "erl.sleep(100) return #{i}"})

      for {request, i} <- Enum.with_index(requests, 1), do: assert(answer(request) == {:ok, [i]})

      round = fn ->
        pids = for _ <- 1..500, do: spawn(fn -> Process.sleep(:infinity) end)

        requests =
          for pid <- pids do
            begin(context, {:subscribe, pid})
            begin(context, {:eval, nil, "t = ('x'):rep(2000)", %{prompt: pid}})
            begin(context, {:eval, nil, "while true do end", %{prompt: pid}})
          end

        for pid <- pids, do: Process.exit(pid, :kill)
        for request <- requests, do: assert({:error, _} = answer(request))
      end

      round.()
      assert_well(context)
      before = ask(context, :stats)
      for _ <- 1..3, do: round.()
      eval(context, "collectgarbage()", nil)
      later = ask(context, :stats)
      assert later.processes == before.processes
      assert_well(context)
    end

    test "completion in a table of very many names looks at some of them", context do
      assert prompt(context, "t = {} for i = 1, 1e5 do t['k' .. i] = i end") == {:ok, []}
      assert names = ask(context, {:complete, nil, "t.", self()})
      assert length(names) == 200 and Enum.all?(names, &(&1 =~ ~r/^t\.k\d+$/))
      assert is_list(ask(context, {:complete, nil, "t.k1", self()}))
      assert_well(context)
    end

    test "what is printed without an end of line leaves in parts", context do
      source = "for i = 1, 300 do io.write(('x'):rep(1000)) end return 1"
      assert prompt(context, source) == {:ok, ["1"]}
      node = context.raw.node
      parts = collect(node)
      assert Enum.sum(Enum.map(parts, &byte_size/1)) == 300_000
      assert Enum.all?(parts, &(byte_size(&1) <= 70_000))
    end

    defp collect(node) do
      receive do
        {:lunode_output, ^node, text} -> [text | collect(node)]
      after
        0 -> []
      end
    end

    test "nothing of a great output is lost", context do
      source = "local s = ('x'):rep(3e6) for i = 1, 20 do print(s) end print('end')"
      assert prompt(context, source) == {:ok, []}
      parts = collect(context.raw.node)
      assert length(parts) == 21
      assert List.last(parts) == "end"
    end
  end

  describe "garbage:" do
    test "OTP's system messages fail at once, instead of waiting in vain", context do
      for request <- [:get_state, {:terminate, :normal}, :suspend] do
        assert {:undef, _, _} =
                 catch_exit(:gen.call(context.lunode, :system, request, limit(5_000)))
      end

      assert_well(context)
    end

    test "requests whose bytes are cut, changed or made up", context do
      peer = WirePeer.connect(context.raw)
      :rand.seed(:exsss, {1, 2, 3})

      for term <- [
            :stats,
            {:eval, :counter, "1 + 1"},
            {:eval, :counter, "1 + 1", %{prompt: :pid}},
            {:load, :x, "return {}", %{trust: :full, start: [1, 2], limits: %{mailbox: 5}}},
            {:load, :x, "return {}", [limits: [time: "5s"], allow: %{send: ["a"], rpc: ["b.c"]}]},
            {:complete, :counter, "self:a.b", :pid},
            {:subscribe, :pid},
            {:interrupt, :pid},
            {:unload, :nobody},
            {:reload, :nobody},
            {:DOWN, make_ref(), :process, :pid, :x}
          ],
          _ <- 1..200 do
        bytes = spoil(bytes_of(term, peer))
        head = if :rand.uniform(5) == 1, do: "", else: call(peer)
        :ok = WirePeer.frame(peer, to_lunode(peer, head <> bytes))
      end

      assert_well(context)
    end

    # The peer's own pid stands for :pid.
    defp bytes_of(term, peer) do
      <<131, bytes::binary>> = :erlang.term_to_binary(term, minor_version: 2)
      String.replace(bytes, WirePeer.atom("pid"), WirePeer.pid(peer))
    end

    defp spoil(bytes) do
      size = byte_size(bytes)

      case :rand.uniform(3) do
        1 -> binary_part(bytes, 0, :rand.uniform(size) - 1)
        2 -> change(bytes, :rand.uniform(size) - 1)
        3 -> :rand.bytes(:rand.uniform(40))
      end
    end

    defp change(bytes, at) do
      <<head::binary-size(at), _, rest::binary>> = bytes
      <<head::binary, :rand.uniform(256) - 1, rest::binary>>
    end

    defp to_lunode(peer, payload) do
      <<112, 131, 104, 4, 97, 6, WirePeer.pid(peer)::binary, WirePeer.atom("")::binary,
        WirePeer.atom("lunode")::binary, 131, payload::binary>>
    end

    # A call whose caller does not monitor the process.
    defp request(peer, bytes) do
      :ok = WirePeer.frame(peer, to_lunode(peer, call(peer) <> bytes))
    end

    defp call(peer) do
      <<104, 3, WirePeer.atom("$gen_call")::binary, 104, 2, WirePeer.pid(peer)::binary,
        WirePeer.ref(peer)::binary>>
    end

    test "a prompt whose node does not read makes its evaluation wait; other events are dropped",
         context do
      peer = WirePeer.connect(context.raw)
      pid = WirePeer.pid(peer)
      request(peer, <<104, 2, WirePeer.atom("subscribe")::binary, pid::binary>>)
      source = "for i = 1, 300 do print(i, ('x'):rep(100000)) end"

      eval =
        <<104, 4, WirePeer.atom("eval")::binary, WirePeer.atom("counter")::binary, 109,
          byte_size(source)::32, source::binary, 116, 1::32, WirePeer.atom("prompt")::binary,
          pid::binary>>

      request(peer, eval)
      eventually(fn -> unmoved(context) end, 30_000)
      for i <- 1..50, do: ask(context, {:load, :counter, @counter <> "-- #{i}", @full})
      assert_well(context)
      # for its pid alone: that it is watched
      assert <<112, 131, 104, 4, 97, 19, _::binary>> = WirePeer.next_frame(peer)
      texts = outputs(peer)
      assert Enum.map(texts, &hd(String.split(&1, "\t"))) == Enum.map(1..300, &to_string/1)
      :gen_tcp.close(peer.socket)

      eventually(fn -> not Map.has_key?(ask(context, :stats).peers, String.to_atom(peer.name)) end)

      assert_well(context)
    end

    # The evaluation neither runs nor has ended.
    defp unmoved(context) do
      look = fn -> Map.take(ask(context, :stats).handlers.counter, [:run_time, :processes]) end
      before = look.()
      Process.sleep(200)
      before.processes == 2 and look.() == before
    end

    # The texts that were printed, up to the evaluation's reply; no event after the first megabytes.
    defp outputs(peer) do
      case WirePeer.sent(peer) do
        {:lunode_output, _node, text} -> [text | outputs(peer)]
        {_ref, {:ok, []}} -> []
        {_ref, :ok} -> outputs(peer)
      end
    end
  end
end
