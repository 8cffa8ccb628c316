defmodule Lunode.TermsZooTest do
  use ExUnit.Case, async: true

  import Lunode.Test.Terms, only: [carries: 2]
  alias Lunode.Test.Terms

  defmodule Point do
    defstruct [:x, y: 0]
  end

  setup_all do
    %{lua: Terms.start()}
  end

  defp around(n), do: Enum.flat_map([n, -n], &[&1 - 1, &1, &1 + 1])

  describe "integers" do
    carries("of one byte", each: 0..255)
    carries("around zero", each: -300..300)

    carries("around powers of two up to 2^130", each: Enum.flat_map(pow2s(0..130), &around/1))

    carries("of 32 bits at their limits", each: around(2_147_483_648) ++ around(4_294_967_296))
    carries("±2^63 and their neighbours", each: around(9_223_372_036_854_775_808))
    carries("±2^64 and their neighbours", each: around(18_446_744_073_709_551_616))
    carries("±2^1000", each: around(Integer.pow(2, 1000)))
    carries("of 255 and 256 bytes", each: Enum.flat_map(pow2s(2032..2056), &around/1))
    carries("of a million bits", each: around(Integer.pow(2, 1_000_000)))
    carries("of four million bits", each: around(Integer.pow(2, 4_194_239) - 2))
    carries("as large as this BEAM makes them", do: largest())
    carries("factorials", each: Enum.scan(1..200, &*/2))
  end

  # OTP 25 goes up to 4 MiB, later ones up to half a MiB.
  defp largest do
    :binary.decode_unsigned(:binary.copy(<<0xA7>>, 4_194_000))
  rescue
    SystemLimitError -> :binary.decode_unsigned(:binary.copy(<<0xA7>>, 524_000))
  end

  defp pow2s(range), do: Enum.map(range, &Integer.pow(2, &1))

  describe "floats" do
    carries("zero", do: 0.0)
    carries("negative zero", do: -0.0)
    carries("5.0e-324, the smallest", each: [5.0e-324, -5.0e-324])
    carries("the smallest normal one", each: [2.2250738585072014e-308, 2.225073858507201e-308])
    carries("the largest", each: [1.7976931348623157e308, -1.7976931348623157e308])
    carries("integral ones", each: [1.0, -1.0, 2.0, 1.0e15, 9_007_199_254_740_993.0, 1.0e22])
    carries("as large as integers", each: [9.223372036854775807e18, -9.223372036854775808e18])
    carries("fractions", each: [0.1, 1 / 3, -2.5, :math.pi()])
  end

  describe "atoms" do
    carries("nil, true and false", each: [nil, true, false])
    carries("plain", each: [:ok, :error, String, :"with space", :"", :"nil ", :True])
    carries("of Latin-1 letters", do: :blåbærsyltetøy)
    carries("of UTF-8", each: [:日本語, :"🙂", :é̂, :"\u{10FFFF}"])
    carries("of any byte below 128", do: :"\0\x01\n\x7F")
    carries("of 255 characters", do: String.to_atom(String.duplicate("a", 255)))
    carries("of 255 characters of 2 bytes", do: String.to_atom(String.duplicate("é", 255)))
    carries("of 255 characters of 4 bytes", do: String.to_atom(String.duplicate("🙂", 255)))
  end

  describe "binaries" do
    carries("empty", do: "")
    carries("of every byte", do: for(byte <- 0..255, into: "", do: <<byte>>))
    carries("that are not UTF-8", each: [<<255>>, <<0xED, 0xA0, 0x80>>, <<0xC0, 0x80>>])
    carries("that look like terms", do: :erlang.term_to_binary({:a, 1}))
    carries("of 65535 and 65536 bytes", each: [:rand.bytes(65_535), :rand.bytes(65_536)])
    carries("of 20 MiB", do: :binary.copy(:rand.bytes(1024), 20 * 1024))
    carries("that are parts of others", do: binary_part(:binary.copy("abc", 1000), 100, 300))
  end

  describe "bitstrings" do
    carries("of 1 to 64 bits", each: for(n <- 1..64, do: <<0xF0F0F0F0F0F0F0F0::size(n)>>))
    carries("of zeros", each: for(n <- 1..17, do: <<0::size(n)>>))
    carries("of ones", each: for(n <- 1..17, do: <<-1::size(n)>>))
    carries("of a million and three bits", do: <<:rand.bytes(125_000)::binary, 5::3>>)
    carries("inside containers", do: %{<<1::1>> => [<<2::3>>, {<<3::7>>}]})
  end

  describe "lists" do
    carries("empty", do: [])
    carries("of the empty list", each: [[[]], [[], [[]], []]])
    carries("mixed", do: [1, 2.0, :three, "four", [5], {6}, %{7 => 8}])
    carries("of bytes", each: ['', 'a', 'hello', [0, 255]])
    carries("of integers that are no bytes", each: [[256], [255, 256], [-1, 0]])
    carries("of 65534, 65535 and 65536 bytes", each: for(n <- 65_534..65_536, do: bytes(n)))
    carries("charlists of 70,000", do: bytes(70_000))
    carries("byte lists of 70,000 that begin otherwise", do: [:start | bytes(70_000)])
    carries("of 70,000 large integers", do: Enum.to_list(1_000_000..1_070_000))
    carries("of 100,000 integers", do: Enum.to_list(1..100_000))
    carries("charlists of UTF-8", do: String.to_charlist("日本語 🙂"))
    carries("keyword lists", do: [a: 1, b: nil, a: 2])
    carries("iodata", do: [[?a | "b"], "c", [[[?d]]]])
  end

  defp bytes(count), do: for(i <- 1..count, do: rem(i, 256))

  describe "improper lists" do
    carries("of one element", do: [1 | 2])
    carries("with tails of every type", each: for(tail <- leaves(), do: [1, :two | tail]))
    carries("of 70,000", do: List.foldr(Enum.to_list(1..70_000), :end, &[&1 | &2]))
    carries("in improper lists", do: [[1 | 2], [3 | 4] | {[5 | 6]}])
    carries("of bytes", do: [?a, ?b | ?c])
  end

  describe "tuples" do
    carries("of 0, 1, 255, 256 and 70,000 elements", each: for(n <- sizes(), do: tuple(n)))
    carries("of the empty tuple", do: {{}})
    carries("in each other", do: {1, {2, {3, {}}}})
    carries("of nothing but nil", each: for(n <- sizes(), do: Tuple.duplicate(nil, n)))
    carries("that end in nil", do: {1, nil})
  end

  defp sizes, do: [0, 1, 2, 8, 9, 255, 256, 70_000]
  defp tuple(size), do: List.to_tuple(Enum.to_list(1..size//1))

  describe "maps" do
    carries("empty", do: %{})
    carries("with keys of every type", do: Map.new(Enum.with_index(leaves() ++ containers())))
    carries("with 1 and 1.0", do: %{1 => :integer, 1.0 => :float})
    carries("with 1.0 alone", do: %{1.0 => :float})
    carries("with many integral floats", do: Map.new(-50..50, &{&1 * 1.0, &1}))
    carries("with integers and their floats", do: Map.new(1..50, &{&1, &1 * 1.0}) |> both())
    carries("with -0.0 as a key", do: %{-0.0 => 1})
    carries("with 1.0 and nil values", do: %{1 => nil, 1.0 => nil, 2.0 => 1, nil => nil})
    carries("with the same name as string and atom", do: %{"name" => 1, name: 2})
    carries("with keys 1..n", do: Map.new(1..40, &{&1, &1 * &1}))
    carries("with nil as the key", do: %{nil => 1})
    carries("with false and true as keys", do: %{false => true, true => false})
    carries("with big integers as keys", do: Map.new(60..70, &{Integer.pow(2, &1), &1}))
    carries("of 32, 33 and 70,000 entries", each: for(n <- [32, 33, 70_000], do: map(n)))
    carries("with maps as keys", do: %{%{%{} => 1} => 2, %{1 => 2} => %{3 => 4}})
    carries("with lists that look alike as keys", do: %{[1] => 1, [1.0] => 2, {1} => 3})
  end

  defp both(map), do: Map.merge(map, Map.new(map, fn {k, v} -> {v, k} end))
  defp map(size), do: Map.new(1..size, &{"key #{&1}", &1})

  describe "structs" do
    carries("of the program", each: [%Point{}, %Point{x: 1.5, y: nil}])
    carries("of Elixir", each: [1..10//3, ~D[2024-02-29], MapSet.new([1, nil, 1.0]), ~r/a+/u])
    carries("of a module that is not there", do: %{__struct__: :no_such_module, a: 1})
    carries("with nil in every field", do: %URI{})
  end

  describe "nil" do
    carries("by itself", do: nil)
    carries("in a tuple", each: [{nil}, {nil, nil}, {1, nil, 3}, {nil, 2}, {1, 2, nil}])
    carries("in a list", each: [[nil], [nil, nil], [1, nil, 3], [nil, 2], [1, 2, nil]])
    carries("in an improper list", each: [[nil | 1], [1 | nil], [nil | nil], [1, nil | nil]])
    carries("as a map's value", each: [%{a: nil}, %{"a" => nil, "b" => 1}, %{1 => nil}])
    carries("as a map's key", each: [%{nil => 1}, %{nil => nil}, %{nil => nil, 1 => nil}])
    carries("in a struct", do: %Point{x: nil, y: nil})

    carries("in all of them at once", do: [%{{nil, [nil | nil]} => [nil, {nil}], nil => nil}, nil])

    carries("70,000 times in a list", do: List.duplicate(nil, 70_000))
  end

  describe "pids, ports and references" do
    carries("pids", each: [self(), Process.whereis(:init), spawn(fn -> :ok end)])
    carries("ports", each: Port.list())
    carries("references", each: [make_ref(), :erlang.alias(), Process.monitor(self())])
    carries("of other nodes", each: foreign())
    carries("many times in a term", do: List.duplicate({self(), make_ref(), hd(Port.list())}, 50))
    carries("as keys", do: %{self() => 1, make_ref() => 2, hd(Port.list()) => 3})

    test "the node's own", %{lua: lua} do
      pid = :rpc.call(node(), :erlang, :list_to_pid, ['<0.1.0>'])
      Terms.assert_carried(lua, {pid, Lunode.node(lua)})
    end
  end

  # As other nodes make them: 64-bit ports, ids that use all bits, long names, references of 1 to 5 words.
  defp foreign do
    node = <<119, 14, "someone@a.host">>

    [
      <<88, node::binary, 0xFFFFFFFF::32, 0xFFFFFFFF::32, 0xFFFFFFFF::32>>,
      <<88, node::binary, 1::32, 0::32, 4::32>>,
      <<89, node::binary, 0x0FFFFFFF::32, 7::32>>,
      <<120, node::binary, 0xFFFFFFFFFFFF::64, 7::32>>
      | for(n <- 1..5, do: <<90, n::16, node::binary, 3::32, 1::size(n)-unit(32)>>)
    ]
    |> Enum.map(&:erlang.binary_to_term(<<131, &1::binary>>))
  end

  describe "funs" do
    carries("&Mod.fun/n",
      each: [&String.upcase/1, &:lists.map/2, Function.capture(No.Such, :fun, 255)]
    )

    carries("local ones", each: [fn -> 1 end, fn a, b -> {a, b} end, &bytes/1])

    test "closures over every kind of term", %{lua: lua} do
      kept = {nil, [1 | 2], %{1.0 => self()}, <<1::3>>, Integer.pow(2, 99)}
      Terms.assert_carried(lua, fn x -> {x, kept} end)
      assert Lunode.call(lua, :terms, {:echo, fn x -> {x, kept} end}).(1) === {1, kept}
    end

    test "closures over closures", %{lua: lua} do
      inner = fn x -> x + 1 end
      Terms.assert_carried(lua, fn x -> inner.(x) end)
    end

    carries("as keys and in containers", do: %{&is_nil/1 => [fn -> 1 end]})
  end

  describe "100,000 deep" do
    carries("lists", do: nest(&[&1]))
    carries("lists with neighbours", do: nest(&[1, &1, nil]))
    carries("improper lists", do: nest(&[1 | {&1}]))
    carries("tuples", do: nest(&{&1}))
    carries("maps, in the value", do: nest(&%{a: &1}))
    carries("a mix", do: nest(&{[%{"k" => &1}, nil], 1}))
  end

  # Comparing two such maps is what takes the BEAM long, not the way.
  test "maps 1,000 deep in their keys", %{lua: lua} do
    Terms.assert_carried(lua, Enum.reduce(1..1_000, :end, fn _, term -> %{term => 1} end))
  end

  defp nest(wrap), do: Enum.reduce(1..100_000, :end, fn _, term -> wrap.(term) end)

  # One of each type that has no parts.
  defp leaves do
    [1, -1, 300, Integer.pow(2, 70), -Integer.pow(2, 64), 1.5, -2.0, :atom, nil, true, false] ++
      ["", "binary", <<5::3>>, self(), hd(Port.list()), make_ref(), &String.upcase/1, fn -> 1 end]
  end

  defp containers do
    [[], [1], 'bytes', [nil], [1 | 2], {}, {1}, {nil}, %{}, %{a: nil}, %Point{}, {[%{1.0 => {}}]}]
  end
end
