defmodule Lunode.CrowdTest do
  @moduledoc """
  Ends that cause very many others: all of them happen, each is told once, and no memory is kept.
  """
  use ExUnit.Case

  import Lunode.Test.OS
  alias Lunode.Test.OtherBeam

  @handler Path.expand("handlers/crowd.lua", __DIR__)
  @wait limit(60_000)
  @moduletag timeout: limit(180_000)

  setup do
    lua = start_supervised!({Lunode, handlers: @handler, log: false})
    %{node: Lunode.node(lua), os_pid: os_pid(lua)}
  end

  # So many; with sanitizers, or under valgrind, fewer.
  defp many(os_pid, n), do: if(keeps_freed?(os_pid), do: div(n, 10), else: n)

  defp start(node, args \\ [0]), do: Node.spawn(node, :crowd, :start, args)

  # The pids of a ring.
  defp members(n) do
    for _ <- 1..n do
      assert_receive {:member, _n, pid}, @wait
      pid
    end
  end

  # The node answers afterwards: nothing is on its way any more.
  defp assert_down_once(refs, reason, node) do
    downs =
      for _ <- refs do
        assert_receive {:DOWN, ref, :process, _pid, ^reason}, @wait
        ref
      end

    assert Enum.sort(downs) == Enum.sort(refs)
    assert GenServer.call({:crowd, node}, :told, @wait) == {0, 0, nil}
    refute_received {:DOWN, _ref, _process, _pid, _reason}
  end

  defp await_told(pid, count) do
    eventually(fn -> elem(GenServer.call(pid, :told, @wait), 0) >= count end, 60_000)
    GenServer.call(pid, :told, @wait)
  end

  test "a chain of 100,000 links: the first one's end is the end of all", context do
    %{node: node, os_pid: os_pid} = context
    chain(node, many(os_pid, 100_000))
    once = memory(os_pid)
    chain(node, many(os_pid, 100_000))
    unless keeps_freed?(os_pid), do: eventually(fn -> memory(os_pid) < once + 16 * 1024 end)
    assert GenServer.call({:crowd, node}, :told, @wait) == {0, 0, nil}
  end

  # The last one traps exits, so it tells when the end has come through all the others.
  defp chain(node, n) do
    first = start(node, [n, self(), :chain])
    assert_receive {:member, 0, last}, @wait
    Process.exit(first, :shutdown)
    assert_receive {:last, ^last, :shutdown}, @wait
    eventually(fn -> not :erpc.call(node, :erlang, :is_process_alive, [last]) end)
  end

  test "a ring of 20,000 links: one is killed, and each of the others ends once", context do
    %{node: node, os_pid: os_pid} = context
    n = many(os_pid, 20_000)
    start(node, [n - 1, self(), :ring])

    pids = members(n)
    refs = for pid <- pids, do: Process.monitor(pid)
    Process.exit(Enum.random(pids), :shutdown)
    assert_down_once(refs, :shutdown, node)
  end

  test "50,000 monitors of one process, by Lua and by a BEAM: each tells once", context do
    %{node: node, os_pid: os_pid} = context
    n = many(os_pid, 50_000)
    watched = start(node)
    watcher = start(node)
    GenServer.call(watcher, {:monitor, watched, n}, @wait)
    refs = for _ <- 1..n, do: Process.monitor(watched)

    Process.exit(watched, :shutdown)
    assert await_told(watcher, n) == {n, 0, :shutdown}
    assert_down_once(refs, :shutdown, node)
  end

  describe "a connection that is lost" do
    setup %{node: node} do
      {_peer, name} = beam = OtherBeam.start(code: true)
      assert OtherBeam.connect(beam, node)
      eventually(fn -> name in GenServer.call({:crowd, node}, :nodes) end)
      %{beam: beam}
    end

    test "with 20,000 links and as many monitors tells the end of each once", context do
      %{node: node, os_pid: os_pid, beam: beam} = context
      n = many(os_pid, 20_000)
      pids = OtherBeam.apply(beam, OtherBeam, :idle_here, [n])
      watcher = start(node)
      GenServer.call(watcher, {:watch, pids}, @wait)

      OtherBeam.disconnect(beam, node)
      assert await_told(watcher, 2 * n) == {2 * n, 0, :noconnection}
    end

    test "ends the 20,000 Lua processes that were linked across it", context do
      %{node: node, os_pid: os_pid, beam: beam} = context
      n = many(os_pid, 20_000)
      there = OtherBeam.idle(beam)
      GenServer.call({:crowd, node}, {:spawn, n, self(), there}, @wait)
      refs = for pid <- members(n), do: Process.monitor(pid)
      # What the other node does must not overtake the monitors.
      assert GenServer.call({:crowd, node}, :told, @wait) == {0, 0, nil}

      OtherBeam.disconnect(beam, node)
      assert_down_once(refs, :noconnection, node)
    end
  end
end
