defmodule Lunode.ErrorTextTest do
  @moduledoc "What `Lunode.Error` makes of an error as the node tells it."
  use ExUnit.Case, async: true

  alias Lunode.Error
  alias Lunode.Test.StandIn

  @text """
  counter.lua:12: attempt to index a nil value (field 'x')
      12 | return self.x.y
  stack traceback:
  \tcounter.lua:12: in method 'add'
  while handling {:add, 5}
  counter, version 3\
  """

  test "the message is the whole text" do
    error = Error.new(:counter, StandIn.error())
    assert_raise Error, @text, fn -> raise error end
    assert error.at == ~U[2023-11-14 22:13:20.123Z]
  end

  test "what isn't known is left out" do
    details = StandIn.error(source: nil, line: nil, traceback: "", handling: nil, version: nil)
    assert :counter |> Error.new(details) |> Exception.message() == details.message
  end
end
