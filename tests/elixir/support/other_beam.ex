defmodule Lunode.Test.OtherBeam do
  @moduledoc "A second BEAM, reached by its standard input and output whatever its own name is."

  alias Lunode.Test.OS

  @doc """
  Options: `:host` (one with a dot makes its name a long one), `:cookie`, `:env`.
  """
  def start(opts \\ []) do
    cookie = opts[:cookie] || Atom.to_string(Node.get_cookie())

    options = %{
      name: :"other_#{System.unique_integer([:positive])}_#{System.pid()}",
      connection: :standard_io,
      args: ['-setcookie', String.to_charlist(cookie), '-hidden'],
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

  def connect({peer, _name}, node), do: :peer.call(peer, :net_kernel, :connect_node, [node])

  def disconnect({peer, _name}, node), do: :peer.call(peer, :erlang, :disconnect_node, [node])

  def call({peer, _name}, server, request) do
    :peer.call(peer, :gen_server, :call, [server, request, OS.limit(5_000)], OS.limit(10_000))
  end

  def stop({peer, _name}), do: :peer.stop(peer)
end
