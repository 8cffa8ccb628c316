defmodule Lunode.MixProject do
  use Mix.Project

  def project do
    [
      app: :lunode,
      version: version(),
      elixir: "~> 1.14",
      description: "Lua handlers in an Erlang cluster: a C node that runs Lua 5.4",
      package: package(),
      compilers: [:lunode | Mix.compilers()],
      elixirc_paths: elixirc_paths(Mix.env()),
      test_paths: ["tests/elixir"],
      start_permanent: Mix.env() == :prod,
      deps: []
    ]
  end

  def application do
    [mod: {Lunode.Application, []}, extra_applications: [:logger]]
  end

  # The one place where the version is written.
  defp version do
    header = File.read!(Path.join(__DIR__, "src/version.h"))
    [_, version] = Regex.run(~r/LUNODE_VERSION "(.+)"/, header)
    version
  end

  defp package do
    [
      licenses: ["Apache-2.0"],
      links: %{},
      files: ~w(src lua lib cmake CMakeLists.txt mix.exs bundlex.exs .formatter.exs
                README.md LICENSE CHANGELOG.md)
    ]
  end

  defp elixirc_paths(:test), do: ["lib", "tests/elixir/support"]
  defp elixirc_paths(_env), do: ["lib"]
end

defmodule Mix.Tasks.Compile.Lunode do
  @moduledoc """
  Builds the program with CMake, as `priv/lunode` of the compiled application.

  CMake's own files go beside it, so `mix clean` and a deleted `_build` leave nothing behind. CMake
  compiles only what has changed.
  """
  use Mix.Task.Compiler

  @impl true
  def run(_args) do
    before = stamp()
    unless configured?(), do: configure()
    cmake(["--build", build_dir(), "--target", "lunode", "--parallel", "#{parallel()}"])
    link_for_bundlex()
    if stamp() == before, do: {:noop, []}, else: {:ok, []}
  end

  defp configure do
    Mix.shell().info("Compiling lunode with CMake")
    File.rm_rf!(build_dir())

    cmake([
      "-S",
      File.cwd!(),
      "-B",
      build_dir(),
      "-DCMAKE_BUILD_TYPE=Release",
      "-DCMAKE_RUNTIME_OUTPUT_DIRECTORY=#{priv_dir()}"
    ])

    File.write!(marker(), places())
  end

  # A build folder that was moved, or whose sources were, has to be made again.
  defp configured?, do: File.read(marker()) == {:ok, places()}
  defp marker, do: Path.join(build_dir(), "configured")
  defp places, do: File.cwd!() <> "\n" <> build_dir()

  defp cmake(args) do
    {output, status} = System.cmd(program(), args, stderr_to_stdout: true)

    if status != 0 do
      Mix.raise("lunode did not build: cmake #{Enum.join(args, " ")}\n\n#{output}")
    end
  end

  defp program do
    System.find_executable("cmake") ||
      Mix.raise(
        "lunode is built with CMake, which is missing. " <>
          "On Debian: apt-get install cmake gcc make pkg-config"
      )
  end

  # Where `Bundlex.CNode.start_link(:lunode, :lunode)` looks for the program.
  defp link_for_bundlex do
    path = Path.join(priv_dir(), "bundlex/cnode/lunode")
    File.mkdir_p!(Path.dirname(path))

    case File.ln_s("../../lunode", path) do
      :ok -> :ok
      {:error, :eexist} -> :ok
    end
  end

  defp parallel, do: System.schedulers_online()
  defp stamp, do: File.stat(Path.join(priv_dir(), "lunode"))
  defp build_dir, do: Path.join(Mix.Project.app_path(), "cmake")
  defp priv_dir, do: Path.join(Mix.Project.app_path(), "priv")
end
