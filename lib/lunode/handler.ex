defmodule Lunode.Handler do
  @moduledoc """
  What `Lunode.handlers/1` tells of a handler.
  """

  alias __MODULE__
  alias Lunode.Error

  @typedoc """
    * `:running` – it serves.
    * `:loading` – its first version is being loaded.
    * `:failed` – no version of it could be loaded; calls to it say why.
    * `:down` – its registered process has failed too often and stays down.
  """
  @type state :: :running | :loading | :failed | :down

  @typedoc """
    * `:version` – counts the loads that went well; `nil` before the first.
    * `:file` – the script's path; `nil` if it was loaded over the wire.
    * `:since` – when that version went live.
    * `:processes` – how many there are of it, the registered one among them.
    * `:last_error` – the last error of any of its processes, or of a load.
  """
  @type t :: %Handler{
          name: Lunode.handler(),
          version: pos_integer | nil,
          file: Path.t() | nil,
          since: DateTime.t() | nil,
          state: state,
          processes: non_neg_integer,
          last_error: Error.t() | nil
        }

  @enforce_keys [:name, :state]
  defstruct [:name, :version, :file, :since, :state, :last_error, processes: 0]

  @doc false
  @spec new(map) :: t
  def new(details) do
    handler = struct(Handler, details)
    since = handler.since && DateTime.from_unix!(handler.since, :millisecond)
    error = handler.last_error && Error.new(handler.name, handler.last_error)
    %{handler | since: since, last_error: error}
  end
end
