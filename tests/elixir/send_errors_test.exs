defmodule Lunode.SendErrorsTest do
  use ExUnit.Case, async: true

  import Lunode.Test.OS, only: [folder: 1, limit: 1]

  @moduletag :capture_log

  # What a handler returns, and what the error says behind "reply". Each case is a handler of its
  # own, since one that fails too often stays down.
  @unsendable [
    nan: {"0 / 0", ": cannot send NaN"},
    infinity: {"math.huge", ": cannot send infinity"},
    minus_infinity: {"{ 1, -math.huge }", "[2]: cannot send infinity"},
    a_function:
      {"{ items = { 1, 2, { callback = print } } }", ".items[3].callback: cannot send a function"},
    a_lua_function: {"function() end", ": cannot send a function"},
    a_coroutine: {"{ a = { b = coroutine.create(print) } }", ".a.b: cannot send a coroutine"},
    a_userdata: {"erl.tuple(atom.ok, io.stdout)", "[2]: cannot send a userdata"},
    in_a_key: {"{ [print] = 1 }", "(key): cannot send a function"},
    under_an_atom: {"erl.amap { name = print }", ".name: cannot send a function"},
    under_odd_keys: {"{ ['a b'] = { [7.5] = print } }", "[\"a b\"][7.5]: cannot send a function"},
    in_a_tail: {"erl.improper({ 1 }, print)", ".tail: cannot send a function"},
    a_hole: {"{ 1, 2, nil, 4 }", ": has keys 1 and 4 and no key 3: say erl.list{} or erl.map{}"},
    a_mixed_table:
      {"{ a = { 1, 2, name = 3 } }",
       ".a: has key 1 and also key \"name\": say erl.list{} or erl.map{}"},
    a_list_with_a_name: {"erl.list { 1, x = 2 }", ": a list with the key \"x\""},
    equal_keys:
      {"{ { [erl.tuple(1)] = 1, [erl.tuple(1)] = 2 } }", "[1]: the map has two equal keys: {1}"},
    equal_empty_keys: {"{ [{}] = 1, [erl.list {}] = 2 }", ": the map has two equal keys: []"},
    behind_much_else: {"{ ('x'):rep(3000000), print }", "[2]: cannot send a function"}
  ]

  # Errors at once, when the value is made.
  @unmakeable [
    a_long_atom: {"atom(('a'):rep(256))", "an atom of 256 characters: the limit is 255"},
    a_long_atom_of_umlauts:
      {"atom(('ä'):rep(256))", "an atom of 256 characters: the limit is 255"},
    an_atom_that_is_no_text: {"atom '\\xff'", "an atom's name must be valid UTF-8"},
    an_atom_of_half_a_surrogate: {"atom '\\xED\\xA0\\x80'", "an atom's name must be valid UTF-8"}
  ]

  @cycle """
  local knot = {}
  knot.ends = { 1, { knot } }
  return { give = function() return knot end, fine = function() return "fine" end }
  """

  @catching """
  local catching = { count = 0 }
  function catching:init() self.count = 0 end
  function catching:try(to)
    self.count = self.count + 1
    local sent, why = pcall(erl.send, to, { print })
    local replied, why_not = pcall(erl.reply, erl.from(), { a = 0 / 0 })
    return self.count, sent, why, replied, why_not
  end
  return catching
  """

  setup_all do
    scripts = for {name, {value, _why}} <- @unsendable ++ @unmakeable, do: {name, script(value)}
    any = {:any, "return function() return { print } end"}
    all = [any, cycle: @cycle, catching: @catching] ++ scripts
    handlers = folder(for {name, text} <- all, do: {"#{name}.lua", text})
    lua = start_supervised!({Lunode, handlers: handlers})
    %{lua: lua, node: Lunode.node(lua)}
  end

  defp script(value) do
    "return { give = function() return #{value} end, fine = function() return 'fine' end }"
  end

  # The connection is lost and made again without anybody noticing otherwise: so by its port.
  setup %{node: node} do
    connection = connection(node)
    on_exit(fn -> assert connection(node) == connection end)
  end

  defp connection(node) do
    {_node, port} = List.keyfind(:erlang.system_info(:dist_ctrl), node, 0)
    port
  end

  for {name, {value, why}} <- @unsendable do
    test "#{name}: #{value}", %{lua: lua} do
      assert failure(lua, unquote(name)) =~ "reply" <> unquote(why)
      assert Lunode.call(lua, unquote(name), :fine) == "fine"
    end
  end

  for {name, {value, why}} <- @unmakeable do
    test "#{name}: #{value}", %{lua: lua} do
      assert failure(lua, unquote(name)) =~ unquote(why)
      assert Lunode.call(lua, unquote(name), :fine) == "fine"
    end
  end

  test "a cycle", %{lua: lua} do
    assert failure(lua, :cycle) =~ ~r/^.*reply\.ends\[2\]\[1\].*: a cycle/
    assert Lunode.call(lua, :cycle, :fine) == "fine"
  end

  defp failure(lua, handler) do
    assert {{:lua_error, message, traceback}, _call} =
             catch_exit(Lunode.call(lua, handler, :give))

    assert String.valid?(message) and is_binary(traceback)
    message
  end

  test "the sender to `any` gets the reason", %{node: node} do
    send({:any, node}, :give)
    assert_receive {^node, {:error, {:lua_error, message, _traceback}}}, limit(5_000)
    assert message =~ "reply[1]: cannot send a function"
  end

  test "a script can catch it, and its process lives on", %{lua: lua} do
    for count <- 1..10 do
      assert {^count, false, why, false, why_not} = Lunode.call(lua, :catching, {:try, self()})
      assert why =~ "[1]: cannot send a function"
      assert why_not =~ ".a: cannot send NaN"
    end

    refute_received _anything
  end
end
