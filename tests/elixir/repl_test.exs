defmodule Lunode.ReplTest do
  use ExUnit.Case, async: true

  import Lunode.Test.OS
  alias Lunode.Test.Keyboard

  @counter """
  local counter = {}
  step = 1
  function counter:init() self.n = 5 end
  function counter:add() self.n = self.n + step return self.n end
  function counter:fail() error("broken", 0) end
  return counter
  """

  setup do
    folder = folder(%{"counter.lua" => @counter, "other.lua" => echo()})
    lua = start_supervised!({Lunode, handlers: folder, log: :warning})
    eventually(fn -> Enum.all?(Lunode.handlers(lua), &(&1.state == :running)) end)
    %{lua: lua, folder: folder}
  end

  defp repl(lua, opts \\ []) do
    keyboard = Keyboard.start(fn -> Lunode.repl(lua) end, opts)
    Keyboard.await(keyboard, ~r/\n\w+> $/)
    keyboard
  end

  # Types lines; gives what is written until the prompt comes back, without that.
  defp enter(keyboard, lines, prompt \\ ~r/\w+>>? $/) do
    before = Keyboard.written(keyboard)
    written = lines |> Enum.map(&type(keyboard, &1, prompt)) |> List.last()
    new = binary_part(written, byte_size(before), byte_size(written) - byte_size(before))
    String.replace(new, ~r/\w+>>? /, "")
  end

  defp type(keyboard, line, prompt) do
    before = Keyboard.written(keyboard)
    Keyboard.type(keyboard, line <> "\n")
    Keyboard.await(keyboard, prompt, before)
  end

  # What Tab adds, and what it lists.
  defp tab(keyboard, text) do
    expand = Keyboard.opts(keyboard)[:expand_fun]
    {_found, added, listed} = text |> to_charlist() |> Enum.reverse() |> expand.()
    {to_string(added), Enum.map(listed, &to_string/1)}
  end

  defp iex_completion(before), do: {:no, '', [before]}

  test "says where it is, and leaves when it is told to", %{lua: lua} do
    repl = repl(lua)
    assert Keyboard.written(repl) =~ "Lua in #{Lunode.node(lua)}. :help"
    Keyboard.type(repl, ":quit\n")
    assert Keyboard.await_end(repl) == :ok
  end

  test "leaves at the end of the input", %{lua: lua} do
    repl = repl(lua)
    Keyboard.hang_up(repl)
    assert Keyboard.await_end(repl) == :ok
  end

  test "takes its input from a pipe", %{lua: lua} do
    {:ok, device} = StringIO.open("x = 20\nfor i = 1, 2 do\nprint(i)\nend\nx + 1\n")

    task =
      Task.async(fn ->
        Process.group_leader(self(), device)
        Lunode.repl(lua)
      end)

    assert Task.await(task) == :ok
    {"", written} = StringIO.contents(device)
    assert written =~ "1\n2\n21\n"
  end

  test "prints the values, in depth", %{lua: lua} do
    repl = repl(lua)
    assert enter(repl, ["1 + 1"]) == "2\n"
    assert enter(repl, ["1, 'two', {3, {4}}"]) == "1\n\"two\"\n[3, [4]]\n"
    assert enter(repl, ["local x = 1"]) == ""
    assert enter(repl, ["", "   "]) == ""
  end

  test "takes a chunk of several lines", %{lua: lua} do
    repl = repl(lua)
    assert enter(repl, ["for i = 1, 2 do"]) == ""
    assert Keyboard.written(repl) =~ ~r/lunode>> $/
    assert enter(repl, ["", "  print(i)", "end"]) == "1\n2\n"
    assert Keyboard.written(repl) =~ ~r/lunode> $/
  end

  test "an unfinished chunk can be given up", %{lua: lua} do
    repl = repl(lua)
    assert enter(repl, ["function f(", ":cancel", "1"]) == "1\n"
  end

  test "what it sets it keeps, and another prompt doesn't see", %{lua: lua} do
    [one, other] = [repl(lua), repl(lua)]
    enter(one, ["x = 5"])
    assert enter(one, ["x"]) == "5\n"
    assert enter(other, ["x"]) == "nil\n"
  end

  test "what is printed comes to the prompt that caused it", %{lua: lua} do
    [one, other] = [repl(lua), repl(lua)]
    assert enter(one, ["print('a', 1) io.write('b\\nc') return 2"]) == "a\t1\nb\nc\n2\n"
    assert enter(other, ["3"]) == "3\n"
  end

  test "what is printed does nothing to the terminal", %{lua: lua} do
    assert enter(repl(lua), ["print('a\\27[2J\\200b\\0')"]) == "a\\27[2J\uFFFDb\\0\n"
  end

  test "output is shown while the evaluation goes on", %{lua: lua} do
    repl = repl(lua)
    Keyboard.type(repl, "print('begun') erl.sleep(600000)\n")
    Keyboard.await(repl, "begun")
  end

  test "an error is told with its traceback, and the prompt goes on", %{lua: lua} do
    repl = repl(lua)
    assert enter(repl, ["error('broken', 0)"]) =~ ~r/\Abroken\n.*stack traceback:/s
    assert enter(repl, ["1 = 2"]) =~ ~r/\Aeval:1: unexpected symbol/
    assert enter(repl, ["error({1, 2})"]) =~ "[1, 2]"
    assert enter(repl, ["1"]) == "1\n"
  end

  test ":use switches the environment", %{lua: lua} do
    repl = repl(lua)
    assert enter(repl, [":use counter"]) == ""
    assert Keyboard.written(repl) =~ ~r/counter> $/
    assert enter(repl, ["self.n, step"]) == "5\n1\n"
    enter(repl, ["step = 10"])
    assert Lunode.call(lua, :counter, :add) == 15
    assert enter(repl, [":use nobody"]) == "there is no handler nobody; see :handlers\n"
    assert Keyboard.written(repl) =~ ~r/counter> $/
    assert enter(repl, [":use", "step"]) == "nil\n"
  end

  test "a handler that goes is told of", %{lua: lua} do
    {:ok, 1} = Lunode.load(lua, :fresh, @counter, trust: :full)
    repl = repl(lua)
    enter(repl, [":use fresh"])
    assert Lunode.unload(lua, :fresh) == :ok
    assert enter(repl, ["1"]) == "there is no handler fresh; see :handlers\n"
  end

  test ":reload loads again, and says what is wrong", %{lua: lua, folder: folder} do
    repl = repl(lua)
    assert enter(repl, [":reload counter"]) == "counter is at version 2\n"
    assert enter(repl, [":reload nobody"]) == "there is no handler nobody; see :handlers\n"
    assert enter(repl, [":reload"]) == "which handler? See :handlers\n"
    File.write!(Path.join(folder, "counter.lua"), "return {")
    assert enter(repl, [":reload counter"]) =~ ~r/counter\.lua:1: .*near <eof>/
  end

  test ":handlers, :stats and :help", %{lua: lua, folder: folder} do
    repl = repl(lua)
    path = Path.join(folder, "counter.lua")
    assert enter(repl, [":handlers"]) =~ ~r/^counter +1 +running +1 +20.* #{path}$/m
    assert enter(repl, [":stats"]) =~ ~r/up .*\npeers 1 .*\n\*Handler.*\ncounter .*\nother /
    help = enter(repl, [":help"])
    for name <- Lunode.Repl.Commands.names() -- [":help"], do: assert(help =~ name)
    assert enter(repl, [":fly"]) == "there is no command :fly; see :help\n"
    assert enter(repl, ["::label:: goto done ::done::"]) == ""
  end

  test "Tab completes names, handlers and commands", %{lua: lua} do
    repl = repl(lua, expand_fun: &iex_completion/1)
    assert tab(repl, "string.form") == {"at", []}
    assert {"", listed} = tab(repl, "x = erl.se")
    assert ["erl.self", "erl.send", "erl.send_after"] -- listed == []
    assert tab(repl, "step") == {"", []}
    assert tab(repl, ":re") == {"load", []}
    assert tab(repl, ":use co") == {"unter", []}
    enter(repl, [":use counter"])
    assert tab(repl, "self:ad") == {"d", []}
    enter(repl, ["if true then"])
    assert tab(repl, "ste") == {"p", []}
    assert tab(repl, "no.such.thing") == {"", []}
  end

  test "afterwards Tab does what it did before", %{lua: lua} do
    repl = repl(lua, expand_fun: &iex_completion/1)
    assert Keyboard.opts(repl)[:expand_fun] != (&iex_completion/1)
    Keyboard.type(repl, ":quit\n")
    Keyboard.await_end(repl)
    assert Keyboard.opts(repl)[:expand_fun] == (&iex_completion/1)
  end

  test "also when the prompt was killed, and its evaluation ends with it", %{lua: lua} do
    Process.flag(:trap_exit, true)
    repl = repl(lua, expand_fun: &iex_completion/1)
    before = Lunode.stats(lua).processes
    Keyboard.type(repl, "print('begun') while true do end\n")
    Keyboard.await(repl, "begun\n")
    assert Lunode.stats(lua).processes == before + 1
    Process.exit(repl.task.pid, :kill)
    eventually(fn -> tab(repl, "x") == {"", ["x"]} end)
    eventually(fn -> Lunode.stats(lua).processes == before end)
  end

  test "an empty line ends an evaluation that still runs; the prompt and its environment stay", %{
    lua: lua
  } do
    repl = repl(lua, expand_fun: &iex_completion/1)
    enter(repl, ["x = 5"])
    Keyboard.type(repl, "while true do pcall(function() while true do end end) end\n")
    before = Keyboard.await(repl, "It still runs. An empty line ends it.\nlunode> ")
    Keyboard.type(repl, "\n")
    Keyboard.await(repl, ~r/interrupted\n/, before)
    assert enter(repl, ["x"], ~r/5\n.*> $/) =~ "5\n"
    assert Lunode.call(lua, :counter, :add) == 6
  end

  test "so does an interrupt of the terminal", %{lua: lua} do
    repl = repl(lua, expand_fun: &iex_completion/1)
    Keyboard.type(repl, "while true do end\n")
    before = Keyboard.await(repl, ~r/still runs.*\nlunode> $/s)
    Keyboard.interrupt(repl)
    Keyboard.await(repl, ~r/interrupted\n/, before)
  end

  test "other lines meanwhile are for later", %{lua: lua} do
    repl = repl(lua, expand_fun: &iex_completion/1)
    Keyboard.type(repl, "erl.sleep(4000) return 'first'\n")
    Keyboard.await(repl, "still runs")
    Keyboard.type(repl, "'second'\n:quit\n")
    Keyboard.await(repl, ~r/"first"\n.*"second"\n.*Enter leaves/s)
    Keyboard.type(repl, "\n")
    assert Keyboard.await_end(repl) == :ok
  end

  test "a node that ends meanwhile is told of, too", %{lua: lua} do
    repl = repl(lua, expand_fun: &iex_completion/1)
    Keyboard.type(repl, "while true do end\n")
    Keyboard.await(repl, "still runs")
    kill(os_pid(lua))
    Keyboard.await(repl, "does not answer any more: :noconnection\nEnter leaves the prompt.\n")
    Keyboard.type(repl, "\n")
    assert Keyboard.await_end(repl) == :ok
  end

  test "a node that ends is told of, and the prompt ends", %{lua: lua} do
    repl = repl(lua)
    Keyboard.type(repl, "print('begun') erl.sleep(600000)\n")
    Keyboard.await(repl, "begun")
    kill(os_pid(lua))
    assert Keyboard.await_end(repl) == :ok
    assert Keyboard.written(repl) =~ "The node does not answer any more: :noconnection\n"
  end
end
