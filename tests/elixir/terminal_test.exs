defmodule Lunode.TerminalTest do
  @moduledoc "The prompt and the table as somebody at a terminal sees them."
  use ExUnit.Case

  import Lunode.Test.OS
  alias Lunode.Test.{RawNode, Terminal}

  @counter """
  local counter = {}
  function counter:init() self.n = 5 end
  function counter:add() self.n = self.n + 1 return self.n end
  return counter
  """

  defp start_node(files) do
    folder = folder(files)
    raw = RawNode.start_connected(handlers: folder)
    eventually(fn -> Enum.all?(Lunode.handlers(raw.node), &(&1.state == :running)) end)
    raw.node
  end

  defp start_iex do
    alive = "iex_#{System.unique_integer([:positive])}_#{System.pid()}"
    name = "#{alive}@#{RawNode.own_host()}"
    ebin = Application.app_dir(:lunode, "ebin")
    terminal = Terminal.start(["iex", "--sname", alive, "-pa", ebin])
    Terminal.wait_for_end(terminal, "iex(#{name})1>")
    {terminal, name}
  end

  defp fifty, do: for(n <- 1..50, into: %{}, do: {"handler_#{n}.lua", echo()})

  test "Lunode.repl in IEx: several lines, Tab, history, an end to what loops" do
    node = start_node(%{"counter.lua" => @counter})
    {terminal, name} = start_iex()
    Terminal.enter(terminal, "Lunode.repl(:\"#{node}\")")
    Terminal.wait_for_end(terminal, "lunode>")

    Terminal.enter(terminal, "for i = 1, 2 do")
    Terminal.wait_for_end(terminal, "lunode>>")
    Terminal.enter(terminal, "print('line ' .. i) end")
    Terminal.wait_for(terminal, ~r/^line 1\nline 2\nlunode>\z/m)

    Terminal.type(terminal, "string.form")
    Terminal.press(terminal, "Tab")
    Terminal.wait_for_end(terminal, "lunode> string.format")
    Terminal.enter(terminal, "('%03d', 7)")
    Terminal.wait_for(terminal, ~r/^"007"\nlunode>\z/m)

    Terminal.type(terminal, ":use cou")
    Terminal.press(terminal, "Tab")
    Terminal.wait_for_end(terminal, "lunode> :use counter")
    Terminal.press(terminal, "Enter")
    Terminal.wait_for_end(terminal, "counter>")
    Terminal.enter(terminal, "self:add()")
    Terminal.wait_for(terminal, ~r/^6\ncounter>\z/m)
    Terminal.press(terminal, "Up")
    Terminal.wait_for_end(terminal, "counter> self:add()")
    Terminal.press(terminal, "Enter")
    Terminal.wait_for(terminal, ~r/^7\ncounter>\z/m)

    Terminal.enter(terminal, "while true do end")
    Terminal.wait_for(terminal, ~r/An empty line ends it\.\ncounter>\z/)
    Terminal.press(terminal, "Enter")
    Terminal.wait_for(terminal, ~r/^interrupted\ncounter>\z/m)

    Terminal.enter(terminal, ":quit")
    Terminal.wait_for_end(terminal, "iex(#{name})2>")
    Terminal.type(terminal, "Lunode.unsub")
    Terminal.press(terminal, "Tab")
    Terminal.wait_for_end(terminal, "iex(#{name})2> Lunode.unsubscribe")
  end

  test "Lunode.top in IEx takes keys one by one, and leaves IEx as it was" do
    node = start_node(fifty())
    {terminal, name} = start_iex()
    Terminal.enter(terminal, "Lunode.top(:\"#{node}\")")
    Terminal.wait_for(terminal, ~r/^Handler +\*Msg/m)

    for {key, title} <- [{"w", "Waiting"}, {"h", "Handler"}, {"y", "memorY"}] do
      Terminal.type(terminal, key)
      Terminal.wait_for(terminal, "*" <> title)
    end

    Terminal.type(terminal, "q")
    Terminal.wait_for_end(terminal, ":ok\niex(#{name})2>")
    Terminal.enter(terminal, "IO.gets(\"name? \")")
    Terminal.wait_for_end(terminal, "name?")
    Terminal.enter(terminal, "me")
    Terminal.wait_for(terminal, ~r/^"me\\n"\niex.*3>\z/m)
  end

  test "mix lunode.top with 50 handlers at 80 by 24, and in a smaller window" do
    node = start_node(fifty())
    files = folder([])

    script = """
    stty -a >#{files}/before
    mix lunode.top #{node}
    status=$?
    stty -a >#{files}/after
    exit $status
    """

    terminal = Terminal.start(["sh", "-c", script], env: %{"MIX_ENV" => "test"})
    screen = Terminal.wait_for(terminal, ~r/^Handler +\*Msg/m)
    lines = String.split(screen, "\n")
    assert length(lines) == 24
    assert hd(lines) =~ "#{node}   up "
    assert Enum.at(lines, -2) == "... and 31 more"
    assert List.last(lines) =~ "q quits"
    assert Enum.count(lines, &(&1 =~ ~r/^handler_\d+ /)) == 19

    Terminal.type(terminal, "h")
    Terminal.wait_for(terminal, ~r/^\*Handler.*\nhandler_1 .*\nhandler_10 .*\nhandler_11 /m)

    Terminal.resize(terminal, 40, 10)
    small = Terminal.wait_for(terminal, ~r/^\.\.\. and 45 more\n.*\z/m)
    assert length(String.split(small, "\n")) == 10
    assert small =~ ~r/^\*Handler +Msg\/s +Cpu% +Waiting$/m

    Terminal.resize(terminal, 80, 24)
    Terminal.wait_for(terminal, "... and 31 more")
    Terminal.press(terminal, "C-c")
    Terminal.wait_for(terminal, "ended with 0")
    assert File.read!(Path.join(files, "after")) == File.read!(Path.join(files, "before"))
  end

  test "single keys without a terminal do no harm, however long the time" do
    for n <- 0..100 do
      assert Lunode.Terminal.with_single_keys(fn -> :timer.sleep(rem(n, 25)) end) == :ok
    end
  end
end
