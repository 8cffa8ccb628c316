defmodule Lunode.Repl do
  @moduledoc false
  # The loop of `Lunode.repl/1`: lines are gathered until they are a whole chunk of Lua, which the
  # node evaluates. Editing lines and keeping a history is the group leader's, which is IEx's.

  alias Lunode.Repl.{Commands, Completion}
  alias Lunode.Terminal

  # An evaluation that takes longer may have to be ended.
  @patience 1_000

  @enforce_keys [:node, :reader, :interactive]
  defstruct @enforce_keys ++ [:handler, lines: [], reading: false, typed: []]

  @typep input :: String.t() | :eof | {:error, term}

  @type t :: %__MODULE__{
          node: node,
          # Whose environment it is; `nil` for a fresh one.
          handler: Lunode.handler() | nil,
          # Of an unfinished chunk, the last one first.
          lines: [String.t()],
          # The process that waits for input, and whether it does.
          reader: pid,
          reading: boolean,
          # What came of it during an evaluation.
          typed: [input],
          # Somebody sits at the terminal.
          interactive: boolean
        }

  @doc """
  Returns when it is told to quit, at the end of the input, and when the node is lost.

  It runs in a process of its own: to the node that is the prompt, whose environment and evaluations
  end with it, and the caller's mailbox stays as it is.
  """
  @spec run(node) :: :ok
  def run(node) do
    fn -> Completion.with_restored(fn -> enter(node) end) end
    |> Task.async()
    |> Task.await(:infinity)
  end

  defp enter(node) do
    me = self()
    reader = spawn_link(fn -> read_lines(me) end)
    IO.puts("Lua in #{node}. :help tells the commands, :quit leaves.")
    loop(%__MODULE__{node: node, reader: reader, interactive: Completion.available?()})
    send(reader, :quit)
    :ok
  end

  defp loop(repl) do
    Completion.install(repl)
    {input, repl} = next_input(repl)

    case take(input, repl) do
      {:cont, repl} -> loop(repl)
      {:quit, repl} -> leave(repl)
    end
  end

  # Input that is waited for is waited for to the end: it would be missing where it comes next.
  defp leave(%{reading: false}), do: :ok

  defp leave(repl) do
    IO.puts("Enter leaves the prompt.")
    await_input(repl)
  end

  # {==== Input =================================================================================

  defp read_lines(repl) do
    receive do
      {:read, prompt} ->
        send(repl, {:input, IO.gets(prompt)})
        read_lines(repl)

      :quit ->
        :ok
    end
  end

  defp next_input(%{typed: [input | typed]} = repl), do: {input, %{repl | typed: typed}}
  defp next_input(repl), do: repl |> want_input() |> await_input()

  defp want_input(%{reading: true} = repl), do: repl

  defp want_input(repl) do
    send(repl.reader, {:read, prompt(repl)})
    %{repl | reading: true}
  end

  # The next line won't go on with the chunk that runs.
  defp want_input_meanwhile(repl) do
    %{want_input(%{repl | lines: []}) | lines: repl.lines}
  end

  # What else comes means nothing any more.
  defp await_input(repl) do
    receive do
      {:input, input} -> {input, %{repl | reading: false}}
      _late -> await_input(repl)
    end
  end

  # Two signs in the lines that go on.
  defp prompt(repl) do
    "#{repl.handler || "lunode"}#{if repl.lines == [], do: ">", else: ">>"} "
  end

  defp take({:error, :interrupted}, repl), do: {:cont, %{repl | lines: []}}

  defp take(line, repl) when is_binary(line),
    do: line |> String.trim_trailing("\n") |> take_line(repl)

  defp take(_end_of_input, repl), do: {:quit, repl}

  # A label of Lua begins with two colons.
  defp take_line(line, repl) do
    cond do
      repl.lines == [] and blank?(line) -> {:cont, repl}
      repl.lines == [] and line =~ ~r/^:\w/ -> Commands.run(line, repl)
      String.trim(line) == ":cancel" -> {:cont, %{repl | lines: []}}
      true -> evaluate(%{repl | lines: [line | repl.lines]})
    end
  end

  defp blank?(line), do: String.trim(line) == ""

  # }==== Evaluating ============================================================================

  defp evaluate(repl) do
    source = repl.lines |> Enum.reverse() |> Enum.join("\n")

    case ask(repl, {:eval, repl.handler, source, %{prompt: self()}}) do
      {{:reply, {:error, :incomplete}}, repl} -> {:cont, repl}
      {{:reply, reply}, repl} -> {:cont, show(reply, %{repl | lines: []})}
      {{:error, {reason, _server}}, repl} -> lost(reason, repl)
    end
  end

  defp show({:ok, values}, repl) do
    for value <- values, do: write(value)
    repl
  end

  defp show({:error, reason}, repl) do
    write(reason(reason, repl.handler))
    repl
  end

  @doc "A call of the node failed for that reason."
  @spec lost(term, t) :: {:quit, t}
  def lost(reason, repl) do
    IO.puts("The node does not answer any more: #{inspect(reason)}")
    {:quit, repl}
  end

  defp ask(repl, request) do
    id = :gen_server.send_request({:lunode, repl.node}, request)
    timer = if repl.interactive, do: Process.send_after(self(), {:still_running, id}, @patience)
    result = await(id, repl)
    if timer, do: Process.cancel_timer(timer)
    result
  end

  # What the evaluation prints is shown as it comes.
  defp await(id, repl) do
    receive do
      {:lunode_output, _node, text} ->
        write(text)
        await(id, repl)

      {:still_running, ^id} ->
        IO.puts("It still runs. An empty line ends it.")
        await(id, want_input_meanwhile(repl))

      {:input, input} ->
        await(id, take_meanwhile(input, %{repl | reading: false}))

      message ->
        case :gen_server.check_response(message, id) do
          :no_reply -> await(id, repl)
          response -> {response, repl}
        end
    end
  end

  # Lines are for later, as if they had been typed then.
  defp take_meanwhile(input, repl) do
    cond do
      interrupts?(input) -> repl |> interrupt() |> want_input_meanwhile()
      is_binary(input) -> want_input_meanwhile(%{repl | typed: repl.typed ++ [input]})
      true -> %{repl | typed: repl.typed ++ [input]}
    end
  end

  # An empty line, and what IEx makes of Ctrl-G and `i`.
  defp interrupts?({:error, :interrupted}), do: true
  defp interrupts?(input), do: is_binary(input) and blank?(input)

  # Nothing hangs on the reply.
  defp interrupt(repl) do
    _id = :gen_server.send_request({:lunode, repl.node}, {:interrupt, self()})
    repl
  end

  # }==== Text ==================================================================================

  defp write(text), do: text |> Terminal.printable() |> IO.puts()

  @doc """
  Why the node did not do what it was asked for, as text.
  """
  @spec reason(term, Lunode.handler() | nil) :: String.t()
  def reason({:lua_error, value, ""}, _handler), do: text(value)
  def reason({:lua_error, value, traceback}, _handler), do: text(value) <> "\n" <> traceback
  def reason({kind, text}, _handler) when is_binary(text), do: "#{text(kind)}: #{text}"
  def reason(:noproc, handler), do: "there is no handler #{handler}; see :handlers"
  def reason(reason, _handler), do: text(reason)

  defp text(value) when is_binary(value), do: value
  defp text(value) when is_atom(value), do: Atom.to_string(value)
  defp text(value), do: inspect(value)

  # }====
end
