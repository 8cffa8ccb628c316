defmodule Lunode.Telemetry do
  @moduledoc false
  # The node's events as those of `:telemetry`, for programs that have it. `Lunode.subscribe/2` tells
  # what they are.

  # No dependency: it is called only where it is there.
  @compile {:no_warn_undefined, :telemetry}

  @spec available? :: boolean
  def available?, do: Code.ensure_loaded?(:telemetry)

  @doc """
  Has the node's events sent to the calling process. Doesn't wait for the node, whose answer comes
  as a message that means nothing.
  """
  @spec subscribe(node) :: :ok
  def subscribe(node) do
    _request = :gen_server.send_request({:lunode, node}, {:subscribe, self()})
    :ok
  end

  @doc """
  What can be measured is in the measurements, too: metrics are made of these. Nothing happens where
  there is no telemetry: anybody may have subscribed the process.
  """
  @spec emit(event :: atom, metadata :: map) :: :ok
  def emit(event, metadata) do
    measured = Map.take(metadata, [:max, :used])
    measurements = Map.put(measured, :system_time, System.system_time())
    if available?(), do: :telemetry.execute([:lunode, event], measurements, metadata)
    :ok
  end
end
