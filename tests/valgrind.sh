#!/bin/sh
# The tests of handlers, errors and the package with every node under valgrind (Debian: valgrind).
# Slow. Ends with the number of complaints, and with status 1 if there was any.
set -eu
cd "$(dirname "$0")/.."
cmake --preset release && cmake --build --preset release
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
cat >"$logs/lunode" <<END
#!/bin/sh
exec valgrind -q --leak-check=full --errors-for-leak-kinds=definite \\
    --log-file="$logs/%p.log" "$PWD/build/lunode" "\$@"
END
chmod +x "$logs/lunode"
LUNODE_PROGRAM="$logs/lunode" mix test tests/elixir/handlers_test.exs \
    tests/elixir/send_errors_test.exs tests/elixir/cnode_test.exs
cat "$logs"/*.log
complaints=$(cat "$logs"/*.log | wc -l)
echo "valgrind: $(find "$logs" -name '*.log' | wc -l) nodes, $complaints lines of complaint"
[ "$complaints" = 0 ]
