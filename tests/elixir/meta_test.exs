defmodule Lunode.MetaTest do
  # The file for the Lua language server names what a handler finds in `erl`: no less, no more.
  use ExUnit.Case, async: true
  alias Lunode.Test.OS

  @meta Path.expand("lua/lunode/meta/erl.lua")

  @script """
  local t = {}

  local function names(module)
    local found = {}
    for key in pairs(module) do found[#found + 1] = "erl." .. key end
    for key in pairs(module.log) do found[#found + 1] = "erl.log." .. key end
    table.sort(found)
    return found
  end

  function t:real() return names(erl) end

  function t:documented(path)
    local env = {}
    assert(loadfile(path, "t", env))()
    return names(env.erl), env.atom ~= nil
  end

  return t
  """

  setup do
    {:ok, lua} = Lunode.start_link(handlers: OS.script("names.lua", @script))
    %{lua: lua}
  end

  test "every name in erl is documented, and none that is not there", %{lua: lua} do
    real = Lunode.call(lua, :names, :real)
    {documented, atom?} = Lunode.call(lua, :names, {:documented, @meta})

    assert {"documented, not there", documented -- real} == {"documented, not there", []}
    assert {"there, not documented", real -- documented} == {"there, not documented", []}
    assert atom?
  end

  test "every function is explained, and so is each of its parameters" do
    for {name, params, comment} <- functions() do
      explained = Regex.scan(~r/^---@param (\.\.\.|\w+)/m, comment) |> Enum.map(&List.last/1)
      assert explained == params, "the parameters of #{name} in #{@meta}"
      assert name =~ "erl.log." or comment =~ ~r/^---[A-Z]/m, "#{name} has no text in #{@meta}"
    end
  end

  # {name, parameters, the comment above}
  defp functions do
    Regex.scan(~r/((?:^---.*\n)*)^function (erl\.[\w.]+)\((.*)\) end$/m, File.read!(@meta))
    |> Enum.map(fn [_, comment, name, params] ->
      {name, String.split(params, ", ", trim: true), comment}
    end)
  end
end
