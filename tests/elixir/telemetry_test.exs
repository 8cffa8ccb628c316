defmodule Lunode.TelemetryTest do
  use ExUnit.Case

  import Lunode.Test.OS

  # What the package calls of the library `telemetry`: it tells the process that is registered as
  # this module.
  @stand_in (quote do
               def execute(event, measurements, metadata) do
                 send(Lunode.TelemetryTest, {:telemetry, event, measurements, metadata})
                 :ok
               end
             end)

  defp load_telemetry do
    refute Code.ensure_loaded?(:telemetry)
    Process.register(self(), __MODULE__)
    Module.create(:telemetry, @stand_in, Macro.Env.location(__ENV__))

    on_exit(fn ->
      :code.purge(:telemetry)
      :code.delete(:telemetry)
    end)
  end

  defp start, do: start_supervised!({Lunode, handlers: script("echo.lua", echo())})

  test "where telemetry is there, a node's events are emitted" do
    load_telemetry()
    cnode = start()
    node = Lunode.node(cnode)
    eventually(fn -> match?({:ok, _version}, Lunode.reload(cnode, :echo)) end)
    assert_receive {:telemetry, [:lunode, :reloaded], %{system_time: time}, metadata}
    assert is_integer(time)
    assert %{node: ^node, handler: :echo, cnode: ^cnode, version: 2, old: 1} = metadata
  end

  test "the figures of a limit are measurements" do
    load_telemetry()
    cnode = start()
    details = %{kind: :mailbox, max: 10, used: 11}
    send(cnode, {:lunode, Lunode.node(cnode), :limit, :echo, details})
    assert_receive {:telemetry, [:lunode, :limit], %{max: 10, used: 11}, %{kind: :mailbox}}
  end

  test "without telemetry nothing is asked for, and nothing needed" do
    refute Lunode.Telemetry.available?()
    cnode = start()
    assert Lunode.call(cnode, :any, 1) == 1
    # Not even when somebody has subscribed the server.
    send(cnode, {:lunode, Lunode.node(cnode), :reloaded, :echo, %{version: 2, old: 1}})
    send(cnode, {:lunode, Lunode.node(cnode), :reloaded, :echo, :nonsense})
    assert :sys.get_state(cnode).node == Lunode.node(cnode)
  end
end
