defmodule Lunode.StartTest do
  @moduledoc "`lunode start`: a node on its own."
  use ExUnit.Case

  import Lunode.Test.OS
  alias Lunode.Test.{OtherBeam, RawNode}

  @cookie "BUNDLEX_ERLANG_COOKIE"

  defp cookie, do: Atom.to_string(Node.get_cookie())
  defp with_cookie, do: %{@cookie => cookie()}
  defp echo_script, do: script("echo.lua", echo())

  describe "the name" do
    test "with a host is taken as it is" do
      raw = RawNode.start_standalone([echo_script()], env: with_cookie())
      assert Node.connect(raw.node)
      assert RawNode.ask(raw, {:a, 1}) == {:a, 1}
    end

    test "without a host gets this machine's short name" do
      alive = "short_#{System.unique_integer([:positive])}_#{System.pid()}"

      raw =
        RawNode.start_standalone([echo_script()], env: with_cookie(), name: alive, alive: alive)

      assert Node.connect(raw.node)
      assert RawNode.ask(raw, 1) == 1
    end

    test "that another node has is an error, with status 1" do
      raw = RawNode.start_standalone([], env: with_cookie())
      again = RawNode.start(args: ["start", "--name", Atom.to_string(raw.node)])
      assert RawNode.next(again, 15_000) == {:exit, 1}
      assert File.read!(again.stderr) =~ ~r/\Alunode: cannot start: .*#{raw.alive}/
    end
  end

  describe "the cookie" do
    test "comes from the file that is named, before all else" do
      file = script("cookie", cookie() <> "\n")
      env = %{@cookie => "wrong", "HOME" => home("wrong")}
      assert_takes_connection(["--cookie-file", file], env)
    end

    test "else from the environment" do
      assert_takes_connection([], %{@cookie => cookie(), "HOME" => home("wrong")})
    end

    test "else from ~/.erlang.cookie, with or without an end of line" do
      assert_takes_connection([], %{"HOME" => home(cookie())})
      assert_takes_connection([], %{"HOME" => home(cookie() <> "\n")})
    end

    test "that is in none of them is an error that names them" do
      raw = RawNode.start(args: ~w(start --name x), env: %{@cookie => nil, "HOME" => home(nil)})
      assert RawNode.next(raw) == {:exit, 2}

      assert File.read!(raw.stderr) =~
               ~r/no cookie in BUNDLEX_ERLANG_COOKIE or ~\/\.erlang\.cookie/
    end

    test "that a peer doesn't have keeps it out" do
      raw = RawNode.start_standalone([], env: %{@cookie => "another_cookie"})
      refute Node.connect(raw.node)
    end

    @tag :not_under_valgrind
    test "is gone from the process's environment" do
      raw = RawNode.start_standalone([], env: %{@cookie => "a_cookie_to_look_for"})
      refute File.read!("/proc/#{raw.os_pid}/environ") =~ "a_cookie_to_look_for"
    end

    defp assert_takes_connection(args, env) do
      raw = RawNode.start_standalone(args, env: env)
      assert Node.connect(raw.node)
      Node.disconnect(raw.node)
    end

    defp home(nil), do: folder([])
    defp home(cookie), do: folder(%{".erlang.cookie" => cookie})
  end

  describe "what runs" do
    test "is every script and folder that is named, without waiting for a peer" do
      greeter = script("greeter.lua", "return { init = function() print('hello') end }")
      several = folder(%{"one.lua" => echo(), "two.lua" => echo()})
      raw = RawNode.start_standalone([greeter, several], env: with_cookie())
      assert RawNode.next(raw) == "[info] greeter: hello"
      assert Node.connect(raw.node)
      for name <- [:one, :two], do: assert(GenServer.call({name, raw.node}, 1) == 1)
    end

    test "is what the configuration names" do
      config =
        script("mine.lua", "return { handlers = { renamed = { path = '#{echo_script()}' } } }")

      raw = RawNode.start_standalone(["--config", config], env: with_cookie())
      assert Node.connect(raw.node)
      assert GenServer.call({:renamed, raw.node}, 1) == 1
    end

    test "that doesn't compile is an error, with status 1" do
      broken = script("broken.lua", "return {\n add = = 1 }")
      raw = RawNode.start(args: ["start", "--name", "never_#{System.pid()}", broken])
      assert RawNode.next(raw) == {:exit, 1}
      assert File.read!(raw.stderr) =~ ~r/\Alunode: cannot start: .*broken\.lua:2: /
    end
  end

  describe "peers" do
    test "come and go, the node stays" do
      raw = RawNode.start_standalone([echo_script()], env: with_cookie())

      for i <- 1..2 do
        other = OtherBeam.start()
        assert OtherBeam.connect(other, raw.node)
        assert OtherBeam.call(other, {:any, raw.node}, i) == i
        OtherBeam.stop(other)
      end

      assert Node.connect(raw.node)
      assert RawNode.ask(raw, 1) == 1
      Node.disconnect(raw.node)
      assert RawNode.next(raw, 1_500) == :nothing
      assert Node.connect(raw.node)
      assert RawNode.ask(raw, 2) == 2
    end

    test "and nobody at its standard input and output don't matter to it" do
      source = "return function(message) print(message); return message end"
      raw = RawNode.start_standalone([script("talker.lua", source)], env: with_cookie())
      RawNode.close_stdin(raw)
      Process.sleep(1_500)
      assert Node.connect(raw.node)
      for i <- 1..3, do: assert(RawNode.ask(raw, i) == i)
      kill(raw.os_pid, "TERM")
      RawNode.assert_gone(raw, 5_000)
    end

    test "that --connect names are connected to" do
      other = {peer, name} = OtherBeam.start()

      args = [
        "--connect",
        Atom.to_string(name),
        "--connect",
        Atom.to_string(node()),
        echo_script()
      ]

      raw = RawNode.start_standalone(args, env: with_cookie())
      eventually(fn -> raw.node in Node.list(:hidden) end)
      eventually(fn -> raw.node in :peer.call(peer, :erlang, :nodes, [:hidden]) end)
      assert RawNode.ask(raw, 1) == 1
      assert OtherBeam.call(other, {:any, raw.node}, 2) == 2
      OtherBeam.stop(other)
      assert RawNode.ask(raw, 3) == 3
    end

    test "that --connect names and that aren't there are told in the log" do
      nobody = "nobody_#{System.pid()}@#{RawNode.own_host()}"
      raw = RawNode.start_standalone(["--connect", nobody], env: with_cookie())
      assert RawNode.next(raw, 15_000) =~ "[warning] lunode: cannot connect to #{nobody}: "
      assert Node.connect(raw.node)
    end
  end

  for signal <- ["TERM", "INT"] do
    test "#{signal} ends it with status 0, after `terminate`, and out of epmd" do
      source =
        "return { terminate = function(self, reason) print('bye, ' .. tostring(reason)) end }"

      raw = RawNode.start_standalone([script("polite.lua", source)], env: with_cookie())
      assert Node.connect(raw.node)
      kill(raw.os_pid, unquote(signal))
      assert RawNode.lines_until(raw, ~r/bye/) == ["[info] polite: bye, shutdown"]
      assert RawNode.next(raw) == {:exit, 0}
      assert :erl_epmd.port_please(to_charlist(raw.alive), to_charlist(raw.host)) == :noport
    end
  end

  test "each start has a creation of its own, so that pids of an earlier run are no one's" do
    source = "return { who = function() return erl.self() end }"
    handlers = script("who.lua", source)
    alive = "again_#{System.unique_integer([:positive])}_#{System.pid()}"

    pids =
      for _ <- 1..3 do
        raw = RawNode.start_standalone([handlers], env: with_cookie(), alive: alive)
        assert Node.connect(raw.node)
        pid = RawNode.ask(raw, :who)
        kill(raw.os_pid, "TERM")
        assert RawNode.next(raw) == {:exit, 0}
        eventually(fn -> raw.node not in Node.list(:hidden) end)
        pid
      end

    assert length(Enum.uniq(pids)) == 3
  end
end
