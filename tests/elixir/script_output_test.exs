defmodule Lunode.ScriptOutputTest do
  @moduledoc "What a script writes, as the lines of a node on its own."
  use ExUnit.Case

  import Lunode.Test.OS
  alias Lunode.Test.RawNode

  defp start(source) do
    cookie = %{"BUNDLEX_ERLANG_COOKIE" => Atom.to_string(Node.get_cookie())}
    raw = RawNode.start_standalone([script("writer.lua", source)], env: cookie)
    assert Node.connect(raw.node)
    raw
  end

  # For scripts that end the node before anybody could connect.
  defp start_only(source) do
    cookie = %{"BUNDLEX_ERLANG_COOKIE" => Atom.to_string(Node.get_cookie())}
    RawNode.start_standalone([script("writer.lua", source)], env: cookie)
  end

  defp rest(raw) do
    case RawNode.next(raw) do
      line when is_binary(line) -> [line | rest(raw)]
      other -> [other]
    end
  end

  defp stop(raw) do
    kill(raw.os_pid, "TERM")
    rest(raw)
  end

  describe "io.write" do
    test "keeps an unfinished line until its end comes, half a million pieces of it too" do
      raw =
        start("""
        return { dots = function(self, n)
          for i = 1, n do io.write(".") end
          io.write("x", 1, 2.5, "\\nmore")
          return true
        end }
        """)

      # Each piece used to copy all that was there: seconds.
      assert RawNode.ask(raw, {:dots, 1_000}, 15_000) == true
      assert "[info] writer: " <> line = RawNode.next(raw)
      assert line == String.duplicate(".", 1_000) <> "x12.5"
      assert RawNode.ask(raw, {:dots, 500_000}, 15_000) == true
      dots = raw |> RawNode.lines_until(~r/x12\.5$/) |> Enum.join()
      assert length(Regex.scan(~r/\./, dots)) == 500_001
    end

    test "of an endless line doesn't fill the memory: it leaves in pieces of 64 KiB" do
      raw =
        start("""
        return { endless = function(self, n)
          local kib = ("x"):rep(1024)
          for i = 1, n do io.write(kib) end
          return true
        end }
        """)

      assert RawNode.ask(raw, {:endless, 64}) == true
      assert "[info] writer: " <> line = RawNode.next(raw)
      assert byte_size(line) == 65_536
    end

    test "leaves what is unfinished when the node ends, what a finalizer writes too" do
      raw =
        start("""
        setmetatable({}, { __gc = function() io.write("the end") end })
        return { half = function() io.write("half, "); return true end }
        """)

      assert RawNode.ask(raw, :half) == true
      assert stop(raw) == ["[info] writer: half, the end", {:exit, 0}]
    end
  end

  describe "os.exit" do
    test "ends the node with its status, after all that was written, and after terminate" do
      raw =
        start("""
        return {
          leave = function()
            for i = 1, 1000 do print(i) end
            io.write("unfinished")
            os.exit(3)
            print("never")
          end,
          terminate = function() print("terminate") end,
        }
        """)

      send({:any, raw.node}, :leave)
      numbers = for i <- 1..1_000, do: "[info] writer: #{i}"

      assert rest(raw) ==
               numbers ++ ["[info] writer: terminate", "[info] writer: unfinished", {:exit, 3}]
    end

    test "without a status is 0, false is 1, also when the script is loaded" do
      for {argument, status} <- [{"", 0}, {"true", 0}, {"false", 1}, {"7, true", 7}] do
        raw = start_only("print('loading')\nos.exit(#{argument})\nprint('never')")
        assert rest(raw) == ["[info] writer: loading", {:exit, status}]
      end
    end

    test "is no error that a script could catch" do
      raw = start_only("while true do pcall(os.exit, 4); pcall(table.sort, {2, 1}, os.exit) end")
      assert rest(raw) == [{:exit, 4}]
    end
  end

  describe "control characters" do
    test "are shown as escapes, a tab is none" do
      raw =
        start("""
        return { show = function(self, text) print(text); return true end }
        """)

      show = fn text ->
        assert RawNode.ask(raw, {:show, text}) == true
        RawNode.next(raw)
      end

      assert show.("a\r[error] b: forged\e[2K\0\x7f") ==
               "[info] writer: a\\x0D[error] b: forged\\x1B[2K\\x00\\x7F"

      assert show.("a\tb\u009Bä€😀") == "[info] writer: a\tb\\x9Bä€😀"
      assert show.(<<"ä", 0xFF, 0xC3, "b", 0x9B>>) == "[info] writer: ä\\xFF\\xC3b\\x9B"
      assert show.("one\r\ntwo") == "[info] writer| one\\x0D"
      assert RawNode.next(raw) == "[info] writer: two"
    end
  end

  describe "warnings of Lua" do
    test "are lines of the log" do
      raw =
        start("""
        return { warn = function() warn("@on"); warn("mind ", "the gap"); return true end }
        """)

      assert RawNode.ask(raw, :warn) == true
      assert RawNode.next(raw) == "[warning] writer: mind the gap"
    end

    test "tell of an error in a finalizer" do
      raw =
        start("""
        return { collect = function()
          setmetatable({}, { __gc = function() error("broken") end })
          collectgarbage()
          return true
        end }
        """)

      assert RawNode.ask(raw, :collect) == true
      assert RawNode.next(raw) =~ ~r/\A\[warning\] writer: error in __gc.*writer\.lua:2: broken/
    end
  end

  describe "one call of a C function that takes long" do
    test "is named in the log while it runs, with handler and line" do
      raw =
        start("""
        local searcher = {}
        function searcher:search(n)
          return ("a"):rep(n):find((".-"):rep(4) .. "b")
        end
        return searcher
        """)

      # Hours, if it were left to it: the line comes before the call is over.
      send({:any, raw.node}, {:search, 1_000})

      assert RawNode.next(raw, 30_000) =~
               ~r"\A\[warning\] writer: has been in one call for \d+ s without a place to interrupt it: .*writer\.lua:3 \(other handlers and peers wait\)\z"

      kill(raw.os_pid)
    end
  end
end
