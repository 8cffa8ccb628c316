#!/bin/sh
# All tests with the program and the Lua module under valgrind: installs what is missing (Debian),
# builds, and runs the C tests, the Lua tests and the Elixir tests. Slow: some twenty minutes. Ends
# with the number of valgrind's complaints, and with status 1 if there was any or a test failed.
#
# Left out are the tests that the cookie is gone from /proc/PID/environ: there stands the
# environment that valgrind itself was started with; and those of a closed standard output or error,
# whose place valgrind's log takes; and those of workers, because valgrind does not know the calls of
# seccomp and landlock, so that nothing can be confined. A node that a test kills is not searched for
# leaks.
#
# With names of Elixir test files: these alone.
set -eu
cd "$(dirname "$0")/.."
. tests/packages.sh

# shellcheck disable=SC2086 # the names are words
need_packages $build_packages $test_packages valgrind
cmake --preset valgrind
cmake --build --preset valgrind --parallel "$(nproc)"
build=$PWD/build/valgrind
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# The C library keeps what it has read of /etc/resolv.conf where valgrind does not see it.
cat >"$logs/suppressed" <<END
{
   resolver
   Memcheck:Leak
   ...
   fun:__resolv_conf_load
   ...
}
END
# Runs a program under valgrind; one log a process.
cat >"$logs/check" <<END
#!/bin/sh
exec valgrind -q --fair-sched=yes --leak-check=full --show-leak-kinds=definite \\
    --errors-for-leak-kinds=definite --suppressions="$logs/suppressed" --num-callers=30 --log-file="$logs/%p.log" "\$@"
END
# What the Elixir tests take for the program.
cat >"$logs/lunode" <<END
#!/bin/sh
exec "$logs/check" "$build/lunode" "\$@"
END
chmod +x "$logs/check" "$logs/lunode"

# Starting and ending take some ten times as long, and are what most time limits are about.
export LUNODE_TEST_SLOWER=10
failed=0
# suite TITLE COMMAND...
suite() {
    title=$1
    shift
    printf '\n== %s, under valgrind\n' "$title"
    "$@" || failed=$((failed + 1))
}

c_tests() {
    status=0
    for test in "$build"/tests/*_test; do
        [ "$(basename "$test")" = jail_confine_test ] || "$logs/check" "$test" || status=1
    done
    return $status
}

lua_tests() {
    LUA_CPATH="$build/lua/?.so;;" "$logs/check" lua5.4 "$(command -v busted)" tests/lua
}

elixir_tests() {
    LUNODE_PROGRAM="$logs/lunode" mix test --exclude not_under_valgrind \
        --exclude attacks --exclude native_workers "$@"
}

if [ $# = 0 ]; then
    suite "C tests" c_tests
    suite "Lua tests" lua_tests
fi
suite "Elixir tests" elixir_tests "$@"

# Only the first line of a complaint stands right behind the process id.
cat "$logs"/*.log | grep -vE '^--[0-9]+-- ' || true
complaints=$(cat "$logs"/*.log | grep -E '^==[0-9]+== [^ ]' | grep -cvE '^==[0-9]+== Thread ' || true)
processes=$(find "$logs" -name '*.log' | wc -l)
printf '\nvalgrind: %s complaints in %s processes; %s suites failed\n' \
    "$complaints" "$processes" "$failed"
[ "$complaints" = 0 ] && [ "$failed" = 0 ]
