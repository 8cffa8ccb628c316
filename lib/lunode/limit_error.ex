defmodule Lunode.LimitError do
  @moduledoc """
  A handler has used more than it may.

  To a caller that is the exit reason `{:limit, kind, max, used}`; `Lunode.Error.from_reason/2` makes
  this of it. The details of the event `:limit` become one by `new/2`.

      iex> Exception.message(%Lunode.LimitError{handler: :tenant_7, kind: :memory, max: 33_554_432, used: 33_558_001})
      "the handler tenant_7 used more than 32 MiB of memory"
  """

  alias __MODULE__

  @typedoc """
    * `:memory` – of the handler's whole Lua state, in bytes. All its processes ended.
    * `:time` – that it ran for one message, in milliseconds.
    * `:deadline` – that it ran without a place to interrupt it, in milliseconds.
    * `:mailbox` – messages that wait. The process that has them lives; who sent one more is refused.
    * `:message` – of one message, in bytes. The process lives; the message is refused.
    * `:atoms` – that did not exist before.
  """
  @type kind :: :memory | :time | :deadline | :mailbox | :message | :atoms

  @typedoc """
  `:handler` is `nil` where it isn't known.
  """
  @type t :: %LimitError{
          handler: Lunode.handler() | nil,
          kind: kind,
          max: non_neg_integer,
          used: non_neg_integer
        }

  @enforce_keys [:kind, :max, :used]
  defexception [:handler, :kind, :max, :used]

  @doc """
  The error of a handler, from the details of the event `:limit`.

      receive do
        {:lunode, _node, :limit, handler, details} -> raise Lunode.LimitError.new(handler, details)
      end
  """
  @spec new(Lunode.handler() | nil, details :: map) :: t
  def new(handler, %{kind: kind, max: max, used: used}) do
    %LimitError{handler: handler, kind: kind, max: max, used: used}
  end

  @doc """
  What happened, in words.
  """
  @impl true
  @spec message(t) :: String.t()
  def message(%{handler: nil} = error), do: "a handler " <> what(error)
  def message(%{handler: handler} = error), do: "the handler #{handler} " <> what(error)

  defp what(%{kind: :memory, max: max}), do: "used more than #{size(max)} of memory"
  defp what(%{kind: :time, max: max}), do: "ran for more than #{time(max)} for one message"

  defp what(%{kind: :deadline, max: max}) do
    "ran for more than #{time(max)} without a place to interrupt it"
  end

  defp what(%{kind: :mailbox, max: max}) do
    "has a full mailbox: #{max} #{things(max, "message")} may wait"
  end

  defp what(%{kind: :message, max: max, used: used}) do
    "takes messages of #{size(max)} at the most, not of #{size(used)}"
  end

  defp what(%{kind: :atoms, max: max}), do: "made more than #{max} new #{things(max, "atom")}"
  defp what(%{kind: kind, max: max}), do: "went beyond its limit #{kind} of #{max}"

  @units [{1_073_741_824, "GiB"}, {1_048_576, "MiB"}, {1_024, "KiB"}]

  # As it was said: with a unit where it is a whole number of them, else with all digits.
  defp size(bytes) do
    case Enum.find(@units, fn {unit, _name} -> bytes >= unit and rem(bytes, unit) == 0 end) do
      {unit, name} -> "#{div(bytes, unit)} #{name}"
      nil -> "#{bytes} #{things(bytes, "byte")}"
    end
  end

  defp time(ms) when ms >= 1_000 and rem(ms, 1_000) == 0, do: "#{div(ms, 1_000)} s"
  defp time(ms), do: "#{ms} ms"

  defp things(1, thing), do: thing
  defp things(_count, thing), do: thing <> "s"
end
