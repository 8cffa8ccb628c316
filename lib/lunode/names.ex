defmodule Lunode.Names do
  @moduledoc false
  # Hands out the names of nodes, and counts how often each was used.
  #
  # A node's name is an atom, and atoms are never freed, so names come from a pool: one goes back
  # when its holder ends, however it ends, and the one that has rested longest is used next. What
  # tells a new node from the one that had the name before is its creation, which goes up by one
  # with each start. The first creation of a name is random: pids of a node that an earlier BEAM
  # started under this name are then not mistaken for pids of this one.
  use GenServer

  @type creation :: 1..0xFFFFFFFF

  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(_opts) do
    GenServer.start_link(__MODULE__, nil, name: __MODULE__)
  end

  @doc """
  A name for the calling process until it ends: `alive`, or with `nil` one from the pool.
  """
  @spec take(String.t() | nil) :: {alive :: String.t(), creation}
  def take(alive) do
    GenServer.call(__MODULE__, {:take, alive})
  end

  @doc """
  A word that keeps the names of several BEAMs on one machine apart.
  """
  @spec random_id :: String.t()
  def random_id do
    0xFFFFFFFFFF |> :rand.uniform() |> Integer.to_string(36) |> String.downcase()
  end

  @impl true
  def init(nil) do
    {:ok, %{id: random_id(), made: 0, free: :queue.new(), held: %{}, creations: %{}}}
  end

  @impl true
  def handle_call({:take, nil}, {pid, _tag}, state) do
    {alive, state} = from_pool(state)
    state = put_in(state.held[Process.monitor(pid)], alive)
    reply_with_creation(alive, state)
  end

  def handle_call({:take, alive}, _from, state) do
    reply_with_creation(alive, state)
  end

  @impl true
  def handle_info({:DOWN, ref, :process, _pid, _reason}, state) do
    {alive, held} = Map.pop!(state.held, ref)
    {:noreply, %{state | held: held, free: :queue.in(alive, state.free)}}
  end

  defp from_pool(state) do
    case :queue.out(state.free) do
      {{:value, alive}, free} ->
        {alive, %{state | free: free}}

      {:empty, _free} ->
        made = state.made + 1
        {"lunode_#{made}_#{state.id}", %{state | made: made}}
    end
  end

  defp reply_with_creation(alive, state) do
    creation = Map.get_lazy(state.creations, alive, &first_creation/0)
    next = if creation == 0xFFFFFFFF, do: 1, else: creation + 1
    {:reply, {alive, creation}, put_in(state.creations[alive], next)}
  end

  # Creations up to 3 are those of Erlang nodes before OTP 23.
  defp first_creation, do: 3 + :rand.uniform(0x3FFFFFFF)
end
