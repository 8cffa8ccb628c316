defmodule Lunode.ReloadTest do
  @moduledoc "Scripts that are saved while the node runs."
  use ExUnit.Case, async: true

  import Lunode.Test.OS
  import Lunode.Test.Proc, only: [reason_after: 2]
  alias Lunode.Test.RawNode

  # A counter whose answers tell which text it was made of.
  defp counter(tag, more \\ "") do
    """
    local counter = {}
    function counter:init() self.n = 0 end
    function counter:add() self.n = self.n + 1 return "#{tag}", self.n end
    function counter:tag() return "#{tag}" end
    function counter:nap(ms) erl.sleep(ms) return "#{tag}", self:tag() end
    function counter:handle_info(m) self.last = m end
    function counter:last_info() return self.last end
    #{more}
    return counter
    """
  end

  defp start(files, opts \\ []) do
    folder = folder(files)
    raw = RawNode.start_connected([handlers: folder] ++ opts)
    handlers = fn -> GenServer.call({:lunode, raw.node}, :handlers, limit(5_000)) end
    eventually(fn -> Enum.all?(handlers.(), &(&1.state != :loading)) end)
    %{folder: folder, raw: raw, counter: {:counter, raw.node}}
  end

  defp save(%{folder: folder}, text, name \\ "counter.lua") do
    File.write!(Path.join(folder, name), text)
  end

  defp call(server, request \\ :tag), do: GenServer.call(server, request, limit(5_000))

  defp assert_becomes(server, tag), do: eventually(fn -> call(server) == tag end)

  # Whatever was saved has been looked at, and this handler is as it was.
  defp assert_stays(node, server, tag) do
    assert_output(node, ~r/does not load/)
    assert call(server) == tag
  end

  defp assert_output(%{raw: raw}, pattern), do: RawNode.lines_until(raw, pattern) |> List.last()

  test "a saved script answers from then on, and what is in self stays" do
    node = start(%{"counter.lua" => counter("one")})
    assert call(node.counter, :add) == {"one", 1}
    save(node, counter("two"))
    assert_becomes(node.counter, "two")
    assert call(node.counter, :add) == {"two", 2}
    assert assert_output(node, ~r/counter/) =~ "version 2 is live"
  end

  test "a script named by itself is watched too, and one in the working folder" do
    folder = folder(%{"counter.lua" => counter("one")})
    through = ["sh", "-c", "cd #{folder} && exec \"$@\"", "sh"]

    for {handlers, opts} <- [{"#{folder}/counter.lua", []}, {"counter.lua", [through: through]}] do
      File.write!("#{folder}/counter.lua", counter("one"))
      raw = RawNode.start_connected([handlers: handlers] ++ opts)
      assert call({:counter, raw.node}) == "one"
      File.write!("#{folder}/counter.lua", counter("two"))
      assert_becomes({:counter, raw.node}, "two")
    end
  end

  test "watch = false: nothing is loaded by itself" do
    node = start(%{"counter.lua" => counter("one"), "lunode.lua" => "return { watch = false }"})
    save(node, counter("two"))
    Process.sleep(300)
    assert call(node.counter) == "one"
  end

  test "watch that is no boolean is an error" do
    folder = folder(%{"counter.lua" => echo(), "lunode.lua" => "return { watch = 'no' }"})
    raw = RawNode.start(handlers: folder)
    RawNode.lines_until(raw, ~r/cannot start/)
    eventually(fn -> File.read!(raw.stderr) =~ "watch: true or false expected, got string" end)
  end

  describe "a save that is no good leaves the old version serving, and the log tells:" do
    for {what, text, told} <- [
          {"a syntax error", "local counter = {\n  = 1}", ~r/counter\.lua:2: .*near '='/},
          {"an error at the top level", "\nerror('no good')", ~r/counter\.lua:2: no good/},
          {"what it returns is no handler", "return 5",
           ~r/counter\.lua: a handler returns a table of functions or one function, not number/},
          {"nothing in it", "", ~r/a handler returns a table of functions .*, not nil/},
          {"it waits at the top level", "erl.sleep(1)",
           ~r/erl\.sleep: no process runs at the top level/},
          {"a module is missing", "require 'no.such'", ~r/module 'no.such' not found/}
        ] do
      test what do
        node = start(%{"counter.lua" => counter("one")})
        assert call(node.counter, :add) == {"one", 1}
        save(node, unquote(text))
        assert_output(node, unquote(Macro.escape(told)))
        assert_stays(node, node.counter, "one")
        assert call(node.counter, :add) == {"one", 2}
        save(node, counter("two"))
        assert_becomes(node.counter, "two")
        assert call(node.counter, :add) == {"two", 3}
      end
    end

    @tag timeout: limit(120_000)
    test "a top level without an end" do
      node = start(%{"counter.lua" => counter("one")})
      assert GenServer.call({:lunode, node.raw.node}, {:subscribe, self()}) == :ok
      save(node, "local n = 0\nwhile true do\n  n = n + 1\nend")
      assert_served(node, now() + 3_000)
      assert_output(node, ~r/counter\.lua:[23]: the script's top level has run for 5 s without/)
      assert_receive {:lunode, _, :reload_failed, :counter, failed}, limit(5_000)
      assert failed.line in [2, 3] and failed.version == 1
      assert_stays(node, node.counter, "one")
    end

    test "a top level without an end gives way to the next save" do
      node = start(%{"counter.lua" => counter("one")})
      save(node, "while true do end")
      Process.sleep(200)
      save(node, counter("two"))
      assert_becomes(node.counter, "two")
    end
  end

  # Calls are answered, by the old version, all the time until `deadline`.
  defp assert_served(node, deadline) do
    assert call(node.counter) == "one"
    if now() < deadline, do: assert_served(node, deadline)
  end

  test "a call in flight ends on the code that it began with" do
    node = start(%{"counter.lua" => counter("one")})
    assert call(node.counter) == "one"
    request = :gen_server.send_request(node.counter, {:nap, limit(700)})
    Process.sleep(50)
    save(node, counter("two"))
    assert_output(node, ~r/version 2 is live/)
    assert {:reply, {"one", "one"}} = :gen_server.wait_response(request, limit(5_000))
    assert call(node.counter) == "two"
  end

  test "spawned processes follow, each with its own state; upgrade runs in each" do
    upgrade = "function counter:upgrade(old) self.from = (self.from or '') .. old end
      function counter:where() return self.from, self.n end"
    node = start(%{"counter.lua" => counter("one")})
    spawned = Node.spawn(node.raw.node, :counter, :start, [])
    for _ <- 1..3, do: call(spawned, :add)
    call(node.counter, :add)
    save(node, counter("two", upgrade))
    assert_becomes(spawned, "two")
    assert call(spawned, :where) == {"1", 3}
    assert call(node.counter, :where) == {"1", 1}
    save(node, counter("three", upgrade))
    assert_becomes(spawned, "three")
    assert call(spawned, :where) == {"12", 3}
  end

  test "an upgrade that fails ends its process with the error; the registered one starts anew" do
    node = start(%{"counter.lua" => counter("one")})
    spawned = Node.spawn(node.raw.node, :counter, :start, [])
    assert call(spawned, :add) == {"one", 1}
    bad = counter("two", "function counter:upgrade(old) error('cannot go on from ' .. old) end")
    reason = reason_after(spawned, fn -> save(node, bad) end)
    assert {:lua_error, message, _trace} = reason
    assert message =~ "cannot go on from 1"
    assert_becomes(node.counter, "two")
    assert call(node.counter, :add) == {"two", 1}
  end

  test "timers, monitors and deferred answers survive" do
    node =
      start(%{
        "counter.lua" =>
          counter("one", """
          function counter:later() erl.send_after(erl.self(), "rung", 600) end
          function counter:watch(pid) self.ref = erl.monitor(pid) end
          function counter:defer() self.caller = erl.from() return erl.noreply end
          """)
      })

    victim = spawn(fn -> Process.sleep(:infinity) end)
    call(node.counter, :later)
    call(node.counter, {:watch, victim})
    deferred = :gen_server.send_request(node.counter, :defer)
    save(node, counter("two", "function counter:answer() erl.reply(self.caller, 'late') end"))
    assert_becomes(node.counter, "two")
    call(node.counter, :answer)
    assert {:reply, "late"} = :gen_server.wait_response(deferred, limit(5_000))
    eventually(fn -> call(node.counter, :last_info) == "rung" end)
    Process.exit(victim, :kill)
    eventually(fn -> match?({:DOWN, _, _, _, _}, call(node.counter, :last_info)) end)
  end

  test "run() takes new code where it receives: by self at once, whole by return self:run()" do
    loop = fn tag ->
      """
      local loop = {}
      function loop:run()
        while true do
          local message, from = erl.receive()
          if message == atom.again then return self:run() end
          local to, tag = table.unpack(message)
          erl.send(to, erl.tuple("#{tag}", self:inner(), self.from))
        end
      end
      function loop:inner() return "#{tag}" end
      function loop:upgrade(old) self.from = old end
      return loop
      """
    end

    node = start(%{"loop.lua" => loop.("one")})

    ask = fn ->
      send({:loop, node.raw.node}, {self(), 0})
      assert_receive {_, _, _} = answer, limit(5_000)
      answer
    end

    assert ask.() == {"one", "one", nil}
    save(node, loop.("two"), "loop.lua")
    assert_output(node, ~r/version 2 is live/)
    assert ask.() == {"one", "two", 1}
    send({:loop, node.raw.node}, :again)
    assert ask.() == {"two", "two", 1}
  end

  test "a handler that is one function" do
    node = start(%{"counter.lua" => "return function() return 'one' end"})
    save(node, "return function() return 'two' end")
    assert_becomes(node.counter, "two")
    save(node, counter("three"))
    assert_becomes(node.counter, "three")
    save(node, "return function() return 'four' end")
    assert_becomes(node.counter, "four")
  end

  test "a new file is a new handler; one without an end in its name, or begun with _, is none" do
    node = start(%{"counter.lua" => counter("one")})
    save(node, counter("more"), "_helper.lua")
    save(node, counter("more"), "more")
    save(node, counter("more"), "more.lua")
    more = {:more, node.raw.node}
    eventually(fn -> try_call(more) == "more" end)
    assert {:noproc, _} = catch_exit(call({:_helper, node.raw.node}))
  end

  test "a new file that is no good is told of, and loads when it has been mended" do
    node = start(%{"counter.lua" => counter("one")})
    more = {:more, node.raw.node}
    save(node, "return {", "more.lua")
    assert_output(node, ~r/more\.lua:1: unexpected symbol|more\.lua:1: '}' expected/)
    save(node, counter("more"), "more.lua")
    assert_output(node, ~r/more/)
    eventually(fn -> match?("more", try_call(more)) end)
  end

  defp try_call(server) do
    call(server)
  catch
    :exit, _reason -> nil
  end

  test "a removed file unloads its handler; callers get noproc, monitors shutdown" do
    node = start(%{"counter.lua" => counter("one"), "other.lua" => echo()})
    ref = Process.monitor(node.counter)
    File.rm!(Path.join(node.folder, "counter.lua"))
    assert_receive {:DOWN, ^ref, :process, _, :shutdown}, limit(5_000)
    assert {:noproc, _} = catch_exit(call(node.counter))
    assert call({:other, node.raw.node}, 1) == 1
    save(node, counter("again"))
    eventually(fn -> try_call(node.counter) == "again" end)
  end

  test "the only handler is the default one again when its file comes back" do
    node = start(%{"counter.lua" => counter("one")})
    assert RawNode.ask(node.raw, :tag) == "one"
    File.rm!(Path.join(node.folder, "counter.lua"))
    eventually(fn -> RawNode.ask(node.raw, :tag) == {:error, :noproc} end)
    save(node, counter("two"))
    eventually(fn -> RawNode.ask(node.raw, :tag) == "two" end)
  end

  test "a handler that stays down, or has ended, starts again when it is saved" do
    node = start(%{"counter.lua" => "return { init = function() error('no') end }"})
    assert_output(node, ~r/it stays down/)
    save(node, counter("one"))
    eventually(fn -> try_call(node.counter) == "one" end)
    assert {{:lua_error, _, _}, _} = catch_exit(call(node.counter, {:nap, "long"}))
    eventually(fn -> try_call(node.counter) == "one" end)
    GenServer.stop(node.counter)
    assert {:noproc, _} = catch_exit(call(node.counter))
    save(node, counter("two"))
    eventually(fn -> try_call(node.counter) == "two" end)
  end

  describe "modules in subfolders:" do
    defp with_module do
      text = counter("x", "function counter:price() return require('shop.price').of(2) end")
      "local price = require 'shop.price'\n" <> text
    end

    defp price(factor), do: "return { of = function(n) return n * #{factor} end }"

    defp start_shop do
      node = start(%{"counter.lua" => with_module()})
      File.mkdir!(Path.join(node.folder, "shop"))
      save(node, price(10), "shop/price.lua")
      eventually(fn -> try_call(node.counter) == "x" end)
      node
    end

    test "one that is added, and one that is saved, is loaded" do
      node = start_shop()
      assert call(node.counter, :price) == 20
      assert call(node.counter, :add) == {"x", 1}
      save(node, price(100), "shop/price.lua")
      eventually(fn -> call(node.counter, :price) == 200 end)
      assert call(node.counter, :add) == {"x", 2}
    end

    test "a broken one leaves the old version with its own copy" do
      node = start_shop()
      save(node, "return {", "shop/price.lua")
      assert_output(node, ~r"shop/price\.lua:1: ")
      assert call(node.counter, :price) == 20
      save(node, price(3), "shop/price.lua")
      eventually(fn -> call(node.counter, :price) == 6 end)
    end

    test "one that begins with a byte order mark or #!, as the program lua takes it" do
      node = start_shop()
      save(node, "\uFEFF#!/usr/bin/env lua\r\n" <> price(100), "shop/price.lua")
      eventually(fn -> call(node.counter, :price) == 200 end)
    end

    test "one that is required by a function, later, is loaded when it is saved" do
      text = counter("x", "function counter:price() return require('shop.price').of(2) end")
      node = start(%{})
      File.mkdir!(Path.join(node.folder, "shop"))
      save(node, price(10), "shop/price.lua")
      save(node, text)
      eventually(fn -> try_call(node.counter) == "x" end)
      assert call(node.counter, :price) == 20
      save(node, price(100), "shop/price.lua")
      eventually(fn -> call(node.counter, :price) == 200 end)
    end

    test "one that is saved after a load over the wire has failed is loaded" do
      node = start_shop()
      load = {:load, :counter, "return {", %{trust: :full}}
      assert {:error, _} = GenServer.call({:lunode, node.raw.node}, load, limit(5_000))
      save(node, price(100), "shop/price.lua")
      eventually(fn -> call(node.counter, :price) == 200 end)
    end

    test "globals of a version and its modules go with it" do
      node = start(%{"counter.lua" => counter("one", "function counter:g() return g end") <> ""})
      File.mkdir!(Path.join(node.folder, "sub"))
      save(node, "g = (g or 0) + 1 return {}", "sub/m.lua")
      text = "require 'sub.m'\n" <> counter("two", "function counter:g() return g end")
      save(node, text)
      assert_becomes(node.counter, "two")
      assert call(node.counter, :g) == 1
      save(node, text <> "\n")
      assert_output(node, ~r/version 3 is live/)
      assert call(node.counter, :g) == 1
    end
  end

  describe "a file that cannot be read" do
    # A link to itself: to the superuser, too, it is there, and can't be read.
    defp make_unreadable(node, name) do
      path = Path.join(node.folder, name)
      File.rm!(path)
      File.ln_s!(Path.basename(path), path)
      path
    end

    test "does not end its handler; it is told why, and it loads when it can be read" do
      node = start(%{"counter.lua" => counter("one")})
      path = make_unreadable(node, "counter.lua")
      assert_output(node, ~r/counter\.lua: Too many levels of symbolic links/)
      assert_stays(node, node.counter, "one")
      File.rm!(path)
      save(node, counter("two"))
      assert_becomes(node.counter, "two")
    end

    test "because it is too large, likewise" do
      node = start(%{"counter.lua" => counter("one")})
      # What is written of it meanwhile is no handler.
      save(node, [:binary.copy("-", 70_000_000), "\n", counter("big")])
      assert_output(node, ~r/counter\.lua: too large to read/)
      assert_stays(node, node.counter, "one")
      save(node, counter("two"))
      assert_becomes(node.counter, "two")
    end

    test "a module, which loads when it can be read" do
      node = start_shop()
      path = make_unreadable(node, "shop/price.lua")
      assert_output(node, ~r"shop/price\.lua: Too many levels of symbolic links")
      assert_stays(node, node.counter, "x")
      File.rm!(path)
      save(node, price(3), "shop/price.lua")
      eventually(fn -> call(node.counter, :price) == 6 end)
    end
  end

  describe "as editors and tools save:" do
    defp sh(node, script) do
      {out, status} = System.cmd("sh", ["-ec", script], cd: node.folder, stderr_to_stdout: true)
      assert status == 0, out
    end

    defp put_new(node), do: save(node, counter("two"), "../#{Path.basename(node.folder)}/.new")

    for {editor, script} <- [
          {"vim", "touch 4913; rm 4913; mv counter.lua counter.lua~; cat .new >counter.lua;
            chmod 644 counter.lua; rm counter.lua~"},
          {"vim, slowly", "mv counter.lua counter.lua~; sleep 0.2; cat .new >counter.lua;
            rm counter.lua~"},
          {"VS Code", ": >counter.lua; sleep 0.05; cat .new >counter.lua"},
          {"emacs",
           "ln -s user@host.1:1 '.#counter.lua'; cp .new '#counter.lua#';
            cp counter.lua counter.lua~; cat .new >counter.lua; rm '.#counter.lua' '#counter.lua#'"},
          {"sed -i", "sed -i 's/one/two/g' counter.lua"},
          {"a rename", "cp .new .tmp; mv .tmp counter.lua"},
          {"a link to another folder", "mkdir -p ..other_$$; cp .new ..other_$$/counter.lua;
            ln -s ..other_$$/counter.lua .link; mv .link counter.lua"}
        ] do
      test editor do
        node = start(%{"counter.lua" => counter("one")})
        assert call(node.counter, :add) == {"one", 1}
        put_new(node)
        sh(node, unquote(script))
        assert_becomes(node.counter, "two")
        assert call(node.counter, :add) == {"two", 2}
        Process.sleep(500)
        assert call(node.counter, :add) == {"two", 3}
        assert Process.whereis(:nobody) == nil
      end
    end

    test "git checkout of another branch of the folder" do
      node = start(%{"counter.lua" => counter("one"), "old.lua" => echo()})

      sh(node, """
      git init -q -b main . && git config user.name t && git config user.email t@t
      git add . && git commit -qm one && git checkout -qb two
      sed -i s/one/two/g counter.lua && git rm -q old.lua && printf '#{echo()}' >new.lua
      git add . && git commit -qm two && git checkout -q main
      """)

      eventually(fn -> try_call({:old, node.raw.node}) end)
      sh(node, "git checkout -q two")
      assert_becomes(node.counter, "two")
      eventually(fn -> try_call({:new, node.raw.node}) == :tag end)
      eventually(fn -> try_call({:old, node.raw.node}) == nil end)
      sh(node, "git checkout -q main")
      assert_becomes(node.counter, "one")
      eventually(fn -> try_call({:old, node.raw.node}) == :tag end)
      eventually(fn -> try_call({:new, node.raw.node}) == nil end)
    end

    test "a link on the way to the folder is made to lead to another release" do
      top = folder([])

      for {release, tag} <- [{"r1", "one"}, {"r2", "two"}, {"r3", "three"}] do
        File.mkdir_p!("#{top}/#{release}/handlers")
        File.write!("#{top}/#{release}/handlers/counter.lua", counter(tag))
      end

      through = ["sh", "-c", "cd #{top} && exec \"$@\"", "sh"]
      File.ln_s!("r1", "#{top}/current")

      for {handlers, opts} <- [
            {"#{top}/current/handlers", []},
            {"current/handlers", [through: through]},
            {"#{top}/current/handlers/counter.lua", []}
          ] do
        sh(%{folder: top}, "ln -sfn r1 current")
        raw = RawNode.start_connected([handlers: handlers] ++ opts)
        server = {:counter, raw.node}
        assert call(server, :add) == {"one", 1}
        sh(%{folder: top}, "ln -s r2 .new; mv -T .new current")
        assert_becomes(server, "two")
        sh(%{folder: top}, "ln -sfn r3 current")
        assert_becomes(server, "three")
        save(%{folder: top}, counter("four"), "r3/handlers/counter.lua")
        assert_becomes(server, "four")
        save(%{folder: top}, counter("three"), "r3/handlers/counter.lua")
        assert call(server, :add) |> elem(1) == 2
      end
    end

    test "hundreds of files at once" do
      node = start(%{"counter.lua" => counter("one")})
      names = for n <- 1..300, do: "many_#{n}"
      others = for name <- names, do: {String.to_atom(name), node.raw.node}

      for tag <- ["two", "three"] do
        for name <- names, do: save(node, counter(tag), name <> ".lua")
        for other <- others, do: eventually(fn -> try_call(other) == tag end, 20_000)
      end

      for name <- names, do: File.rm!(Path.join(node.folder, name <> ".lua"))
      for other <- others, do: eventually(fn -> try_call(other) == nil end, 20_000)
      assert call(node.counter) == "one"
    end

    test "a script is removed while a module's folder is missing" do
      text = "pcall(require, 'none.such')\n" <> counter("one")
      node = start(%{"counter.lua" => text, "old.lua" => echo()})
      File.mkdir!(Path.join(node.folder, "other"))
      Process.sleep(200)
      File.rm!(Path.join(node.folder, "old.lua"))
      assert_output(node, ~r/old\.lua has gone: unloaded/)
      assert call(node.counter) == "one"
    end

    test "the folder is removed and made anew at once, again and again" do
      node = start(%{"counter.lua" => counter("one")})

      for tag <- ~w(two three four) do
        sh(node, "cd ..; rm -rf #{node.folder}; mkdir #{node.folder}")
        save(node, counter("new " <> tag))
        assert_becomes(node.counter, "new " <> tag)
        Process.sleep(600)
        save(node, counter(tag))
        assert_becomes(node.counter, tag)
      end
    end

    test "the folder is away for a while: its handlers go on" do
      node = start(%{"counter.lua" => counter("one")})
      assert call(node.counter, :add) == {"one", 1}
      sh(node, "cd ..; mv #{node.folder} #{node.folder}.away")
      Process.sleep(1_000)
      assert call(node.counter, :add) == {"one", 2}
      File.rename!(node.folder <> ".away", node.folder)
      save(node, counter("two"))
      assert_becomes(node.counter, "two")
      assert call(node.counter, :add) == {"two", 3}
    end

    test "the folder is removed and comes back" do
      node = start(%{"counter.lua" => counter("one")})
      sh(node, "d=$PWD; cd ..; mv $d $d.away; mkdir $d")
      save(node, counter("two"))
      eventually(fn -> try_call(node.counter) == "two" end)
      File.rm_rf!(node.folder <> ".away")
    end
  end
end
