defmodule Show do
  @moduledoc "Each piece of code is printed, run, and followed by what it returned."

  def say(text), do: IO.puts("\n#{text}\n")

  def run(code, binding) do
    code |> String.split("\n") |> Enum.each(&IO.puts("    " <> &1))
    {value, binding} = Code.eval_string(code, binding)
    # What the program writes goes through Logger, which may still be printing.
    Process.sleep(100)
    IO.puts("    #=> #{inspect(value)}\n")
    binding
  end
end
