defmodule Lunode.TopTest do
  use ExUnit.Case

  import Lunode.Test.OS
  alias Lunode.Test.{Keyboard, RawNode, StandIn}

  # Each time it is asked a second has passed, in which `a` had 1000 messages more.
  defp start_counting do
    counter = :counters.new(1, [])

    StandIn.start(fn :stats ->
      :counters.add(counter, 1, 1)
      n = :counters.get(counter, 1)
      handlers = %{a: %{messages: 1000 * n, memory: 1}, b: %{messages: n, memory: 1024 * 1024}}
      StandIn.stats(handlers, uptime: 1000 * n)
    end)
  end

  defp top(node, opts), do: Keyboard.start(fn -> Lunode.top(node, opts) end, echo: true)

  # Of the last time that it was drawn.
  defp last(written), do: written |> String.split("\e[H") |> List.last()

  test "shows the table until q is pressed" do
    top = start_counting() |> top(interval: 60_000)
    assert Keyboard.await(top, "q quits") =~ ~r/\na .*\n.*b /
    Keyboard.type(top, "q")
    assert Keyboard.await_end(top) == :ok
  end

  test "refreshes it, with what happens per second" do
    top = start_counting() |> top(interval: 10)
    eventually(fn -> last(Keyboard.written(top)) =~ ~r/^a +1000 /m end)
    eventually(fn -> length(String.split(Keyboard.written(top), "\e[H")) > 5 end)
    Keyboard.type(top, "q")
    assert Keyboard.await_end(top) == :ok
  end

  test "shows what the handlers of a node do" do
    lua =
      start_supervised!({Lunode, handlers: folder(%{"busy.lua" => echo(), "idle.lua" => echo()})})

    eventually(fn -> Enum.all?(Lunode.handlers(lua), &(&1.state == :running)) end)
    top = top(lua, interval: 50)
    Keyboard.await(top, "#{Lunode.node(lua)}   up ")
    for _ <- 1..1000, do: Lunode.call(lua, :busy, 1)

    eventually(fn ->
      last(Keyboard.written(top)) =~ ~r/^busy +[1-9].*\nidle +0 /m ||
        (Lunode.call(lua, :busy, 1) && nil)
    end)

    Keyboard.type(top, "q")
    assert Keyboard.await_end(top) == :ok
  end

  test "is sorted anew at once when a key is pressed" do
    top = start_counting() |> top(interval: 60_000)
    Keyboard.await(top, ~r/\*Msg\/s.*\na .*\nb /s)
    Keyboard.type(top, "x\e[Ay")
    Keyboard.await(top, ~r/\*memorY.*\nb .*\na /s)
    assert_received {:asked, :stats}
    refute_received {:asked, :stats}
    Keyboard.type(top, "Q")
    assert Keyboard.await_end(top) == :ok
  end

  test "is sorted as the option says" do
    top = start_counting() |> top(interval: 60_000, sort: :memory)
    Keyboard.await(top, ~r/\*memorY.*\nb .*\na /s)
    Keyboard.type(top, <<3>>)
    assert Keyboard.await_end(top) == :ok
  end

  test "keys come one by one meanwhile, and in lines afterwards" do
    top = start_counting() |> top([])
    Keyboard.await(top, "q quits")
    assert Keyboard.opts(top)[:echo] == false
    Keyboard.type(top, "q")
    Keyboard.await_end(top)
    assert Keyboard.opts(top)[:echo] == true
  end

  test "without a keyboard shows the table once" do
    node = start_counting()
    {:ok, device} = StringIO.open("")

    task =
      Task.async(fn ->
        Process.group_leader(self(), device)
        Lunode.top(node)
      end)

    assert Task.await(task) == :ok
    {"", written} = StringIO.contents(device)
    assert written =~ ~r/\na .*\n.*b /
  end

  test "a node that ends is told, the last figures stay" do
    raw = RawNode.start_ready(handlers: script("any.lua", echo()))
    StandIn.start(fn :stats -> StandIn.stats(%{a: %{}}) end)
    assert Node.connect(raw.node)
    top = top(raw.node, interval: 20)
    Keyboard.await(top, "#{raw.node} ")
    kill(raw.os_pid)
    Keyboard.await(top, "#{raw.node} is not connected")
    Keyboard.type(top, "q")
    assert Keyboard.await_end(top) == :ok
  end

  test "wrong options are refused" do
    assert_raise ArgumentError, ~r/sort: must be one of/, fn -> Lunode.top(node(), sort: :age) end
    assert_raise ArgumentError, ~r/interval: must be/, fn -> Lunode.top(node(), interval: 0) end
    assert {:noproc, _} = catch_exit(Lunode.top(TopTest.NoSuchServer))
  end
end
