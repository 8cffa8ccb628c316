# The tests drive the real program over real sockets, so this BEAM has to be a node.
:ok = Lunode.Distribution.ensure()

ExUnit.start(
  assert_receive_timeout: Lunode.Test.OS.limit(2_000),
  timeout: Lunode.Test.OS.limit(60_000)
)
