#!/bin/sh
# From a fresh clone to Lua that is called from Elixir: installs what is missing (Debian 12 or
# later, as root or with sudo), builds, and shows a node at work.
set -eu
cd "$(dirname "$0")/.."
. tests/packages.sh

echo "== What is needed"
# shellcheck disable=SC2086 # the names are words
need_packages $build_packages
echo "Everything is installed."

echo
echo "== Building the program (C, by CMake) and the Elixir package"
mix compile
echo "Built: $(ls _build/dev/lib/lunode/priv/lunode)"

echo
echo "== Lua, called from Elixir"
mix run examples/quickstart/quickstart.exs

cat <<'END'
== Where to go next

  README.md                                    what it is, handlers, terms, errors
  examples/quickstart/handlers/counter.lua     the Lua that ran here: change it and run this again
  iex -S mix                                   try it by hand:
      {:ok, lua} = Lunode.start_link(handlers: "examples/quickstart/handlers")
      Lunode.call(lua, :counter, {:add, 5})
  tests/run.sh                                 all tests
END
