# Whatever the check of payloads lets pass, a BEAM decodes: random terms, written in every way the
# format has, and what becomes of them when bytes change. And the other way round for terms as they
# should be: what the check refuses, the BEAM refuses.
#
# elixir jail_payload_beam_test.exs PROGRAM [SEED]
defmodule Terms do
  @float_zeros if System.otp_release() < "27",
                 do: [<<70, 0.0::float>>, <<70, -0.0::float>>],
                 else: [<<70, 0.0::float>>]
  @tags [70, 77, 80, 82, 88, 89, 90, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109] ++
          [110, 111, 112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 131]

  def any(depth) do
    if depth <= 0 or :rand.uniform(3) == 1, do: leaf(), else: container(depth - 1)
  end

  # Few values, so that keys are often equal.
  defp leaf do
    case :rand.uniform(12) do
      1 -> integer(Enum.random(-2..2))
      2 -> integer(Enum.random([255, 256, -1, 0x7FFFFFFF, -0x80000000, 0x80000000]))
      3 -> integer(Enum.random([1, -1]) * Integer.pow(2, Enum.random([62, 64, 72, 2040])))
      4 -> Enum.random(@float_zeros ++ [<<70, 1.0::float>>, <<70, 1.5e300::float>>])
      5 -> atom(Enum.random(["a", "b", "", "é", "nil"]))
      6 -> binary(Enum.random([<<>>, "a", "ab", <<5::3>>, <<1::1>>, <<0::9>>]))
      7 -> <<106>>
      8 -> list(for(_ <- 1..Enum.random(1..3), do: Enum.random(0..2)) |> Enum.map(&{:byte, &1}))
      9 -> identifier()
      10 -> [113, atom("m"), atom("f"), 97, Enum.random(0..1)]
      11 -> <<116, 0::32>>
      12 -> <<104, 0>>
    end
  end

  defp container(depth) do
    case :rand.uniform(6) do
      1 -> list(for _ <- 1..Enum.random(1..4), do: {:term, any(depth)})
      2 -> [108, <<1::32>>, any(depth), any(depth)]
      3 -> tuple(for _ <- 1..Enum.random(1..3), do: any(depth))
      4 -> map(for _ <- 1..Enum.random(1..4), do: {any(depth - 1), any(depth)})
      5 -> map(for n <- 1..Enum.random(30..60), do: {key(n, depth), leaf()})
      6 -> fun(for _ <- 1..Enum.random(1..2), do: any(depth))
    end
  end

  defp key(1, depth), do: any(depth - 1)
  defp key(n, _depth), do: integer(n + Enum.random([0, 0, 0, 0, 0, 0, 0, 0, 0, 1000]))

  def integer(n) do
    sign = if n < 0, do: 1, else: 0
    bytes = abs(n) |> :binary.encode_unsigned(:little)
    zeros = :binary.copy(<<0>>, Enum.random([0, 0, 0, 1, 3]))
    len = byte_size(bytes) + byte_size(zeros)

    ways =
      if(n in 0..255, do: [<<97, n>>], else: []) ++
        if(n in -0x80000000..0x7FFFFFFF, do: [<<98, n::32>>], else: []) ++
        if(len < 256, do: [[110, len, sign, bytes, zeros]], else: []) ++
        [[111, <<len::32>>, sign, bytes, zeros]]

    if :rand.uniform(2) == 1, do: hd(ways), else: Enum.random(ways)
  end

  def atom(name) do
    if :rand.uniform(4) == 1,
      do: [118, <<byte_size(name)::16>>, name],
      else: [119, byte_size(name), name]
  end

  def binary(bits) when is_binary(bits) do
    if bits != "" and :rand.uniform(3) == 1,
      do: [77, <<byte_size(bits)::32>>, 8, bits],
      else: [109, <<byte_size(bits)::32>>, bits]
  end

  def binary(bits) do
    last = rem(bit_size(bits), 8)
    padding = <<Enum.random(0..(2 ** (8 - last) - 1))::size(8 - last)>>
    [77, <<div(bit_size(bits), 8) + 1::32>>, last, <<bits::bitstring, padding::bitstring>>]
  end

  # Elements, and where it begins anew in its tail.
  def list(elements) do
    {now, later} = Enum.split(elements, Enum.random(1..length(elements)))
    tail = if later == [], do: 106, else: list(later)
    bytes = for {:byte, byte} <- now, do: byte

    if bytes != [] and tail == 106 and length(bytes) == length(now) and :rand.uniform(2) == 1 do
      [107, <<length(bytes)::16>>, bytes]
    else
      elements = Enum.map(now, &with({:byte, byte} <- &1, do: {:x, integer(byte)}))
      [108, <<length(now)::32>>, for({_, term} <- elements, do: term), tail]
    end
  end

  def tuple(elements) do
    if :rand.uniform(3) == 1,
      do: [105, <<length(elements)::32>>, elements],
      else: [104, length(elements), elements]
  end

  def map(pairs), do: [116, <<length(pairs)::32>>, for({key, value} <- pairs, do: [key, value])]

  defp node_name, do: atom(Enum.random(["a@b", "nonode@nohost", "lunode@nowhere"]))

  def identifier do
    creation = <<Enum.random(1..2)::32>>

    case :rand.uniform(4) do
      1 -> [88, node_name(), <<1::32, Enum.random(0..1)::32>>, creation]
      2 -> [89, node_name(), <<Enum.random(1..2)::32>>, creation]
      3 -> [120, node_name(), <<Enum.random(1..2)::64>>, creation]
      4 -> reference(Enum.random(1..3), creation)
    end
  end

  defp reference(words, creation),
    do: [
      90,
      <<words::16>>,
      node_name(),
      creation,
      <<7::32>>,
      List.duplicate(<<0::32>>, words - 1)
    ]

  # Differs from others in its variables alone: what else tells funs apart depends on the version.
  defp fun(variables) do
    pid = [88, node_name(), <<1::32, 1::32, 1::32>>]
    head = [1, <<5::128>>, <<1::32>>, <<length(variables)::32>>, atom("m"), 97, 1, 97, 9]
    rest = [head, pid, variables]
    [112, <<IO.iodata_length(rest) + 4::32>>, rest]
  end

  # With a changed, lost or repeated piece.
  def mutate(bytes, 0), do: bytes

  def mutate(bytes, times) do
    at = Enum.random(0..(byte_size(bytes) - 1))
    <<head::binary-size(at), byte, rest::binary>> = bytes

    new =
      case :rand.uniform(6) do
        1 -> [head, Enum.random(0..255), rest]
        2 -> [head, Enum.random(@tags), rest]
        3 -> [head, rest, 106]
        4 -> [head, Enum.random(0..5), byte, rest]
        5 -> [head, rem(byte + Enum.random([1, 255]), 256), rest]
        6 -> [head, IO.iodata_to_binary(any(1)), rest]
      end

    mutate(IO.iodata_to_binary(new), times - 1)
  end
