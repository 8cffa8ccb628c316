defmodule Lunode.ReadmeTest do
  @moduledoc "What the README shows is run, and does what it says."
  use ExUnit.Case

  import ExUnit.CaptureLog
  import Lunode.Test.OS
  alias Lunode.Test.RawNode

  @readme File.read!("README.md")

  # The text of the nth block of a language.
  defp block(language, n) do
    [_, text] = ~r/^```#{language}\n(.*?)^```$/ms |> Regex.scan(@readme) |> Enum.at(n)
    text
  end

  # Runs a block line by line; what stands behind `#=>` is what the line returns.
  defp run(code) do
    code
    |> String.split("\n", trim: true)
    |> Enum.reduce([], fn line, binding ->
      {value, binding} = Code.eval_string(line, binding)

      with [_, expected] <- String.split(line, "#=>") do
        assert value == expected |> Code.eval_string() |> elem(0), line
      end

      binding
    end)
  end

  defp counter, do: folder(%{"counter.lua" => block("lua", 0)})

  test "the handler does what its comments say" do
    {:ok, lua} = Lunode.start_link(handlers: counter())
    calls = Regex.scan(~r/-- (\{?:.+)$/m, block("lua", 0), capture: :all_but_first)

    answers =
      for [request] <- calls do
        {request, _} = Code.eval_string(request)
        Lunode.call(lua, :counter, request)
      end

    assert answers == [5, 5]
    Lunode.stop(lua)
  end

  test "the lines for iex, as they stand" do
    run(block("elixir", 0))
  end

  test "the child of a supervisor" do
    [text] = Regex.run(~r/\{Lunode, name: .+?\}/, @readme)
    {{Lunode, options}, _} = Code.eval_string(text)
    assert options[:handlers] == "handlers"
    start_supervised!({Lunode, Keyword.put(options, :handlers, counter())})
    assert Lunode.call(options[:name], :counter, {:add, 5}) == 5
  end

  # Bundlex is none of the dependencies; Lunode.CNode has its functions.
  test "the lines for Bundlex, by the alias that the README names" do
    System.put_env("LUNODE_HANDLERS", counter())
    on_exit(fn -> System.delete_env("LUNODE_HANDLERS") end)
    binding = "elixir" |> block(1) |> String.replace("Bundlex.CNode", "Lunode.CNode") |> run()
    Lunode.CNode.stop(binding[:cnode])
  end

  test "the node on its own" do
    [_, args] = Regex.run(~r/^    build\/lunode start --name lua (.+)$/m, @readme)
    [call] = Regex.run(~r/GenServer\.call\(\{:counter, :"lua.+?\}\)/, @readme)
    alive = "lua_#{System.unique_integer([:positive])}_#{System.pid()}"
    env = %{"BUNDLEX_ERLANG_COOKIE" => Atom.to_string(Node.get_cookie())}
    raw = RawNode.start_standalone(String.split(args), name: alive, alive: alive, env: env)
    call = String.replace(call, "lua@HOST", Atom.to_string(raw.node))
    assert {5, _} = Code.eval_string(call)
  end

  test "the configuration" do
    folder = folder(%{"lunode.lua" => block("lua", 2), "pricing.lua" => echo()})

    for options <- [[config: Path.join(folder, "lunode.lua")], [handlers: folder]] do
      {:ok, lua} = Lunode.start_link(options)
      assert Lunode.call(lua, :pricing, 1) == 1
      Lunode.stop(lua)
    end
  end

  test "processes, from Elixir and from Lua" do
    # One of the processes is linked to this one, and ends with the node.
    Process.flag(:trap_exit, true)
    handlers = folder(%{"counter.lua" => block("lua", 0), "client.lua" => block("lua", 1)})

    binding = "elixir" |> block(2) |> String.replace(~s("handlers"), inspect(handlers)) |> run()

    node = binding[:node]
    counter = {:counter, node}
    client = {:client, node}
    assert GenServer.call(client, {:ask, counter}) == 10

    nobody = {"failed", :exit, :noproc}
    assert GenServer.call(client, {:ask, {:nobody, node}}) == nobody
    short = GenServer.call(client, {:watch, self()})
    assert is_pid(short)
    # The tick that it sends itself adds 1.
    assert eventually(fn -> GenServer.call(counter, :get) == 11 end)

    log =
      capture_log(fn ->
        GenServer.call(client, {:watch, spawn(fn -> :ok end)})
        assert eventually(fn -> GenServer.call(counter, :get) == 12 end)
        Lunode.stop(binding[:lua])
      end)

    assert log =~ "ended:"
  end

  test "changing a script, from Elixir" do
    "elixir" |> block(3) |> String.replace(~s("handlers"), inspect(counter())) |> run()
  end

  test "scripts that are not trusted, from Elixir and in the configuration" do
    folder = folder(%{"lunode.lua" => block("lua", 3), "rules.lua" => echo()})
    config = Path.join(folder, "lunode.lua")
    assert {"", 0} = System.cmd(Lunode.Program.path(), ["check", config], stderr_to_stdout: true)

    if runs_untrusted?() do
      code = "elixir" |> block(4) |> String.replace(~s("lunode.lua"), inspect(config))
      capture_log(fn -> run(code) end)
    end
  end

  # A system without seccomp or landlock refuses.
  defp runs_untrusted? do
    {:ok, lua} = Lunode.start_link([])
    loaded = Lunode.load(lua, :probe, "return {}")
    Lunode.stop(lua)
    not match?({:error, {:untrusted, _}}, loaded)
  end

  test "the commands are those of --help" do
    {help, 0} = System.cmd(Lunode.Program.path(), ["--help"])
    squeeze = &String.replace(&1, ~r/\s+/, " ")

    commands = Regex.scan(~r/^    (lunode .+?)(?:   .*)?$/m, @readme, capture: :all_but_first)
    assert length(commands) == 4
    for [command] <- commands, do: assert(squeeze.(help) =~ squeeze.(command))
  end

  test "what the table of terms says in Lua gives the term beside it" do
    {:ok, lua} = Lunode.start_link(handlers: script("terms.lua", evaluator()))

    for {shown, source, term} <- [
          {"`atom.ok`", "atom.ok", :ok},
          {"`atom \"any name\"`", "atom 'any name'", :"any name"},
          {"`erl.bits(bytes, size)`", "erl.bits('\\xA0', 3)", <<5::3>>},
          {"`erl.list{...}`", "erl.list{1, 2}", [1, 2]},
          {"`erl.improper(list, tail)`", "erl.improper({1}, 2)", [1 | 2]},
          {"`erl.tuple(...)`", "erl.tuple(1, 'a')", {1, "a"}},
          {"`erl.map{...}`", "erl.map{a = 1}", %{"a" => 1}},
          {"`erl.amap{...}`", "erl.amap{a = 1}", %{a: 1}},
          {"`erl.null`", "{erl.null}", [nil]},
          {"keys 1..n is sent as a list", "{1, 2}", [1, 2]},
          {"without a key 1 as a map", "{a = 1}", %{"a" => 1}},
          {"several values are a tuple", "1, 2", {1, 2}},
          {"finds the key `\"name\"`, else `:name`", "erl.amap{name = 1}.name", 1}
        ] do
      assert @readme =~ shown
      assert Lunode.call(lua, :terms, {:value, source}) === term, source
    end

    Lunode.stop(lua)
  end

  test "the errors, word for word" do
    {:ok, lua} = Lunode.start_link(handlers: script("terms.lua", evaluator()))

    capture_log(fn ->
      [_, text] = Regex.run(~r/`(reply\..+?)`/, @readme)
      source = "{items = {1, 2, {callback = print}}}"
      assert @readme =~ "`{:lua_error, message, traceback}`"

      assert {{:lua_error, message, _traceback}, _} =
               catch_exit(Lunode.call(lua, :terms, {:value, source}))

      assert message =~ text
    end)

    assert @readme =~ "`{:undef, name, arity}`"
    assert {{:undef, :nothing, 1}, _} = catch_exit(Lunode.call(lua, :terms, {:nothing, 1}))
    assert Lunode.call(lua, :terms, {:value, "1"}) == 1
    Lunode.stop(lua)
  end

  # {:value, text} gives the value of a Lua expression.
  defp evaluator do
    "return { value = function(self, text) return load('return ' .. text)() end }"
  end
end
