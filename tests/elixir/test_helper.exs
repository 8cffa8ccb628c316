# The tests drive the real program over real sockets, so this BEAM has to be a node.
:ok = Lunode.Distribution.ensure()
Application.put_env(:lunode, :slower, Lunode.Test.OS.limit(1))

ExUnit.start(
  assert_receive_timeout: Lunode.Test.OS.limit(2_000),
  timeout: Lunode.Test.OS.limit(60_000)
)
