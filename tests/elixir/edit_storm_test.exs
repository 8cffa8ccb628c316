defmodule Lunode.EditStormTest do
  @moduledoc "A script that is edited again and again while it is called all the time."
  use ExUnit.Case

  import Lunode.Test.OS
  alias Lunode.Test.RawNode

  @edits 200
  # KiB.
  @allowance 2 * 1024

  # Its answer tells the version by a line at the top and one at the bottom.
  defp text(n) do
    """
    local top, bottom = #{n}, nil
    local storm = {}
    function storm:init() self.calls = 0 end
    function storm:add() self.calls = self.calls + 1 return self.calls, top, bottom end
    bottom = #{n}
    return storm
    """
  end

  defp broken(n) do
    case rem(n, 4) do
      0 -> String.slice(text(n), 0, 150)
      1 -> String.replace(text(n), "return storm", "error('broken')")
      2 -> String.replace(text(n), "return storm", "return nil")
      3 -> String.replace(text(n), "bottom =", "bottom = =")
    end
  end

  defp save(path, text, 0), do: File.write!(path, text)

  defp save(path, text, 1) do
    File.write!(path <> ".new", text)
    File.rename!(path <> ".new", path)
  end

  # Calls until it is told to stop; gives all answers, with the time of each, the last first.
  defp caller(server, answers) do
    receive do
      :stop -> answers
    after
      0 ->
        answer = GenServer.call(server, :add, limit(5_000))
        caller(server, [{answer, System.monotonic_time(:microsecond)} | answers])
    end
  end

  # A good save, and the next when it is live; a bad one in between.
  defp edit(path, server, n) do
    if rem(n, 3) == 0 do
      save(path, broken(n), rem(n, 2))
      Process.sleep(25)
      nil
    else
      saved = System.monotonic_time(:microsecond)
      save(path, text(n), rem(n, 2))
      eventually(fn -> match?({_, ^n, ^n}, GenServer.call(server, :add)) end)
      {n, saved}
    end
  end

  @tag timeout: limit(120_000)
  test "#{@edits} edits under four callers: no call lost, none by half a script, all live at once" do
    path = script("storm.lua", text(0))
    raw = RawNode.start_connected(handlers: path)
    server = {:storm, raw.node}
    callers = for _ <- 1..4, do: Task.async(fn -> caller(server, []) end)
    for n <- 1..20, do: edit(path, server, n)
    Process.sleep(500)
    before = memory(raw.os_pid)
    saves = Enum.reject(for(n <- 21..@edits, do: edit(path, server, n)), &is_nil/1)
    for task <- callers, do: send(task.pid, :stop)
    answers = callers |> Task.await_many() |> List.flatten()

    for {{_calls, top, bottom}, _at} <- answers, do: assert(top == bottom)
    counts = Enum.map(answers, fn {{calls, _, _}, _at} -> calls end)
    assert length(Enum.uniq(counts)) == length(counts)
    assert Enum.min(counts) > 0
    assert_state_kept(server, counts)
    assert_memory_flat(raw, before)
    report(saves, answers)
  end

  # Each call, those of `edit` too, has added 1: it ends with as many as were made.
  defp assert_state_kept(server, counts) do
    {last, _, _} = GenServer.call(server, :add)
    assert last > Enum.max(counts)
    assert last - length(counts) < 60 * @edits
  end

  defp assert_memory_flat(raw, before) do
    unless keeps_freed?(raw.os_pid) do
      eventually(fn -> memory(raw.os_pid) < before + @allowance end)
    end
  end

  defp report(saves, answers) do
    first =
      for {{_, n, _}, at} <- answers, reduce: %{} do
        first -> Map.update(first, n, at, &min(&1, at))
      end

    took = for({n, saved} <- saves, at = first[n], do: (at - saved) / 1000) |> Enum.sort()
    median = Enum.at(took, div(length(took), 2))

    IO.puts(
      "edits: #{length(answers)} calls; a save was live after #{median} ms (median), #{List.last(took)} ms at most"
    )

    assert length(took) > div(length(saves), 2)
    assert median < limit(100)
  end
end
