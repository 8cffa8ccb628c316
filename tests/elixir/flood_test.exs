defmodule Lunode.FloodTest do
  @moduledoc "Far more messages at once than are read: all answered, in order, and no memory kept."
  use ExUnit.Case

  import Lunode.Test.OS
  alias Lunode.Test.RawNode

  # KiB. What Lua and the buffers keep for the next flood.
  @allowance 4 * 1024

  setup do
    raw = RawNode.start_connected(handlers: script("echo.lua", echo()))
    for i <- 1..100, do: assert(RawNode.ask(raw, i) == i)
    %{raw: raw}
  end

  @tag timeout: limit(120_000)
  test "1,000 messages of 64 KiB, sent without reading between", %{raw: raw} do
    before = memory(raw.os_pid)
    filling = :crypto.strong_rand_bytes(65_536 - 4)
    for i <- 1..1_000, do: send({:any, raw.node}, <<i::32, filling::binary>>)
    for i <- 1..1_000, do: assert(RawNode.answer(raw, 30_000) == <<i::32, filling::binary>>)
    assert_memory_back(raw, before)
  end

  @tag timeout: limit(120_000)
  test "100,000 small messages, fired at once", %{raw: raw} do
    before = memory(raw.os_pid)
    for i <- 1..100_000, do: send({:any, raw.node}, i)
    for i <- 1..100_000, do: assert(RawNode.answer(raw, 30_000) == i)
    assert_memory_back(raw, before)
  end

  # From 256 KiB on a message keeps the buffer that it was read into, unless more was read with it.
  @tag timeout: limit(120_000)
  test "long and short messages in turns, also to one that ends before it reads", %{raw: raw} do
    filling = :crypto.strong_rand_bytes(2_000_000)
    sizes = [300_000, 10, 262_144, 262_100, 262_200, 2_000_000, 0, 1_000_000]

    for round <- 1..10, size <- sizes do
      send({:any, raw.node}, {round, binary_part(filling, 0, size)})
      if rem(round, 3) == 0, do: Process.sleep(2)
    end

    for round <- 1..10, size <- sizes do
      assert RawNode.answer(raw, 30_000) == {round, binary_part(filling, 0, size)}
    end

    pid = Node.spawn(raw.node, :any, :start, [])
    for size <- sizes, do: send(pid, binary_part(filling, 0, size))
    Process.exit(pid, :kill)
    assert RawNode.ask(raw, 1) == 1
  end

  @tag timeout: limit(120_000)
  test "20,000 calls from 100 processes", %{raw: raw} do
    before = memory(raw.os_pid)

    for caller <- 1..100 do
      Task.async(fn ->
        for i <- 1..200, do: assert(GenServer.call({:any, raw.node}, {caller, i}) == {caller, i})
      end)
    end
    |> Task.await_many(limit(60_000))

    assert_memory_back(raw, before)
  end

  test "also when a message comes every 100 ms ever after", %{raw: raw} do
    before = memory(raw.os_pid)
    filling = :crypto.strong_rand_bytes(65_536 - 4)
    for i <- 1..1_000, do: send({:any, raw.node}, <<i::32, filling::binary>>)
    for i <- 1..1_000, do: assert(RawNode.answer(raw, 30_000) == <<i::32, filling::binary>>)

    unless keeps_freed?(raw.os_pid) do
      eventually(fn ->
        Process.sleep(95)
        assert RawNode.ask(raw, 1) == 1
        memory(raw.os_pid) - before < @allowance
      end)
    end
  end

  test "a receiver that doesn't read doesn't stop the others", %{raw: raw} do
    # The replies fill a process that never looks at its mailbox.
    deaf = spawn(fn -> Process.sleep(:infinity) end)
    me = self()
    filling = :crypto.strong_rand_bytes(65_536)

    spawn(fn ->
      for _ <- 1..200, do: send({:any, raw.node}, filling)
      send(me, :sent)
    end)

    for i <- 1..100, do: assert(GenServer.call({:any, raw.node}, i, limit(10_000)) == i)
    assert_receive :sent, limit(10_000)
    Process.exit(deaf, :kill)
  end

  defp assert_memory_back(raw, before) do
    unless keeps_freed?(raw.os_pid) do
      eventually(fn -> memory(raw.os_pid) < before + @allowance end)
    end
  end
end
