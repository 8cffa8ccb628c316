defmodule Lunode.AttachTest do
  @moduledoc "`lunode attach`: a Lua prompt inside a running node."
  use ExUnit.Case

  import Lunode.Test.OS
  import Lunode.Test.Terminal, except: [start: 1, start: 2]
  alias Lunode.Test.{OtherBeam, RawNode, StandIn, Terminal}

  @counter """
  local counter = {}
  limit = 10
  function counter:init(start) self.n = start or 0 end
  function counter:add(k) self.n = self.n + k return self.n end
  function counter:get() return self.n end
  function counter:fail() error("broken") end
  return counter
  """

  defp program, do: Path.expand(Lunode.Program.path())
  defp cookie, do: Atom.to_string(Node.get_cookie())

  defp env(more \\ %{}) do
    Map.merge(%{"BUNDLEX_ERLANG_COOKIE" => cookie(), "XDG_STATE_HOME" => folder([])}, more)
  end

  defp start_node(_context) do
    folder = folder(%{"counter.lua" => @counter, "other.lua" => echo()})
    %{folder: folder, raw: RawNode.start_standalone([folder], env: env())}
  end

  # Gives status, standard output and standard error.
  defp attach(node, input, opts \\ []) do
    file = script("input", input)
    stderr = Path.join(folder([]), "stderr")
    through = opts[:through] || "cat #{file} 2>/dev/null | "
    command = ["-c", "#{through} \"$@\" 2>#{stderr}", "sh", program(), "attach", "#{node}"]
    command = command ++ (opts[:args] || [])
    {stdout, status} = System.cmd("/bin/sh", command, env: opts[:env] || env())
    {status, stdout, File.read!(stderr)}
  end

  describe "a pipe:" do
    setup :start_node

    test "values are printed, in depth, each on its line", %{raw: raw} do
      assert attach(raw.node, "return 1+1") == {0, "2\n", ""}

      assert attach(raw.node, "1, 'two'\n{1, {a = 'x'}}\n") ==
               {0, ~s(1\n"two"\n[1, %{"a" => "x"}]\n), ""}

      assert attach(raw.node, "") == {0, "", ""}
      assert attach(raw.node, "x = 5\n\n  \nx") == {0, "5\n", ""}
    end

    test "what is printed comes in its place", %{raw: raw} do
      input = "print('a', 1) return 2\nlocal _ = io.write('b\\n\\nc')\n3"
      assert attach(raw.node, input) == {0, "a\t1\n2\nb\n\nc\n3\n", ""}
      assert RawNode.next(raw, 100) == :nothing
    end

    test "a chunk may have several lines, and has to end", %{raw: raw} do
      input = "for i = 1, 2 do\n  print(i)\nend\nx = [[\n:help\n]] return x"
      assert attach(raw.node, input) == {0, "1\n2\n\":help\\n\"\n", ""}

      assert attach(raw.node, "1\nfor i = 1, 2 do") ==
               {1, "1\n", "the last chunk is not finished\n"}
    end

    test "errors have their text, and the last evaluation decides the status", %{raw: raw} do
      assert {1, "1\n", said} = attach(raw.node, "1\nerror('oops')")
      assert said =~ ~r/\Aeval:1: oops\n.*stack traceback:\n\t.*in main chunk/s
      assert {0, "1\n", said} = attach(raw.node, "error('oops', 0)\n1")
      assert said =~ ~r/\Aoops\n/
      assert {1, "", said} = attach(raw.node, "x = = 1")
      assert said =~ ~r/\Aeval:1: unexpected symbol near '='\n/
      assert {1, "", said} = attach(raw.node, "error({code = 5})")
      assert said =~ ~r/\A%{"code" => 5}\n/
    end

    test "is read from a file too, and whatever its length", %{raw: raw} do
      lines = for i <- 1..2_000, do: "-- #{String.duplicate("x", 100)}\n#{i}\n"
      file = script("long.lua", Enum.join(lines))
      assert {0, said, ""} = attach(raw.node, "", through: "<#{file}")
      assert said == Enum.map_join(1..2_000, "", &"#{&1}\n")
      assert attach(raw.node, "", through: "</dev/null") == {0, "", ""}
      assert attach(raw.node, "", through: "<&-") == {0, "", ""}
    end

    test "the environment of a handler", %{raw: raw} do
      input = ":use counter\nself:add(5)\nlimit\nlimit = 20\n:use\nlimit\n"
      assert attach(raw.node, input) == {0, "5\n10\nnil\n", ""}
      assert attach(raw.node, ":use counter\nself.n, limit") == {0, "5\n20\n", ""}
      assert attach(raw.node, ":use nobody\n1") == {0, "1\n", "there is no handler nobody\n"}
    end

    test ":handlers", %{raw: raw, folder: folder} do
      assert {0, said, ""} = attach(raw.node, ":handlers")
      assert [titles, counter, other] = String.split(said, "\n", trim: true)
      assert String.split(titles) == ~w(handler version state processes since file)
      assert ["counter", "1", "running", "1", _day, _time, file] = String.split(counter)
      assert file == Path.join(folder, "counter.lua")
      assert String.starts_with?(other, "other ")
    end

    test ":stats", %{raw: raw} do
      assert Node.connect(raw.node)
      for _ <- 1..3, do: GenServer.call({:counter, raw.node}, {:add, 1})
      assert {0, said, ""} = attach(raw.node, ":stats")
      assert said =~ ~r/\Aup 0:00:\d\d, [\d.]+ MiB of memory, \d+ processes, \d+ atoms\n/
      assert said =~ ~r/^handler +messages +errors .*memory$/m
      assert said =~ ~r/^counter +3 +0 .* [\d.]+ ms .* [\d.]+ KiB$/m
      assert said =~ ~r/^peer +frames in +frames out +bytes in +bytes out$/m
      assert said =~ ~r/^#{node()} +\d+ +\d+ +[\d.]+ KiB +[\d.]+ KiB$/m
    end

    test ":reload, :help, :quit, and what is no command", %{raw: raw, folder: folder} do
      assert attach(raw.node, ":reload counter") == {0, "counter is at version 2\n", ""}
      assert attach(raw.node, ":reload nobody") == {1, "", "there is no handler nobody\n"}
      assert attach(raw.node, ":reload") == {1, "", "which handler? See :handlers\n"}
      assert {0, said, ""} = attach(raw.node, ":help\n:quit\n1")
      for name <- ~w(:handlers :stats :reload :use :quit), do: assert(said =~ "\n#{name} ")
      refute said =~ "\n1\n"
      assert attach(raw.node, ":nothing") == {1, "", "there is no command :nothing; see :help\n"}
      assert attach(raw.node, "::label:: goto label2 ::label2::") == {0, "", ""}
      File.write!(Path.join(folder, "counter.lua"), "return {")
      assert {1, "", said} = attach(raw.node, ":reload counter")
      assert said =~ "counter.lua:1: "
    end

    test "Ctrl-C ends the evaluation, and what follows is left", %{raw: raw} do
      input = script("input", "print('go') while true do end\nprint('on')")

      port =
        open_port([
          "/bin/sh",
          "-c",
          ~s(exec "$0" attach "$1" <"$2"),
          program(),
          "#{raw.node}",
          input
        ])

      assert_receive {^port, {:data, {:eol, "go"}}}, limit(10_000)
      {:os_pid, pid} = Port.info(port, :os_pid)
      kill(pid, "INT")
      assert_receive {^port, {:exit_status, 130}}, limit(10_000)
      refute_received {^port, {:data, {:eol, "on"}}}
      assert attach(raw.node, "1") == {0, "1\n", ""}
    end

    test "the node dies while it evaluates", %{raw: raw} do
      port = open_port([program(), "attach", "#{raw.node}"])
      Port.command(port, "print('go') while true do end\n")
      assert_receive {^port, {:data, {:eol, "go"}}}, limit(10_000)
      kill(raw.os_pid)
      line = "lunode: #{raw.node}: connection closed"
      assert_receive {^port, {:data, {:eol, ^line}}}, limit(10_000)
      assert_receive {^port, {:exit_status, 1}}, limit(10_000)
    end

    test "the node dies while nothing comes", %{raw: raw} do
      port = open_port([program(), "attach", "#{raw.node}"])
      Port.command(port, "1\n")
      assert_receive {^port, {:data, {:eol, "1"}}}, limit(10_000)
      kill(raw.os_pid)
      assert_receive {^port, {:exit_status, 1}}, limit(10_000)
    end

    test "what runs when it is killed ends with it", %{raw: raw} do
      port = open_port([program(), "attach", "#{raw.node}"])
      Port.command(port, ":use counter\nprint('go') while true do self.n = self.n + 1 end\n")
      assert_receive {^port, {:data, {:eol, "go"}}}, limit(10_000)
      {:os_pid, pid} = Port.info(port, :os_pid)
      kill(pid)
      assert Node.connect(raw.node)
      n = fn -> GenServer.call({:counter, raw.node}, :get) end
      eventually(fn -> n.() == n.() end)
    end

    defp open_port([program | args]) do
      env = for {name, value} <- env(), do: {to_charlist(name), to_charlist(value)}
      options = [:binary, :exit_status, :stderr_to_stdout, line: 10_000, args: args, env: env]
      Port.open({:spawn_executable, program}, options)
    end
  end

  describe "connecting:" do
    test "a name without a host is on this machine" do
      alive = "here_#{System.unique_integer([:positive])}_#{System.pid()}"
      RawNode.start_standalone([], env: env(), name: alive, alive: alive)
      assert attach(alive, "1") == {0, "1\n", ""}
    end

    test "the cookie comes from the file that is named, the environment, or ~/.erlang.cookie" do
      raw = RawNode.start_standalone([], env: env())
      file = script("cookie", cookie() <> "\n")
      home = %{"HOME" => folder(%{".erlang.cookie" => cookie()})}
      wrong = env(%{"BUNDLEX_ERLANG_COOKIE" => "wrong"})
      none = env(%{"BUNDLEX_ERLANG_COOKIE" => nil})
      assert {0, _, _} = attach(raw.node, "1", args: ["--cookie-file", file], env: wrong)
      assert {0, _, _} = attach(raw.node, "1", env: Map.merge(none, home))
      assert {1, "", said} = attach(raw.node, "1", env: wrong)
      assert said == "lunode: #{raw.node}: cannot connect: wrong cookie\n"
      assert {2, "", said} = attach(raw.node, "1", env: Map.put(none, "HOME", folder([])))
      assert said =~ "attach: no cookie in BUNDLEX_ERLANG_COOKIE or ~/.erlang.cookie"
    end

    test "no such node, no such host, no name: one line and status 1" do
      host = RawNode.own_host()
      assert {1, "", said} = attach("nobody_at_all@#{host}", "1")
      assert said =~ ~r/\Alunode: nobody_at_all@#{host}: cannot connect: no such node.*\n\z/
      assert {1, "", said} = attach("nobody@no.such.host.invalid", "1")
      assert said =~ ~r/\Alunode: nobody@no.such.host.invalid: cannot connect: .*\n\z/
      assert {1, "", said} = attach("@", "1")
      assert said =~ ~r/\Alunode: @: cannot connect: that is not a node's name.*\n\z/
    end

    test "another kind of node" do
      {_peer, name} = OtherBeam.start()
      assert {1, "", said} = attach(name, "1")
      assert said == "#{name} has no process lunode: it is another kind of node\n"
    end
  end

  describe "a terminal:" do
    setup :start_node

    defp open(node, opts \\ []) do
      terminal = Terminal.start([program(), "attach", "#{node}"], env: opts[:env] || env())
      wait_for(terminal, ~r/^#{node}, lunode [\d.]+; :help tells .*\nlunode>\z/m)
      terminal
    end

    test "what is typed is evaluated, printed, and may be edited", %{raw: raw} do
      terminal = open(raw.node)
      enter(terminal, "1 + 1, {a = 'x'}")
      wait_for_end(terminal, ~s(lunode> 1 + 1, {a = 'x'}\n2\n%{"a" => "x"}\nlunode>))
      type(terminal, "prit('ö日本')")
      for _ <- 1..8, do: press(terminal, "Left")
      type(terminal, "n")
      wait_for_end(terminal, "lunode> print('ö日本')")
      press(terminal, "Enter")
      wait_for_end(terminal, "lunode> print('ö日本')\nö日本\nlunode>")
      press(terminal, "C-d")
      wait_for_end(terminal, "lunode> ^D\nended with 0")
    end

    test "a chunk of several lines comes back as one by the arrow", %{raw: raw} do
      terminal = open(raw.node)
      enter(terminal, "for i = 1, 2 do")
      wait_for_end(terminal, "lunode> for i = 1, 2 do\nlunode>>")
      enter(terminal, "print(i, t)")
      wait_for_end(terminal, "lunode>> print(i, t)\nlunode>>")
      enter(terminal, "end")
      wait_for_end(terminal, "lunode>> end\n1\tnil\n2\tnil\nlunode>" |> tabs())
      enter(terminal, "t = 'set'")
      wait_for_end(terminal, "lunode> t = 'set'\nlunode>")
      press(terminal, "Up")
      wait_for_end(terminal, "lunode> t = 'set'")
      press(terminal, "Up")
      wait_for_end(terminal, "lunode> for i = 1, 2 do\nprint(i, t)\nend")
      press(terminal, "Enter")
      wait_for_end(terminal, "end\n1\tset\n2\tset\nlunode>" |> tabs())
    end

    # As a terminal shows them.
    defp tabs(text), do: String.replace(text, ~r/^(\w)\t/m, "\\1       ")

    test "the history is kept for the next prompt", %{raw: raw} do
      env = env(%{"XDG_STATE_HOME" => nil, "HOME" => folder([])})
      [one, two] = for _ <- 1..2, do: open(raw.node, env: env)
      enter(one, "x = 'from one'")
      wait_for_end(one, "lunode> x = 'from one'\nlunode>")
      enter(two, "x = 'from two'")
      wait_for_end(two, "lunode> x = 'from two'\nlunode>")
      enter(one, "for i = 1, 2 do")
      wait_for_end(one, "lunode> for i = 1, 2 do\nlunode>>")
      enter(one, "end")
      wait_for_end(one, "lunode>> end\nlunode>")
      path = Path.join(env["HOME"], ".local/state/lunode/history")
      assert File.stat!(path).mode |> Bitwise.band(0o777) == 0o600
      three = open(raw.node, env: env)
      press(three, "Up")
      wait_for_end(three, "lunode> for i = 1, 2 do\nend")
      press(three, "C-c")
      for _ <- 1..2, do: press(three, "Up")
      wait_for_end(three, "lunode> x = 'from two'")
      press(three, "Up")
      wait_for_end(three, "lunode> x = 'from one'")
    end

    test "without a place for the history there is none", %{raw: raw} do
      terminal = open(raw.node, env: env(%{"XDG_STATE_HOME" => "/dev/null/no"}))
      enter(terminal, "1")
      wait_for_end(terminal, "lunode> 1\n1\nlunode>")
      press(terminal, "Up")
      wait_for_end(terminal, "lunode> 1")
    end

    test "TAB completes names, or lists them", %{raw: raw} do
      terminal = open(raw.node)
      type(terminal, "string.form")
      press(terminal, "Tab")
      wait_for_end(terminal, "lunode> string.format")
      type(terminal, "('%d', 5)")
      press(terminal, "Enter")
      wait_for_end(terminal, ~s[lunode> string.format('%d', 5)\n"5"\nlunode>])
      type(terminal, "x = erl.send")
      press(terminal, "Tab")
      wait_for_end(terminal, "erl.send        erl.send_after\nlunode> x = erl.send")
      press(terminal, "C-c")
      wait_for_end(terminal, "lunode> x = erl.send^C\nlunode>")
      type(terminal, "nothing.of.that")
      press(terminal, "Tab")
      press(terminal, "C-c")
      wait_for_end(terminal, "lunode> nothing.of.that^C\nlunode>")
    end

    test "TAB completes commands and the names of handlers", %{raw: raw} do
      terminal = open(raw.node)
      type(terminal, ":u")
      press(terminal, "Tab")
      wait_for_end(terminal, "lunode> :use")
      type(terminal, " cou")
      press(terminal, "Tab")
      wait_for_end(terminal, "lunode> :use counter")
      press(terminal, "Enter")
      wait_for_end(terminal, "lunode> :use counter\ncounter>")
      type(terminal, "self:ad")
      press(terminal, "Tab")
      wait_for_end(terminal, "counter> self:add")
      enter(terminal, "(5)")
      wait_for_end(terminal, "counter> self:add(5)\n5\ncounter>")
      enter(terminal, ":use")
      wait_for_end(terminal, "counter> :use\nlunode>")
    end

    test "an error shows its text and the chain of calls", %{raw: raw} do
      terminal = open(raw.node)
      enter(terminal, "function f() error('oops') end")
      wait_for_end(terminal, "lunode> function f() error('oops') end\nlunode>")
      enter(terminal, "f()")
      screen = wait_for(terminal, ~r/f\(\)\neval:1: oops\n.*stack traceback:\n.*\nlunode>\z/s)
      assert screen =~ ~r/eval:1: in function/
    end

    test "what is printed comes at once, while the evaluation goes on", %{raw: raw} do
      terminal = open(raw.node)
      enter(terminal, "print('first') while not go do erl.sleep(10) end print('second')")
      wait_for(terminal, ~r/^first\z/m)
      assert attach(raw.node, "1") == {0, "1\n", ""}
      press(terminal, "C-c")
      wait_for_end(terminal, "first\n^C\ninterrupted\nlunode>")
    end

    test "Ctrl-C interrupts a loop, and the node lives; at the prompt it clears the line",
         %{raw: raw} do
      terminal = open(raw.node)

      enter(
        terminal,
        "y = 1 print('go') while true do pcall(function() while true do end end) end"
      )

      wait_for(terminal, ~r/^go\z/m)
      press(terminal, "C-c")
      wait_for_end(terminal, "go\n^C\ninterrupted\nlunode>")
      enter(terminal, "y")
      wait_for_end(terminal, "lunode> y\n1\nlunode>")
      enter(terminal, "for i = 1, 2 do")
      wait_for_end(terminal, "lunode>>")
      type(terminal, "never")
      press(terminal, "C-c")
      wait_for_end(terminal, "lunode>> never^C\nlunode>")
      enter(terminal, "2")
      wait_for_end(terminal, "lunode> 2\n2\nlunode>")
      press(terminal, "C-d")
      wait_for(terminal, "ended with 0")
      assert Node.connect(raw.node)
      assert GenServer.call({:counter, raw.node}, :get) == 0
    end

    test "two prompts at once, each with its own names and output", %{raw: raw} do
      [one, two] = for _ <- 1..2, do: open(raw.node)
      enter(one, "x = 'one' print('to ' .. x) while true do erl.sleep(10) end")
      wait_for(one, ~r/^to one\z/m)
      enter(two, "x")
      wait_for_end(two, "lunode> x\nnil\nlunode>")
      enter(two, "x = 'two' print('to ' .. x)")
      wait_for_end(two, "to two\nlunode>")
      refute screen(two) =~ "to one"
      press(one, "C-c")
      wait_for_end(one, "interrupted\nlunode>")
      enter(one, "x")
      wait_for_end(one, ~s(lunode> x\n"one"\nlunode>))
      refute screen(one) =~ "to two"
    end

    test "the node dies: at the prompt, and while it evaluates", %{raw: raw} do
      [one, two] = for _ <- 1..2, do: open(raw.node)
      type(one, "half a line")
      enter(two, "print('go') while true do end")
      wait_for(two, ~r/^go\z/m)
      wait_for_end(one, "lunode> half a line")
      kill(raw.os_pid)

      wait_for_end(
        one,
        "lunode> half a line\nlunode: #{raw.node}: connection closed\nended with 1"
      )

      wait_for_end(two, "go\nlunode: #{raw.node}: connection closed\nended with 1")
    end

    test "what is pasted is taken line by line, tabs and all", %{raw: raw} do
      terminal = open(raw.node)
      type(terminal, "function f(x)\n\treturn x,\t2\nend\nf(1)\n")
      wait_for_end(terminal, "lunode> f(1)\n1\n2\nlunode>")
    end

    test "it can be stopped and go on, in a window of another size", %{raw: raw} do
      shell = Terminal.start(["sh", "-i"], env: Map.put(env(), "PS1", "$ "))
      wait_for(shell, ~r/^\$\z/m)
      enter(shell, "#{program()} attach #{raw.node}")
      wait_for_end(shell, "lunode>")
      type(shell, "1 +")
      wait_for_end(shell, "lunode> 1 +")
      press(shell, "C-z")
      wait_for(shell, ~r/Stopped.*\$\z/s)
      resize(shell, 60, 20)
      enter(shell, "echo at the shell")
      wait_for_end(shell, "$ echo at the shell\nat the shell\n$")
      enter(shell, "fg")
      wait_for_end(shell, "lunode> 1 +")
      enter(shell, "1")
      wait_for_end(shell, "lunode> 1 +1\n2\nlunode>")
    end

    test "told to end, it leaves the terminal as it was", %{raw: raw} do
      terminal =
        Terminal.start(["sh", "-c", ~s("$0" attach "$1"; stty -a), program(), "#{raw.node}"],
          env: env()
        )

      wait_for_end(terminal, "lunode>")
      {pids, 0} = System.cmd("pgrep", ["-f", "attach #{raw.node}"])
      for pid <- String.split(pids), do: System.cmd("kill", ["-TERM", pid])
      assert wait_for(terminal, "ended with") =~ ~r/ icanon .* echo /s
    end
  end

  describe "any node with a process that answers as lunode's:" do
    test "output that comes while something is typed stands above it" do
      StandIn.start(fn
        :version -> "9.9.9"
        {:eval, nil, _source, _options} -> {:ok, []}
      end)

      terminal = open(node())
      enter(terminal, "anything")
      assert_receive {:asked, {:eval, nil, "anything", %{prompt: pid}}}, limit(10_000)
      wait_for_end(terminal, "lunode> anything\nlunode>")
      type(terminal, "half a line")
      wait_for_end(terminal, "lunode> anything\nlunode> half a line")
      send(pid, {:lunode_output, node(), "late"})
      wait_for_end(terminal, "lunode> anything\nlate\nlunode> half a line")
    end

    test "reasons of every kind are told" do
      reasons = [{:untrusted, "not that"}, :killed, {:exit, {:timeout, 5}}, "text"]
      {:ok, agent} = Agent.start_link(fn -> reasons end)

      StandIn.start(fn
        :version -> "9.9.9"
        _request -> {:error, Agent.get_and_update(agent, &{hd(&1), tl(&1)})}
      end)

      assert {1, "", said} = attach(node(), "1\n2\n3\n4")
      assert said == "untrusted: not that\nkilled\n{:exit, {:timeout, 5}}\ntext\n"
    end

    test ":handlers tells the last error of each" do
      error = StandIn.error(message: "a.lua:1: broken\nmore")
      a = StandIn.handler(:a, version: 4, processes: 2, since: 0, file: nil, last_error: error)
      b = StandIn.handler(:b, version: nil, state: :failed, since: nil, file: nil, processes: 0)
      StandIn.start(&if(&1 == :handlers, do: [a, b], else: "9.9.9"))

      assert {0, said, ""} = attach(node(), ":handlers")
      assert [_titles, a, b, error] = String.split(said, "\n", trim: true)
      assert ~r/ +/ |> Regex.replace(a, " ") |> String.trim() == "a 4 running 2"
      assert ~r/ +/ |> Regex.replace(b, " ") |> String.trim() == "b - failed 0"
      assert error == "last error of a: a.lua:1: broken"
    end

    test "one that answers nonsense, or dies, does no harm" do
      StandIn.start(fn
        :version -> "9.9.9"
        {:eval, nil, "nonsense", _} -> :nonsense
        {:eval, nil, "values", _} -> {:ok, [1, :two, 'abc']}
        :handlers -> [%{}, :a, %{name: 5, since: -1}]
        :stats -> %{handlers: [1], peers: %{"a" => 1}}
        {:eval, nil, "exit", _} -> exit(:normal)
      end)

      assert {1, "", said} = attach(node(), "nonsense")
      assert said == "#{node()} gave an answer that makes no sense\n"
      assert {0, "", ""} = attach(node(), "values")
      assert {0, _said, ""} = attach(node(), ":handlers\n:stats")
      assert {1, "", said} = attach(node(), "exit")
      assert said == "#{node()} does not answer that: :normal\n"
    end

    test "Ctrl-C twice ends the prompt when an evaluation is not to be ended" do
      StandIn.start(&if(&1 == :version, do: "9.9.9", else: :noreply))
      terminal = open(node())
      enter(terminal, "for ever")
      assert_receive {:asked, {:eval, _, _, _}}, limit(10_000)
      press(terminal, "C-c")
      assert_receive {:asked, {:interrupt, _pid}}, limit(10_000)

      told = "lunode: #{node()}: it does not end the evaluation"
      eventually(fn -> press(terminal, "C-c") && screen(terminal) =~ told end, 15_000)
      wait_for(terminal, "ended with")
    end
  end
end
