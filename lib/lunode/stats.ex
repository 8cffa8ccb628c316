defmodule Lunode.Stats do
  @moduledoc """
  What `Lunode.stats/1` tells of a node: counts since its start, and what is the case now.

  `Lunode.top/2` shows them as a table that is refreshed.
  """

  alias __MODULE__

  @typedoc """
    * `:messages` – how many it has handled.
    * `:errors` – how many of its processes ended with an error.
    * `:restarts` – how often its registered process was started again.
    * `:reloads` – how often a new version took over.
    * `:mailbox` – how many messages wait now, in all of its processes.
    * `:processes` – how many there are now.
    * `:run_time` – microseconds that its Lua code ran.
    * `:longest_slice` – microseconds that it ran without a break, at most.
    * `:memory` – bytes that its Lua state takes now.
  """
  @type handler :: %{
          messages: non_neg_integer,
          errors: non_neg_integer,
          restarts: non_neg_integer,
          reloads: non_neg_integer,
          mailbox: non_neg_integer,
          processes: non_neg_integer,
          run_time: non_neg_integer,
          longest_slice: non_neg_integer,
          memory: non_neg_integer
        }

  @typedoc "What has gone over the connection to an Erlang node."
  @type peer :: %{
          frames_in: non_neg_integer,
          frames_out: non_neg_integer,
          bytes_in: non_neg_integer,
          bytes_out: non_neg_integer
        }

  @typedoc """
    * `:uptime` – milliseconds since the node's start.
    * `:memory` – bytes of memory that the operating-system process takes.
    * `:processes` – how many Lua processes there are.
    * `:atoms` – how many atoms the node knows.
  """
  @type t :: %Stats{
          uptime: non_neg_integer,
          memory: non_neg_integer,
          processes: non_neg_integer,
          atoms: non_neg_integer,
          handlers: %{Lunode.handler() => handler},
          peers: %{node => peer}
        }

  defstruct uptime: 0, memory: 0, processes: 0, atoms: 0, handlers: %{}, peers: %{}

  @doc false
  @spec new(map) :: t
  def new(details), do: struct(Stats, details)
end
