# Builds the same sources with Bundlex, as the native `:lunode`, for projects that have their
# natives built that way: with this folder as the project's, `:bundlex` among its compilers, and
# Bundlex 1.5 among its dependencies. Without Bundlex nothing reads this file.
#
# As a dependency lunode needs none of this: Mix builds it, and
# `Bundlex.CNode.start_link(:lunode, :lunode)` finds the program.
defmodule Lunode.BundlexProject do
  use Bundlex.Project

  def project do
    [natives: natives()]
  end

  defp natives do
    [
      lunode: [
        interface: :cnode,
        # From Bundlex's own folder for sources, c_src.
        src_base: "../src",
        sources: sources(),
        includes: [Path.join(__DIR__, "src")],
        compiler_flags: ["-std=c11", "-D_GNU_SOURCE", "-D_REENTRANT"],
        # Lua modules written in C find Lua's functions in the program.
        linker_flags: ["-rdynamic"],
        # mimalloc brings a malloc for the whole program: the C library's precedes it.
        libs: ["c", "mimalloc"],
        # The first that pkg-config knows is taken: distributions disagree about Lua's name.
        os_deps:
          [
            lua: for(name <- ~w(lua5.4 lua-5.4 lua54 lua), do: {:pkg_config, name}),
            libuv: [{:pkg_config, "libuv"}],
            gmp: [{:pkg_config, "gmp"}],
            libedit: [{:pkg_config, "libedit"}]
          ] ++ if(linux?(), do: [seccomp: [{:pkg_config, "libseccomp"}]], else: [])
      ]
    ]
  end

  # What confines a process is another file on each system.
  defp sources do
    folder = Path.join(__DIR__, "src")
    other = if linux?(), do: "jail/confine_none.c", else: "jail/confine_linux.c"

    paths =
      for path <- Path.wildcard(Path.join(folder, "**/*.c")), do: Path.relative_to(path, folder)

    paths -- [other]
  end

  defp linux?, do: :os.type() == {:unix, :linux}
end
