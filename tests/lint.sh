#!/bin/sh
# Format and linters: installs what is missing (Debian), and runs clang-format and clang-tidy over
# the C, luacheck over the Lua, shellcheck over the scripts, and mix format over the Elixir. Ends
# with the line `lint: clean`, or with the names of those that complained and status 1.
set -eu
cd "$(dirname "$0")/.."
. tests/packages.sh

# shellcheck disable=SC2086 # the names are words
need_packages $build_packages $test_packages clang-format clang-tidy lua-check shellcheck
# For build/dev/compile_commands.json.
cmake --preset dev >/dev/null

complained=
# lint NAME COMMAND...
lint() {
    printf '== %s\n' "$1"
    "$@" || complained="$complained $1"
}

clang_format() {
    find src tests -name '*.[ch]' -print0 | xargs -0 clang-format --dry-run -Werror
}

# A process for each file: clang-tidy 14 sees uninitialized arguments that aren't there in the
# second file that it reads. Says something only of a file with complaints.
clang_tidy() {
    # shellcheck disable=SC2016 # the inner shell's
    find src tests -name '*.c' -print0 | xargs -0 -n 1 -P "$(nproc)" sh -c '
        said=$(clang-tidy -p build/dev --quiet "$1" 2>&1) || { printf "%s\n" "$said"; exit 1; }
    ' sh
}

lua_check() {
    luacheck --quiet .
}

shell_check() {
    find .ci examples tests \( -name '*.sh' -o -path .ci/run \) -exec shellcheck {} +
}

mix_format() {
    mix format --check-formatted
}

lint clang_format
lint clang_tidy
lint lua_check
lint shell_check
lint mix_format

if [ -n "$complained" ]; then
    echo "lint: complaints by$complained"
    exit 1
fi
echo "lint: clean"
