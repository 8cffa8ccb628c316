defmodule Lunode.ExamplesTest do
  @moduledoc "The examples do what they show."
  use ExUnit.Case

  import ExUnit.CaptureIO
  import ExUnit.CaptureLog

  # What each piece of code of an example returned.
  defp results(path) do
    level = Logger.level()
    # The example names this process; it is not to keep the name.
    task = Task.async(fn -> capture_io(fn -> Code.eval_file(path) end) end)
    shown = Task.await(task, 120_000)
    Logger.configure(level: level)
    Regex.scan(~r/^    #=> (.+)$/m, shown, capture: :all_but_first) |> List.flatten()
  end

  @tag :not_under_valgrind
  test "sandbox: scripts that nobody trusts" do
    capture_log(fn ->
      assert [
               "{:ok, 1}",
               "{:ok, 1}",
               "10800",
               "{:priced, 7, 10800}",
               ~s("the handler tenant_2 ran for more than 50 ms for one message"),
               ~s("the handler tenant_2 used more than 8 MiB of memory"),
               read,
               command,
               stop,
               "10800",
               ":ok"
             ] = results("examples/sandbox/sandbox.exs")

      assert read =~ "global 'io'"
      assert command =~ "erl.rpc: not allowed to call os.cmd"
      assert stop =~ "erl.send: not allowed to send to init"
    end)
  end
end
