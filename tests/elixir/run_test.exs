defmodule Lunode.RunTest do
  @moduledoc "Handlers that are their own receive loop."
  use ExUnit.Case, async: true

  import Lunode.Test.OS, only: [eventually: 1, folder: 1]
  import Lunode.Test.Proc

  @moduletag :capture_log

  @loop """
  local loop = {}

  function loop:init(n)
    self.n = n or 0
    self.seen = {}
  end

  function loop:run()
    while true do
      local message, from = erl.receive()
      if from then
        if message == atom.stop then
          erl.reply(from, "stopped")
          return "unused"
        elseif message == atom.get then
          erl.reply(from, self.n)
        elseif message == atom.messages then
          erl.reply(from, self.seen)
        elseif message == atom.fail then
          error("oops", 0)
        elseif message == atom.trap then
          erl.reply(from, erl.trap_exit(true))
        elseif message == atom.quiet then
          erl.reply(from, nil)
          erl.sleep(200)
        end
      elseif math.type(message) == "integer" then
        self.n = self.n + message
      else
        self.seen[#self.seen + 1] = message
      end
    end
  end

  function loop:get()
    return "never called"
  end

  function loop:terminate(reason)
    if self.seen[1] and type(self.seen[1]) == "userdata" then
      erl.send(self.seen[1], erl.tuple(atom.terminated, reason))
    end
  end

  return loop
  """

  # Sends what it has counted, and ends after five.
  @counter """
  return {
    init = function(self, to) self.to = to end,
    run = function(self)
      for i = 1, 5 do
        if self.to then erl.send(self.to, i) end
        erl.sleep(10)
      end
    end,
  }
  """

  setup do
    folder = folder(%{"loop.lua" => @loop, "counter.lua" => @counter})
    lua = start_supervised!({Lunode, handlers: folder})
    node = Lunode.node(lua)
    %{node: node, loop: {:loop, node}, pid: Node.spawn(node, :loop, :start, [10])}
  end

  test "calls are answered by erl.reply, casts and messages come without from", context do
    for {server, begun} <- [{context.loop, 0}, {context.pid, 10}] do
      assert ask(server, :get) == begun
      GenServer.cast(server, 1)
      assert ask(server, :get) == begun + 1
      if is_pid(server), do: send(server, 2), else: send({:loop, context.node}, 2)
      assert ask(server, :get) == begun + 3
    end
  end

  test "functions named by a message are not called", %{pid: pid} do
    send(pid, :get)
    send(pid, {:get, 1})
    assert ask(pid, :messages) == [:get, {:get, 1}]
  end

  test "a return ends it normally; callers before that have their answers", %{pid: pid} do
    ref = Process.monitor(pid)
    assert ask(pid, :stop) == "stopped"
    assert_receive {:DOWN, ^ref, :process, ^pid, :normal}, 5_000
    assert {:noproc, _} = catch_exit(ask(pid, :get))
  end

  test "the handler's own process stays down after a return", %{loop: loop} do
    assert ask(loop, :stop) == "stopped"
    eventually(fn -> match?({:noproc, _}, catch_exit(ask(loop, :get))) end)
  end

  test "an error ends it with the error, and the handler's own process starts again", context do
    %{loop: loop, pid: pid} = context
    send(loop, 5)
    assert {{:lua_error, "oops", trace}, _} = catch_exit(ask(loop, :fail))
    assert trace =~ "loop.lua:"
    assert ask(loop, :get) == 0
    assert {{:lua_error, "oops", _}, _} = catch_exit(ask(pid, :fail))
    assert {:noproc, _} = catch_exit(ask(pid, :get))
  end

  test "it can be killed, linked and monitored", %{pid: pid, node: node} do
    Process.flag(:trap_exit, true)
    Process.link(pid)
    assert reason_after(pid, fn -> Process.exit(pid, :kill) end) == :killed
    assert_receive {:EXIT, ^pid, :killed}, 5_000

    pid = Node.spawn_link(node, :loop, :start, [1])
    assert ask(pid, :trap) == false
    Process.exit(pid, :hello)
    # To one that is its own loop its parent's signal is a message, as any other's.
    assert eventually(fn -> {:EXIT, self(), :hello} in ask(pid, :messages) end)

    pid = Node.spawn(node, :loop, :start, [1])
    assert ask(pid, :trap) == false
    other = spawn(fn -> Process.exit(pid, :hello) end)
    eventually(fn -> ask(pid, :messages) == [{:EXIT, other, :hello}] end)
  end

  test "OTP's system messages are answered while it waits in erl.receive", %{pid: pid} do
    assert %{"n" => 10, "seen" => []} = :sys.get_state(pid)
    assert :sys.suspend(pid) == :ok
    send(pid, 5)
    request = :gen_server.send_request(pid, :get)
    assert :gen_server.wait_response(request, 100) == :timeout
    assert {:status, ^pid, _, [_, :suspended | _]} = :sys.get_status(pid)
    assert :sys.resume(pid) == :ok
    assert :gen_server.receive_response(request, 5_000) == {:reply, 15}
    assert :sys.replace_state(pid, &Map.put(&1, "n", 3))["n"] == 3
    assert ask(pid, :get) == 3
    # None of this was a message to the loop.
    assert ask(pid, :messages) == []
  end

  test "system messages wait until it waits", %{pid: pid} do
    assert ask(pid, :quiet) == nil
    assert :sys.get_state(pid)["n"] == 10
  end

  test "GenServer.stop runs terminate and ends it", %{pid: pid} do
    send(pid, self())
    assert reason_after(pid, fn -> GenServer.stop(pid, :enough) end) == :enough
    assert_receive {:terminated, :enough}, 5_000
  end

  test "one that never receives runs beside the others, and ends", %{node: node, pid: pid} do
    {counter, ref} = Node.spawn_monitor(node, :counter, :start, [self()])
    for i <- 1..5, do: assert_receive(^i, 5_000)
    assert_receive {:DOWN, ^ref, :process, ^counter, :normal}, 5_000
    assert ask(pid, :get) == 10
  end
end
