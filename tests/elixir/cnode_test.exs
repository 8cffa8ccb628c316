defmodule Lunode.CNodeTest do
  @moduledoc "The functions of Bundlex.CNode, with its meaning."
  use ExUnit.Case

  import ExUnit.CaptureLog
  import Lunode.Test.OS
  alias Lunode.CNode
  require CNode

  @main """
  local main = {}
  function main:add(a, b) return a + b end
  function main:crash() error("on purpose") end
  function main:quiet() end
  function main:ask() self.from = erl.from(); return erl.noreply end
  function main:answer(value) erl.reply(self.from, value) end
  return main
  """

  setup do
    Application.put_env(:lunode, :native, handlers: script("main.lua", @main))
    on_exit(fn -> Application.delete_env(:lunode, :native) end)
  end

  defp start_native do
    {:ok, cnode} = CNode.start_link(:lunode, :native)
    cnode
  end

  test "has the functions and macros of Bundlex.CNode, and no other" do
    assert CNode.__info__(:functions) |> Keyword.drop([:__struct__]) ==
             [call: 2, call: 3, monitor: 1, send: 2, start: 2, start_link: 2, stop: 1]

    assert CNode.__info__(:macros) == [start: 1, start_link: 1]
  end

  test "start_link/2 gives a struct with the server and the node" do
    assert {:ok, %CNode{server: server, node: node} = cnode} = CNode.start_link(:lunode, :native)
    assert is_pid(server) and is_atom(node)
    assert {:links, links} = Process.info(self(), :links)
    assert server in links
    assert CNode.stop(cnode) == :ok
  end

  test "start_link/1 and start/1 take the calling module's application" do
    assert {:ok, cnode} = CNode.start_link(:native)
    assert CNode.call(cnode, {:add, 1, 2}) == 3
    assert CNode.stop(cnode) == :ok
    assert {:ok, cnode} = CNode.start(:native)
    assert CNode.call(cnode, {:add, 1, 2}) == 3
    assert CNode.stop(cnode) == :ok
  end

  test "without a configuration the environment says what runs" do
    System.put_env("LUNODE_HANDLERS", script("env.lua", "return function() return 'env' end"))
    on_exit(fn -> System.delete_env("LUNODE_HANDLERS") end)
    assert {:ok, cnode} = CNode.start_link(:some_app, :lunode)
    assert CNode.call(cnode, :hello) == "env"
    CNode.stop(cnode)
  end

  test "the end of the starter ends a node that was started with start_link, not one with start" do
    me = self()

    {_pid, ref} =
      spawn_monitor(fn ->
        {:ok, linked} = CNode.start_link(:lunode, :native)
        {:ok, free} = CNode.start(:lunode, :native)
        send(me, {linked, free})
      end)

    assert_receive {:DOWN, ^ref, :process, _, _}, limit(5_000)
    assert_received {linked, free}
    eventually(fn -> not Process.alive?(linked.server) end)
    assert CNode.call(free, {:add, 1, 1}) == 2
    CNode.stop(free)
  end

  test "a start that fails says so at once, and logs why" do
    Application.put_env(:lunode, :native, handlers: script("main.lua", "return {"))

    log =
      capture_log(fn ->
        began = now()
        assert CNode.start_link(:lunode, :native) == {:error, :spawn_cnode}
        assert CNode.start(:lunode, :native) == {:error, :spawn_cnode}
        assert now() - began < limit(2_000)
      end)

    assert log =~ ~r/cannot start: .*main\.lua:1:/
  end

  test "call returns what the default handler's function returns" do
    cnode = start_native()
    assert CNode.call(cnode, {:add, 1, 2}) == 3
    assert CNode.call(cnode, {:add, 1, 2}, 1_000) == 3
    assert CNode.call(cnode, {:add, 1, 2}, :infinity) == 3
    assert CNode.call(cnode, :quiet) == nil
    CNode.stop(cnode)
  end

  test "call raises when no answer comes in time, and the late one reaches nobody" do
    cnode = start_native()

    for i <- 1..20 do
      assert_raise RuntimeError, ~r/Timeout upon call to the CNode/, fn ->
        CNode.call(cnode, :ask, 10)
      end

      CNode.send(cnode, {:answer, {:late, i}})
      assert CNode.call(cnode, {:add, i, 1}) == i + 1
    end

    assert Process.info(self(), :messages) == {:messages, []}
    CNode.stop(cnode)
  end

  test "calls from many processes at once each get their own answer" do
    cnode = start_native()

    for i <- 1..50 do
      Task.async(fn ->
        for j <- 1..50, do: assert(CNode.call(cnode, {:add, i * 1_000, j}) == i * 1_000 + j)
      end)
    end
    |> Task.await_many(limit(5_000))

    CNode.stop(cnode)
  end

  test "call returns what went wrong in the handler" do
    cnode = start_native()

    capture_log(fn ->
      assert {:error, {:lua_error, message, _traceback}} = CNode.call(cnode, :crash)
      assert message =~ "on purpose"
    end)

    assert CNode.call(cnode, :nothing) == {:error, {:undef, :nothing, 0}}
    CNode.stop(cnode)

    Application.put_env(:lunode, :native, [])
    cnode = start_native()
    assert CNode.call(cnode, 1) == {:error, :noproc}
    CNode.stop(cnode)
  end

  test "send returns :ok, and the answer comes as a message" do
    cnode = start_native()
    node = cnode.node
    assert CNode.send(cnode, {:add, 1, 2}) == :ok
    assert_receive {^node, 3}
    assert CNode.send(cnode, :quiet) == :ok
    refute_receive {^node, _}, 100
    CNode.stop(cnode)
  end

  test "stop ends the node; a call to it then raises at once" do
    cnode = start_native()
    os_pid = os_pid(cnode.server)
    assert CNode.stop(cnode) == :ok
    refute running?(os_pid)
    began = now()
    assert_raise RuntimeError, ~r/does not run/, fn -> CNode.call(cnode, {:add, 1, 2}) end
    assert now() - began < limit(500)
    assert CNode.send(cnode, 1) == :ok
    assert CNode.stop(cnode) == {:error, :disconnect_cnode}
  end

  test "monitor tells why the node ended" do
    {:ok, cnode} = CNode.start(:lunode, :native)
    ref = CNode.monitor(cnode)

    capture_log(fn ->
      kill(os_pid(cnode.server))
      assert_receive {:DOWN, ^ref, :process, _, {:lunode_exit, 137}}, limit(2_000)
    end)
  end

  test "a call during which the node dies raises" do
    {:ok, cnode} = CNode.start(:lunode, :native)
    os_pid = os_pid(cnode.server)
    spawn(fn -> Process.sleep(100) && kill(os_pid) end)

    capture_log(fn ->
      assert_raise RuntimeError, ~r/ended during a call/, fn -> CNode.call(cnode, :ask) end
    end)
  end
end
