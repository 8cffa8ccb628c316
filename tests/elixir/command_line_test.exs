defmodule Lunode.CommandLineTest do
  @moduledoc "The commands that start no node."
  use ExUnit.Case, async: true

  import Lunode.Test.OS

  # Gives status, standard output and standard error.
  defp lunode(args) do
    stderr = Path.join(folder([]), "stderr")
    program = Path.expand(Lunode.Program.path())
    command = ["-c", "exec \"$@\" 2>#{stderr}", "sh", program | args]
    {stdout, status} = System.cmd("/bin/sh", command)
    {status, stdout, File.read!(stderr)}
  end

  describe "check" do
    test "says nothing of a good script, a folder of them, and several at once" do
      good = script("good.lua", echo())
      several = folder(%{"a.lua" => echo(), "b.lua" => "return {}", "lunode.lua" => "return {}"})
      assert lunode(["check", good]) == {0, "", ""}
      assert lunode(["check", several]) == {0, "", ""}
      assert lunode(["check", good, several]) == {0, "", ""}
    end

    test "tells file and line of one that doesn't compile, and shows the line, with status 1" do
      broken = script("broken.lua", "return {\n  add = function( end\n}")
      assert {1, "", said} = lunode(["check", broken])
      assert said =~ ~r/\A#{broken}:2: .*near 'end'\n     2 \|   add = function\( end\n\z/
    end

    test "tells file, line and calls of one that fails when it is loaded" do
      failing = script("failing.lua", "local nothing\n\nreturn nothing.field")
      assert {1, "", said} = lunode(["check", failing])

      assert said == """
             #{failing}:3: attempt to index a nil value (local 'nothing')
                  3 | return nothing.field
             stack traceback:
             \t#{failing}:3: in main chunk
             """
    end

    test "tells of one that returns neither a table nor a function" do
      wrong = script("wrong.lua", "return 1")
      assert {1, "", said} = lunode(["check", wrong])
      assert said =~ ~r/\A#{wrong}: .*table.*function.*number\n\z/
    end

    test "doesn't run init" do
      quiet = script("quiet.lua", "return { init = function() error('ran') end }")
      assert lunode(["check", quiet]) == {0, "", ""}
    end

    test "tells all that is wrong, not only the first" do
      folder = folder(%{"a.lua" => "return return", "b.lua" => echo(), "c.lua" => "oops"})
      missing = Path.join(folder, "nothing.lua")
      assert {1, "", said} = lunode(["check", missing, folder])
      assert [one, a, line_of_a, c, line_of_c] = String.split(said, "\n", trim: true)
      assert one == "#{missing}: no such file or folder"
      assert a =~ "#{folder}/a.lua:1: " and line_of_a == "     1 | return return"
      assert c =~ "#{folder}/c.lua:1: " and line_of_c == "     1 | oops"
    end

    test "takes folders that have handlers of one name" do
      [one, two] = for _ <- 1..2, do: folder(%{"main.lua" => echo()})
      assert lunode(["check", one, two]) == {0, "", ""}
    end

    test "reads lunode.lua as what it is, a configuration" do
      good = folder(%{"lunode.lua" => "return { max_frame = '1M' }"})
      assert lunode(["check", Path.join(good, "lunode.lua")]) == {0, "", ""}
      wrong = folder(%{"lunode.lua" => "return { max_frames = 1 }"})

      for path <- [wrong, Path.join(wrong, "lunode.lua")] do
        assert {1, "", said} = lunode(["check", path])
        assert said =~ ~r/\A#{wrong}\/lunode\.lua: .*max_frames: unknown option.*\n\z/
      end
    end

    test "warns of an atom that is compared with a text, whichever way it is written" do
      suspicious =
        script("suspicious.lua", """
        return function(msg)
          if msg[1] == "add" then return 1 end
          if msg[ 1 ] ~= 'get' then return 2 end
          if "add" == msg[1] then return 3 end
          if msg[1] == atom.add then return 4 end
          if msg[2] == "text" or "text" == msg[2] then return 5 end
          #{String.duplicate(" ", 3_000)}if 'add'~=self.msg[1] then return 6 end
        end
        """)

      assert {0, "", said} = lunode(["check", suspicious])
      lines = String.split(said, "\n", trim: true)

      assert for(line <- lines, do: line |> String.split(": ") |> Enum.take(2)) ==
               for(number <- [2, 3, 4, 7], do: ["#{suspicious}:#{number}", "warning"])
    end

    test "compiles the modules in subfolders too" do
      folder = folder(%{"main.lua" => echo()})
      File.mkdir_p!(Path.join(folder, "lib/deep"))
      File.write!(Path.join(folder, "lib/good.lua"), "error('modules are not run')")
      File.write!(Path.join(folder, "lib/notes.txt"), "no Lua")
      assert lunode(["check", folder]) == {0, "", ""}
      File.write!(Path.join(folder, "lib/deep/broken.lua"), "return {\n add = = 1 }")
      assert {1, "", said} = lunode(["check", folder])
      assert said =~ ~r/\A#{folder}\/lib\/deep\/broken\.lua:2: [^\n]+\n     2 \|  add = = 1 }\n\z/
    end

    # The warnings for a script that the configuration does not trust.
    defp warnings(source, more \\ "") do
      configuration = "return { handlers = { tenant = { trust = 'none' #{more} } } }"
      folder = folder(%{"tenant.lua" => source, "lunode.lua" => configuration})
      assert {0, "", said} = lunode(["check", folder])

      for line <- String.split(said, "\n", trim: true) do
        [_, number, text] = Regex.run(~r/\A#{folder}\/tenant\.lua:(\d+): warning: (.+)\z/, line)
        {String.to_integer(number), text}
      end
    end

    test "warns of the functions that a script gets only with trust, where nothing runs them too" do
      source = """
      local function f() local io = io.open end -- io.open, and not this one
      local text = "io.open" .. [[ os.execute() ]] .. [==[ debug ]==]
      local t = { io = 1, os = { execute = 2 } } --[[ dofile
      loadfile ]] t.io = t.os.execute
      return {
        never = function(self)
          if os.getenv("HOME") then return text..package.path end
          local info = debug.getinfo(1)
          self:dofile(string.dump(print), string.format("%d", os.time()))
          return dofile("x.lua"), loadfile, debug.traceback()
        end,
        own = function(debug) return io.open, debug.getinfo, self and self.os.exit end,
        meta = function() return setmetatable({}, { __gc = print }) end,
      }
      """

      without = ": a script that is not trusted does not have it"

      assert warnings(source) == [
               {1, "io.open" <> without},
               {7, "os.getenv" <> without},
               {7, "package.path" <> without},
               {8, "debug.getinfo" <> without},
               {9, "string.dump" <> without},
               {10, "dofile" <> without},
               {10, "loadfile" <> without},
               {13, "__gc: a script that is not trusted has no finalizers"}
             ]
    end

    test "finds them behind whatever Lua's sources may have, and not in it" do
      source = """
      #!/usr/bin/lua io.open
      local odd = { "a\\"io.open", 'b\\'io.open\\\\', "c\\z
         io.open", "\\
      io.open", [==[ ]] ]=] io.open ]==], 0x1p-4, 1e+5, 3 .. 4, 1 // 2, 5 ~= 6 }
      --[=[ io.open
      ]] io.open ]=] function odd.f(a, ...) return a .. io.open end
      for io in pairs(odd) do odd[io] = os.exit end
      return function(m) return odd[m], io, -#odd // 1 end
      --[[ not closed io.open]]
      """

      # Where it is declared `io` is a local, and taken for one from there on.
      assert [{6, "io.open: " <> _}, {7, "os.exit: " <> _}] = warnings(source)
    end

    test "says only why a script does not compile when it doesn't" do
      configuration = "return { handlers = { tenant = { trust = 'none' } } }"

      for source <- ["io.open", "'io.open", "[==[ io", "--[[ io", "\\", "io.open(", "\xFF io"] do
        folder = folder(%{"tenant.lua" => source, "lunode.lua" => configuration})
        assert {1, "", said} = lunode(["check", folder])
        refute said =~ "warning"
      end
    end

    test "warns of modules, and of what `allow` does not name" do
      source = """
      return function(message)
        require "lunode.term" require("math")
        local util = message and require("lib.util")
        erl.send(atom.audit, 1) erl.cast(atom "log_1", 2) erl.send(atom.tenant, 3)
        erl.send(atom.other, 1) erl.call(atom("init"), 2, 3)
        erl.send(message, 1) erl.send({ atom.other, erl.node() }, 1)
        erl.rpc(erl.node(), atom "Elixir.Api", atom.get, {})
        erl.rpc(erl.node(), atom "os", atom.cmd, {})
        erl.spawn(atom.counter) erl.spawn(function() end)
        erl.register(atom.me)
      end
      """

      allow = ", allow = { send = { 'audit', 'log_*' }, rpc = { 'Elixir.Api.*' } }"

      assert [
               {3, "require: " <> require},
               {5, "erl.send: not allowed to send to other: allow.send does not name it"},
               {5, "erl.call: not allowed to send to init: allow.send does not name it"},
               {8, "erl.rpc: not allowed to call os.cmd: allow.rpc does not name it"},
               {9, "erl.spawn: " <> _},
               {10, "erl.register: " <> _}
             ] = warnings(source, allow)

      assert require =~ "lib.util"

      assert [{4, _}, {4, _}, {5, _}, {5, _}, {7, rpc}, {8, rpc} | _] =
               source |> warnings() |> Enum.reject(&(elem(&1, 0) == 3))

      assert rpc == "erl.rpc: allow.rpc names nothing that may be called"
    end

    test "doesn't warn of them in a script that is trusted" do
      source = "return function() return io.open, dofile, erl.rpc(1, 2, 3) end"
      assert lunode(["check", script("trusted.lua", source)]) == {0, "", ""}
    end

    test "names the place when the error's value doesn't" do
      silent = script("silent.lua", "\nerror({ code = 7 })")
      assert {1, "", said} = lunode(["check", silent])
      assert hd(String.split(said, "\n")) == "#{silent}:2: %{\"code\" => 7}"
    end

    test "doesn't wait for what a script makes of its own error" do
      endless = "error(setmetatable({}, { __tostring = function() while true do end end }))"
      assert {1, "", said} = lunode(["check", script("endless.lua", endless)])
      assert said =~ "endless.lua:1: an error value (table) whose __tostring does not end\n"
    end

    test "is not ended by a script or a configuration that calls os.exit" do
      script = script("leaver.lua", "\nos.exit(0)")
      config = Path.join(folder(%{"lunode.lua" => "\nos.exit(0)"}), "lunode.lua")
      assert {1, "", said} = lunode(["check", script, config])
      assert said =~ ~r/^#{script}:2: .*os\.exit/m
      assert said =~ ~r/^#{config}:2: .*exit/m
    end
  end

  test "--version is the package's" do
    assert lunode(["--version"]) == {0, "lunode #{Mix.Project.config()[:version]}\n", ""}
  end

  test "--help shows every way to use it" do
    assert {0, help, ""} = lunode(["--help"])

    for use <- ["lunode HOST ALIVE NODE CREATION", "lunode start --name NAME[@HOST]"] do
      assert help =~ use
    end

    assert help =~ "lunode attach NAME[@HOST] [--cookie-file F]"

    for use <- ["lunode check PATH...", "lunode --help | --version", "BUNDLEX_ERLANG_COOKIE"] do
      assert help =~ use
    end
  end

  describe "wrong use is one line that says what, and status 2:" do
    for {args, says} <- [
          {[], "no arguments"},
          {~w(frobnicate), "frobnicate"},
          {~w(host alive node), "host"},
          {~w(host alive node 1 more), "host"},
          {~w(host alive node one), "CREATION is a number, not one"},
          {~w(host alive node -1), "CREATION is a number, not -1"},
          {~w(host alive node 4294967296), "CREATION is a number, not 4294967296"},
          {~w(--help me), "--help"},
          {~w(--what), "--what"},
          {~w(check), "check: name the scripts"},
          {~w(attach), "attach: name one node"},
          {~w(attach one two), "attach: name one node"},
          {~w(attach one --cookie secret), "--cookie"},
          {~w(attach one --cookie-file), "without its value: --cookie-file"},
          {~w(attach one --cookie-file /no/such/file), "attach: no cookie in /no/such/file"},
          {~w(start), "--name is missing"},
          {~w(start --name), "without its value: --name"},
          {~w(start --name @host), "NAME or NAME@HOST"},
          {~w(start --name name@), "NAME or NAME@HOST"},
          {~w(start --name x --cookie secret), "--cookie"},
          {~w(start --name x --cookie-file /no/such/file), "no cookie in /no/such/file"}
        ] do
      test "lunode #{Enum.join(args, " ")}" do
        assert {2, "", said} = lunode(unquote(args))
        assert said =~ ~r/\Alunode: [^\n]+; see lunode --help\n\z/
        assert said =~ unquote(says)
      end
    end
  end
end
