defmodule Lunode.Test.Terminal do
  @moduledoc "A real terminal, by tmux, with a server of its own for each."

  import ExUnit.Assertions
  alias Lunode.Test.OS

  defstruct [:socket]

  @doc """
  Runs a command in a terminal of 80×24, under a shell that tells its status in the end. Options:
  `:env`, a map.
  """
  def start(command, opts \\ []) do
    terminal = %__MODULE__{socket: Path.join(OS.folder([]), "tmux")}
    env = Map.merge(%{"TMUX" => nil, "LC_ALL" => "C.UTF-8"}, opts[:env] || %{})
    # Ctrl-C goes to everyone at the terminal.
    script = ~s(trap : INT; "$@"; printf 'ended with %s\\n' $?; trap '' INT; exec sleep 600)
    run = ["sh", "-c", script, "sh" | command]
    ExUnit.Callbacks.on_exit(fn -> tmux(terminal, ["kill-server"]) end)

    args = ["-u", "-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24" | run]
    {"", 0} = tmux(terminal, args, env: env)
    terminal
  end

  @doc "Types text, as it is."
  def type(terminal, text), do: {"", 0} = tmux(terminal, ["send-keys", "-l", text])

  @doc "Presses keys, by tmux's names for them: Enter, Tab, Up, C-c."
  def press(terminal, key), do: {"", 0} = tmux(terminal, ["send-keys", key])

  @doc "Types a line."
  def enter(terminal, line) do
    type(terminal, line)
    press(terminal, "Enter")
  end

  @doc "Another size."
  def resize(terminal, width, height) do
    {"", 0} = tmux(terminal, ["resize-window", "-x", "#{width}", "-y", "#{height}"])
  end

  @doc "What is on the screen, without what is blank at the ends of lines and below the last."
  def screen(terminal) do
    {screen, 0} = tmux(terminal, ["capture-pane", "-p"])
    String.trim_trailing(screen)
  end

  @doc "Waits until the screen matches, and gives it."
  def wait_for(terminal, pattern, ms \\ 15_000) do
    deadline = OS.now() + OS.limit(ms)
    poll(terminal, pattern, deadline)
  end

  @doc "The same for the end of the screen, where the cursor is."
  def wait_for_end(terminal, text) do
    wait_for(terminal, ~r/^#{Regex.escape(text)}\z/m)
  end

  defp poll(terminal, pattern, deadline) do
    screen = screen(terminal)

    cond do
      screen =~ pattern ->
        screen

      OS.now() > deadline ->
        flunk("#{inspect(pattern)} did not come to the screen, which reads:\n#{screen}")

      true ->
        Process.sleep(20)
        poll(terminal, pattern, deadline)
    end
  end

  defp tmux(terminal, args, opts \\ []) do
    System.cmd("tmux", ["-S", terminal.socket | args], [stderr_to_stdout: true] ++ opts)
  end
end
