defmodule Lunode.Repl.Commands do
  @moduledoc false
  # The commands of the prompt: lines that begin with a colon.

  alias Lunode.{Repl, Terminal}
  alias Lunode.Top.Table

  @help """
  an expression or a chunk is run in the node, and its values are printed
  :handlers     the handlers: version, state, file, last error
  :stats        what they have done since the node's start
  :reload NAME  loads the script of a handler again
  :use NAME     runs what follows in the environment of a handler, with `handler`
                (what its script returned) and `self`; :use alone leaves it
  :cancel       gives up a chunk that is not finished
  :quit         leaves; the node runs on
  """

  @names ~w(:help :handlers :stats :reload :use :cancel :quit)

  @spec names :: [String.t()]
  def names, do: @names

  @spec run(String.t(), Repl.t()) :: {:cont | :quit, Repl.t()}
  def run(line, repl) do
    line |> String.split() |> command(repl)
  catch
    :exit, {reason, _call} -> Repl.lost(reason, repl)
  end

  defp command([":quit"], repl), do: {:quit, repl}
  defp command([":cancel"], repl), do: {:cont, repl}
  defp command([":use"], repl), do: {:cont, %{repl | handler: nil}}

  defp command([":use", name], repl) do
    case find(name, repl) do
      nil -> say(no_handler(name), repl)
      handler -> {:cont, %{repl | handler: handler.name}}
    end
  end

  defp command([":reload", name], repl) do
    case find(name, repl) do
      nil -> say(no_handler(name), repl)
      handler -> reload(handler.name, repl)
    end
  end

  defp command([name], repl) when name in [":reload"],
    do: say("which handler? See :handlers", repl)

  defp command([":help"], repl), do: say(String.trim_trailing(@help), repl)

  defp command([":handlers"], repl) do
    handlers = Lunode.handlers(repl.node)
    rows = [~w(handler version state processes since file) | Enum.map(handlers, &row/1)]
    say(Enum.join(columns(rows) ++ Enum.flat_map(handlers, &last_error/1), "\n"), repl)
  end

  defp command([":stats"], repl) do
    {columns, _rows} = Terminal.size()
    stats = Lunode.stats(repl.node)

    say(
      Enum.join(
        Table.summary("#{repl.node}", stats, nil) ++ Table.table(stats, nil, columns, :name),
        "\n"
      ),
      repl
    )
  end

  defp command(words, repl),
    do: say("there is no command #{Enum.join(words, " ")}; see :help", repl)

  defp say(text, repl) do
    text |> Terminal.printable() |> IO.puts()
    {:cont, repl}
  end

  # No atom is made of what somebody types.
  defp find(name, repl) do
    repl.node |> Lunode.handlers() |> Enum.find(&(Atom.to_string(&1.name) == name))
  end

  defp no_handler(name), do: "there is no handler #{name}; see :handlers"

  defp reload(name, repl) do
    case Lunode.reload(repl.node, name) do
      {:ok, version} -> say("#{name} is at version #{version}", repl)
      {:error, reason} -> say(Repl.reason(reason, name), repl)
    end
  end

  defp row(handler) do
    since = if handler.since, do: handler.since |> DateTime.truncate(:second) |> to_string()

    for value <- [
          handler.name,
          handler.version,
          handler.state,
          handler.processes,
          since,
          handler.file
        ] do
      to_string(value || "-")
    end
  end

  defp last_error(%{last_error: nil}), do: []

  defp last_error(handler) do
    [line | _rest] = String.split(handler.last_error.message, "\n")
    ["last error of #{handler.name}: #{line}"]
  end

  # As wide as the widest of them, but for the last.
  defp columns(rows) do
    widths =
      rows |> Enum.zip_with(fn cells -> cells |> Enum.map(&String.length/1) |> Enum.max() end)

    for row <- rows do
      row
      |> Enum.zip_with(widths, &String.pad_trailing/2)
      |> Enum.join("  ")
      |> String.trim_trailing()
    end
  end
end
