defmodule Lunode.ErrorsTest do
  @moduledoc "What is told of an error in a script: to the caller, to the log, and to programs."
  use ExUnit.Case, async: true

  import Lunode.Test.OS
  alias Lunode.Test.RawNode

  @counter """
  local shop = require 'lib.shop'
  local counter = {}
  function counter:init(start)
    if start == 'bad' then error('no such start') end
    self.items = {}
  end
  function counter:add(k)
    return self.item.price + k
  end
  function counter:buy(what) local got = shop.buy(what) return got end
  function counter:refuse(what) check_level(what) end
  function counter:raise(value) error(value) end
  function counter:object()
    error(setmetatable({}, { __tostring = function() return 'an object' end }))
  end
  function counter:endless()
    error(setmetatable({}, { __tostring = function() while true do end end }))
  end
  function counter:deep(n) return 1 + self:deep(n + 1) end
  function counter:wrapped()
    coroutine.wrap(function()
      error('inside')
    end)()
  end
  function counter:rethrow()
    local ok, why = pcall(self.add, self, 1)
    error(why, 0)
  end
  function counter:callback() return print end
  function counter:run_text(text, name) return load(text, name)() end
  function counter:quit(reason) erl.exit(reason) end
  function counter:wait() erl.sleep(60000) end
  function counter:terminate(reason)
    if reason == atom.worse then self.no_such.field = 1 end
  end
  function check_level(what)
    error('cannot ' .. what, 2)
  end
  return counter
  """

  @shop """
  local shop = {}
  function shop.buy(what)
    return what.price.in_euros
  end
  return shop
  """

  setup do
    folder = folder(%{"counter.lua" => @counter})
    File.mkdir!(Path.join(folder, "lib"))
    shop = Path.join(folder, "lib/shop.lua")
    File.write!(shop, @shop)
    raw = RawNode.start_connected(handlers: folder)
    eventually(fn -> match?([%{state: :running}], handlers(raw)) end)
    counter = {:counter, raw.node}
    %{raw: raw, counter: counter, script: Path.join(folder, "counter.lua"), shop: shop}
  end

  defp handlers(raw), do: GenServer.call({:lunode, raw.node}, :handlers, limit(5_000))

  defp last_error(raw), do: hd(handlers(raw)).last_error

  # What the caller exits with: the value and the text.
  defp fail(counter, request) do
    assert {{:lua_error, value, text}, _call} =
             catch_exit(GenServer.call(counter, request, limit(10_000)))

    {value, text}
  end

  # The next error in the log, without level and source.
  defp log(raw, lines \\ []) do
    case RawNode.next(raw, limit(5_000)) do
      "[error] counter| " <> line -> log(raw, [line | lines])
      "[error] counter: " <> line -> [line | lines] |> Enum.reverse() |> Enum.join("\n")
      line when is_binary(line) -> log(raw, lines)
      other -> flunk("no error is told: #{inspect(other)}")
    end
  end

  describe "an error in a method" do
    test "is told to the caller, the log and programs in the same words", context do
      %{raw: raw, counter: counter, script: script} = context
      before = System.os_time(:millisecond)
      {message, text} = fail(counter, {:add, 5})
      assert message == "#{script}:8: attempt to index a nil value (field 'item')"
      trace = "stack traceback:\n\t#{script}:8: in method 'add'"

      assert text ==
               "     8 |   return self.item.price + k\n#{trace}\n" <>
                 "while handling {:add, 5}\ncounter, version 1"

      assert log(raw) == message <> "\n" <> text
      {at, error} = Map.pop!(last_error(raw), :at)

      assert error == %{
               message: message,
               file: script,
               line: 8,
               source: "  return self.item.price + k",
               traceback: trace,
               handling: "{:add, 5}",
               version: 1
             }

      assert at in before..System.os_time(:millisecond)
    end

    test "is told to subscribers", context do
      %{raw: raw, counter: counter} = context
      node = raw.node
      assert GenServer.call({:lunode, node}, {:subscribe, self()}) == :ok
      fail(counter, {:add, 5})
      assert_receive {:lunode, ^node, :crashed, :counter, error}, limit(5_000)
      assert %{line: 8, handling: "{:add, 5}", version: 1} = error
      assert error == last_error(raw)

      catch_exit(GenServer.call(counter, {:quit, :oops}, limit(5_000)))
      assert_receive {:lunode, ^node, :crashed, :counter, error}, limit(5_000)
      assert %{message: "ended: :oops", line: nil, source: nil, traceback: ""} = error

      assert GenServer.stop(counter, :shutdown, limit(5_000)) == :ok
      assert is_binary(GenServer.call({:lunode, node}, :version, limit(5_000)))
      refute_received {:lunode, _, :crashed, _, _}
    end

    test "in a module shows the module's line and the chain of calls", context do
      %{counter: counter, shop: shop, script: script} = context
      {message, text} = fail(counter, {:buy, %{name: "tea"}})
      assert message == "#{shop}:3: attempt to index a nil value (field 'price')"

      assert text == """
                  3 |   return what.price.in_euros
             stack traceback:
             \t#{shop}:3: in field 'buy'
             \t#{script}:10: in method 'buy'
             while handling {:buy, %{name: "tea"}}
             counter, version 1\
             """
    end

    test "shows the line of the version that failed, not that of the file", context do
      for path <- [context.shop, context.script] do
        File.write!(path, "return {")
        RawNode.lines_until(context.raw, ~r/version 1 goes on/)
      end

      assert {_, "     8 |   return self.item.price + k\n" <> _} =
               fail(context.counter, {:add, 5})

      assert {_, "     3 |   return what.price.in_euros\n" <> _} =
               fail(context.counter, {:buy, %{}})
    end

    test "with a level is at the line that the message names", context do
      {message, text} = fail(context.counter, {:refuse, "this"})
      assert message == "#{context.script}:11: cannot this"
      assert text =~ ~r/\A    11 \| function counter:refuse.*\nstack traceback:\n/
    end

    test "that was passed on is at the line where it came from", context do
      assert {_, "     8 |   return self.item.price + k\n" <> _} = fail(context.counter, :rethrow)
    end

    test "in a coroutine is at the line inside", context do
      {message, text} = fail(context.counter, :wrapped)
      assert message =~ ~r/counter\.lua:22: inside\z/
      assert text =~ ~r/\A    22 \|     error\('inside'\)\n/
    end

    test "with a value that is no text names the place all the same", context do
      %{raw: raw, counter: counter, script: script} = context
      {value, text} = fail(counter, {:raise, %{code: 5}})
      assert value == %{code: 5}
      assert text =~ ~r/\A    12 \| function counter:raise/
      assert log(raw) == "#{script}:12: %{code: 5}\n" <> text
      assert %{message: "%{code: 5}", file: ^script, line: 12} = last_error(raw)
    end

    test "with an object is what its __tostring says", context do
      assert {_, "    14 |   error(setmetatable(" <> _} = fail(context.counter, :object)
      assert log(context.raw) =~ "counter.lua:14: an object\n"
    end

    test "whose __tostring loops does not hold up the node", context do
      assert {_, "    17 |   error(setmetatable(" <> _} = fail(context.counter, :endless)

      assert log(context.raw) =~
               "counter.lua:17: an error value (table) whose __tostring does not end\n"

      assert {_, _} = fail(context.counter, {:add, 5})
    end

    test "of a stack that overflows has a short traceback", context do
      {message, text} = fail(context.counter, {:deep, 1})
      assert message =~ "counter.lua:19: stack overflow"
      assert text =~ ~r/\A    19 \| function counter:deep/
      assert text =~ "in method 'deep'" and text =~ "while handling {:deep, 1}"
      assert length(String.split(text, "\n")) < 40
    end

    test "of a huge text is whole for the caller and short in the log", context do
      huge = String.duplicate("é", 1_000_000)
      assert {message, _text} = fail(context.counter, {:raise, huge})
      assert String.ends_with?(message, huge)
      assert byte_size(log(context.raw)) in 4_000..6_000
    end

    test "in what was returned has no line", context do
      {message, text} = fail(context.counter, :callback)
      assert message =~ "reply: cannot send a function"
      assert text =~ ~r/\Astack traceback:\n/ and text =~ "while handling :callback\n"
    end

    test "in a text that the script has loaded shows the line of that", context do
      {message, text} = fail(context.counter, {:run_text, "local x\n  return x.y", nil})
      assert message =~ ~r/\A\[string "local x..."\]:2: attempt to index a nil value/
      assert "     2 |   return x.y\n" <> _ = text
    end

    test "whose chunk has a name of the script's choice reads no device, pipe or folder",
         context do
      folder = Path.dirname(context.script)
      pipe = Path.join(folder, "pipe")
      {_, 0} = System.cmd("mkfifo", [pipe])

      for name <- ["/dev/zero", pipe, folder, "/no/such/file"] do
        {message, text} = fail(context.counter, {:run_text, "local x\nreturn x.y", "@" <> name})
        assert message =~ "#{name}:2: "
        assert text =~ ~r/\Astack traceback:\n/
      end
    end

    test "in a file that the script has run by itself shows the file's line", context do
      other = Path.rootname(context.shop) <> ".txt"
      File.write!(other, "local x\n\treturn x.y -- #{String.duplicate("é", 200)}\n")
      {_, text} = fail(context.counter, {:run_text, "return dofile('#{other}')", nil})
      [line | _] = String.split(text, "\n")
      assert line =~ ~r/\A     2 \| \treturn x.y -- é+\z/u
      assert byte_size(line) in 205..209
    end
  end

  describe "what was being handled:" do
    test "a huge message is shortened", context do
      huge = %{id: 7, text: String.duplicate("é", 1_000_000), more: Enum.to_list(1..100_000)}
      {_, text} = fail(context.counter, {:buy, huge})
      assert [_, shown] = Regex.run(~r/^while handling (.*)$/m, text)
      assert byte_size(shown) in 195..200
      assert String.valid?(shown) and String.ends_with?(shown, "...")
      assert String.starts_with?(shown, "{:buy, %{id: 7, ")
    end

    test "a cast, and a message to the name", context do
      GenServer.cast(context.counter, {:add, 1})
      assert log(context.raw) =~ "while handling {:add, 1}\ncounter, version 1"
      send(Node.spawn(context.raw.node, :counter, :start, []), {:add, [a: 2]})
      assert log(context.raw) =~ "while handling {:add, [a: 2]}\n"
    end

    test "init", context do
      %{raw: raw, script: script} = context
      Node.spawn(raw.node, :counter, :start, ["bad"])
      shown = log(raw)
      assert shown =~ "#{script}:4: no such start\n     4 |   if start == 'bad'"
      assert shown =~ "#{script}:4: in method 'init'\nwhile handling init(\"bad\")\n"
    end

    test "terminate", context do
      assert GenServer.stop(context.counter, :worse, limit(5_000)) == :ok
      shown = log(context.raw)
      assert shown =~ "    34 |   if reason == atom.worse"
      assert shown =~ "in method 'terminate'\nwhile handling terminate(:worse)\n"
    end

    test "a function that erpc calls, whose stack on the BEAM's side is as it was", context do
      error =
        assert_raise ErlangError, fn ->
          :erpc.call(context.raw.node, :counter, :add, [5], limit(5_000))
        end

      assert {:exception, {:lua_error, message, text}, stack} = error.original
      assert message =~ "counter.lua:8: " and text =~ "in method 'add'\nwhile handling add(5)\n"
      assert [{:counter, :add, 1, []} | _] = stack
    end

    test "at an end without an error", context do
      %{raw: raw, counter: counter} = context
      catch_exit(GenServer.call(counter, {:quit, :oops}, limit(5_000)))
      assert log(raw) == "ended: :oops\nwhile handling {:quit, :oops}\ncounter, version 1"
      pid = :erpc.call(raw.node, :erlang, :whereis, [:counter])
      Process.exit(pid, :kill)
      assert log(raw) == "ended: :killed"
      assert %{message: "ended: :killed", handling: nil, version: 1} = last_error(raw)
    end
  end

  describe "a script that does not load" do
    test "is told with its line", context do
      %{raw: raw, script: script} = context
      node = raw.node
      assert GenServer.call({:lunode, node}, {:subscribe, self()}) == :ok
      File.write!(script, "return {\n  add = = 1\n}")
      assert log(raw) == "#{script}:2: unexpected symbol near '='\n     2 |   add = = 1"
      assert_receive {:lunode, ^node, :reload_failed, :counter, error}, limit(5_000)
      assert %{line: 2, source: "  add = = 1", version: 1, handling: nil, traceback: ""} = error

      File.write!(script, "local x\nreturn x.y")
      shown = log(raw)

      assert shown =~
               "#{script}:2: attempt to index a nil value (local 'x')\n     2 | return x.y\n"

      assert shown =~ ~r/in main chunk\z/
      assert_receive {:lunode, ^node, :reload_failed, :counter, error}, limit(5_000)
      assert %{line: 2, source: "return x.y", version: 1} = error
      refute_received {:lunode, _, :crashed, _, _}
    end

    test "because a module of it doesn't is told with the module's line", context do
      File.write!(context.shop, "return {\n  oops oops\n}")
      assert log(context.raw) =~ ~r/shop\.lua:2: .*\n     2 \|   oops oops\nstack traceback:\n/
    end
  end

  test "what is evaluated is told with its line", context do
    eval = fn source ->
      GenServer.call({:lunode, context.raw.node}, {:eval, :counter, source}, limit(5_000))
    end

    assert {:error, {:lua_error, "eval:2: " <> _, "     2 | y ="}} = eval.("local x = 1\ny =")
    assert {:error, {:lua_error, "eval:1: " <> _, text}} = eval.("self.a.b")
    assert text =~ ~r/\A     1 \| self\.a\.b\nstack traceback:\n\teval:1: in main chunk/
    assert eval.("function late() return nothing.x end") == {:ok, []}
    assert {:error, {:lua_error, "eval:1: " <> _, text}} = eval.("local ok = late() return ok")
    refute text =~ "1 |"
  end

  test "nor is another line shown for what a prompt has defined before", context do
    eval = fn source ->
      request = {:eval, nil, source, %{prompt: self()}}
      GenServer.call({:lunode, context.raw.node}, request, limit(5_000))
    end

    assert eval.("function late() return nothing.x end") == {:ok, []}
    assert {:error, {:lua_error, "eval:1: " <> _, text}} = eval.("local ok = late() return ok")
    refute text =~ "1 |"
    assert {:error, {:lua_error, "eval:1: " <> _, text}} = eval.("nothing.x")
    assert text =~ "1 | nothing.x"
  end
end
