# The tests drive the real program over real sockets, so this BEAM has to be a node.
:ok = Lunode.Distribution.ensure()
Application.put_env(:lunode, :slower, Lunode.Test.OS.limit(1))

# Lua's own test files are not part of this project: LUNODE_LUA_TESTS names a folder that has them.
ExUnit.start(
  exclude: if(System.get_env("LUNODE_LUA_TESTS"), do: [], else: [:luas_own_tests]),
  assert_receive_timeout: Lunode.Test.OS.limit(2_000),
  timeout: Lunode.Test.OS.limit(60_000)
)
