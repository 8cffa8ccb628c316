defmodule Lunode.ErpcTest do
  @moduledoc """
  `:erpc` and `:rpc` to a node. What is told of "beam" and "lua" alike is what OTP does.
  """
  use ExUnit.Case, async: true

  import Lunode.Test.OS, only: [eventually: 1, now: 0, os_pid: 1, stretch: 2]
  import Lunode.Test.Proc
  alias Lunode.Test.OtherBeam

  @moduletag :capture_log

  setup_all do
    start_nodes()
  end

  for on <- [:beam, :lua] do
    describe "on #{on}:" do
      setup %{nodes: nodes}, do: %{node: nodes[unquote(on)]}

      test "erpc.call returns what the function returns", %{node: node} do
        assert :erpc.call(node, :proc, :echo, [{:a, [1, nil], "x"}]) == {:a, [1, nil], "x"}
        assert :erpc.call(node, :proc, :echo, [nil]) == nil
        large = :crypto.strong_rand_bytes(1_000_000)
        assert :erpc.call(node, :proc, :echo, [large]) == large
      end

      test "it runs in a process of its own, each time another", %{node: node} do
        [one, two] = for _ <- 1..2, do: :erpc.call(node, :proc, :pid, [])
        assert one != two
        assert node(one) == node
        eventually(fn -> not :erpc.call(node, :erlang, :is_process_alive, [one]) end)
      end

      test "an error is raised here, with the stack there", %{node: node} do
        error = assert_raise(ErlangError, fn -> :erpc.call(node, :proc, :fail, ["oops"]) end)
        assert {:exception, {:lua_error, "oops", trace}, stack} = error.original
        assert trace =~ "stack traceback"
        assert [{:proc, :fail, 1, _location} | _] = stack
      end

      test "an exit exits here", %{node: node} do
        assert catch_exit(:erpc.call(node, :proc, :quit, [:oops])) == {:exception, :oops}
        assert catch_exit(:erpc.call(node, :proc, :quit, [:normal])) == {:exception, :normal}
      end

      test "one that is killed meanwhile exits here with the signal", %{node: node} do
        task =
          Task.async(fn ->
            catch_exit(:erpc.call(node, :proc, :call_there, [killer(), :kill_me, 60_000]))
          end)

        assert Task.await(task, 10_000) == {:signal, :killed}
      end

      test "what isn't there is undef, module or function", %{node: node} do
        for {module, fun} <- [no_such_module: :echo, proc: :no_such_function] do
          error = assert_raise(ErlangError, fn -> :erpc.call(node, module, fun, [1]) end)
          assert {:exception, :undef, [{^module, ^fun, [1], _} | _]} = error.original
        end
      end

      test "a call that takes too long raises, and nothing comes later", %{node: node} do
        error = assert_raise(ErlangError, fn -> :erpc.call(node, :proc, :sleep, [300], 50) end)

        assert error.original == {:erpc, :timeout}
        Process.sleep(500)
        refute_received _
      end

      test "erpc.cast runs the function and answers nothing", %{node: node} do
        listener = start(node)
        assert :erpc.cast(node, :proc, :signal, [listener, :oops]) == :ok
        assert assert_ends(listener) in [:oops, :noproc]
        assert :erpc.cast(node, :proc, :fail, ["oops"]) == :ok
        assert :erpc.cast(node, :proc, :no_such_function, []) == :ok
        assert :erpc.call(node, :proc, :echo, [1]) == 1
        refute_received _
      end

      test "erpc.multicall gathers what each says", %{node: node} do
        assert :erpc.multicall([node, node], :proc, :echo, [1]) == [ok: 1, ok: 1]

        assert [{:error, {:exception, {:lua_error, "oops", _}, [_ | _]}}] =
                 :erpc.multicall([node], :proc, :fail, ["oops"])

        assert :erpc.multicall([node], :proc, :quit, [:oops]) == [exit: {:exception, :oops}]
        assert :erpc.multicall([node], :proc, :sleep, [1_000], 20) == [error: {:erpc, :timeout}]
        assert [{:error, {:exception, :undef, _}}] = :erpc.multicall([node], :proc, :nope, [])
      end

      test "erpc.multicast reaches each", %{node: node} do
        listener = start(node, :trap)
        assert :erpc.multicast([node, node], :proc, :signal, [listener, :hello]) == :ok
        eventually(fn -> ask(listener, :count) == 2 end)
        assert [{:EXIT, _, :hello}, {:EXIT, _, :hello}] = ask(listener, :messages)
      end

      test "erpc.send_request, wait_response, receive_response, check_response", %{node: node} do
        request = :erpc.send_request(node, :proc, :sleep, [100])
        assert :erpc.wait_response(request, 0) == :no_response
        assert :erpc.receive_response(request, 10_000) == 100

        request = :erpc.send_request(node, :proc, :echo, ["two"])
        assert {:response, "two"} = :erpc.wait_response(request, 10_000)

        request = :erpc.send_request(node, :proc, :echo, ["three"])
        assert_receive message, 5_000
        assert :erpc.check_response(message, request) == {:response, "three"}
      end

      test "rpc.call, which tells failures by badrpc", %{node: node} do
        assert :rpc.call(node, :proc, :echo, [1]) == 1

        assert {:badrpc, {:EXIT, {{:lua_error, "oops", _}, [_ | _]}}} =
                 :rpc.call(node, :proc, :fail, ["oops"])

        assert :rpc.call(node, :proc, :quit, [:oops]) == {:badrpc, {:EXIT, :oops}}
        assert {:badrpc, {:EXIT, {:undef, _}}} = :rpc.call(node, :proc, :nope, [])
        assert :rpc.call(node, :proc, :sleep, [1_000], 20) == {:badrpc, :timeout}
      end

      test "rpc.multicall, rpc.cast and rpc.async_call", %{node: node} do
        assert :rpc.multicall([node, node], :proc, :echo, [1]) == {[1, 1], []}
        listener = start(node)
        assert :rpc.cast(node, :proc, :signal, [listener, :oops]) == true
        assert assert_ends(listener) in [:oops, :noproc]
        assert :rpc.yield(:rpc.async_call(node, :proc, :echo, [2])) == 2
      end

      test "of erlang: is_process_alive, whereis and node", %{node: node} do
        pid = start(node)
        assert ask(pid, :pid) == pid
        assert :erpc.call(node, :erlang, :is_process_alive, [pid])
        Process.exit(pid, :kill)
        refute :erpc.call(node, :erlang, :is_process_alive, [pid])

        assert :erpc.call(node, :erlang, :whereis, [:proc]) == ask({:proc, node}, :pid)
        assert :erpc.call(node, :erlang, :whereis, [:nobody]) == :undefined
        assert :erpc.call(node, :erlang, :node, []) == node
        assert :rpc.call(node, :erlang, :node, []) == node
      end

      test "100 at once, each gets its own answer", %{node: node} do
        requests = for i <- 1..100, do: {i, :erpc.send_request(node, :proc, :echo, [i])}
        for {i, request} <- requests, do: assert(:erpc.receive_response(request, 10_000) == i)
      end

      test "a node that isn't there is noconnection" do
        error =
          assert_raise(ErlangError, fn -> :erpc.call(:nobody@nowhere, :proc, :echo, [1]) end)

        assert error.original == {:erpc, :noconnection}
      end
    end
  end

  # A server that kills whoever calls it.
  defp killer do
    spawn(fn ->
      receive do
        {:"$gen_call", {pid, _tag}, :kill_me} -> Process.exit(pid, :kill)
      end
    end)
  end

  test "a node that is lost meanwhile is noconnection" do
    {_peer, node} = beam = start_beam()
    lua = start_supervised!({Lunode, handlers: handler()}, id: :lost)

    for {node, stop} <- [
          {node, fn -> OtherBeam.halt(beam) end},
          {Lunode.node(lua), fn -> stop_supervised!(:lost) end}
        ] do
      request = :erpc.send_request(node, :proc, :sleep, [60_000])
      assert :erpc.wait_response(request, 100) == :no_response
      stop.()
      error = assert_raise(ErlangError, fn -> :erpc.receive_response(request, 10_000) end)
      assert error.original == {:erpc, :noconnection}
    end
  end

  describe "of Lua alone:" do
    setup %{nodes: nodes}, do: %{node: nodes.lua}

    test "the function finds an empty self; the handler's own process is not touched", %{
      node: node
    } do
      assert :erpc.call(node, :proc, :lua, ["return next(self) == nil"])
      assert :erpc.call(node, :proc, :set, [77]) == nil
      assert ask({:proc, node}, :get) == 0
    end

    test "nothing returned is nil, several values are a tuple", %{node: node} do
      assert :erpc.call(node, :proc, :lua, [""]) == nil
      assert :erpc.call(node, :proc, :lua, ["return 1, 'two'"]) == {1, "two"}
    end

    test "the traceback names file and line", %{node: node} do
      error = assert_raise(ErlangError, fn -> :erpc.call(node, :proc, :fail, ["oops"]) end)
      assert {:exception, {:lua_error, "oops", trace}, _} = error.original
      assert trace =~ ~r/proc\.lua:\d+: in method 'fail'\nwhile handling fail\("oops"\)/
    end

    test "private names and callbacks are undef, and what else erlang has", %{node: node} do
      private = for name <- [:_hidden, :init, :start, :terminate, :handle_info], do: {:proc, name}

      for {module, fun} <- private ++ [erlang: :halt, erlang: :apply, os: :cmd, lunode: :eval] do
        error = assert_raise(ErlangError, fn -> :erpc.call(node, module, fun, []) end)
        assert {:exception, :undef, [{^module, ^fun, [], _}]} = error.original
      end

      error = assert_raise(ErlangError, fn -> :erpc.call(node, fn -> 1 end) end)
      assert {:exception, :undef, [{:erlang, :apply, [_, []], _}]} = error.original
    end

    test "a value that cannot be sent is an error that says so", %{node: node} do
      error =
        assert_raise(ErlangError, fn ->
          :erpc.call(node, :proc, :lua, ["return {callback = print}"])
        end)

      assert {:exception, {:lua_error, text, _}, _} = error.original
      assert text =~ "callback: cannot send a function"
    end

    test "50 calls that sleep 200 ms end within half a second" do
      lua = start_supervised!({Lunode, handlers: handler()}, id: :sleepers)
      node = Lunode.node(lua)
      began = now()
      requests = for _ <- 1..50, do: :erpc.send_request(node, :proc, :sleep, [200])
      for request <- requests, do: assert(:erpc.receive_response(request, 60_000) == 200)
      took = now() - began
      assert took >= 200
      assert took < stretch(os_pid(lua), 500)
    end
  end
end
