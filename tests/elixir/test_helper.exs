# The tests drive the real program over real sockets, so this BEAM has to be a node.
:ok = Lunode.Distribution.ensure()
Application.put_env(:lunode, :slower, Lunode.Test.OS.limit(1))

# Lua's own test files are not part of this project: LUNODE_LUA_TESTS names a folder that has them.
# The attacks wait for the program to take untrusted scripts: LUNODE_ATTACKS=1 runs them already.
optional = [LUNODE_LUA_TESTS: :luas_own_tests, LUNODE_ATTACKS: :attacks]

ExUnit.start(
  exclude: for({variable, tag} <- optional, !System.get_env("#{variable}"), do: tag),
  assert_receive_timeout: Lunode.Test.OS.limit(2_000),
  timeout: Lunode.Test.OS.limit(60_000)
)
