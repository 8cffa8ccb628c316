# What bundlex.exs needs of Bundlex, so that it can be read without it.
defmodule Bundlex.Project do
  @callback project() :: keyword

  defmacro __using__(_opts) do
    quote do
      @behaviour Bundlex.Project
      def bundlex_project?, do: true
      def src_path, do: Path.join(__DIR__, "c_src")
    end
  end
end

defmodule Lunode.BundlexProjectTest do
  @moduledoc """
  bundlex.exs builds the program, compiled and linked as Bundlex's toolchain for Unix does it.
  """
  use ExUnit.Case

  import Lunode.Test.OS

  # Those that Bundlex 1.5 knows for a native.
  @known ~w(includes libs lib_dirs os_deps pkg_configs sources deps compiler_flags linker_flags
            language interface preprocessor src_base)a

  setup_all do
    [{module, _beam}] = Code.require_file("bundlex.exs", File.cwd!())
    [lunode: native] = module.project()[:natives]
    %{module: module, native: native}
  end

  test "has the keys that Bundlex knows, and no other", %{native: native} do
    assert Keyword.keys(native) -- @known == []
    assert native[:interface] == :cnode
  end

  test "names every C source", %{native: native} do
    assert "main.c" in native[:sources]
    all = for path <- Path.wildcard("src/**/*.c"), do: Path.relative_to(path, "src")
    # but for the one of two that is for another system
    assert [other] = all -- native[:sources]
    assert other =~ ~r"^jail/confine_(linux|none)\.c$"
  end

  @tag :once
  @tag timeout: limit(120_000)
  test "compiles and links a program that runs", %{module: module, native: native} do
    base = Path.join(module.src_path(), native[:src_base])
    output = folder([])

    objects =
      native[:sources]
      |> Task.async_stream(&compile(&1, base, native, output), timeout: limit(60_000))
      |> Enum.map(fn {:ok, object} -> object end)

    program = Path.join(output, "lunode")

    libs =
      pkg_config(native, "--libs") ++
        ["-L#{ei("lib")}", "-lpthread", "-lei" | Enum.map(native[:libs] || [], &"-l#{&1}")]

    cc(native[:linker_flags] ++ ["-o", program] ++ objects ++ libs)

    assert {version, 0} = System.cmd(program, ["--version"])
    assert version =~ Mix.Project.config()[:version]
  end

  defp compile(source, base, native, output) do
    object = Path.join(output, String.replace(source, "/", "_") <> ".o")
    includes = [ei("include"), Path.join(base, "..") | native[:includes]]

    cc(
      ~w(-Wall -Wextra -c -O2 -g -DBUNDLEX_CNODE) ++
        native[:compiler_flags] ++
        ["-o", object] ++
        Enum.map(includes, &"-I#{Path.expand(&1)}") ++
        pkg_config(native, "--cflags") ++ [Path.expand(Path.join(base, source))]
    )

    object
  end

  defp cc(args) do
    {output, status} = System.cmd("gcc", args, stderr_to_stdout: true)
    assert status == 0, output
    assert output == ""
  end

  # For each dependency the first provider that there is.
  defp pkg_config(native, option) do
    Enum.flat_map(native[:os_deps], fn {_name, providers} ->
      Enum.find_value(providers, fn {:pkg_config, library} ->
        case System.cmd("pkg-config", [option, library], stderr_to_stdout: true) do
          {flags, 0} -> String.split(flags)
          _unknown -> nil
        end
      end)
    end)
  end

  defp ei(folder) do
    Path.join(List.to_string(:code.lib_dir(:erl_interface)), folder)
  end
end
