defmodule Lunode.Output do
  @moduledoc false
  # The program's standard output: pieces from the port become lines, lines become log events.
  #
  # A line reads `[level] source: text`, where the source is a handler's name, or `lunode` for the
  # program itself. Control characters come as escapes. A text of several lines comes with `|` in place of the colon in all of them but
  # the last: together they are one log event. Only the beginning of a whole line says its level. A script's line always gets
  # its beginning from the program, so a script cannot pass for another.
  require Logger

  # Beyond this a line is cut: the rest of it would only fill memory.
  @max_line 1_048_576
  # A script that prints without end must not fill the mailbox of the server. A piece is up to
  # 64 KiB.
  @max_waiting 50
  # Lines of one event.
  @max_event 200

  defstruct [:node, :level, begun: "", event: [], dropped: 0]

  @type t :: %__MODULE__{
          node: node,
          level: Logger.level() | false,
          # The line that has begun; `:dropped` when its beginning was.
          begun: binary | :dropped,
          # The lines of an event whose last line has not come yet, the newest first.
          event: [binary],
          # Bytes, since it was told last.
          dropped: non_neg_integer
        }

  @doc """
  Lines of at least `level` will be logged; with `false` none.
  """
  @spec new(node, Logger.level() | false) :: t
  def new(node, level), do: %__MODULE__{node: node, level: level}

  @doc """
  Takes a piece from the port; gives the lines that end in it.
  """
  @spec add(t, binary) :: {[binary], t}
  def add(output, piece) do
    [head | tail] = :binary.split(piece, "\n", [:global])
    begun = join(output.begun, head)
    split([begun | tail], [], output)
  end

  @doc """
  The same, but drops the piece whole when more messages wait for the calling process than it can
  keep up with.
  """
  @spec add_or_drop(t, binary) :: {[binary], t}
  def add_or_drop(output, piece) do
    if overrun?(output) do
      {[], %{drop(output, piece) | begun: :dropped}}
    else
      add(output, piece)
    end
  end

  defp split([begun], lines, output), do: {Enum.reverse(lines), %{output | begun: begun}}
  defp split([:dropped | rest], lines, output), do: split(rest, lines, output)
  defp split([line | rest], lines, output), do: split(rest, [line | lines], output)

  defp join(:dropped, _piece), do: :dropped
  defp join(begun, _piece) when byte_size(begun) > @max_line, do: begun
  defp join(begun, piece), do: begun <> piece

  @doc """
  Logs a line, or drops it as `add_or_drop/2` drops a piece.
  """
  @spec log(t, binary) :: t
  def log(output, line) do
    if overrun?(output) do
      drop(output, line)
    else
      output |> tell_dropped() |> gather(line)
    end
  end

  # The first line of an event says its level and source; the others add their text,
  # indented, so that on a console none of them passes for an event of its own.
  defp gather(output, line) do
    output = finish_other(output, line)
    text = if output.event == [], do: first_line(line), else: text(line)

    cond do
      continues?(line) and length(output.event) < @max_event ->
        %{output | event: [text | output.event]}

      true ->
        finish(%{output | event: [text | output.event]})
    end
  end

  # The last line of an event may have been dropped: another's line is none of it.
  defp finish_other(%{event: []} = output, _line), do: output

  defp finish_other(%{event: event} = output, line) do
    if head(List.last(event)) == head(line), do: output, else: finish(output)
  end

  defp finish(output) do
    write(output, output.event |> Enum.reverse() |> Enum.join("\n    "))
    %{output | event: []}
  end

  defp head(line), do: Regex.run(~r/\A\[[a-z]+\] [^:|]*/, line)

  defp continues?(line), do: line =~ ~r/\A\[[a-z]+\] [^:|]*\| /
  defp first_line(line), do: String.replace(line, ~r/\A(\[[a-z]+\] [^:|]*)\| /, "\\1: ")
  defp text(line), do: String.replace(line, ~r/\A\[[a-z]+\] [^:|]*[:|] /, "")

  # Once it drops it does so until nothing waits, and says so once.
  defp overrun?(output) do
    {:message_queue_len, waiting} = Process.info(self(), :message_queue_len)
    waiting > if(output.dropped > 0, do: 0, else: @max_waiting)
  end

  defp drop(output, bytes), do: %{output | dropped: output.dropped + byte_size(bytes)}

  defp tell_dropped(%{dropped: 0} = output), do: output

  defp tell_dropped(%{dropped: dropped} = output) do
    write(output, "[warning] lunode: #{dropped} bytes of output dropped: too much at once")
    %{output | dropped: 0}
  end

  defp write(%{level: false}, _line), do: :ok

  defp write(output, line) do
    {level, source, text} = parse(line)

    if Logger.compare_levels(level, output.level) != :lt do
      # The program writes only what can be shown; but a line may have been cut inside a character.
      Logger.bare_log(level, Logger.Formatter.prune(text), lunode: output.node, handler: source)
    end
  end

  for level <- [:debug, :info, :warning, :error] do
    defp parse(unquote("[#{level}] ") <> text), do: {unquote(level), source(text), text}
  end

  defp parse(text), do: {:info, nil, text}

  # The source stays in the text too: a console shows no metadata unless told to.
  defp source(text), do: text |> String.split(":", parts: 2) |> hd()
end
