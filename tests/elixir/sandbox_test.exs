defmodule Lunode.SandboxTest do
  @moduledoc "What a script that nobody vouches for sees, and where it ends."
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  @moduletag :capture_log
  @moduletag timeout: 180_000

  # Runs what it is sent; a table of names in which functions can be kept.
  @runner """
  local kept = {}
  local handler = { kept = kept }
  function handler:lua(source, ...)
    local run, why = load(source, "=test")
    if not run then error(why, 0) end
    return run(...)
  end
  function handler:ping() return "pong" end
  return handler
  """

  defp start(options \\ []) do
    lua = start_supervised!(Lunode)
    {:ok, _} = Lunode.load(lua, :tenant, @runner, options)
    lua
  end

  defp lua(lua, source), do: Lunode.call(lua, :tenant, {:lua, source})

  # The message of the error that the source ends with.
  defp message_of(lua, source) do
    assert [false, message] = lua(lua, "return erl.list{pcall(function() #{source} end)}")
    message
  end

  describe "what there is:" do
    setup do
      %{lua: start()}
    end

    test "the libraries, by what they are used for", %{lua: lua} do
      for {source, value} <- [
            {"return ('a,b'):gsub(',', ';')", {"a;b", 1}},
            {"return string.format('%5.2f %s %d %%', 1.5, true, 3)", " 1.50 true 3 %"},
            {"return table.concat({1, 2, 3}, '-')", "1-2-3"},
            {"return math.max(1, 2)", 2},
            {"return utf8.char(228)", "ä"},
            {"return type(os.time())", "number"},
            {"return os.date('!%Y', 0)", "1970"},
            {"return select('#', 1, 2)", 2},
            {"return load('return 1 + 1')()", 2},
            {"return load(function() return nil end)()", nil},
            {"return load('return x', 'x', 't', {x = 3})()", 3},
            {"return collectgarbage('count') > 0", true},
            {"return require('string').upper('a')", "A"},
            {"return require('lunode.term') == erl", true},
            {"local co = coroutine.wrap(function() coroutine.yield(1) end) return co()", 1},
            {"return atom.ok == atom('ok')", true},
            {"return tostring(erl.tuple(1, 2))", "{1, 2}"},
            {"x = 5 return _G.x", 5},
            {"return setmetatable({}, {__index = {a = 1}}).a", 1},
            {"return (debug.traceback('here'):match('^here\\nstack traceback:') ~= nil)", true}
          ] do
        assert lua(lua, source) == value, source
      end
    end

    test "nothing that reaches beyond it", %{lua: lua} do
      for name <- ~w(io package dofile loadfile loadstring setfenv os.execute os.getenv os.exit
              os.remove os.rename os.tmpname os.setlocale debug.getinfo debug.sethook
              debug.getregistry debug.getupvalue debug.setmetatable debug.getmetatable
              string.dump) do
        assert lua(lua, "return #{name} == nil") == true, name
      end

      assert message_of(lua, "require('io')") =~ "the module 'io' is not available"
      assert message_of(lua, "collectgarbage('stop')") =~ "an untrusted script has"
    end

    test "text alone is loaded, with the script's own globals", %{lua: lua} do
      assert [nil, why] = lua(lua, "return erl.list{load('\\27Lua', 'x', 'b')}")
      assert why =~ "attempt to load"
      assert [nil, why] = lua(lua, "return erl.list{load('\\27Lua')}")
      assert why =~ "attempt to load a binary chunk"
      assert [nil, why] = lua(lua, "return erl.list{load((' '):rep(2000000))}")
      assert why =~ "at the most"
      assert lua(lua, "return load('return _G')() == _G") == true
    end

    test "no finalizers, now or later", %{lua: lua} do
      assert message_of(lua, "setmetatable({}, {__gc = function() end})") =~ "__gc"

      assert lua(lua, """
             ran = false
             for i = 1, 100 do
               local meta = {}
               setmetatable({}, meta)
               meta.__gc = function() ran = true end
             end
             collectgarbage()
             collectgarbage()
             return ran
             """) == false
    end

    test "no addresses", %{lua: lua} do
      assert lua(lua, """
             local co = coroutine.create(function() end)
             local texts = {}
             for _, v in ipairs{{}, print, co, erl.self(), erl.noreply, erl.null, atom, string,
                                setmetatable({}, {__name = "mine"}), function() end, erl.decode,
                                erl.list{print, {}}, erl.map{a = co}, erl.from()} do
               texts[#texts + 1] = tostring(v)
               texts[#texts + 1] = string.format("%s", v)
               texts[#texts + 1] = ("%10.50s"):format(v)
             end
             for _, f in ipairs{function() erl.tuple(1)[{}] = 1 end, function() error({}) end,
                                function() local x = {} .. {} end, function() ("x"):rep({}) end,
                                function() erl.send({}, 1) end} do
               texts[#texts + 1] = tostring(select(2, pcall(f)))
             end
             local found = {}
             for _, text in ipairs(texts) do
               if text:find("0x%x") then found[#found + 1] = text end
             end
             return erl.list(found)
             """) == []

      assert message_of(lua, "string.format('%p', {})") =~ "%p is not available"
      assert message_of(lua, "('%-20p'):format({})") =~ "%p is not available"
      assert lua(lua, "return select('#', math.randomseed())") == 0
    end

    test "the libraries and the strings' metatable stay as they are", %{lua: lua} do
      assert message_of(lua, "string.rep = nil") =~ "string is read-only"
      assert message_of(lua, "erl.send = nil") =~ "erl is read-only"
      assert message_of(lua, "erl.log.info = nil") =~ "erl.log is read-only"
      assert message_of(lua, "setmetatable(string, {})") =~ "protected"
      assert message_of(lua, "atom.x = 1") =~ "atoms cannot be assigned to"
      assert lua(lua, "return getmetatable('')") == "string"
      assert lua(lua, "return getmetatable('').__index") == nil

      # What it spoils by rawset, it spoils for itself: not even for its own next version.
      lua(lua, """
      for _, t in ipairs{string, erl, erl.log, atom, table, math, coroutine} do
        for _, name in ipairs{"format", "upper", "send", "info", "ok", "concat", "wrap", "encode"} do
          rawset(t, name, "spoilt")
        end
      end
      for k, v in pairs(string) do
        if type(v) == "table" then rawset(v, "upper", "spoilt") end
      end
      tostring, print, pairs = nil, nil, nil
      """)

      assert lua(lua, "return ('x'):upper()") == "X"
      assert {:ok, _} = Lunode.load(lua, :tenant, @runner)

      assert lua(lua, "return string.upper('x') .. tostring(atom.ok) .. table.concat{1}") ==
               "Xok1"
    end

    test "an evaluation in it has no more than it has", %{lua: lua} do
      assert {:ok, [nil]} = Lunode.eval(lua, :tenant, "io")
      assert {:ok, ["string"]} = Lunode.eval(lua, :tenant, "getmetatable('')")
      assert {:ok, [true]} = Lunode.eval(lua, :tenant, "load('return _G')().erl ~= nil")
    end

    test "an error in a chunk that claims to be a file does not show the file", %{lua: lua} do
      log =
        capture_log(fn ->
          catch_exit(lua(lua, "load('error(1)', '@/etc/passwd')()"))
          assert lua(lua, "return 1") == 1
        end)

      refute log =~ "root:"
    end
  end

  test "a name is a trusted script's or an untrusted one's, not both in turn" do
    lua = start()
    assert {:error, {:bad_name, why}} = Lunode.load(lua, :tenant, @runner, trust: :full)
    assert why =~ "unload it first"
  end
end
