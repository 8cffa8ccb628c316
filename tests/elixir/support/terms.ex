defmodule Lunode.Test.Terms do
  @moduledoc "Sends terms through the handler `terms`, and compares what comes back."

  import ExUnit.Assertions
  alias Lunode.Test.OS

  @handler Path.expand("../handlers/terms.lua", __DIR__)
  @timeout OS.limit(120_000)

  @doc "Starts a node with the handler, for the module or test that calls; gives its server."
  def start do
    ExUnit.Callbacks.start_supervised!({Lunode, handlers: @handler})
  end

  @doc """
  Defines a test for one term, `do: term`, or for each of several, `each: terms`. The context must
  have the server as `lua`.
  """
  defmacro carries(name, do: term) do
    quote do
      test unquote(name), %{lua: lua} do
        unquote(__MODULE__).assert_carried(lua, unquote(term))
      end
    end
  end

  defmacro carries(name, each: terms) do
    quote do
      test unquote(name), %{lua: lua} do
        for term <- unquote(terms), do: unquote(__MODULE__).assert_carried(lua, term)
      end
    end
  end

  @doc "Asserts that the term comes back the same, once read and once made anew."
  def assert_carried(lua, term) do
    assert_same(Lunode.call(lua, :terms, {:echo, term}, @timeout), term)
    assert_same(Lunode.call(lua, :terms, {:rebuild, term}, @timeout), term)
  end

  @doc "Asserts that two terms are the same. Shows large ones in part."
  def assert_same(got, sent) do
    unless same?(got, sent) do
      flunk("came back otherwise.\nsent: #{shorten(sent)}\ngot:  #{shorten(got)}")
    end
  end

  @doc "`===` takes -0.0 for 0.0, the bytes don't."
  def same?(a, b), do: a === b and bytes(a) == bytes(b)

  defp bytes(term), do: :erlang.term_to_binary(term, [:deterministic])

  def shorten(term), do: inspect(term, limit: 50, printable_limit: 500)

  @doc """
  Sends all requests before it waits for the first reply; gives the replies in order.
  """
  def call_all(lua, handler, requests) do
    server = {handler, Lunode.node(lua)}

    requests
    |> Enum.map(&:gen_server.send_request(server, &1))
    |> Enum.map(&:gen_server.wait_response(&1, @timeout))
  end
end
