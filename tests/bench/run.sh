#!/bin/sh
# lunode beside a plain C node, a C node that reads and writes in batches, and a second BEAM, all in
# turns in one run: prints tables of ratios, and draws a plot. Takes a quarter of an hour; for a
# quiet machine.
#
#     tests/bench/run.sh [FOLDER]     the plot's folder; without one, that of this script
set -eu
folder=$(cd "${1:-$(dirname "$0")}" && pwd)
cd "$(dirname "$0")/../.."
. tests/packages.sh
# shellcheck disable=SC2086 # the names are words
need_packages $build_packages $test_packages gnuplot-nox
cmake --preset release >/dev/null
cmake --build --preset release --target lunode --target bench_nodes >/dev/null
export LUNODE_PROGRAM="$PWD/build/lunode" MIX_ENV=test
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT

taskset -c 0 mix run tests/bench/echo.exs one "$data/one"
if [ "$(nproc)" -gt 1 ]; then
    taskset -c 0 mix run tests/bench/echo.exs two "$data/two"
fi
taskset -c 0 mix run tests/bench/node.exs
tests/bench/instructions.sh
gnuplot -e "data='$data/one'; out='$folder/echo'" tests/bench/plot.gp
echo "The plot: $folder/echo.png, $folder/echo.svg"
