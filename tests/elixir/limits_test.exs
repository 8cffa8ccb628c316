defmodule Lunode.LimitsTest do
  @moduledoc "Whoever misbehaves, the node stays up and the others are served."
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Lunode.Test.OS, except: [script: 2]
  import Lunode.Test.Proc
  alias Lunode.Test.OtherBeam

  @moduletag :capture_log
  @moduletag timeout: 180_000

  defp start_limited(handlers) do
    folder =
      folder(%{
        "proc.lua" => File.read!(handler()),
        "other.lua" => File.read!(handler()),
        "lunode.lua" => "return { handlers = { #{handlers} } }\n"
      })

    lua = start_supervised!({Lunode, handlers: folder})
    %{lua: lua, node: Lunode.node(lua), os_pid: os_pid(lua)}
  end

  describe "a mailbox of 10:" do
    setup do
      context = start_limited("proc = { limits = { mailbox = 10 } }")
      # Busy until it is killed.
      pid = start(context.node)
      assert_lives(pid)
      GenServer.cast(pid, {:lua, "erl.send(a, 'busy') erl.sleep(60000)", self()})
      assert_receive "busy", 5_000
      Map.put(context, :pid, pid)
    end

    test "a caller beyond it is told at once, and the process lives", %{pid: pid, node: node} do
      for i <- 1..10, do: send(pid, i)

      assert {{:limit, :mailbox, 10, used}, _call} = catch_exit(ask(pid, :get, 60_000))
      assert used >= 10
      assert :erpc.call(node, :erlang, :is_process_alive, [pid])
      assert reason_after(pid, fn -> Process.exit(pid, :kill) end) == :killed
    end

    test "to Elixir that is an exception in plain words", %{pid: pid} do
      for i <- 1..10, do: send(pid, i)
      error = Lunode.Error.from_reason(:proc, catch_exit(ask(pid, :get, 60_000)))
      assert %Lunode.LimitError{handler: :proc, kind: :mailbox, max: 10, used: 10} = error
      assert Exception.message(error) =~ "the handler proc has a full mailbox"
    end

    test "of many callers those beyond it are told, the others are served", %{node: node} do
      pid = start(node)
      requests = for _ <- 1..50, do: :gen_server.send_request(pid, {:sleep, 100})
      answers = for r <- requests, do: :gen_server.receive_response(r, 60_000)
      {served, told} = Enum.split_with(answers, &(&1 == {:reply, 100}))
      # One is served while ten wait; which of the first come as it starts can't be known.
      assert length(served) in 10..15
      assert Enum.all?(told, &match?({:error, {{:limit, :mailbox, 10, _}, ^pid}}, &1))
      assert ask(pid, {:add, 1}) == 1
    end

    test "other messages beyond it are dropped, and the log says so", %{pid: pid, lua: lua} do
      log =
        capture_log(fn ->
          for i <- 1..1_000, do: send(pid, i)
          assert {{:limit, :mailbox, 10, _}, _} = catch_exit(ask(pid, :get))
          stop_supervised!(Lunode)
        end)

      refute Process.alive?(lua)
      assert log =~ "mailbox"
      # Said, not said a thousand times.
      assert length(String.split(log, "mailbox")) < 100
    end

    test "other processes and handlers are served", %{pid: pid, node: node} do
      for i <- 1..1_000, do: send(pid, i)
      assert ask(start(node), {:add, 1}) == 1
      assert ask({:other, node}, {:add, 1}) == 1
    end

    test "a full one can be linked and killed", %{pid: pid} do
      Process.flag(:trap_exit, true)
      for i <- 1..20, do: send(pid, i)
      Process.link(pid)
      assert reason_after(pid, fn -> Process.exit(pid, :kill) end) == :killed
      assert_receive {:EXIT, ^pid, :killed}, 5_000
    end

    test "the first ten are served when it has time", %{node: node} do
      pid = start(node)
      GenServer.cast(pid, {:sleep, 500})
      for i <- 1..30, do: send(pid, i)
      Process.sleep(600)
      assert seen = ask(pid, :messages)
      # The cast itself is one of the ten until it runs; then there is room for one more.
      assert length(seen) in 9..11
      assert Enum.take(seen, 9) == Enum.to_list(1..9)
      assert seen == Enum.sort(seen)
    end

    test "processes of a handler without the limit keep more", %{node: node} do
      pid = Node.spawn(node, :other, :start, [])
      GenServer.cast(pid, {:sleep, 200})
      for i <- 1..1_000, do: send(pid, i)
      eventually(fn -> ask(pid, :count) == 1_000 end)
    end
  end

  test "a wrong limit is an early failure that names it" do
    Process.flag(:trap_exit, true)
    folder = folder(%{"proc.lua" => File.read!(handler())})

    for wrong <- ["'many'", "0", "-1", "1.5", "{}"] do
      File.write!(
        Path.join(folder, "lunode.lua"),
        "return { handlers = { proc = { limits = { mailbox = #{wrong} } } } }"
      )

      assert {:error, {:start_failed, text}} = Lunode.start_link(handlers: folder)
      assert text =~ "lunode.lua" and text =~ "mailbox", inspect(text)
    end
  end

  describe "a peer that doesn't read:" do
    @mib 1_048_576
    # MiB that one process wants to send.
    @wanted 64

    setup do
      context = start_limited("")
      beam = start_beam()
      OtherBeam.connect(beam, context.node)
      receiver = OtherBeam.apply(beam, :proc, :child, [0])
      assert OtherBeam.call(beam, receiver, :get) == 0
      os_pid = OtherBeam.apply(beam, :os, :getpid, []) |> List.to_string()
      kill(os_pid, "STOP")
      on_exit(fn -> System.cmd("kill", ["-CONT", os_pid], stderr_to_stdout: true) end)
      Map.merge(context, %{beam: beam, receiver: receiver, beam_os_pid: os_pid})
    end

    # Counts in `sent`, which the processes of its handler share.
    @send "for i = 1, b do erl.send(a, ('x'):rep(1048576)) sent = (sent or 0) + 1 end"

    defp sent(node), do: ask({:proc, node}, {:lua, "return sent or 0"})

    # What was sent when nothing more went out for a while.
    defp stalled(node, before \\ -1) do
      now = sent(node)
      Process.sleep(500)
      if now == before, do: now, else: stalled(node, now)
    end

    test "the sender waits, others go on, and all arrives when it reads again", context do
      %{node: node, receiver: receiver, beam: beam, os_pid: os_pid} = context
      before = memory(os_pid)
      sender = start(node)
      GenServer.cast(sender, {:lua, @send, receiver, @wanted})

      count = stalled(node)
      assert count > 0 and count < @wanted
      # 8 MiB and what is being sent, and the socket's own buffers.
      unless keeps_freed?(os_pid), do: assert(memory(os_pid) - before < 48 * 1024)
      assert :erpc.call(node, :erlang, :is_process_alive, [sender])
      assert ask({:other, node}, {:add, 1}) == 1
      assert ask(start(node), {:add, 1}) == 1

      kill(context.beam_os_pid, "CONT")
      eventually(fn -> sent(node) == @wanted end, 60_000)
      eventually(fn -> OtherBeam.call(beam, receiver, :count) == @wanted end, 60_000)
      assert ask(sender, {:add, 1}) == 1
    end

    test "a sender that waits can be killed, and what it had sent arrives whole", context do
      %{node: node, receiver: receiver, beam: beam} = context
      sender = start(node)
      GenServer.cast(sender, {:lua, @send, receiver, @wanted})
      count = stalled(node)
      assert reason_after(sender, fn -> Process.exit(sender, :kill) end) == :killed

      kill(context.beam_os_pid, "CONT")
      eventually(fn -> OtherBeam.call(beam, receiver, :count) >= count end, 60_000)
      assert OtherBeam.call(beam, receiver, :count) in [count, count + 1]

      assert OtherBeam.call(beam, receiver, :sizes) == [@mib]
    end

    test "many senders wait alike, and go on alike", context do
      %{node: node, receiver: receiver, beam: beam} = context
      for _ <- 1..8, do: GenServer.cast(start(node), {:lua, @send, receiver, 8})
      assert stalled(node) < @wanted
      assert ask({:other, node}, {:add, 1}) == 1
      kill(context.beam_os_pid, "CONT")
      eventually(fn -> OtherBeam.call(beam, receiver, :count) == @wanted end, 60_000)
    end

    test "when it is lost the senders go on", context do
      %{node: node, receiver: receiver, beam_os_pid: beam_os_pid} = context
      sender = start(node)
      source = "pcall(function() #{@send} end) self.n = 77"
      GenServer.cast(sender, {:lua, source, receiver, @wanted})
      assert stalled(node) < @wanted
      # The BEAM ends, and with it the connection.
      kill(beam_os_pid)
      assert ask(sender, :get, 30_000) == 77
    end

    @tag :once
    test "one that stays silent for more than a minute is taken for lost", context do
      watcher = start(context.node)
      ref = lua(watcher, "return erl.monitor(a)", [context.receiver])

      eventually(fn -> ask(watcher, :count) == 1 end, 120_000)

      assert ask(watcher, :messages) ==
               [{:DOWN, ref, :process, context.receiver, :noconnection}]
    end
  end
end
