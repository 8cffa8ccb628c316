defmodule Lunode.HandlersTest do
  # What a message finds in a handler, and what goes back.
  use ExUnit.Case, async: true
  import ExUnit.CaptureLog
  alias Lunode.Test.OS

  @script """
  local t, kept = {}, nil
  function t:init() self.n = 0 end
  function t:add(k) self.n = self.n + k return self.n end
  function t:get() return self.n end
  function t:nothing() end
  function t:null() return nil end
  function t:several() return 1, "two", atom.three end
  function t:fail(text) error(text, 0) end
  function t:raise(value) error(value) end
  function t:boom() local x = nil; return x.field end
  function t:later() kept = erl.from() return erl.noreply end
  function t:waiting() return kept ~= nil end
  function t:now(value) erl.reply(kept, value) return "told" end
  function t:twice() local f = erl.from() erl.reply(f, 1) return pcall(erl.reply, f, 2) end
  function t:tell(to, message) erl.send(to, message) end
  function t:whoami() return erl.self(), erl.node() end
  function t:yield() coroutine.yield() end
  function t:wrapped() return coroutine.wrap(function() coroutine.yield(7) end)() end
  function t:_hidden() return "seen" end
  function t:handle_call(request, from) return erl.tuple(atom.fallback, request) end
  function t:handle_cast(request) self.cast = request end
  function t:last_cast() return self.cast end
  function t:handle_info(message, from)
    self.info = message
    if from then return erl.tuple(atom.info, message) end
  end
  function t:last_info() return self.info end
  return t
  """

  defp start(files) do
    folder = OS.folder(for {name, text} <- files, do: {"#{name}.lua", text})
    {:ok, lua} = Lunode.start_link(handlers: folder)
    lua
  end

  setup context do
    if context[:bare], do: :ok, else: %{lua: start(any: @script)}
  end

  defp call(lua, message), do: Lunode.call(lua, :any, message)

  test "a call runs the function it names, and state is kept", %{lua: lua} do
    assert call(lua, {:add, 5}) == 5
    assert call(lua, {:add, 2}) == 7
    assert call(lua, :get) == 7
  end

  test "a call answers nil, nil and a tuple", %{lua: lua} do
    assert call(lua, :nothing) == nil
    assert call(lua, :null) == nil
    assert call(lua, :several) == {1, "two", :three}
  end

  test "what no function is named after goes to the callbacks", %{lua: lua} do
    assert call(lua, "text") == {:fallback, "text"}
    assert call(lua, {:unknown, 1}) == {:fallback, {:unknown, 1}}
    Lunode.cast(lua, :any, %{a: nil})
    assert call(lua, :last_cast) == %{a: nil}
  end

  test "private functions and callbacks are not called from outside", %{lua: lua} do
    for name <- [:_hidden, :init, :terminate, :start, :run, :upgrade, :handle_info] do
      assert call(lua, name) == {:fallback, name}
    end
  end

  test "a cast runs the function it names and answers nothing", %{lua: lua} do
    Lunode.cast(lua, :any, {:add, 3})
    assert call(lua, :get) == 3
    refute_received _
  end

  test "a message to any is answered when the function returns a value", %{lua: lua} do
    node = Lunode.node(lua)
    send({:any, node}, {:add, 1})
    assert_receive {^node, 1}
    send({:any, node}, :null)
    assert_receive {^node, nil}
    send({:any, node}, "text")
    assert_receive {^node, {:info, "text"}}
    send({:any, node}, :nothing)
    assert call(lua, :get) == 1
    refute_received _
  end

  test "an answer can be deferred, and is given once", %{lua: lua} do
    task = Task.async(fn -> call(lua, :later) end)

    OS.eventually(fn -> call(lua, :waiting) end, 2_000)
    assert call(lua, {:now, 42}) == "told"

    assert Task.await(task) == 42
    assert call(lua, :twice) == 1
    refute_received _
  end

  test "erl.send reaches a pid and a name", %{lua: lua} do
    call(lua, {:tell, self(), {:hello, [1, nil]}})
    assert_receive {:hello, [1, nil]}
    Process.register(self(), :handlers_test)
    call(lua, {:tell, {:handlers_test, node()}, "by name"})
    assert_receive "by name"
    {pid, node} = call(lua, :whoami)
    assert node == Lunode.node(lua) and node(pid) == node
    send(pid, "to the pid")
    assert call(lua, :last_info) == "to the pid"
  end

  test "a function yields only inside its own coroutines", %{lua: lua} do
    assert call(lua, :wrapped) == 7
    assert {{:lua_error, text, _}, _} = catch_exit(call(lua, :yield))
    assert text =~ "outside a coroutine"
  end

  test "an error ends the process: callers and monitors get it, and it starts anew", %{lua: lua} do
    call(lua, {:add, 5})
    ref = Process.monitor({:any, Lunode.node(lua)})

    log =
      capture_log(fn ->
        assert {{:lua_error, "oops", trace}, _} = catch_exit(call(lua, {:fail, "oops"}))
        assert trace =~ "any.lua:"
        assert_receive {:DOWN, ^ref, :process, _, {:lua_error, "oops", _}}
        assert call(lua, :get) == 0
        Lunode.stop(lua)
      end)

    assert log =~ "oops" and log =~ "stack traceback"
  end

  test "the value that was raised is the reason, and an error names file and line", %{lua: lua} do
    assert {{:lua_error, %{code: 5}, _}, _} = catch_exit(call(lua, {:raise, %{code: 5}}))
    assert {{:lua_error, text, _}, _} = catch_exit(call(lua, :boom))
    assert text =~ ~r/any\.lua:10: /
  end

  test "a sender to any gets the error, also one that waits", %{lua: lua} do
    node = Lunode.node(lua)
    send({:any, node}, :later)
    send({:any, node}, {:fail, "oops"})
    assert_receive {^node, {:error, {:lua_error, "oops", _}}}
    assert_receive {^node, {:error, {:lua_error, "oops", _}}}
  end

  @tag :bare
  test "without a callback a call exits with undef, and the process lives" do
    lua =
      start(
        any:
          "local t = {} function t:init() self.n = 0 end\n" <>
            "function t:inc() self.n = self.n + 1 return self.n end return t"
      )

    assert call(lua, :inc) == 1
    assert {{:undef, :gone, 2}, _} = catch_exit(call(lua, {:gone, 1, 2}))
    assert {{:undef, :gone, 0}, _} = catch_exit(call(lua, :gone))

    assert capture_log(fn ->
             Lunode.cast(lua, :any, {:gone, 1})
             assert call(lua, :inc) == 2
             Lunode.stop(lua)
           end) =~ "no function takes: gone"
  end

  @tag :bare
  test "a handler that is one function gets every message" do
    lua = start(any: "return function(message, from) return message end")
    assert call(lua, {:any, "thing"}) == {:any, "thing"}
    send({:any, Lunode.node(lua)}, 1)
    assert_receive {_, 1}
  end

  @tag :bare
  test "one that fails too often stays down and says why; others go on" do
    lua =
      start(
        bad: "return { go = function() error('broken', 0) end }",
        good: "return { go = function() return 1 end }"
      )

    for _ <- 1..6 do
      assert {{:lua_error, "broken", _}, _} = catch_exit(Lunode.call(lua, :bad, :go))
    end

    ref = Process.monitor({:bad, Lunode.node(lua)})
    assert_receive {:DOWN, ^ref, :process, _, {:lua_error, "broken", _}}
    assert Lunode.call(lua, :good, :go) == 1
  end

  @tag :bare
  test "a monitor of a name that nobody has is answered noproc at once" do
    lua = start(good: "return {}")
    assert {:noproc, _} = catch_exit(Lunode.call(lua, :nobody, :go))
    assert Node.ping(Lunode.node(lua)) == :pong
  end

  @tag :bare
  test "each sender to any gets one answer when its process ends, also one that a filter saw" do
    script = """
    return function()
      erl.receive(nil, function(message, from)
        if message == 2 then erl.reply(from, "two") end
        return false
      end)
    end
    """

    lua = start(any: script)
    node = Lunode.node(lua)
    for i <- 1..5, do: send({:any, node}, i)
    assert_receive {^node, "two"}, OS.limit(5_000)
    Process.exit(:erpc.call(node, :erlang, :whereis, [:any]), :kill)
    for _ <- 1..4, do: assert_receive({^node, {:error, :killed}}, OS.limit(5_000))
    assert Node.ping(node) == :pong
    refute_receive {^node, _}, 100
  end
end
