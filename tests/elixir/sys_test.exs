defmodule Lunode.SysTest do
  @moduledoc """
  OTP's system messages, and calls that give up. What is told of "beam" and "lua" alike is what OTP
  does.
  """
  use ExUnit.Case, async: true

  import Lunode.Test.OS, only: [eventually: 1]
  import Lunode.Test.Proc

  @moduletag :capture_log

  setup_all do
    # The BEAM's process is one of this BEAM, which has the funs of this module.
    %{nodes: %{beam: node(), lua: start_node()}}
  end

  for on <- [:beam, :lua] do
    describe "on #{on}:" do
      setup %{nodes: nodes}, do: %{pid: start(nodes[unquote(on)])}

      test "sys.get_state gives self as a map", %{pid: pid} do
        assert :sys.get_state(pid) == %{"n" => 0, "seen" => []}
        ask(pid, {:add, 5})
        send(pid, :hello)
        assert :sys.get_state(pid) == %{"n" => 5, "seen" => [:hello]}
      end

      test "sys.replace_state changes it, by a closure and by a function of a module", %{pid: pid} do
        ask(pid, {:add, 1})
        six = 6
        wanted = %{"n" => 6, "seen" => []}
        assert :sys.replace_state(pid, &Map.put(&1, "n", six)) == wanted
        assert ask(pid, {:add, 1}) == 7
        assert :sys.replace_state(pid, &:proc.reset/1) == %{"n" => 0, "seen" => []}
        assert ask(pid, :get) == 0
      end

      test "a replace_state that fails raises, and changes nothing", %{pid: pid} do
        ask(pid, {:add, 1})
        error = catch_error(:sys.replace_state(pid, fn _state -> raise "no" end))
        assert {:callback_failed, _where, _why} = error
        assert ask(pid, :get) == 1
      end

      test "sys.get_status says what it is and whether it runs", %{pid: pid} do
        assert {:status, ^pid, {:module, _module}, [pdict, :running, parent, _debug, _misc]} =
                 :sys.get_status(pid)

        assert is_list(pdict)
        assert is_pid(parent)
        :sys.suspend(pid)
        assert {:status, ^pid, _, [_, :suspended | _]} = :sys.get_status(pid)
        :sys.resume(pid)
      end

      test "a suspended process keeps its messages and serves them when it is resumed", %{
        pid: pid
      } do
        assert :sys.suspend(pid) == :ok
        GenServer.cast(pid, {:add, 1})
        request = :gen_server.send_request(pid, {:add, 10})
        for i <- 1..3, do: send(pid, i)
        assert :gen_server.wait_response(request, 100) == :timeout
        assert :sys.get_state(pid) == %{"n" => 0, "seen" => []}
        assert :sys.resume(pid) == :ok
        assert :gen_server.receive_response(request, 5_000) == {:reply, 11}
        assert_messages(pid, [1, 2, 3])
      end

      test "a suspended process can be resumed twice, replaced, and stopped", %{pid: pid} do
        :sys.suspend(pid)
        :sys.suspend(pid)
        assert :sys.replace_state(pid, &Map.put(&1, "n", 3)) == %{"n" => 3, "seen" => []}
        :sys.resume(pid)
        :sys.resume(pid)
        assert ask(pid, :get) == 3
        :sys.suspend(pid)
        assert GenServer.stop(pid) == :ok
      end

      test "a suspended process can be killed, and its monitors are told", %{pid: pid} do
        :sys.suspend(pid)
        assert reason_after(pid, fn -> Process.exit(pid, :kill) end) == :killed
      end

      test "GenServer.stop runs terminate and ends it, normal or as told", %{pid: pid} do
        for reason <- [:normal, :shutdown, {:shutdown, 1}, :oops] do
          pid = start(node(pid))
          ask(pid, {:tell, self()})

          assert reason_after(pid, fn -> assert GenServer.stop(pid, reason) == :ok end) == reason

          assert_receive {:terminated, ^reason}, 5_000
        end
      end

      test "GenServer.stop of one that has ended exits noproc", %{pid: pid} do
        GenServer.stop(pid)
        assert {:noproc, _} = catch_exit(GenServer.stop(pid))
        assert {:noproc, _} = catch_exit(:sys.get_state(pid))
      end

      test "GenServer.stop waits for the message being served, or gives up", %{pid: pid} do
        GenServer.cast(pid, {:sleep, 300})
        assert {:timeout, _} = catch_exit(GenServer.stop(pid, :normal, 20))
        # It was told, and ends all the same.
        assert assert_ends(pid) in [:normal, :noproc]
      end

      test "sys.get_state of a busy process waits, or gives up", %{pid: pid} do
        GenServer.cast(pid, {:sleep, 300})
        assert {:timeout, _} = catch_exit(:sys.get_state(pid, 20))
        assert :sys.get_state(pid)["n"] == 0
      end

      test "a call that gave up leaves nothing in the mailbox", %{pid: pid} do
        for _ <- 1..3, do: assert({:timeout, _} = catch_exit(ask(pid, {:sleep, 100}, 10)))
        assert ask(pid, {:add, 1}) == 1
        Process.sleep(100)
        assert Process.info(self(), :messages) == {:messages, []}
      end

      test "a call that gave up is served all the same", %{pid: pid} do
        GenServer.cast(pid, {:sleep, 200})
        assert {:timeout, _} = catch_exit(ask(pid, {:add, 5}, 10))
        eventually(fn -> ask(pid, :get) == 5 end)
      end
    end
  end

  test "GenServer.stop by name: the handler's process stays down after normal", %{nodes: nodes} do
    lua = start_supervised!({Lunode, handlers: handler()}, id: :stopped)
    server = {:proc, Lunode.node(lua)}
    ask(server, {:tell, self()})
    assert GenServer.stop(server) == :ok
    assert_receive {:terminated, :normal}, 5_000
    assert {:noproc, _} = catch_exit(ask(server, :get))
    assert nodes.lua != Lunode.node(lua)
  end

  test "a caller that ended gets no reply, and nobody else does", %{nodes: nodes} do
    pid = start(nodes.lua)
    caller = spawn(fn -> ask(pid, {:sleep, 200}) end)
    Process.sleep(50)
    Process.exit(caller, :kill)
    assert ask(pid, {:add, 1}) == 1
    refute_received _
  end
end
