defmodule Lunode.UntrustedFilesTest do
  @moduledoc "Scripts in files that the configuration does not trust."
  use ExUnit.Case, async: true

  import Lunode.Test.OS

  @moduletag :not_under_valgrind

  @configuration """
  return { workers = 1, handlers = { ["tenant_*"] = { trust = "none" } } }
  """

  defp says(text), do: ~s|return { hi = function() return "#{text}", tostring(io) end }|

  setup do
    files = %{
      "lunode.lua" => @configuration,
      "tenant_a.lua" => says("first"),
      "boss.lua" => ~s|return { io = function() return type(io) end }|
    }

    folder = folder(files)
    lua = start_supervised!({Lunode, handlers: folder})
    hi = fn name -> GenServer.call({name, Lunode.node(lua)}, :hi) end
    %{lua: lua, folder: folder, hi: hi, now: &now(hi, &1, &2)}
  end

  defp now(hi, name, text) do
    eventually(fn ->
      try do
        hi.(name) == {text, "nil"}
      catch
        :exit, _not_yet -> false
      end
    end)
  end

  defp gone?(hi, name) do
    hi.(name) && false
  catch
    :exit, {reason, _call} -> reason == :noproc
  end

  defp write(folder, file, text), do: File.write!(Path.join(folder, file), text)

  test "see no files, while others of the folder do", %{lua: lua, hi: hi} do
    assert hi.(:tenant_a) == {"first", "nil"}
    assert GenServer.call({:boss, Lunode.node(lua)}, :io) == "table"
  end

  test "are loaded when they are saved, new ones too, and go with their file", context do
    %{folder: folder, hi: hi, now: now} = context
    assert hi.(:tenant_a) == {"first", "nil"}
    write(folder, "tenant_a.lua", says("second"))
    now.(:tenant_a, "second")
    write(folder, "tenant_a.lua", "return {")
    write(folder, "tenant_b.lua", says("new"))
    now.(:tenant_b, "new")
    assert hi.(:tenant_a) == {"second", "nil"}

    File.rm!(Path.join(folder, "tenant_b.lua"))
    eventually(fn -> gone?(hi, :tenant_b) end)
  end

  test "a text takes the place of one until it is unloaded",
       %{lua: lua, folder: folder} = context do
    %{hi: hi, now: now} = context
    assert hi.(:tenant_a) == {"first", "nil"}
    assert {:ok, _version} = Lunode.load(lua, :tenant_a, says("text"))
    assert hi.(:tenant_a) == {"text", "nil"}
    write(folder, "tenant_a.lua", says("saved"))
    Process.sleep(100)
    assert hi.(:tenant_a) == {"text", "nil"}
    assert Lunode.unload(lua, :tenant_a) == :ok
    now.(:tenant_a, "saved")
    assert {:ok, _version} = Lunode.reload(lua, :tenant_a)
    assert Lunode.unload(lua, :tenant_a) == :ok
    assert {:noproc, _call} = catch_exit(hi.(:tenant_a))
  end

  test "what is trusted and what is not do not replace each other", %{lua: lua} do
    assert {:error, {:bad_name, text}} = Lunode.load(lua, :tenant_a, says("x"), trust: :full)
    assert text =~ "a handler that is not trusted has this name"
    assert {:error, {:bad_name, text}} = Lunode.load(lua, :boss, says("x"))
    assert text =~ "a handler that is trusted has this name"
  end

  test "have the modules of the folder, and are loaded when one is saved" do
    folder = folder(%{"lunode.lua" => @configuration})
    File.mkdir_p!(Path.join(folder, "words/more"))
    write(folder, "words/one.lua", ~s|return { text = "one " .. require("words.more") }|)
    write(folder, "words/more/init.lua", ~s|return "more"|)

    write(folder, "tenant_m.lua", """
    local one = require "words.one"
    return { hi = function() return one.text, pcall(require, "words.none") end }
    """)

    lua = start_supervised!({Lunode, handlers: folder}, id: :modules)
    hi = fn -> Lunode.call(lua, :tenant_m, :hi) end
    assert {"one more", false, text} = hi.()
    assert text =~ "the module 'words.none' is not available to an untrusted script"
    write(folder, "words/more/init.lua", ~s|return "saved"|)
    eventually(fn -> match?({"one saved", false, _}, hi.()) end)
  end

  test "over the wire, modules come with the script", %{lua: lua} do
    modules = %{"twice" => "return function(n) return 2 * n end"}
    script = ~s|local twice = require "twice" return { hi = function() return twice(4) end }|
    assert {:ok, 1} = Lunode.load(lua, :with_modules, script, modules: modules)
    assert Lunode.call(lua, :with_modules, :hi) == 8
    assert {:ok, 2} = Lunode.reload(lua, :with_modules)
    assert Lunode.call(lua, :with_modules, :hi) == 8
    assert {:error, {:bad_option, text}} = Lunode.load(lua, :with_modules, script, modules: [1])
    assert text =~ "modules: a map of names and texts expected"
  end

  test "the default handler is none of them" do
    folder =
      folder(%{
        "lunode.lua" => ~s|return { handlers = { any = { trust = "none" } } }|,
        "any.lua" => echo()
      })

    {said, 1} =
      System.cmd(Lunode.Program.path(), ["start", "--name", "x", folder], stderr_to_stdout: true)

    assert said =~ "any.lua: the default handler must be trusted"
  end
end
