defmodule Lunode.Test.RandomTerm do
  @moduledoc """
  Random terms of every type, from the generator of `:rand` that the process has seeded.
  """

  @doc """
  Seeds from the variable SEED, else anew, and prints the seed, so that a failed run can be repeated.
  """
  def seed(what) do
    seed = String.to_integer(System.get_env("SEED") || "#{:rand.uniform(1_000_000_000)}")
    IO.puts("#{what}: SEED=#{seed}")
    :rand.seed(:exsss, seed)
    seed
  end

  @doc "A term of up to about `size` parts."
  def term(size) when size <= 1, do: leaf()

  def term(size) do
    case uniform(10) do
      n when n <= 3 -> leaf()
      n when n <= 5 -> list(size)
      6 -> improper(size)
      n when n <= 8 -> size |> list() |> List.to_tuple()
      9 -> size |> list() |> Map.new(&{term(2), &1})
      10 -> structure(size)
    end
  end

  @doc "An integer of any size up to `bits` bits; small sizes, and powers of two, are as likely."
  def integer(bits) do
    power = Integer.pow(2, uniform(bits + 1) - 1)

    magnitude =
      case uniform(4) do
        1 -> power
        2 -> power - 1
        _ -> uniform(power)
      end

    Enum.random([magnitude, -magnitude])
  end

  defp leaf, do: leaf(uniform(14))

  defp leaf(1), do: integer(32)
  defp leaf(2), do: integer(64)
  defp leaf(3), do: integer(700)
  defp leaf(4), do: float()
  defp leaf(5), do: Enum.random([0.0, -0.0, 1.0, 2.0, -7.0, 9_007_199_254_740_992.0])
  defp leaf(6), do: Enum.random([nil, true, false, :undefined, :"", :nil_, :"Elixir", String])
  defp leaf(7), do: atom()
  defp leaf(8), do: binary(uniform(60) - 1)
  defp leaf(9), do: text(uniform(20) - 1)
  defp leaf(10), do: bits(uniform(60))
  defp leaf(11), do: for(_ <- 1..uniform(40), do: uniform(256) - 1)
  defp leaf(12), do: identifier()
  defp leaf(13), do: function()
  defp leaf(14), do: Enum.random([[], {}, %{}, "", 0])

  defp list(size) do
    count = uniform(size) - 1
    for _ <- 1..count//1, do: term(div(size, count + 1))
  end

  defp improper(size), do: List.foldr([term(2) | list(size)], tail(), &[&1 | &2])

  # A list as the tail would make the whole a proper list.
  defp tail do
    case leaf() do
      list when is_list(list) -> {list}
      other -> other
    end
  end

  defp structure(size) do
    case uniform(3) do
      1 -> %URI{host: term(size), port: term(2)}
      2 -> Date.add(~D[2000-01-01], uniform(20_000))
      3 -> size |> list() |> Map.new(&{atom(), &1}) |> Map.put(:__struct__, No.Such.Module)
    end
  end

  # Any float but the 1/1024 of all bit patterns that are infinities or NaN.
  defp float do
    case binary(8) do
      <<float::float>> -> float
      _none -> float()
    end
  end

  # Few enough that no table of atoms fills in many runs.
  defp atom do
    Enum.random([:ok, :"with space", :näme, :日本, :"🙂", :A, :"a\nb", :"\0", :nil?])
    |> then(&:"#{&1}#{uniform(30)}")
  end

  defp binary(size), do: :rand.bytes(size)

  defp text(size), do: List.to_string(for _ <- 1..size//1, do: Enum.random(?a..?z))

  defp bits(count) do
    <<bits::bitstring-size(count), _rest::bitstring>> = binary(8)
    bits
  end

  defp identifier do
    Enum.random([self(), make_ref(), hd(Port.list()), :erlang.alias(), Process.whereis(:init)])
  end

  defp function do
    kept = integer(100)
    Enum.random([&String.upcase/1, &:lists.map/2, fn x -> {x, kept} end, fn -> :ok end])
  end

  defp uniform(n), do: :rand.uniform(n)
end
