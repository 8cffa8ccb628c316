defmodule Lunode.HostilePeerTest do
  @moduledoc """
  A peer that has the cookie and yet sends nonsense: it gets an error or nothing, and the node serves
  the others, and mostly that peer too.
  """
  use ExUnit.Case

  import Lunode.Test.OS
  alias Lunode.Test.{RawNode, WirePeer}

  setup do
    raw = RawNode.start_connected(handlers: script("echo.lua", echo()))
    %{raw: raw, peer: WirePeer.connect(raw)}
  end

  @one <<97, 1>>

  defp assert_served(raw, peer) do
    assert RawNode.ask(raw, {:still, 1}, 30_000) == {:still, 1}
    assert WirePeer.ask(peer, @one) == @one
  end

  defp assert_unreadable(peer, term, why) do
    assert {:error, {:undecodable, text}} = peer |> WirePeer.ask(term) |> WirePeer.value()

    assert text =~ why
  end

  describe "terms" do
    test "of headers that promise more than comes", %{raw: raw, peer: peer} do
      for tag <- [105, 108, 109, 116], count <- [1, 1000, 0x7FFFFFFF, 0xFFFFFFFF] do
        assert_unreadable(peer, <<tag, count::32>>, "cut off")
        assert_unreadable(peer, <<104, 1, 108, 9::32, tag, count::32, 97, 1>>, "cut off")
      end

      assert_unreadable(peer, <<104, 255, 97, 1>>, "cut off")
      assert_unreadable(peer, <<111, 0xFFFFFFFF::32, 0, 1>>, "cut off")
      assert_unreadable(peer, <<110, 9, 0, 1>>, "cut off")
      assert_unreadable(peer, <<77, 9::32, 3, 1>>, "cut off")
      assert_unreadable(peer, <<107, 9::16, 3, 1>>, "cut off")
      assert_served(raw, peer)
    end

    test "of what is no term", %{raw: raw, peer: peer} do
      for tag <- 0..255, tag not in 70..120 do
        assert_unreadable(peer, <<tag, 0::64>>, "there is no such tag")
      end

      assert_unreadable(peer, <<80, 4::32, :zlib.compress("a\1")::binary>>, "no such tag")
      assert_unreadable(peer, <<119, 2, 0xFF, 0xFE>>, "UTF-8")
      assert_unreadable(peer, <<118, 256::16, :binary.copy("x", 256)::binary>>, "256 characters")
      assert_unreadable(peer, <<70, 0x7FF0000000000000::64>>, "no number")
      assert_unreadable(peer, <<116, 2::32, 97, 1, 97, 2, 97, 1, 97, 3>>, "two equal keys")
      assert_unreadable(peer, <<77, 1::32, 9, 255>>, "bitstring")
      assert_served(raw, peer)
    end

    test "of pids, references and funs with wrong parts", %{raw: raw, peer: peer} do
      assert_unreadable(peer, <<88, 97, 1, 0::96>>, "an atom was expected")
      assert_unreadable(peer, <<88, 119, 3, "a@b", 0::64>>, "cut off")
      assert_unreadable(peer, <<90, 0::16, 119, 3, "a@b", 0::64>>, "reference")
      assert_unreadable(peer, <<90, 0xFFFF::16, 119, 3, "a@b", 0::64>>, "reference")
      assert_unreadable(peer, <<113, 119, 1, "m", 119, 1, "f", 98, 1::32>>, "arity")
      fun = <<1, 0::128, 0::32, 1::32, 119, 1, "m", 97, 0, 97, 0, 97, 0>>
      assert_unreadable(peer, <<112, byte_size(fun) + 4::32, fun::binary>>, "fun")
      assert_unreadable(peer, <<112, 0xFFFFFFFF::32, fun::binary>>, "fun")
      assert_served(raw, peer)
    end

    test "100,000 deep come back; 10,000,000 deep are an error", %{raw: raw, peer: peer} do
      deep = :binary.copy(<<104, 1>>, 100_000) <> <<106>>
      assert WirePeer.ask(peer, deep, 120_000) == deep

      for level <- [<<104, 1>>, <<108, 1::32>>, <<116, 1::32>>, <<116, 1::32, 97, 1>>] do
        assert_unreadable(peer, :binary.copy(level, 10_000_000) <> <<106>>, ~r/deep|cut off/)
      end

      assert_served(raw, peer)
    end

    test "integers of megabytes come back, up to what a BEAM holds", %{raw: raw, peer: peer} do
      for size <- [1_000_000, 4_194_296] do
        big = <<111, size::32, 0, :binary.copy(<<7>>, size)::binary>>
        assert WirePeer.ask(peer, big) == big
      end

      big = <<111, 5_000_000::32, 0, :binary.copy(<<7>>, 5_000_000)::binary>>
      assert_unreadable(peer, big, "an integer of 5000000 bytes: the limit is 4194296")
      assert_served(raw, peer)
    end
  end

  describe "frames" do
    test "that link a process to itself don't trouble its end", %{raw: raw, peer: peer} do
      pid = :erpc.call(raw.node, :erlang, :whereis, [:echo])
      ref = Process.monitor(pid)
      <<131, bytes::binary>> = :erlang.term_to_binary(pid, minor_version: 2)
      :ok = WirePeer.frame(peer, <<112, 131, 104, 3, 97, 1, bytes::binary, bytes::binary>>)
      assert_served(raw, peer)

      Process.exit(pid, :kill)
      assert_receive {:DOWN, ^ref, :process, ^pid, :killed}, limit(10_000)
      assert_served(raw, peer)
    end

    test "without a control message that can be read are ignored", %{raw: raw, peer: peer} do
      control =
        binary_part(WirePeer.to_any(peer, ""), 1, byte_size(WirePeer.to_any(peer, "")) - 1)

      frames =
        for(cut <- 0..(byte_size(control) - 1), do: binary_part(control, 0, cut)) ++
          [
            <<131>>,
            <<131, 105, 0xFFFFFFFF::32, 97, 6>>,
            <<131, 104, 1, 97, 6>>,
            <<131, 104, 4, 110, 200, 0, 6, 106, 106, 106>>,
            <<131, 80, 0::32>>,
            <<131, :binary.copy(<<104, 1>>, 1_000_000)::binary, 106>>,
            <<131, 104, 3, 97, 2, 106, :binary.copy(<<108, 1::32>>, 1_000_000)::binary>>,
            :crypto.strong_rand_bytes(10_000)
          ]

      for frame <- frames, do: :ok = WirePeer.frame(peer, [112, frame])
      assert_served(raw, peer)
    end

    test "with parts that are none of those expected do no harm", %{raw: raw, peer: peer} do
      odd = [@one, <<106>>, <<119, 0>>, WirePeer.atom("echo"), <<104, 0>>, WirePeer.ref(peer)]
      odd = odd ++ [WirePeer.pid(peer), <<88, 119, 3, "x@y", 0::96>>]
      tails = ["", <<131>>, <<131, 106>>, <<131, 104, 3, 119, 9, "$gen_call", 97, 1, 97, 1>>]

      for op <- 0..40, arity <- 1..7, a <- odd, b <- Enum.take_random(odd, 2), tail <- tails do
        parts = <<a::binary, b::binary, a::binary, b::binary, a::binary, b::binary, a::binary>>
        {_, used} = take(parts, arity)
        head = <<112, 131, 104, arity + 1, 97, op, binary_part(parts, 0, used)::binary>>
        :ok = WirePeer.frame(peer, [head, tail])
      end

      # What it sent may have been answered.
      :ok = WirePeer.frame(peer, WirePeer.to_any(peer, <<131, 119, 3, "end">>))
      assert Enum.find(Stream.repeatedly(fn -> WirePeer.next_frame(peer) end), &(&1 =~ "end"))
      assert RawNode.ask(raw, 1) == 1
    end

    test "that end a process with a reason that is cut off harm no other peer", context do
      %{raw: raw, peer: peer} = context
      caller = <<104, 2, WirePeer.pid(peer)::binary, WirePeer.ref(peer)::binary>>
      request = <<104, 2, WirePeer.atom("terminate")::binary, 104, 9, 97, 1>>
      system = <<131, 104, 3, WirePeer.atom("system")::binary, caller::binary, request::binary>>
      ref = Process.monitor({:echo, raw.node})
      :ok = WirePeer.frame(peer, WirePeer.to_any(peer, system))
      assert {_ref, {:error, {:undecodable, _}}} = WirePeer.sent(peer)
      assert_served(raw, peer)
      refute_received {:DOWN, ^ref, _, _, _}

      trap = "return function() erl.trap_exit(true) return erl.self() end"
      raw = RawNode.start_connected(handlers: script("trap.lua", trap))
      peer = WirePeer.connect(raw)
      pid = WirePeer.pid(peer)
      start = <<104, 3, WirePeer.atom("trap")::binary, WirePeer.atom("start")::binary, 97, 0>>
      head = <<104, 6, 97, 29, WirePeer.ref(peer)::binary, pid::binary, pid::binary>>
      :ok = WirePeer.frame(peer, <<112, 131, head::binary, start::binary, 106, 131, 106>>)
      <<112, 131, reply::binary>> = WirePeer.next_frame(peer)
      {31, _ref, _to, 0, process} = WirePeer.value(reply)
      assert GenServer.call(process, :trap) == process
      ref = Process.monitor(process)
      <<131, to::binary>> = :erlang.term_to_binary(process)
      exit = <<104, 3, WirePeer.atom("EXIT")::binary, pid::binary, 104, 9, 97, 1>>
      send = <<112, 131, 104, 3, 97, 2, 119, 0, to::binary, 131, exit::binary>>
      :ok = WirePeer.frame(peer, send)
      assert GenServer.call(process, :trap) == process
      refute_received {:DOWN, ^ref, _, _, _}
    end

    # {29, Ref, Pid, Pid, {echo, f, 1}, [monitor]}
    defp spawn_request(peer, payload) do
      pid = WirePeer.pid(peer)
      mfa = <<104, 3, WirePeer.atom("echo")::binary, WirePeer.atom("f")::binary, 97, 1>>
      options = <<108, 1::32, WirePeer.atom("monitor")::binary, 106>>

      <<112, 131, 104, 6, 97, 29, WirePeer.ref(peer)::binary, pid::binary, pid::binary,
        mfa::binary, options::binary, payload::binary>>
    end

    test "that ask for a process with arguments that are cut off", %{raw: raw, peer: peer} do
      for payload <- [<<107, 0xFFFF::16, 1>>, <<107, 2::16, 1>>, <<108, 9::32, 97, 1>>, <<>>] do
        :ok = WirePeer.frame(peer, spawn_request(peer, <<131, payload::binary>>))
        # {31, Ref, Pid, 0, badarg}
        assert WirePeer.next_frame(peer) =~ "badarg"
      end

      assert_served(raw, peer)
    end

    test "of another type, or over the limit, end that connection alone", %{raw: raw, peer: peer} do
      :ok = WirePeer.bare(peer, <<10::32, 68, 131>>)
      assert WirePeer.answer(peer) == {:error, :closed}
      assert [_ | _] = RawNode.lines_until(raw, ~r/frame of unknown type 68: connection dropped/)

      other = WirePeer.connect(raw)
      :ok = WirePeer.bare(other, <<0xFFFFFFFF::32, 112>>)
      assert WirePeer.answer(other) == {:error, :closed}
      assert [_ | _] = RawNode.lines_until(raw, ~r/frame of 4294967295 bytes; the limit/)
      assert RawNode.ask(raw, 1) == 1
    end

    @tag timeout: 300_000
    test "with any bytes changed do no harm", %{raw: raw, peer: peer} do
      seed = ExUnit.configuration()[:seed]
      :rand.seed(:exsss, seed)
      ref = WirePeer.ref(peer)
      pid = WirePeer.pid(peer)

      call =
        <<131, 104, 3, WirePeer.atom("$gen_call")::binary, 104, 2, pid::binary, 108, 1::32,
          WirePeer.atom("alias")::binary, ref::binary, 104, 2, 97, 5, 116, 1::32, 97, 1, 106>>

      monitor = <<112, 131, 104, 4, 97, 19, pid::binary, WirePeer.atom("echo")::binary>> <> ref
      good = [WirePeer.to_any(peer, call), WirePeer.to_any(peer, <<131, @one::binary>>), monitor]

      for _ <- 1..5_000 do
        <<112, rest::binary>> = Enum.random(good)
        :ok = WirePeer.frame(peer, [112, change(rest, :rand.uniform(3))])
      end

      assert RawNode.ask(raw, 1, 60_000) == 1, "seed #{seed}"
    end

    defp change(bytes, 0), do: bytes

    defp change(bytes, times) do
      at = :rand.uniform(byte_size(bytes)) - 1
      <<before::binary-size(at), _, rest::binary>> = bytes
      change(<<before::binary, :rand.uniform(256) - 1, rest::binary>>, times - 1)
    end

    # How many bytes `count` terms take.
    defp take(bytes, count) do
      Enum.reduce(1..count, {bytes, 0}, fn _, {rest, sum} ->
        {_, used} = :erlang.binary_to_term(<<131, rest::binary>>, [:used])
        {binary_part(rest, used - 1, byte_size(rest) - used + 1), sum + used - 1}
      end)
    end
  end

  describe "connections" do
    test "that stop in the middle of a frame hold nobody up", %{raw: raw, peer: peer} do
      :ok = WirePeer.bare(peer, <<100_000::32, 112, 131>>)
      for i <- 1..100, do: assert(RawNode.ask(raw, i) == i)
      other = WirePeer.connect(raw)
      assert_served(raw, other)
    end

    test "that never read what they are answered hold nobody up", %{raw: raw, peer: peer} do
      filling = <<109, 1_000_000::32, :crypto.strong_rand_bytes(1_000_000)::binary>>

      for _ <- 1..40,
          do: :ok = WirePeer.frame(peer, WirePeer.to_any(peer, <<131, filling::binary>>))

      for i <- 1..100, do: assert(RawNode.ask(raw, i) == i)
      for _ <- 1..40, do: assert(WirePeer.answer(peer) == filling)
      assert_served(raw, peer)
    end

    test "that never read hold up nobody but who sends to them", %{peer: peer} do
      fill = "return function(pid) while true do erl.send(pid, ('x'):rep(1048576)) end end"
      scripts = %{"fill.lua" => fill, "any.lua" => echo()}
      raw = RawNode.start_connected(handlers: folder(scripts))
      deaf = WirePeer.connect(raw, name: peer.name)
      pid = WirePeer.pid(deaf)
      to_fill = <<112, 131, 104, 4, 97, 6, pid::binary, 119, 0, WirePeer.atom("fill")::binary>>
      :ok = WirePeer.frame(deaf, <<to_fill::binary, 131, pid::binary>>)
      Process.sleep(1_000)

      # Each is answered by a DOWN, which nobody of this node's sends.
      for i <- 1..20 do
        nobody = WirePeer.atom("nobody")
        ref = WirePeer.ref(deaf, i)
        parts = <<pid::binary, nobody::binary, ref::binary>>
        :ok = WirePeer.frame(deaf, <<112, 131, 104, 4, 97, 19, parts::binary>>)
        assert RawNode.ask(raw, i) == i
      end
    end

    test "that come many at once under one name leave one", %{raw: raw, peer: peer} do
      me = self()

      connect = fn ->
        same = WirePeer.connect(raw, name: peer.name)
        :ok = :gen_tcp.controlling_process(same.socket, me)
        same
      end

      peers = Task.await_many(for(_ <- 1..50, do: Task.async(connect)), 30_000)
      assert RawNode.ask(raw, 1) == 1
      assert [_] = Enum.filter([peer | peers], &(WirePeer.ask(&1, @one, 5_000) == @one))
      last = WirePeer.connect(raw, name: peer.name)
      assert_served(raw, last)
    end
  end
end
