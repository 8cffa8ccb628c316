#!/bin/sh
# All tests: installs what is missing (Debian), builds, and runs the C tests, the Lua tests, and
# the Elixir tests, these two against the release build and against the one with sanitizers, and a
# short soak; and counts instructions. The attacks by scripts run against the first alone, since
# they go by time and memory, those by native code against the second; what mostly waits, or builds
# for itself (`once`), is not done again with sanitizers. Ends with what failed, once more, and the
# line `N passed, N failed`, and with status 1 if any failed.
set -eu
cd "$(dirname "$0")/.."
. tests/packages.sh

passed=0
failed=0
log=$(mktemp)
failures=$(mktemp)
trap 'rm -f "$log" "$failures"' EXIT

# suite TITLE COUNT COMMAND...: runs the command; COUNT reads its output and sets `ok` and `bad`.
# A suite that ends badly and names no failure has crashed: that is one.
suite() {
    title=$1
    count=$2
    shift 2
    printf '\n== %s\n' "$title"
    status_file=$(mktemp)
    { "$@" 2>&1 && echo 0 >"$status_file" || echo $? >"$status_file"; } | tee "$log"
    status=$(cat "$status_file")
    rm -f "$status_file"
    ok=0
    bad=0
    "$count"
    if [ "$status" != 0 ] && [ "$bad" = 0 ]; then
        bad=1
    fi
    if [ "$ok" = 0 ] && [ "$bad" = 0 ]; then
        echo "No test ran."
        bad=1
    fi
    echo "$title: $ok passed, $bad failed"
    if [ "$bad" != 0 ]; then
        {
            printf '\n== Failed: %s\n' "$title"
            grep -A 30 -E '^ +[0-9]+\) test |\[  ERROR   \]|\*\*\*Failed|^(Failure|Error) |^failed ' "$log" || tail -n 30 "$log"
        } >>"$failures"
    fi
    passed=$((passed + ok))
    failed=$((failed + bad))
}

# The sum of the first number in each line of the log that matches.
sum() {
    sed -nE "s/$1/\\1/p" "$log" | awk '{ n += $1 } END { print n + 0 }'
}

# cmocka's own sums; a test program that crashed has none, and ctest counts it alone.
count_cmocka() {
    ok=$(sum '.*\[  PASSED  \] ([0-9]+) test.*')
    bad=$(sum '.*\[  FAILED  \] ([0-9]+) test.*')
    programs=$(sum '.* ([0-9]+) tests? failed out of.*')
    listed=$(grep -cE '\[  FAILED  \] [0-9]+ test' "$log" || true)
    if [ "$programs" -gt "$listed" ]; then
        bad=$((bad + programs - listed))
    fi
}

count_busted() {
    ok=$(sum '^([0-9]+) success.*')
    bad=$(($(sum '.* ([0-9]+) failures? .*') + $(sum '.* ([0-9]+) errors? .*')))
}

count_exunit() {
    all=$(sum '^([0-9]+) tests?, .*')
    bad=$(sum '^[0-9]+ tests?, ([0-9]+) failures?.*')
    left_out=$(($(sum '^[0-9]+ tests?, .* ([0-9]+) excluded.*') + \
        $(sum '^[0-9]+ tests?, .* ([0-9]+) skipped.*')))
    ok=$((all - bad - left_out))
}

count_instructions() {
    ok=$(grep -c '^passed' "$log" || true)
    bad=$(grep -c '^failed' "$log" || true)
}

count_soak() {
    ok=$(grep -c 'all as OTP would answer' "$log" || true)
}

# The build with sanitizers has the C tests and the program lunode_native, whose workers the Elixir
# tests take over.
build() {
    printf '\n== Build: %s\n' "$1"
    cmake --preset "$1" && cmake --build --preset "$1" --parallel "$(nproc)"
}

# lua_tests BUILD [VARIABLE=VALUE...]: the Lua module stands in the build's folder.
lua_tests() {
    build=$1
    shift
    env "$@" LUA_PATH="lua/?.lua;;" LUA_CPATH="$build/lua/?.so;;" busted --lua=lua5.4 tests/lua
}

# A plain Lua must load the sanitizer's library before the module.
lua_tests_sanitized() {
    lua_tests build/dev LD_PRELOAD="$(gcc -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0
}

elixir_tests() {
    program=$1
    shift
    LUNODE_PROGRAM="$PWD/$program" mix test "$@"
}

# Long ones are run by hand: tests/soak.sh.
short_soak() {
    LUNODE_PROGRAM="$PWD/$1" tests/soak.sh --rounds "$2"
}

# shellcheck disable=SC2086 # the names are words
if need_packages $build_packages $test_packages && build release && build dev; then
    suite "C tests" count_cmocka ctest --test-dir build/dev --verbose --timeout 300
    suite "Lua tests" count_busted lua_tests build
    suite "Lua tests, with sanitizers" count_busted lua_tests_sanitized
    suite "Elixir tests" count_exunit elixir_tests build/lunode --exclude native_workers
    suite "Elixir tests, with sanitizers" count_exunit elixir_tests build/dev/lunode \
        --exclude attacks --exclude once
    suite "Instructions" count_instructions tests/instructions.sh build/lunode
    suite "Soak" count_soak short_soak build/lunode 5
    suite "Soak, with sanitizers" count_soak short_soak build/dev/lunode 2
else
    echo "The build failed: no test ran." >&2
    failed=1
fi

cat "$failures"
printf '\n%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
