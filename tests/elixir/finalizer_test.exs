defmodule Lunode.FinalizerTest do
  @moduledoc "A script's `__gc` runs when Lua collects, and may send: never into another message."
  use ExUnit.Case

  import Lunode.Test.OS
  alias Lunode.Test.RawNode

  test "a finalizer that sends while replies of every shape are written breaks none of them" do
    script = """
    local function litter(pid)
      setmetatable({}, {__gc = function() erl.send(pid, {gone = ("x"):rep(100)}) end})
    end
    collectgarbage("incremental", 100, 400, 8)

    return function(message, from)
      local pid, term = message[1], message[2]
      for _ = 1, 5 do litter(pid) end
      return term
    end
    """

    raw = RawNode.start_connected(handlers: script("any.lua", script))

    deep = Enum.reduce(1..100, [], fn i, inner -> {i, inner} end)
    keys = for i <- 1..40, into: %{}, do: {{i, 1}, i}
    terms = [deep, [1 | 2], keys, Enum.map(1..50, &[&1 | &1]), {:plain, 1}]
    sink = spawn_link(fn -> Process.sleep(:infinity) end)

    for _ <- 1..1_000, term <- terms do
      assert RawNode.ask(raw, {sink, term}) == term
    end

    assert raw.node in Node.list(:hidden)
  end

  # `__gc` at nearly every allocation.
  @often "collectgarbage('incremental', 100, 1000, 4)\n"

  defp assert_done(script, ms \\ 60_000) do
    raw = RawNode.start_connected(handlers: script("any.lua", @often <> script))
    send({:any, raw.node}, self())
    assert_receive "done", limit(ms)
    assert RawNode.ask(raw, {:still, 1}) == :there
    assert File.read!(raw.stderr) == ""
  end

  test "a finalizer that calls erl.demonitor leaves the DOWN that is being received whole" do
    assert_done("""
    local refs = {}

    local function litter()
      for _ = 1, 3 do
        setmetatable({}, {__gc = function()
          if #refs > 0 then erl.demonitor(table.remove(refs, 1)) end
        end})
      end
    end

    local function watch(reason)
      for i = 1, 20 do
        refs[i] = erl.monitor(erl.spawn(function() erl.sleep(5) erl.exit(reason) end))
      end
      erl.sleep(100)
    end

    return function(pid)
      if erl.type(pid) ~= "pid" then return atom.there end
      local reason = {}
      for i = 1, 300 do reason[i] = {i, {i}, "x" .. i} end
      for round = 1, 4 do
        watch(reason)
        local filter = round % 2 == 0 and function() litter() return true end or nil
        repeat
          litter()
          local message, why = erl.receive(100, filter)
        until why == "timeout"
      end
      erl.send(pid, "done")
    end
    """)
  end

  test "a finalizer that sends leaves a message that is being refused alone" do
    assert_done("""
    local big = ("x"):rep(200000)

    local function refused(i)
      local function key() return erl.tuple(1, big, {}, {}, {}, {"a" .. i}, {"b" .. i}) end
      return {[key()] = 1, [key()] = 2}
    end

    return function(pid)
      if erl.type(pid) ~= "pid" then return atom.there end
      collectgarbage("incremental", 200, 100, 13)
      for i = 1, 1000 do
        setmetatable({}, {__gc = function() erl.cast(erl.self(), ("y"):rep(400000 + i)) end})
        local ok, why = pcall(erl.cast, erl.self(), refused(i))
        if ok or not tostring(why):find("two equal keys", 1, true) then erl.send(pid, why) end
      end
      erl.send(pid, "done")
    end
    """)
  end

  test "a finalizer that encodes leaves the text of an error that is being written alone" do
    assert_done("""
    collectgarbage("incremental", 200, 100, 13)
    local refused = {[erl.bigint("123456789012345678901234567890")] = print}

    return function(pid)
      if erl.type(pid) ~= "pid" then return atom.there end
      for i = 1, 20000 do
        setmetatable({}, {__gc = function() erl.encode({{1}}) end})
        local _, why = pcall(erl.encode, refused)
        if i % 100 == 0 then collectgarbage() end
        if not why:find("cannot send a function") or #erl.encode({{1}}) ~= 15 then
          erl.send(pid, why)
        end
      end
      erl.send(pid, collectgarbage("isrunning") and "done")
    end
    """)
  end
end
