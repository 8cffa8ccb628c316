defmodule Lunode.Error do
  @moduledoc """
  An error that ended a Lua process, or kept a script from being loaded, with all that helps to
  find it.

  `Lunode.handlers/1` gives the last one of each handler. The details of the events `:crashed` and
  `:reload_failed` become one by `new/2`, the reason of an exit, or in `{:error, reason}`, by
  `from_reason/2`. It is an exception, whose message is the whole text:

      iex> counter = hd(Lunode.handlers(MyApp.Lua))
      iex> IO.puts(Exception.message(counter.last_error))
      counter.lua:12: attempt to index a nil value (field 'x')
          12 |     return self.x.y
      stack traceback:
      	counter.lua:12: in method 'add'
      while handling {:add, 5}
      counter, version 3

  What isn't known is `nil`, and left out of the text.
  """

  alias __MODULE__
  alias Lunode.LimitError

  @typedoc """
    * `:handler` – the handler's name.
    * `:message` – what went wrong, with file and line in front where Lua knows them.
    * `:file`, `:line`, `:source` – where, and the line itself as it was in the version that failed.
    * `:traceback` – the chain of calls, as Lua writes it.
    * `:handling` – the beginning of the message that was being handled, as `inspect/1` writes it.
    * `:version` – the version of the handler that failed; for a load that failed, the one that goes
      on serving.
    * `:at` – when.
  """
  @type t :: %Error{
          handler: Lunode.handler() | nil,
          message: String.t(),
          file: String.t() | nil,
          line: pos_integer | nil,
          source: String.t() | nil,
          traceback: String.t(),
          handling: String.t() | nil,
          version: pos_integer | nil,
          at: DateTime.t() | nil
        }

  defexception [
    :handler,
    :message,
    :file,
    :line,
    :source,
    :handling,
    :version,
    :at,
    traceback: ""
  ]

  @doc """
  The error of a handler, from the details of an event.

      receive do
        {:lunode, _node, :crashed, handler, details} -> raise Lunode.Error.new(handler, details)
      end
  """
  @spec new(Lunode.handler(), details :: map) :: t
  def new(handler, details) do
    error = struct(Error, details)
    at = error.at && DateTime.from_unix!(error.at, :millisecond)
    %{error | handler: handler, at: at}
  end

  @refusals [:untrusted, :bad_option, :bad_name, :cannot_send]

  @doc """
  The exception for a reason: of the exit of a call, of `:DOWN`, or in `{:error, reason}`. It is a
  `Lunode.LimitError` when a limit was hit, else a `Lunode.Error`.

      try do
        Lunode.call(MyApp.Lua, :tenant_7, :run)
      catch
        :exit, reason -> {:error, Lunode.Error.from_reason(:tenant_7, reason)}
      end

      with {:error, reason} <- Lunode.load(MyApp.Lua, :tenant_7, source) do
        raise Lunode.Error.from_reason(:tenant_7, reason)
      end
  """
  @spec from_reason(Lunode.handler() | nil, reason :: term) :: t | LimitError.t()
  def from_reason(handler, {:error, reason}), do: from_reason(handler, reason)

  # The exit of a call.
  def from_reason(handler, {reason, {module, function, args}})
      when is_atom(module) and is_atom(function) and is_list(args) do
    from_reason(handler, reason)
  end

  def from_reason(handler, {:limit, kind, max, used}) do
    LimitError.new(handler, %{kind: kind, max: max, used: used})
  end

  def from_reason(handler, {:lua_error, message, traceback}) when is_binary(traceback) do
    message = if is_binary(message), do: message, else: inspect(message)
    %Error{handler: handler, message: message, traceback: traceback}
  end

  def from_reason(handler, {kind, text}) when kind in @refusals and is_binary(text) do
    %Error{handler: handler, message: text}
  end

  def from_reason(handler, {:worker_exit, text}) when is_binary(text) do
    %Error{handler: handler, message: "the worker that ran it has ended: " <> text}
  end

  def from_reason(handler, reason) do
    %Error{handler: handler, message: Exception.format_exit(reason)}
  end

  @doc """
  The whole text.
  """
  @impl true
  @spec message(t) :: String.t()
  def message(error) do
    [error.message, source(error), error.traceback, handling(error), version(error)]
    |> Enum.reject(&(&1 in [nil, ""]))
    |> Enum.join("\n")
  end

  defp source(%{source: nil}), do: nil

  defp source(%{source: source, line: line}),
    do: String.pad_leading("#{line}", 6) <> " | " <> source

  defp handling(%{handling: nil}), do: nil
  defp handling(%{handling: handling}), do: "while handling #{handling}"

  defp version(%{version: nil}), do: nil
  defp version(%{handler: handler, version: version}), do: "#{handler}, version #{version}"
end
