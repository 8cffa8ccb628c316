defmodule Lunode.MixTopTest do
  use ExUnit.Case

  import ExUnit.CaptureIO
  import Lunode.Test.OS
  alias Lunode.Test.{RawNode, StandIn}

  # Without keys it shows the table once.
  defp top(args), do: capture_io(fn -> Mix.Tasks.Lunode.Top.run(args) end)

  defp refused(args), do: Exception.message(assert_raise(Mix.Error, fn -> top(args) end))

  setup do
    stats = StandIn.stats(%{a: %{memory: 1}, b: %{memory: 2}})
    %{node: StandIn.start(fn :stats -> stats end) |> Atom.to_string()}
  end

  test "shows the node of that name", %{node: node} do
    assert top([node]) =~ ~r/#{node} .*\*Msg.*\na .*\nb /s
  end

  test "a name without host is on this machine", %{node: node} do
    [alive, _host] = String.split(node, "@")
    assert top([alive]) =~ "#{node} "
  end

  test "sorts by what is asked for", %{node: node} do
    assert top([node, "--sort", "memory"]) =~ ~r/\*memorY.*\nb .*\na /s
  end

  test "what is wrong is said", %{node: node} do
    assert refused([]) =~ "wants the name of one node"
    assert refused([node, node]) =~ "wants the name of one node"
    assert refused([node, "--colour"]) =~ "--colour"
    assert refused([node, "--sort", "age"]) =~ "--sort: must be one of name, messages, cpu"
    assert refused([node, "--interval", "soon"]) =~ "--interval"
    assert refused([node, "--interval", "0"]) =~ "--interval: must be more than 0"
    missing = Path.join(folder([]), "cookie")
    assert refused([node, "--cookie-file", missing]) == "#{missing}: no such file or directory"

    assert refused(["nowhere_#{System.unique_integer([:positive])}"]) =~
             "cannot connect to nowhere_"
  end

  test "in a shell, of a node that runs by itself and has a cookie of its own" do
    files =
      folder(%{"cookie" => "secret_#{System.unique_integer([:positive])}\n", "any.lua" => echo()})

    File.chmod!(Path.join(files, "cookie"), 0o600)
    cookie = ["--cookie-file", Path.join(files, "cookie")]
    raw = RawNode.start_standalone(cookie ++ [Path.join(files, "any.lua")])

    assert {written, 0} = shell(["lunode.top", "#{raw.node}" | cookie])
    assert written =~ ~r/#{raw.node} .*\nany +[\d.]+ /s
    assert {written, 1} = shell(["lunode.top", "#{raw.node}"])
    assert written =~ "cannot connect to #{raw.node}"
  end

  # Its standard input is at its end.
  defp shell(args) do
    System.cmd("sh", ["-c", "exec mix \"$@\" </dev/null", "sh" | args],
      env: [{"MIX_ENV", "test"}, {"BUNDLEX_ERLANG_COOKIE", nil}],
      stderr_to_stdout: true
    )
  end
end
