defmodule Lunode.Test.WirePeer do
  @moduledoc """
  A node made of a bare socket: it does the handshake, and then sends whatever bytes a test likes.
  """

  import ExUnit.Assertions
  alias Lunode.Test.RawNode

  defstruct [:socket, :name]

  # What a node of OTP 25 must have, and DFLAG_DIST_MONITOR_NAME, UNLINK_ID, SPAWN, V4_NC, ALIAS.
  @flags 0x0000000D07075FBC

  @doc "Connects to the node. Options: `:name`, `:flags`."
  def connect(raw, opts \\ []) do
    name = opts[:name] || "wire_#{System.unique_integer([:positive])}@#{raw.host}"
    {:ok, address} = :inet.getaddr(to_charlist(raw.host), :inet)
    options = [:binary, packet: 2, active: false]
    {:ok, socket} = :gen_tcp.connect(address, RawNode.listening_port(raw), options)
    peer = %__MODULE__{socket: socket, name: name}
    shake_hands(peer, opts[:flags] || @flags)
    :ok = :inet.setopts(socket, packet: 4)
    peer
  end

  defp shake_hands(%{socket: socket, name: name}, flags) do
    :ok = :gen_tcp.send(socket, <<?N, flags::64, 1::32, byte_size(name)::16, name::binary>>)
    assert {:ok, "sok"} = :gen_tcp.recv(socket, 0, 5_000)
    assert {:ok, <<?N, _flags::64, challenge::32, _rest::binary>>} = recv(socket)
    digest = :erlang.md5([Atom.to_string(Node.get_cookie()), Integer.to_string(challenge)])
    :ok = :gen_tcp.send(socket, [<<?r, 0::32>>, digest])
    assert {:ok, <<?a, _digest::binary>>} = recv(socket)
  end

  defp recv(socket), do: :gen_tcp.recv(socket, 0, 5_000)

  @doc "The bytes of a pid of this peer, without version byte."
  def pid(peer, id \\ 1), do: <<88, atom(peer.name)::binary, id::32, 0::32, 1::32>>

  @doc "The bytes of a reference of this peer."
  def ref(peer, id \\ 1), do: <<90, 1::16, atom(peer.name)::binary, 1::32, id::32>>

  def atom(name), do: <<119, byte_size(name), name::binary>>

  @doc "Bytes as a frame."
  def frame(peer, bytes), do: :gen_tcp.send(peer.socket, bytes)

  @doc "Bytes without the length that precedes a frame."
  def bare(peer, bytes) do
    :ok = :inet.setopts(peer.socket, packet: :raw)
    result = :gen_tcp.send(peer.socket, bytes)
    :ok = :inet.setopts(peer.socket, packet: 4)
    result
  end

  @doc "The bytes of a message to the name `any`; `payload` comes with its version byte."
  def to_any(peer, payload) do
    <<112, 131, 104, 4, 97, 6, pid(peer)::binary, atom("")::binary, atom("any")::binary,
      payload::binary>>
  end

  @doc """
  Sends the bytes of a term to the name `any`; gives those of the answer, without the node's name.
  """
  def ask(peer, term, timeout \\ 30_000) do
    with :ok <- frame(peer, to_any(peer, <<131, term::binary>>)), do: answer(peer, timeout)
  end

  def answer(peer, timeout \\ 30_000) do
    case :gen_tcp.recv(peer.socket, 0, timeout) do
      {:ok, ""} -> answer(peer, timeout)
      {:ok, <<112, 131, rest::binary>>} -> rest |> payload() |> bytes_of_value()
      other -> other
    end
  end

  @doc "The term of these bytes."
  def value(bytes), do: :erlang.binary_to_term(<<131, bytes::binary>>)

  @doc "The bytes of the next frame."
  def next_frame(peer) do
    {:ok, frame} = :gen_tcp.recv(peer.socket, 0, 30_000)
    frame
  end

  @doc "The term of the next message."
  def sent(peer) do
    case next_frame(peer) do
      "" -> sent(peer)
      <<112, 131, rest::binary>> -> rest |> payload() |> value()
    end
  end

  # Behind {2, '', Pid} and the version byte.
  defp payload(rest) do
    {_control, used} = :erlang.binary_to_term(<<131, rest::binary>>, [:used])
    binary_part(rest, used, byte_size(rest) - used)
  end

  # {node, Value}
  defp bytes_of_value(<<104, 2, 119, size, rest::binary>>) do
    <<_node::binary-size(size), value::binary>> = rest
    value
  end
end
