defmodule Lunode.BigintTest do
  use ExUnit.Case, async: true

  import Bitwise
  alias Lunode.Test.{RandomTerm, Terms}

  @handler Path.expand("handlers/numbers.lua", __DIR__)
  @rounds 2_000
  @two_63 Integer.pow(2, 63)
  @two_64 Integer.pow(2, 64)
  @max_bits 65_535 * 64

  setup_all do
    %{lua: start_supervised!({Lunode, handlers: @handler}), seed: RandomTerm.seed("bigints")}
  end

  setup %{seed: seed} do
    :rand.seed(:exsss, seed)
    :ok
  end

  describe "on random operands Lua agrees with Elixir in" do
    test("+", context, do: agree(context, "+", &pair/0, &+/2))
    test("-", context, do: agree(context, "-", &pair/0, &-/2))
    test("*", context, do: agree(context, "*", &pair/0, &*/2))
    test("//", context, do: agree(context, "//", &divisible/0, &Integer.floor_div/2))
    test("%", context, do: agree(context, "%", &divisible/0, &Integer.mod/2))
    test("^", context, do: agree(context, "^", &power/0, &Integer.pow/2))
    test("&", context, do: agree(context, "&", &pair/0, &band/2))
    test("|", context, do: agree(context, "|", &pair/0, &bor/2))
    test("~", context, do: agree(context, "~", &pair/0, &bxor/2))
    test("<<", context, do: agree(context, "<<", &shift/0, &bsl/2))
    test(">>", context, do: agree(context, ">>", &shift/0, &bsr/2))
    test("==", context, do: agree(context, "==", &like/0, &==/2))
    test("<", context, do: agree(context, "<", &like/0, &</2))
    test("<=", context, do: agree(context, "<=", &like/0, &<=/2))
    test("unary -", context, do: agree(context, "negate", &single/0, &-/1))
    test("unary ~", context, do: agree(context, "complement", &single/0, &bnot/1))
    test("tostring", context, do: agree(context, "tostring", &single/0, &to_string/1))
    test("..", context, do: agree(context, "concat", &pair/0, &"#{&1}#{&2}"))
    test("bigint(decimal)", context, do: agree(context, "bigint", &decimal/0, &parse/1))
    test("bigint(hexadecimal)", context, do: agree(context, "bigint", &hexadecimal/0, &parse/1))
    test("bigint(float)", context, do: agree(context, "bigint", &integral_float/0, &exact/1))
  end

  # Lua's result and its type for Lua, against those of `elixir`; operands come as [a, b] or [a].
  defp agree(%{lua: lua, seed: seed}, operator, operands, elixir) do
    cases = for _ <- 1..@rounds, do: operands.()
    requests = for operands <- cases, do: List.to_tuple([:compute, operator | operands])

    for {operands, reply} <- Enum.zip(cases, Terms.call_all(lua, :numbers, requests)) do
      result = apply(elixir, operands)

      unless reply === {:reply, {result, type_of(result)}} do
        flunk("""
        SEED=#{seed}: #{operator} #{inspect(operands)}
        Elixir: #{inspect(result)}
        Lua:    #{inspect(reply)}
        """)
      end
    end
  end

  defp type_of(n) when n in -@two_63..(@two_63 - 1)//1, do: "integer"
  defp type_of(n) when is_integer(n), do: "bigint"
  defp type_of(b) when is_boolean(b), do: "boolean"
  defp type_of(b) when is_binary(b), do: "binary"

  # {==== Operands ============================================================================

  # Two integers of which one at least is a bigint: two of Lua's own would wrap around.
  defp pair do
    any = Enum.random([RandomTerm.integer(62), RandomTerm.integer(2000)])
    Enum.random([[big(), any], [any, big()], [big(), big()]])
  end

  # Often equal, or close to each other.
  defp like do
    a = big()
    Enum.random([pair(), [a, a], [a, a + 1], [a, a - 1], [a, -a]])
  end

  defp divisible do
    with [_a, 0] <- pair(), do: divisible()
  end

  defp power, do: [big(), :rand.uniform(12) - 1]
  defp shift, do: [big(), Enum.random(-2100..2100)]
  defp single, do: [big()]
  defp decimal, do: [Integer.to_string(RandomTerm.integer(3000))]
  defp integral_float, do: [RandomTerm.integer(1023) * 1.0]

  # OTP 25's trunc gives -2^59 in a form that is not `===` to itself: sent and received it is right.
  defp exact(float), do: float |> trunc() |> :erlang.term_to_binary() |> :erlang.binary_to_term()

  defp hexadecimal do
    n = RandomTerm.integer(3000)
    ["#{if n < 0, do: "-"}0x#{Integer.to_string(abs(n), 16)}"]
  end

  defp parse("-0x" <> digits), do: -String.to_integer(digits, 16)
  defp parse("0x" <> digits), do: String.to_integer(digits, 16)
  defp parse(digits), do: String.to_integer(digits)

  defp big do
    n = RandomTerm.integer(2000)
    if type_of(n) == "bigint", do: n, else: n + Enum.random([@two_64, -@two_64])
  end

  # }====

  # {==== Single cases ========================================================================

  defp compute(lua, operator, a, b \\ nil) do
    Lunode.call(lua, :numbers, {:compute, operator, a, b}, 60_000)
  end

  defp failure(lua, operator, a, b \\ nil) do
    Lunode.call(lua, :numbers, {:failure, operator, a, b}, 60_000)
  end

  test "results that fit 64 bits are Lua integers, others are not", %{lua: lua} do
    assert compute(lua, "-", @two_63, 1) === {@two_63 - 1, "integer"}
    assert compute(lua, "negate", @two_63) === {-@two_63, "integer"}
    assert compute(lua, "-", -@two_63 - 1, -1) === {-@two_63, "integer"}
    assert compute(lua, "+", @two_63, 0) === {@two_63, "bigint"}
    assert compute(lua, "-", @two_64, @two_64) === {0, "integer"}
    assert compute(lua, "//", @two_64, @two_64 - 1) === {1, "integer"}
  end

  test "/ gives the nearest float", %{lua: lua} do
    assert compute(lua, "/", @two_64, 2) === {9_223_372_036_854_775_808.0, "float"}
    assert compute(lua, "/", 1, @two_64) === {1 / @two_64, "float"}

    for _ <- 1..200 do
      # 53 bits are exact, whatever zeros follow.
      n = :rand.uniform(Integer.pow(2, 53)) <<< (11 + :rand.uniform(800))
      assert compute(lua, "/", n, 1) === {n * 1.0, "float"}
    end
  end

  test "beside a float it is a float", %{lua: lua} do
    assert compute(lua, "+", @two_64, 0.5) === {@two_64 + 0.5, "float"}
    assert compute(lua, "*", 0.5, @two_64) === {@two_64 * 0.5, "float"}
    assert compute(lua, "^", @two_64, -1) === {1 / @two_64, "float"}
    assert compute(lua, "^", @two_64, 0.5) === {4_294_967_296.0, "float"}
  end

  test "comparison with floats is exact", %{lua: lua} do
    float = @two_64 * 1.0

    for {operator, elixir} <- [{"<", &</2}, {"<=", &<=/2}], n <- (@two_64 - 1)..(@two_64 + 1) do
      assert compute(lua, operator, n, float) === {elixir.(n, float), "boolean"}
      assert compute(lua, operator, float, n) === {elixir.(float, n), "boolean"}
    end
  end

  test "division by zero is an error", %{lua: lua} do
    assert failure(lua, "//", @two_64, 0) =~ "attempt to perform 'n//0'"
    assert failure(lua, "%", @two_64, 0) =~ "attempt to perform 'n%%0'"
  end

  test "what has no meaning is an error that names both sides", %{lua: lua} do
    for {operand, name} <- [
          {"1", "string"},
          {nil, "nil"},
          {true, "boolean"},
          {:atom, "atom"},
          {[1], "list"},
          {{1}, "tuple"},
          {%{}, "map"},
          {self(), "pid"}
        ] do
      arithmetic = "attempt to perform arithmetic on a bigint and a #{name} value"
      for op <- ~w(+ - * / // % ^), do: assert(failure(lua, op, @two_64, operand) =~ arithmetic)
      bitwise = "attempt to perform a bitwise operation on a #{name} and a bigint value"
      for op <- ~w(& | ~ << >>), do: assert(failure(lua, op, operand, @two_64) =~ bitwise)
      compare = "attempt to compare bigint with #{name}"
      for op <- ~w(< <=), do: assert(failure(lua, op, @two_64, operand) =~ compare)
    end
  end

  test "no bits of a fraction", %{lua: lua} do
    assert failure(lua, "&", @two_64, 0.5) =~ "number has no integer representation"
    assert failure(lua, "bigint", 1.5) =~ "number has no integer representation"
    assert failure(lua, "bigint", "12 apples") =~ "not an integer in decimal or 0x notation"
  end

  test "a result beyond 4,194,240 bits is an error before it is computed", %{lua: lua} do
    too_large = "bigint result too large: "
    largest = (1 <<< @max_bits) - 1
    assert compute(lua, "-", largest, 1) === {largest - 1, "bigint"}
    assert failure(lua, "+", largest, 1) =~ too_large <> "4194241 bits, at most 4194240"
    assert failure(lua, "*", largest, largest) =~ too_large <> "8388480 bits"
    assert failure(lua, "<<", @two_64, @two_63 - 1) =~ too_large
    assert failure(lua, "<<", 1, @two_64) =~ too_large
    assert failure(lua, "^", @two_64, @two_63 - 1) =~ too_large
    assert failure(lua, "bigint", String.duplicate("9", 2_000_000)) =~ too_large
  end

  test "a large one as text", %{lua: lua} do
    n = Integer.pow(7, 100_000)
    assert compute(lua, "tostring", n) === {Integer.to_string(n), "binary"}
  end

  # }====
end
