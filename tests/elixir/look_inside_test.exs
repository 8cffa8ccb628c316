defmodule Lunode.LookInsideTest do
  @moduledoc "The functions of `Lunode` that change what a node runs, and look inside."
  use ExUnit.Case, async: true

  import Lunode.Test.OS
  alias Lunode.{Error, Handler, Stats}
  alias Lunode.Test.RawNode

  @counter """
  local counter = {}
  step = 1
  function counter:init(start) self.n = start or 0 end
  function counter:add() self.n = self.n + step; return self.n end
  function counter:fail() error("broken", 0) end
  return counter
  """

  setup do
    folder = folder(%{"counter.lua" => @counter})
    lua = start_supervised!({Lunode, handlers: folder})
    eventually(fn -> match?([%{state: :running}], Lunode.handlers(lua)) end)
    %{folder: folder, lua: lua}
  end

  test "eval runs in a handler, or in a fresh environment", %{lua: lua} do
    assert Lunode.eval(lua, :counter, "self:add(), step") == {:ok, [1, 1]}
    assert Lunode.eval(lua, :counter, "step = 10") == {:ok, []}
    assert Lunode.call(lua, :counter, :add) == 11
    assert Lunode.eval(lua, nil, "step") == {:ok, [nil]}
    assert Lunode.eval(lua, :nobody, "1") == {:error, :noproc}
    assert {:error, {:lua_error, text, _traceback}} = Lunode.eval(lua, nil, "error('no', 0)")
    assert text == "no"
  end

  test "an eval that takes too long exits as a call does", %{lua: lua} do
    assert {:timeout, _} = catch_exit(Lunode.eval(lua, nil, "erl.sleep(60000)", 50))
  end

  test "load takes its options as keywords or as a map", %{lua: lua} do
    assert {:error, {:bad_option, text}} = Lunode.load(lua, :fresh, @counter, age: 5)
    assert text =~ "age: unknown option"
    wrong = [limits: [memory: "32M", time: "soon"], allow: [send: ["audit"]]]
    assert {:error, {:bad_option, text}} = Lunode.load(lua, :fresh, @counter, wrong)
    assert text =~ "limits.time: a time such as"

    options = [trust: :full, start: 5, limits: [mailbox: 100]]
    assert Lunode.load(lua, :fresh, @counter, options) == {:ok, 1}
    assert Lunode.call(lua, :fresh, :add) == 6

    options = %{trust: :full, limits: %{mailbox: 100}}
    assert Lunode.load(lua, :fresh, @counter <> "\n", options) == {:ok, 2}
    assert Lunode.call(lua, :fresh, :add) == 7

    assert Lunode.unload(lua, :fresh) == :ok
    assert Lunode.unload(lua, :fresh) == {:error, :noproc}
  end

  test "reload", %{lua: lua} do
    assert Lunode.reload(lua, :counter) == {:ok, 2}
    assert Lunode.reload(lua, :nobody) == {:error, :noproc}
  end

  test "version is the program's", %{lua: lua} do
    assert Lunode.version(lua) == Mix.Project.config()[:version]
  end

  test "handlers are structs, sorted by name", %{lua: lua, folder: folder} do
    assert {:ok, 1} = Lunode.load(lua, :another, @counter, trust: :full)

    assert [%Handler{name: :another, file: nil}, %Handler{name: :counter} = counter] =
             Lunode.handlers(lua)

    assert counter.file == Path.join(folder, "counter.lua")
    assert %{version: 1, state: :running, processes: 1, last_error: nil} = counter
    assert abs(DateTime.diff(DateTime.utc_now(), counter.since)) < 60
  end

  test "a handler's last error is an exception", %{lua: lua} do
    catch_exit(Lunode.call(lua, :counter, :fail))

    assert [%Handler{last_error: %Error{handler: :counter, message: "broken"} = error}] =
             Lunode.handlers(lua)

    assert abs(DateTime.diff(DateTime.utc_now(), error.at)) < 60
    assert_raise Error, ~r/\Abroken/, fn -> raise error end
  end

  test "an error's text is the one that a caller gets", %{lua: lua} do
    {{:lua_error, text, rest}, _call} = catch_exit(Lunode.call(lua, :counter, :fail))
    [%Handler{last_error: error}] = Lunode.handlers(lua)
    assert Exception.message(error) == text <> "\n" <> rest
    assert rest =~ ~r/5 \| function counter:fail.*while handling :fail\ncounter, version 1\z/s
  end

  test "stats are a struct", %{lua: lua} do
    for _ <- 1..5, do: Lunode.call(lua, :counter, :add)
    stats = %Stats{} = Lunode.stats(lua)
    assert stats.handlers.counter.messages >= 5
    assert stats.peers[node()].bytes_in > 0
  end

  test "events come to who has subscribed, until they are not wanted any more", %{lua: lua} do
    node = Lunode.node(lua)
    assert Lunode.subscribe(lua) == :ok
    Lunode.reload(lua, :counter)
    assert_receive {:lunode, ^node, :reloaded, :counter, %{version: 2, old: 1}}
    catch_exit(Lunode.call(lua, :counter, :fail))
    assert_receive {:lunode, ^node, :crashed, :counter, details}
    assert %Error{message: "broken", version: 2} = Error.new(:counter, details)
    assert Lunode.unsubscribe(lua) == :ok
    Lunode.reload(lua, :counter)
    refute_received {:lunode, _, :reloaded, _, _}
  end

  test "another process may be subscribed", %{lua: lua} do
    me = self()
    other = spawn_link(fn -> receive do: (event -> send(me, {:other, event})) end)
    assert Lunode.subscribe(lua, other) == :ok
    Lunode.reload(lua, :counter)
    assert_receive {:other, {:lunode, _, :reloaded, :counter, _}}
    assert Lunode.unsubscribe(lua, other) == :ok
  end

  test "a node that was not started here is given by its name", %{folder: folder} do
    raw = RawNode.start_connected(handlers: folder)
    assert Lunode.node(raw.node) == raw.node
    assert Lunode.version(raw.node) =~ "."
    assert Lunode.call(raw.node, :counter, :add) == 1
  end

  test "a node that doesn't run exits with noproc, one that can't be reached with nodedown" do
    assert {:noproc, _} = catch_exit(Lunode.stats(LookInsideTest.NoSuchServer))
    nowhere = :"nowhere_#{System.unique_integer([:positive])}@#{RawNode.own_host()}"
    assert {{:nodedown, ^nowhere}, _} = catch_exit(Lunode.stats(nowhere))
  end
end
