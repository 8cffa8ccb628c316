#!/bin/sh
# Instructions that a computing handler takes, beside the plain program lua5.4 with the same Lua:
# counted by callgrind, so that a noisy machine doesn't matter. Status 1 if one takes over 5 % more.
# Takes two minutes.
set -eu
cd "$(dirname "$0")/../.."
. tests/packages.sh
# shellcheck disable=SC2086 # the names are words
need_packages $build_packages lua5.4 valgrind
cmake --preset release >/dev/null
cmake --build --preset release >/dev/null
epmd -daemon
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export BUNDLEX_ERLANG_COOKIE=none
failed=0

count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$@" </dev/null 2>&1 |
        sed -nE 's/.*Collected : ([0-9]+).*/\1/p'
}

# cost SIZE: the instructions of `work(SIZE)`, start and end included, as "PLAIN HANDLER".
cost() {
    printf '%s\nwork(%s)\n' "$work" "$1" >"$folder/plain.lua"
    printf '%s\nreturn { init = function() work(%s) os.exit(0) end }\n' "$work" "$1" \
        >"$folder/handler.lua"
    echo "$(count lua5.4 "$folder/plain.lua")" \
        "$(count build/lunode start --name "instructions_$$" "$folder/handler.lua")"
}

# compare NAME SMALL LARGE: what the large work takes more than the small one.
compare() {
    { cost "$2" && cost "$3"; } | awk -v name="$1" '
        NR == 1 { plain = $1; handler = $2 }
        NR == 2 {
            ratio = ($2 - handler) / ($1 - plain)
            printf "%-8s handler / lua5.4: %.4f\n", name, ratio
            exit ratio > 1.05
        }' || failed=1
}

work='local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
local function work(n) return fib(n) end'
compare fib 5 24
work='local function work(n)
  local x = 0.5
  for i = 1, n do x = x * 1.0000001 + i / 3.0 - x * 0.5 end
  return x
end'
compare floats 10 1000000
work='local function work(n)
  local t = {}
  for i = 1, n do t[#t + 1] = ("item %d"):format(i) .. "-" .. i end
  return #table.concat(t, ",")
end'
compare strings 10 30000
exit $failed
