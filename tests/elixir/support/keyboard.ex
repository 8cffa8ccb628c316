defmodule Lunode.Test.Keyboard do
  @moduledoc """
  A group leader for what talks to a terminal: a test types, and looks at what is written. Input that
  has not been typed yet is waited for.
  """

  import ExUnit.Assertions
  alias Lunode.Test.OS

  @doc "Runs `fun` in a process that has it as its group leader; gives both."
  def start(fun, opts \\ []) do
    opts = Keyword.put_new(opts, :expand_fun, false)
    keyboard = spawn_link(fn -> loop(%{typed: "", written: "", waiting: nil, opts: opts}) end)

    task =
      Task.async(fn ->
        Process.group_leader(self(), keyboard)
        fun.()
      end)

    %{pid: keyboard, task: task}
  end

  @doc "Types."
  def type(keyboard, text), do: send(keyboard.pid, {:type, text})

  @doc "Ends the input."
  def hang_up(keyboard), do: send(keyboard.pid, :hang_up)

  @doc "Interrupts who waits for input, as Ctrl-G and `i` do in IEx."
  def interrupt(keyboard), do: send(keyboard.pid, :interrupt)

  @doc "The options that it has been given, by `:io.setopts/2` too."
  def opts(keyboard), do: ask(keyboard, :opts)

  @doc "What has been written."
  def written(keyboard), do: ask(keyboard, :written)

  @doc "Waits until something that matches has been written since `written`; gives the whole."
  def await(keyboard, pattern, written \\ "") do
    OS.eventually(fn ->
      text = written(keyboard)
      new = binary_part(text, byte_size(written), byte_size(text) - byte_size(written))
      if new =~ pattern, do: text
    end)
  rescue
    ExUnit.AssertionError -> flunk("not written: #{inspect(pattern)}\n#{written(keyboard)}")
  end

  @doc "Waits until `fun` has returned; gives what."
  def await_end(keyboard), do: Task.await(keyboard.task, OS.limit(5_000))

  defp ask(keyboard, what) do
    ref = make_ref()
    send(keyboard.pid, {:ask, self(), ref, what})
    assert_receive {^ref, value}, OS.limit(2_000)
    value
  end

  defp loop(state) do
    receive do
      {:type, text} -> %{state | typed: state.typed <> text} |> serve() |> loop()
      :hang_up -> %{state | typed: state.typed <> <<4>>} |> serve() |> loop()
      :interrupt -> state |> answer({:error, :interrupted}, "") |> loop()
      {:ask, pid, ref, what} -> send(pid, {ref, state[what]}) && loop(state)
      {:io_request, pid, ref, request} -> request |> io({pid, ref}, state) |> loop()
    end
  end

  defp io({:put_chars, _encoding, text}, from, state) do
    reply(from, :ok)
    %{state | written: state.written <> IO.chardata_to_string(text)}
  end

  defp io({:get_line, _encoding, prompt}, from, state) do
    state = %{state | written: state.written <> IO.chardata_to_string(prompt)}
    serve(%{state | waiting: {from, :line}})
  end

  defp io({:get_chars, _encoding, _prompt, 1}, from, state) do
    serve(%{state | waiting: {from, :char}})
  end

  defp io({:setopts, opts}, from, state) do
    reply(from, :ok)
    %{state | opts: Keyword.merge(state.opts, opts)}
  end

  defp io(:getopts, from, state) do
    reply(from, state.opts)
    state
  end

  defp io(_other, from, state) do
    reply(from, {:error, :request})
    state
  end

  # Ctrl-D is the end.
  defp serve(%{waiting: nil} = state), do: state
  defp serve(%{typed: <<4, rest::binary>>} = state), do: answer(state, :eof, rest)

  defp serve(%{waiting: {_from, :line}} = state) do
    case String.split(state.typed, "\n", parts: 2) do
      [line, rest] -> answer(state, line <> "\n", rest)
      [_unfinished] -> state
    end
  end

  defp serve(%{typed: <<key::utf8, rest::binary>>} = state),
    do: answer(state, <<key::utf8>>, rest)

  defp serve(state), do: state

  defp answer(state, value, rest) do
    {from, _what} = state.waiting
    reply(from, value)
    %{state | waiting: nil, typed: rest}
  end

  defp reply({pid, ref}, value), do: send(pid, {:io_reply, ref, value})
end
