#!/bin/sh
# What processes cost, and what running beside others costs: prints a table. Takes a minute.
set -eu
cd "$(dirname "$0")/../.."
. tests/packages.sh
# shellcheck disable=SC2086 # the names are words
need_packages $build_packages $test_packages
cmake --preset release >/dev/null
cmake --build --preset release >/dev/null
LUNODE_PROGRAM="$PWD/build/lunode" MIX_ENV=test mix run tests/bench/processes.exs
