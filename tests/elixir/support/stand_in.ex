defmodule Lunode.Test.StandIn do
  @moduledoc """
  Answers on this BEAM as the process `lunode` of a node does, with what a test wants it to: for
  `Lunode` the name of this BEAM is then that of such a node.
  """
  use GenServer

  @doc """
  Starts it for the test that calls; gives the name of its node. `answer` is called with each
  request; it gives the reply, or `:noreply`. The test gets each request as `{:asked, request}`.
  """
  def start(answer) do
    ExUnit.Callbacks.start_supervised!({__MODULE__, {self(), answer}})
    node()
  end

  @doc "What a handler's entry in `:handlers` looks like, but for `fields`."
  def handler(name, fields \\ %{}) do
    Map.merge(
      %{
        name: name,
        version: 1,
        file: "#{name}.lua",
        since: 1_700_000_000_123,
        state: :running,
        processes: 1,
        last_error: nil
      },
      Map.new(fields)
    )
  end

  @doc "What `:stats` gives, for handlers `%{name => fields}`."
  def stats(handlers, fields \\ %{}) do
    none = %{
      messages: 0,
      errors: 0,
      restarts: 0,
      reloads: 0,
      mailbox: 0,
      processes: 1,
      run_time: 0,
      longest_slice: 0,
      memory: 30_000
    }

    %{
      uptime: 60_000,
      memory: 12_000_000,
      processes: map_size(handlers),
      atoms: 150,
      handlers: Map.new(handlers, fn {name, own} -> {name, Map.merge(none, own)} end),
      peers: %{a@b: %{frames_in: 600, frames_out: 1200, bytes_in: 60_000, bytes_out: 6_000_000}}
    }
    |> Map.merge(Map.new(fields))
  end

  @doc "An error as it is in events and in `:handlers`."
  def error(fields \\ %{}) do
    Map.merge(
      %{
        message: "counter.lua:12: attempt to index a nil value (field 'x')",
        file: "counter.lua",
        line: 12,
        source: "return self.x.y",
        traceback: "stack traceback:\n\tcounter.lua:12: in method 'add'",
        handling: "{:add, 5}",
        version: 3,
        at: 1_700_000_000_123
      },
      Map.new(fields)
    )
  end

  def start_link(options), do: GenServer.start_link(__MODULE__, options, name: :lunode)

  @impl true
  def init(options), do: {:ok, options}

  @impl true
  def handle_call(request, _from, {test, answer} = state) do
    send(test, {:asked, request})

    case answer.(request) do
      :noreply -> {:noreply, state}
      reply -> {:reply, reply, state}
    end
  end
end
