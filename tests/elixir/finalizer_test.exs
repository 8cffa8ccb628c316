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
end
