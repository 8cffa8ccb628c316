defmodule Lunode.UntrustedFilesTest do
  @moduledoc "Scripts in files that the configuration does not trust."
  use ExUnit.Case, async: true

  import Lunode.Test.OS

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
    :exit, {:noproc, _call} -> true
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
