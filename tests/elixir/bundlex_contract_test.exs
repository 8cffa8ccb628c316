defmodule Lunode.BundlexContractTest do
  @moduledoc "The program as Bundlex starts it: the contract of the design's section 2.1."
  use ExUnit.Case

  import Lunode.Test.OS
  alias Lunode.Test.{OtherBeam, RawNode}

  describe "starting" do
    # Under valgrind a warning that nothing can be confined comes before.
    @tag :not_under_valgrind
    test "the first line is `ready`, exactly, and a connection is taken at once" do
      raw = RawNode.start(handlers: script("echo.lua", echo()))
      assert RawNode.next(raw) == "ready"
      assert Node.connect(raw.node)
      assert RawNode.ask(raw, {:hello, 1}) == {:hello, 1}
    end

    test "the first reply comes within a second of the start" do
      handlers = script("echo.lua", echo())
      began = now()
      raw = RawNode.start_connected(handlers: handlers)
      assert RawNode.ask(raw, 1) == 1
      assert now() - began < limit(1_000)
    end

    test "scripts run when the owner is connected, not before" do
      source = "print('top'); return { init = function() print('init') end }"
      raw = RawNode.start_ready(handlers: script("greeter.lua", source))
      assert RawNode.next(raw, 300) == :nothing
      assert Node.connect(raw.node)
      assert RawNode.next(raw) == "[info] greeter: top"
      assert RawNode.next(raw) == "[info] greeter: init"
    end

    test "`init` reaches the owner" do
      Process.register(self(), :owner_of_raw)
      to = "erl.tuple(atom.owner_of_raw, atom '#{node()}')"
      source = "return { init = function() erl.send(#{to}, atom.hello) end }"
      RawNode.start_connected(handlers: script("greeter.lua", source))
      assert_receive :hello, 5_000
    end

    test "a script that closes standard output doesn't close the node's" do
      source = "io.stdout:close(); return { say = function() print('still here') end }"
      raw = RawNode.start_connected(handlers: script("closer.lua", source))
      send({:any, raw.node}, :say)
      assert RawNode.next(raw) == "[info] closer: still here"
    end

    test "the node is hidden, and answers Node.ping" do
      raw = RawNode.start_connected()
      assert Node.ping(raw.node) == :pong
      refute raw.node in Node.list()
      assert raw.node in Node.list(:hidden)
    end

    test "its pids carry its creation" do
      source = "return { who = function() return erl.self() end }"
      handlers = script("who.lua", source)

      # Bundlex begins with 0, which is none in a pid: ei puts 0xE10000 on it, and on 1 to 3.
      pids =
        for {given, creation} <- [{0, 0xE10000}, {1, 0xE10001}, {8, 8}, {0xFFFFFFFF, 0xFFFFFFFF}] do
          raw = RawNode.start_connected(alive: "creations", creation: given, handlers: handlers)

          pid = RawNode.ask(raw, :who)
          <<131, 88, _node_and_numbers::binary>> = external = :erlang.term_to_binary(pid)

          assert :binary.decode_unsigned(binary_part(external, byte_size(external), -4)) ==
                   creation

          Node.disconnect(raw.node)
          RawNode.assert_ends(raw)
          pid
        end

      assert length(Enum.uniq(pids)) == 4
    end
  end

  describe "the environment" do
    test "counts an empty variable as one that is not set" do
      empty = %{"LUNODE_HANDLERS" => "", "LUNODE_CONFIG" => "", "LUNODE_OWNER" => ""}
      raw = RawNode.start_connected(env: empty)
      assert {:noproc, _call} = catch_exit(GenServer.call({:any, raw.node}, :hello))
    end
  end

  describe "standard input, output or error that is closed" do
    defp closed(redirection) do
      RawNode.start(through: ["sh", "-c", "exec \"$@\" #{redirection}", "sh"])
    end

    test "input: the node ends at once, as it does when it ends later" do
      raw = closed("<&-")
      assert RawNode.next(raw) =~ ~r/\A\[warning\] lunode: standard input is at its end/
      assert RawNode.next(raw) == {:exit, 0}
    end

    # Valgrind's log takes the place of what is closed.
    @tag :not_under_valgrind
    test "output: it doesn't start, and says why" do
      raw = closed(">&-")
      assert RawNode.next(raw) == {:exit, 1}
      assert File.read!(raw.stderr) == "lunode: cannot start: standard output is closed\n"
    end

    @tag :not_under_valgrind
    test "error: what goes there goes nowhere, least of all into a connection" do
      source =
        "return { write = function() io.stderr:write('x'); io.stdout:write('y') return 1 end }"

      through = ["sh", "-c", "exec \"$@\" 2>&-", "sh"]
      raw = RawNode.start_connected(through: through, handlers: script("writer.lua", source))
      assert RawNode.ask(raw, :write) == 1
      assert File.read_link!("/proc/#{raw.os_pid}/fd/2") == "/dev/null"
    end
  end

  describe "the cookie" do
    test "a wrong one is refused, and the right one is taken after that" do
      raw = RawNode.start_ready(cookie: "another_cookie")
      refute Node.connect(raw.node)

      other = OtherBeam.start(cookie: "another_cookie")
      assert OtherBeam.connect(other, raw.node)
      assert OtherBeam.call(other, {:net_kernel, raw.node}, {:is_auth, node()}) == :yes
    end

    # Valgrind leaves the environment that it was given itself as it was.
    @tag :not_under_valgrind
    test "is gone from the process's environment, and never in its arguments" do
      cookie = "a_cookie_to_look_for"
      raw = RawNode.start_ready(cookie: cookie)

      for file <- ["environ", "cmdline"] do
        refute File.read!("/proc/#{raw.os_pid}/#{file}") =~ cookie
      end
    end
  end

  describe "ending" do
    test "within a second of losing the connection, and out of epmd" do
      raw = RawNode.start_connected(handlers: script("echo.lua", echo()))
      Node.disconnect(raw.node)
      RawNode.assert_ends(raw)
      assert left_epmd?(raw)
    end

    test "within a second of the end of standard input, before the first peer" do
      raw = RawNode.start_ready()
      RawNode.close_stdin(raw)
      RawNode.assert_gone(raw)
      assert left_epmd?(raw)
    end

    test "within a second of the end of standard input, while a peer is connected" do
      raw = RawNode.start_connected()
      RawNode.close_stdin(raw)
      RawNode.assert_gone(raw)
      assert left_epmd?(raw)
    end

    test "within a second also when `terminate` doesn't return" do
      source = "return { terminate = function() print('stuck'); while true do end end }"
      raw = RawNode.start_connected(handlers: script("stuck.lua", source))
      Node.disconnect(raw.node)
      RawNode.assert_ends(raw)
      assert left_epmd?(raw)
    end

    test "also while a script is in a long call into C, which nothing can interrupt" do
      source = """
      return { search = function(self)
        print("searching")
        return ("a"):rep(1000):find((".-"):rep(4) .. "b")
      end }
      """

      for ending <- [&Node.disconnect(&1.node), &RawNode.close_stdin/1] do
        raw = RawNode.start_connected(handlers: script("searcher.lua", source))
        send({:any, raw.node}, :search)
        Process.sleep(300)
        ending.(raw)
        assert eventually(fn -> not running?(raw.os_pid) end, 2_000)
        assert left_epmd?(raw)
      end
    end

    defp left_epmd?(raw) do
      :erl_epmd.port_please(to_charlist(raw.alive), to_charlist(raw.host)) == :noport
    end

    test "`terminate` runs, and a late message doesn't bring the node back" do
      note = Path.join(folder([]), "note")

      source = """
      return { terminate = function(self, reason)
        local f = io.open("#{note}", "w"); f:write(tostring(reason)); f:close()
      end }
      """

      raw = RawNode.start_connected(handlers: script("last.lua", source))
      assert :sys.get_state({:last, raw.node}, limit(5_000)) == %{}
      Node.disconnect(raw.node)
      send({:any, raw.node}, :late)
      RawNode.assert_ends(raw)
      assert File.read!(note) == "shutdown"
    end

    test "100 rounds of stop and start under one name, each at once after the other" do
      handlers = script("round.lua", "return { get = function() return os.getenv('ROUND') end }")

      for round <- 1..100 do
        raw =
          RawNode.start_connected(
            alive: "rounds",
            creation: round,
            handlers: handlers,
            env: %{"ROUND" => "#{round}"}
          )

        assert RawNode.ask(raw, :get) == "#{round}"
        Node.disconnect(raw.node)
        raw
      end
      |> Enum.each(&RawNode.assert_ends/1)
    end
  end

  describe "the owner" do
    test "is the first peer: its loss ends the node, another's doesn't" do
      raw = RawNode.start_connected(handlers: script("echo.lua", echo()))
      other = OtherBeam.start()
      assert OtherBeam.connect(other, raw.node)
      assert OtherBeam.call(other, {:any, raw.node}, :from_other) == :from_other
      OtherBeam.stop(other)
      assert RawNode.ask(raw, :still_here) == :still_here
      Node.disconnect(raw.node)
      RawNode.assert_ends(raw)
    end

    test "is the node that LUNODE_OWNER names, whoever connects first" do
      {raw, other} = start_owned()
      assert OtherBeam.disconnect(other, raw.node)
      assert RawNode.next(raw, 500) == :nothing

      assert Node.connect(raw.node)
      assert RawNode.ask(raw, 1) == 1
      assert OtherBeam.connect(other, raw.node)
      assert OtherBeam.call(other, {:any, raw.node}, 2) == 2
      Node.disconnect(raw.node)
      RawNode.assert_ends(raw)
    end

    test "what others send before the owner is there is kept" do
      {raw, other} = start_owned()
      call = Task.async(fn -> OtherBeam.call(other, {:any, raw.node}, :early) end)
      assert Task.yield(call, 300) == nil
      assert Node.connect(raw.node)
      assert Task.await(call, limit(5_000)) == :early
    end

    # This BEAM is the owner, and not connected yet; another one is.
    defp start_owned do
      env = %{"LUNODE_OWNER" => Atom.to_string(node())}
      raw = RawNode.start_ready(handlers: script("echo.lua", echo()), env: env)
      other = OtherBeam.start()
      assert OtherBeam.connect(other, raw.node)
      {raw, other}
    end
  end

  describe "an early failure" do
    test "of a script named by itself: the reason, then waiting for the end of standard input" do
      broken = script("broken.lua", "local x = 1\nlocal y = = 2\n")
      assert_early_failure([handlers: broken], ~r/broken\.lua:2: .*near '='/)
    end

    test "of a configuration: missing, broken, or not a table" do
      missing = Path.join(folder([]), "missing.lua")
      assert_early_failure([config: missing], ~r/missing\.lua/)
      broken = script("lunode.lua", "return {\n  handlers = = {} }")
      assert_early_failure([config: broken], ~r/lunode\.lua:2:/)
      assert_early_failure([config: script("lunode.lua", "return 1")], ~r/lunode\.lua.*table/)
      number = script("lunode.lua", "return { handlers = 5 }")
      assert_early_failure([config: number], ~r/handlers: a table expected, got number/)
    end

    test "of a configuration whose error can't even be made a text" do
      hostile = ~s|error(setmetatable({}, { __tostring = function() error("no text") end }))|

      assert_early_failure([config: script("lunode.lua", hostile)], ~r/no text/)
    end

    test "of handlers that aren't there" do
      missing = Path.join(folder([]), "nothing.lua")
      assert_early_failure([handlers: missing], ~r/nothing\.lua/)
    end

    test "of a reserved name" do
      for name <- ~w(lunode net_kernel init erlang erpc rpc) do
        assert_early_failure([handlers: script("#{name}.lua", echo())], ~r/#{name}.*reserved/)
      end
    end

    test "of a name that stays taken" do
      raw = RawNode.start_connected()
      assert_early_failure([alive: raw.alive, creation: 2], ~r/#{raw.alive}/, 6_000)
    end

    test "ends at SIGTERM" do
      raw = RawNode.start(handlers: "/nonexistent")
      assert "[error] lunode: cannot start: " <> _ = RawNode.next(raw)
      assert eventually(fn -> kill(raw.os_pid, "TERM") end)
      RawNode.assert_gone(raw, 5_000)
    end

    defp assert_early_failure(opts, reason, ms \\ 2_000) do
      raw = RawNode.start(opts)
      assert "[error] lunode: cannot start: " <> said = RawNode.next(raw, ms)
      assert said =~ reason
      assert eventually(fn -> File.read!(raw.stderr) =~ reason end)
      assert RawNode.next(raw, 200) == :nothing
      assert running?(raw.os_pid)
      RawNode.close_stdin(raw)
      RawNode.assert_gone(raw)
    end
  end

  describe "HOST" do
    # Erlang takes a name with a dot for a long one.
    for host <- ["127.0.0.1", "localhost", List.to_string(:net_adm.localhost())] do
      test "may be #{host}" do
        host = unquote(host)
        raw = RawNode.start_ready(host: host, handlers: script("echo.lua", echo()))
        other = OtherBeam.start(host: host)
        assert OtherBeam.connect(other, raw.node)
        assert OtherBeam.call(other, {:any, raw.node}, {:a, 1}) == {:a, 1}
        OtherBeam.stop(other)
        RawNode.assert_ends(raw)
      end
    end

    # Names that resolve are few on a test machine: the node gets a hosts file of its own, in a
    # private mount namespace, and the other BEAM the same by its ERL_INETRC.
    @long_host "a-rather-long-name.of-a-host.example.test"

    case System.cmd("unshare", ["--mount", "true"], stderr_to_stdout: true) do
      {_output, 0} -> :ok
      {output, _status} -> @tag skip: "no private mount namespace here: #{String.trim(output)}"
    end

    test "may be #{@long_host}" do
      hosts = script("hosts", "127.0.0.1 localhost #{@long_host}\n")
      inetrc = script("inetrc", "{host, {127,0,0,1}, [\"#{@long_host}\"]}.\n{lookup, [file]}.\n")
      mount = "mount --bind #{hosts} /etc/hosts && exec \"$@\""

      raw =
        RawNode.start_ready(
          host: @long_host,
          handlers: script("echo.lua", echo()),
          through: ["unshare", "--mount", "sh", "-c", mount, "sh"]
        )

      other = OtherBeam.start(host: @long_host, env: %{"ERL_INETRC" => inetrc})
      assert OtherBeam.connect(other, raw.node)
      assert OtherBeam.call(other, {:any, raw.node}, {:a, 1}) == {:a, 1}
      OtherBeam.stop(other)
      RawNode.assert_ends(raw)
    end

    test "is the only address that is listened on" do
      raw = RawNode.start_ready(host: "127.0.0.1")
      port = RawNode.listening_port(raw)
      assert {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, port, [])
      assert {:error, :econnrefused} = :gen_tcp.connect({127, 0, 0, 2}, port, [])
      :gen_tcp.close(socket)
    end

    test "that doesn't exist is an early failure" do
      raw = RawNode.start(host: "no-such-host.invalid")
      assert "[error] lunode: cannot start: " <> reason = RawNode.next(raw, 15_000)
      assert reason =~ "no-such-host.invalid"
    end
  end

  describe "ERL_EPMD_PORT" do
    test "says where epmd is" do
      epmd_port = free_port()
      start_epmd(epmd_port)

      env = %{"ERL_EPMD_PORT" => "#{epmd_port}"}
      raw = RawNode.start_ready(env: env, handlers: script("echo.lua", echo()))
      assert epmd_names(epmd_port) =~ "name #{raw.alive} at port"
      assert :erl_epmd.port_please(to_charlist(raw.alive), to_charlist(raw.host)) == :noport

      other = OtherBeam.start(env: env)
      assert OtherBeam.connect(other, raw.node)
      assert OtherBeam.call(other, {:any, raw.node}, 1) == 1
      OtherBeam.stop(other)
      RawNode.assert_ends(raw)
      refute epmd_names(epmd_port) =~ raw.alive
    end

    test "an epmd that goes and comes back has the node again" do
      epmd_port = free_port()
      os_pid = start_epmd(epmd_port)
      raw = RawNode.start_ready(env: %{"ERL_EPMD_PORT" => "#{epmd_port}"})
      kill(os_pid)
      assert RawNode.lines_until(raw, ~r/epmd .*is lost: other nodes cannot find this one/)
      # It is tried again meanwhile, in vain, and not told again.
      Process.sleep(2_500)
      start_epmd(epmd_port)
      assert [line] = RawNode.lines_until(raw, ~r/entered into epmd again/)
      assert line =~ "[info]"
      assert epmd_names(epmd_port) =~ "name #{raw.alive} at port"
    end

    defp free_port do
      {:ok, listener} = :gen_tcp.listen(0, [])
      {:ok, port} = :inet.port(listener)
      :gen_tcp.close(listener)
      port
    end

    defp start_epmd(port) do
      epmd = System.find_executable("epmd")
      running = Port.open({:spawn_executable, epmd}, args: ["-port", "#{port}"])
      {:os_pid, os_pid} = Port.info(running, :os_pid)
      on_exit(fn -> running?(os_pid) && kill(os_pid) end)
      eventually(fn -> is_binary(epmd_names(port)) end)
      os_pid
    end

    # NAMES_REQ of the EPMD protocol.
    defp epmd_names(port) do
      with {:ok, socket} <- :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false]) do
        :ok = :gen_tcp.send(socket, <<1::16, ?n>>)
        read_all(socket, "")
      end
    end

    defp read_all(socket, sofar) do
      case :gen_tcp.recv(socket, 0, 1_000) do
        {:ok, bytes} -> read_all(socket, sofar <> bytes)
        {:error, :closed} -> sofar
      end
    end
  end

  describe "strangers" do
    test "20 that send garbage or nothing don't disturb the calls" do
      raw = RawNode.start_connected(handlers: script("echo.lua", echo()))
      strangers = strangers(raw)

      slowest =
        for i <- 1..500 do
          began = now()
          assert RawNode.ask(raw, i) == i
          now() - began
        end
        |> Enum.max()

      assert slowest < limit(200)
      Enum.each(strangers, &:gen_tcp.close/1)
      assert RawNode.ask(raw, :last) == :last
    end

    test "that come before the owner don't keep it out" do
      raw = RawNode.start_ready(handlers: script("echo.lua", echo()))
      strangers = strangers(raw)
      assert Node.connect(raw.node)
      assert RawNode.ask(raw, 1) == 1
      Enum.each(strangers, &:gen_tcp.close/1)
      assert RawNode.ask(raw, 2) == 2
    end

    test "who connect while the node ends don't hold it" do
      raw = RawNode.start_connected()
      strangers(raw)
      Node.disconnect(raw.node)
      RawNode.assert_ends(raw)
    end

    # Nothing; random bytes; a packet that never ends; the longest packet; an empty one; half a
    # handshake; a handshake with another's name and then nothing; a handshake with nonsense.
    defp strangers(raw) do
      port = RawNode.listening_port(raw)
      {:ok, address} = :inet.getaddr(to_charlist(raw.host), :inet)
      name = "N" <> <<0x0000000D07DF7FBD::64, 1::32>>

      says = [
        "",
        :crypto.strong_rand_bytes(1000),
        <<1000::16, "N">>,
        <<0xFFFF::16>> <> :binary.copy("x", 0xFFFF),
        <<0::16>>,
        <<byte_size(name)::16>> <> binary_part(name, 0, 5),
        <<byte_size(name) + 5::16>> <> name <> <<3::16, "a@b">>,
        <<5::16, "n", 0, 5, 0, 0>>,
        <<3::16, "sok">>,
        "GET / HTTP/1.1\r\n\r\n"
      ]

      for _round <- 1..2, bytes <- says do
        {:ok, socket} = :gen_tcp.connect(address, port, [:binary, active: false])
        :gen_tcp.send(socket, bytes)
        socket
      end
    end
  end

  describe "a frame over the limit" do
    test "is refused with a line that says so" do
      config = script("lunode.lua", "return { max_frame = 1024 * 1024 }")
      raw = RawNode.start_connected(handlers: script("echo.lua", echo()), config: config)
      within = :binary.copy("x", 1_000_000)
      assert RawNode.ask(raw, within) == within

      send({:any, raw.node}, :binary.copy("x", 1_100_000))
      assert line = raw |> RawNode.lines_until(~r/limit/) |> List.last()
      assert line =~ ~r/\A\[error\] lunode: .*frame of 1100\d\d\d bytes.*1048576/
      RawNode.assert_ends(raw)
    end
  end

  describe "handlers" do
    test "a broken script in a folder is logged, the others serve, and calls to it say why" do
      handlers = folder(%{"good.lua" => echo(), "bad.lua" => "return return"})
      raw = RawNode.start(handlers: handlers)
      assert [why, source, down, "ready"] = RawNode.lines_until(raw, ~r/\Aready\z/)
      assert why =~ ~r/\A\[error\] .*bad\.lua:1:/
      assert source == "[error] bad:      1 | return return"
      assert down == "[error] bad: the script does not load: it stays down"

      assert Node.connect(raw.node)
      assert GenServer.call({:good, raw.node}, 1) == 1
      assert {reason, _call} = catch_exit(GenServer.call({:bad, raw.node}, 1))
      assert inspect(reason) =~ "bad.lua:1:"
    end

    test "in a folder: the configuration may name one of them by its path, with options" do
      config = ~s|return { handlers = { good = { path = "good.lua", on_failure = "stop" } } }|
      handlers = folder(%{"good.lua" => echo(), "lunode.lua" => config})
      raw = RawNode.start_connected(handlers: handlers)
      assert GenServer.call({:good, raw.node}, 1) == 1
    end

    test "in a folder: names that begin with _ and the configuration are none" do
      handlers =
        folder(%{"_helper.lua" => echo(), "lunode.lua" => "return {}", "only.lua" => echo()})

      raw = RawNode.start_connected(handlers: handlers)
      assert GenServer.call({:only, raw.node}, 1) == 1

      for name <- [:_helper, :lunode_lua] do
        assert {:noproc, _call} = catch_exit(GenServer.call({name, raw.node}, 1))
      end
    end

    test "in a folder: modules for require lie in subfolders" do
      handlers = folder(%{"main.lua" => "return require('shapes.square')"})
      File.mkdir!(Path.join(handlers, "shapes"))
      square = "return { area = function(self, side) return side * side end }"
      File.write!(Path.join(handlers, "shapes/square.lua"), square)
      raw = RawNode.start_connected(handlers: handlers)
      assert RawNode.ask(raw, {:area, 3}) == 9
    end

    test "the default handler is `any`, else `main`, else the only one" do
      says = fn what -> "return function() return '#{what}' end" end

      for {names, default} <- [
            {~w(any main other), "any"},
            {~w(main other), "main"},
            {~w(other), "other"}
          ] do
        raw =
          RawNode.start_connected(handlers: folder(for n <- names, do: {"#{n}.lua", says.(n)}))

        assert RawNode.ask(raw, 1) == default
        assert GenServer.call({:any, raw.node}, 1) == default
      end
    end

    test "with no default handler the answer is noproc" do
      several = folder(%{"a.lua" => echo(), "b.lua" => echo()})

      for opts <- [[], [handlers: several]] do
        raw = RawNode.start_connected(opts)
        assert RawNode.ask(raw, 1) == {:error, :noproc}
        assert {:noproc, _call} = catch_exit(GenServer.call({:any, raw.node}, 1))
      end
    end
  end
end
