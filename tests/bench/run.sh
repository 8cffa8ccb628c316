#!/bin/sh
# lunode beside a plain C node, a C node that reads and writes in batches, and a second BEAM, all in
# turns in one run; what a node and its processes cost, and instructions: prints tables, and draws a
# plot. Takes ten minutes; for a quiet machine.
#
#     tests/bench/run.sh
set -eu
cd "$(dirname "$0")/../.."
. tests/packages.sh
# shellcheck disable=SC2086 # the names are words
need_packages $build_packages $test_packages gnuplot-nox
cmake --preset release -DLUNODE_TESTS=ON >/dev/null
cmake --build --preset release --target lunode --target bench_nodes >/dev/null
export LUNODE_PROGRAM="$PWD/build/lunode" MIX_ENV=test
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT

taskset -c 0 mix run tests/bench/echo.exs one "$data/one"
if [ "$(nproc)" -gt 1 ]; then
    taskset -c 0 mix run tests/bench/echo.exs two "$data/two"
fi
taskset -c 0 mix run tests/bench/node.exs
mix run tests/bench/processes.exs
tests/instructions.sh
gnuplot -e "data='$data/one'; out='build/echo'" tests/bench/plot.gp
echo "The plot: build/echo.png, build/echo.svg; the README shows tests/bench/echo.svg"
