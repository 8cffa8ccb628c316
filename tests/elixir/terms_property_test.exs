defmodule Lunode.TermsPropertyTest do
  use ExUnit.Case, async: true

  alias Lunode.Test.{OS, RandomTerm, Terms}

  @terms 10_000
  @batch 100

  @tag timeout: OS.limit(600_000)
  test "10,000 random terms come back the same, read and made anew" do
    lua = Terms.start()
    seed = RandomTerm.seed("random terms")

    for batch <- 1..div(@terms, @batch) do
      terms = for _ <- 1..@batch, do: RandomTerm.term(:rand.uniform(60))

      for how <- [:echo, :rebuild] do
        replies = Terms.call_all(lua, :terms, Enum.map(terms, &{how, &1}))
        check(how, terms, replies, "SEED=#{seed}, batch #{batch}")
      end
    end
  end

  defp check(how, terms, replies, where) do
    for {term, reply} <- Enum.zip(terms, replies) do
      unless match?({:reply, _}, reply) and Terms.same?(elem(reply, 1), term) do
        flunk("""
        #{how} (#{where})
        sent: #{inspect(term, limit: :infinity)}
        got:  #{inspect(reply, limit: :infinity)}
        """)
      end
    end
  end
end
