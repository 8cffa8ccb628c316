# A second BEAM that does what the handlers do: echo by a plain process, and by a GenServer.
defmodule Echo do
  use GenServer
  def init(state), do: {:ok, state}
  def handle_call({_function, term}, _from, state), do: {:reply, term, state}

  def loop do
    receive do
      {:"$gen_call", {pid, ref}, {_function, term}} -> send(pid, {ref, term})
    end

    loop()
  end
end

Process.register(spawn(&Echo.loop/0), :echo)
{:ok, _} = GenServer.start_link(Echo, nil, name: :server)
IO.puts("ready")
Process.sleep(:infinity)
