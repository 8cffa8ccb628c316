defmodule Lunode.RestartTest do
  @moduledoc "How often a handler may fail, and what happens when it fails more often."
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Lunode.Test.OS

  @brittle """
  local brittle = {}
  function brittle:init() print("init") end
  function brittle:go() error("broken", 0) end
  function brittle:fine() return "fine" end
  return brittle
  """

  defp fail(lua, times) do
    for _ <- 1..times do
      assert {{:lua_error, "broken", _}, _} = catch_exit(Lunode.call(lua, :brittle, :go))
    end
  end

  # A node that runs the script above, logging left out; `on_failure` as the configuration has it.
  defp start(on_failure) do
    handlers = folder(%{"brittle.lua" => @brittle, "other.lua" => echo()})
    options = "{ brittle = { on_failure = '#{on_failure}' } }"
    File.write!(Path.join(handlers, "lunode.lua"), "return { handlers = #{options} }")
    {:ok, lua} = Lunode.start_link(handlers: handlers, log: false)
    lua
  end

  test "5 failures within 10 s restart it, with init; the 6th does not, and calls say why" do
    handlers = script("brittle.lua", @brittle)

    log =
      capture_log(fn ->
        {:ok, lua} = Lunode.start_link(handlers: handlers)
        fail(lua, 5)
        assert Lunode.call(lua, :brittle, :fine) == "fine"
        fail(lua, 1)
        assert {{:lua_error, "broken", _}, _} = catch_exit(Lunode.call(lua, :brittle, :fine))
        Lunode.stop(lua)
      end)

    assert length(Regex.scan(~r/brittle: init/, log)) == 6
    assert log =~ "[error] brittle: failed more than 5 times in 10 s: it stays down"
  end

  @tag :once
  test "failures spread over more than 10 s restart it for ever" do
    lua = start("restart")
    fail(lua, 5)
    Process.sleep(10_500)
    fail(lua, 5)
    assert Lunode.call(lua, :brittle, :fine) == "fine"
    fail(lua, 1)
    assert {{:lua_error, "broken", _}, _} = catch_exit(Lunode.call(lua, :brittle, :fine))
    assert Lunode.call(lua, :other, 1) == 1
    Lunode.stop(lua)
  end

  test "one that fails in init stays down after 6 attempts; others go on" do
    source = "return { init = function() print('attempt'); error('never', 0) end }"
    handlers = folder(%{"stillborn.lua" => source, "other.lua" => echo()})

    log =
      capture_log(fn ->
        {:ok, lua} = Lunode.start_link(handlers: handlers)
        assert Lunode.call(lua, :other, 1) == 1
        whereis = fn -> :erpc.call(Lunode.node(lua), :erlang, :whereis, [:stillborn]) end
        eventually(fn -> whereis.() == :undefined end)
        assert {:lua_error, "never", _} = reason(lua, :stillborn)
        Lunode.stop(lua)
      end)

    assert length(Regex.scan(~r/stillborn: attempt/, log)) == 6
  end

  defp reason(lua, handler), do: lua |> Lunode.call(handler, :any) |> catch_exit() |> elem(0)

  test "with on_failure = \"stop\" the 6th ends the node with status 1, which OTP sees" do
    Process.flag(:trap_exit, true)
    lua = start("stop")
    os_pid = os_pid(lua)

    capture_log(fn ->
      fail(lua, 5)
      assert Lunode.call(lua, :brittle, :fine) == "fine"
      fail(lua, 1)
      assert_receive {:EXIT, ^lua, {:lunode_exit, 1}}, 5_000
    end)

    refute running?(os_pid)
  end

  test "with on_failure = \"stop\" the log says why the node ended" do
    Process.flag(:trap_exit, true)
    handlers = script("brittle.lua", @brittle)
    config = "return { handlers = { brittle = { path = '#{handlers}', on_failure = 'stop' } } }"

    log =
      capture_log(fn ->
        {:ok, lua} = Lunode.start_link(config: script("mine.lua", config))
        fail(lua, 6)
        assert_receive {:EXIT, ^lua, {:lunode_exit, 1}}, 5_000
      end)

    assert log =~ "[error] lunode: the handler brittle failed: the node ends"
  end
end
