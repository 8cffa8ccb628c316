defmodule Lunode.Repl.Completion do
  @moduledoc false
  # What Tab does at the prompt. A group leader that edits lines, as IEx's does, calls a function of
  # ours with what stands before the cursor.

  alias Lunode.Repl.Commands

  @timeout 1_000
  @command_with_name ~r/^:(use|reload) +(\S*)$/

  @doc """
  Calls `fun`; afterwards the group leader completes as it did before.
  """
  @spec with_restored((() -> result)) :: result when result: term
  def with_restored(fun) do
    old = current()
    if old, do: Process.put(__MODULE__, old)

    try do
      fun.()
    after
      if old, do: :io.setopts(expand_fun: old)
    end
  end

  @doc "Whether the group leader edits lines: somebody sits at a terminal then."
  @spec available? :: boolean
  def available?, do: Process.get(__MODULE__) != nil

  # Only of a group leader here: it would look for our function on its own node.
  defp current do
    with true <- node(Process.group_leader()) == node(),
         opts when is_list(opts) <- :io.getopts(),
         old when is_function(old, 1) <- opts[:expand_fun] do
      old
    else
      _none -> nil
    end
  end

  @doc """
  Completes for the calling process from now on, for as long as it lives: it may be killed.
  """
  @spec install(Lunode.Repl.t()) :: :ok | {:error, term}
  def install(repl) do
    prompt = self()

    with old when old != nil <- Process.get(__MODULE__) do
      :io.setopts(
        expand_fun: fn before ->
          if Process.alive?(prompt), do: expand(before, repl, prompt), else: old.(before)
        end
      )
    end

    :ok
  end

  # The group leader gives the text from its end, and wants to know what comes next, and what could.
  defp expand(before, repl, prompt) do
    text = before |> Enum.reverse() |> List.to_string()
    {word, words} = candidates(text, repl, prompt)

    case Enum.filter(words, &(String.valid?(&1) and String.starts_with?(&1, word))) do
      [] ->
        {:no, [], []}

      [one] ->
        {:yes, one |> rest(word) |> to_charlist(), []}

      many ->
        {:yes, many |> common() |> rest(word) |> to_charlist(), Enum.map(many, &to_charlist/1)}
    end
  end

  defp rest(text, word), do: binary_part(text, byte_size(word), byte_size(text) - byte_size(word))

  # The first and the last in order differ most.
  defp common(words) do
    {first, last} = Enum.min_max(words)

    Enum.zip(String.graphemes(first), String.graphemes(last))
    |> Enum.take_while(fn {a, b} -> a == b end)
    |> Enum.map_join(fn {a, _b} -> a end)
  end

  # The word that is completed, and what it may become.
  defp candidates(text, repl, prompt) do
    name = Regex.run(@command_with_name, text)

    cond do
      repl.lines != [] -> lua(text, repl, prompt)
      name -> {List.last(name), ask(repl, :handlers) |> Enum.map(&Atom.to_string(&1.name))}
      text =~ ~r/^:\w*$/ -> {text, Commands.names()}
      true -> lua(text, repl, prompt)
    end
  end

  defp lua(text, repl, prompt) do
    [word] = Regex.run(~r/[\w.:]*$/, text)
    {word, ask(repl, {:complete, repl.handler, text, prompt})}
  end

  # A node that doesn't answer knows nothing.
  defp ask(repl, request) do
    GenServer.call({:lunode, repl.node}, request, @timeout)
  catch
    :exit, _reason -> []
  end
end
