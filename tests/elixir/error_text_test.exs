defmodule Lunode.ErrorTextTest do
  @moduledoc "What `Lunode.Error` and `Lunode.LimitError` make of an error as the node tells it."
  use ExUnit.Case, async: true

  alias Lunode.{Error, LimitError}
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

  describe "a reason becomes an exception:" do
    defp from_exit(fun) do
      fun.()
    catch
      :exit, reason -> Error.from_reason(:calc, reason)
    end

    test "of a call that exits" do
      server = spawn(fn -> receive do: (_call -> exit({:limit, :time, 50, 51})) end)
      assert from_exit(fn -> GenServer.call(server, :x) end) == limit(:calc, :time, 50, 51)
      assert from_exit(fn -> GenServer.call(server, :x) end).message =~ "no process"
    end

    test "a Lua error, with its text and its traceback" do
      reason = {:lua_error, "calc.lua:1: oops", "stack traceback:\n..."}
      assert %Error{handler: :calc} = error = Error.from_reason(:calc, {:error, reason})
      assert Exception.message(error) == "calc.lua:1: oops\nstack traceback:\n..."
      value = Error.from_reason(nil, {:lua_error, %{"code" => 7}, ""})
      assert Exception.message(value) == ~s(%{"code" => 7})
    end

    test "what kept a script from being loaded" do
      for kind <- [:untrusted, :bad_option, :bad_name] do
        assert Exception.message(Error.from_reason(:calc, {:error, {kind, "the text"}})) ==
                 "the text"
      end

      reason = {:error, {:limit, :memory, 1_024, 2_000}}
      assert Error.from_reason(:calc, reason) == limit(:calc, :memory, 1_024, 2_000)
    end

    test "the end of a worker" do
      reason = {{:worker_exit, "it was killed by signal 9"}, {GenServer, :call, []}}

      assert Exception.message(Error.from_reason(:calc, reason)) ==
               "the worker that ran it has ended: it was killed by signal 9"
    end

    test "any other reason" do
      assert Exception.message(Error.from_reason(:calc, :killed)) == "killed"
      assert Exception.message(Error.from_reason(:calc, {:undef, :add, 1})) =~ "undef"
    end
  end

  describe "a limit in plain words:" do
    defp limit(handler, kind, max, used) do
      LimitError.new(handler, %{kind: kind, max: max, used: used})
    end

    for {kind, max, used, text} <- [
          {:memory, 33_554_432, 33_558_001, "used more than 32 MiB of memory"},
          {:memory, 1_000_000, 1_000_001, "used more than 1000000 bytes of memory"},
          {:time, 50, 52, "ran for more than 50 ms for one message"},
          {:time, 1_000, 1_001, "ran for more than 1 s for one message"},
          {:deadline, 1_500, 1_501, "ran for more than 1500 ms without a place to interrupt it"},
          {:mailbox, 1_000, 1_000, "has a full mailbox: 1000 messages may wait"},
          {:mailbox, 1, 1, "has a full mailbox: 1 message may wait"},
          {:message, 1_048_576, 2_097_153,
           "takes messages of 1 MiB at the most, not of 2097153 bytes"},
          {:atoms, 100, 101, "made more than 100 new atoms"}
        ] do
      test text do
        error = limit(:tenant_7, unquote(kind), unquote(max), unquote(used))
        assert_raise LimitError, "the handler tenant_7 " <> unquote(text), fn -> raise error end
      end
    end

    test "of a handler that isn't known" do
      assert Exception.message(limit(nil, :atoms, 1, 2)) == "a handler made more than 1 new atom"
    end
  end
end
