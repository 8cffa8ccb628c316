defmodule Lunode.Test.OtherBeam do
  @moduledoc "A second BEAM, reached by its standard input and output whatever its own name is."

  alias Lunode.Test.OS

  @doc """
  Options: `:host` (one with a dot makes its name a long one), `:cookie`, `:env`, `:args` (of erl),
  `:code` (true: with the modules of this BEAM).
  """
  def start(opts \\ []) do
    cookie = opts[:cookie] || Atom.to_string(Node.get_cookie())

    options = %{
      name: :"other_#{System.unique_integer([:positive])}_#{System.pid()}",
      connection: :standard_io,
      args: ['-setcookie', String.to_charlist(cookie), '-hidden'] ++ args(opts),
      env: for({name, value} <- opts[:env] || [], do: {to_charlist(name), to_charlist(value)})
    }

    options =
      case opts[:host] do
        nil -> options
        host -> Map.merge(options, %{host: to_charlist(host), longnames: host =~ "."})
      end

    {:ok, peer, name} = :peer.start_link(options)
    {peer, name}
  end

  defp args(opts) do
    code = if opts[:code], do: ['-pa' | :code.get_path()], else: []
    code ++ Enum.map(opts[:args] || [], &String.to_charlist/1)
  end

  @doc "When it is true both sides know of the connection: the other node has answered."
  def connect({peer, _name}, node) do
    :peer.call(peer, :net_kernel, :connect_node, [node]) &&
      :peer.call(peer, :net_adm, :ping, [node]) == :pong
  end

  def disconnect({peer, _name}, node), do: :peer.call(peer, :erlang, :disconnect_node, [node])

  @doc "Runs a function there, and gives what it returns, whatever is connected to what."
  def apply({peer, _name}, module, fun, args), do: :peer.call(peer, module, fun, args, 10_000)

  @doc "A process there that lives until it is killed."
  def idle(beam), do: __MODULE__.apply(beam, :erlang, :spawn, [:timer, :sleep, [:infinity]])

  @doc "So many of them on this BEAM: to be applied there."
  def idle_here(n), do: for(_ <- 1..n, do: :erlang.spawn(:timer, :sleep, [:infinity]))

  @doc "Ends it at once, as a machine that loses power does."
  def halt({peer, _name}), do: :peer.cast(peer, :erlang, :halt, [0, [flush: false]])

  def call({peer, _name}, server, request) do
    :peer.call(peer, :gen_server, :call, [server, request, OS.limit(5_000)], OS.limit(10_000))
  end

  def stop({peer, _name}), do: :peer.stop(peer)
end