end

[program | rest] = System.argv()
seed = if rest == [], do: :rand.uniform(1_000_000), else: String.to_integer(hd(rest))
IO.puts("seed #{seed}")
:rand.seed(:exsss, seed)
port = Port.open({:spawn_executable, program}, [:binary, :exit_status, packet: 4])

passes? = fn bytes ->
  Port.command(port, bytes)

  receive do
    {^port, {:data, <<answer>>}} -> answer == 1
    {^port, {:exit_status, status}} -> raise "the check ended with status #{status}"
  after
    60_000 -> raise "no answer"
  end
end

decodes? = fn bytes ->
  try do
    {_, used} = :erlang.binary_to_term(<<131, bytes::binary>>, [:used])
    used == byte_size(bytes) + 1
  rescue
    ArgumentError -> false
  end
end

fail = fn what, bytes ->
  IO.puts("#{what}:\n#{inspect(bytes, limit: :infinity, binaries: :as_binaries)}")
  System.halt(1)
end

counts =
  for round <- 1..30_000, reduce: %{} do
    counts ->
      bytes = IO.iodata_to_binary(Terms.any(4))
      changes = rem(round, 3)
      bytes = Terms.mutate(bytes, changes)

      case {passes?.(bytes), decodes?.(bytes)} do
        {true, false} -> fail.("The check lets pass what the BEAM can't decode", bytes)
        {false, true} when changes == 0 -> fail.("The check refuses what the BEAM decodes", bytes)
        both -> Map.update(counts, {changes > 0, both}, 1, &(&1 + 1))
      end
  end

for {{changed, {passed, decoded}}, count} <- counts do
  IO.puts("changed #{changed}, passes #{passed}, decodes #{decoded}: #{count}")
end

enough = fn key -> Map.get(counts, key, 0) >= 300 end

unless enough.({false, {true, true}}) and enough.({false, {false, false}}) and
         enough.({true, {true, true}}) and enough.({true, {false, false}}) do
  IO.puts("Too few of one kind: the test shows nothing")
  System.halt(1)
end
