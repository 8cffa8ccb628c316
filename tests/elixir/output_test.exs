defmodule Lunode.OutputTest do
  use ExUnit.Case

  import ExUnit.CaptureLog
  alias Lunode.Output

  defp lines(pieces) do
    Enum.reduce(pieces, {[], Output.new(:a@b, :debug)}, fn piece, {lines, output} ->
      {more, output} = Output.add(output, piece)
      {lines ++ more, output}
    end)
  end

  test "pieces become lines, wherever they are cut" do
    assert {["ready", "[info] a: b"], %{begun: "ha"}} = lines(["ready\n[info] a: b\nha"])
    assert {["ready", "", "half"], %{begun: ""}} = lines(["rea", "dy", "\n\nha", "lf", "\n"])
  end

  test "an event whose last line was dropped takes in no line of another" do
    log =
      logged(["[info] a| one", "[info] a| two", "[error] b: boom", "[info] a| x", "[info] a: y"])

    assert log =~ ~r/\[info\] a: one\n +two\n/
    assert log =~ ~r/\[error\] b: boom\n/
    assert log =~ ~r/\[info\] a: x\n +y\n/
  end

  test "a character that was cut through is no error" do
    assert logged([<<"[info] a: x", 0xC3>>]) =~ "a: x\uFFFD\n"
  end

  defp logged(lines) do
    output = Output.new(:node@host, :debug)
    capture_log(fn -> Enum.reduce(lines, output, &Output.log(&2, &1)) end)
  end

  test "a line beyond a mebibyte is cut, and the next one is whole" do
    kib = String.duplicate("x", 1024)
    assert {[long, "next"], _} = lines(List.duplicate(kib, 2_000) ++ ["\nnext\n"])
    assert byte_size(long) in 1_048_576..1_050_000
  end

  test "when too much waits, what is dropped ends at a whole line" do
    for _ <- 1..100, do: send(self(), :waiting)
    {[], output} = Output.add_or_drop(Output.new(:a@b, :debug), "one\ntwo: ")
    for _ <- 1..100, do: assert_received(:waiting)
    # The rest of `two` must not pass for a line of its own.
    assert {["three"], %{dropped: 9}} =
             %{output | dropped: 9} |> Output.add_or_drop("[error] b: c\nthree\n")
  end
end
