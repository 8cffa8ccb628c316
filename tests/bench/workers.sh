#!/bin/sh
# What workers cost: the hop to one, as a ratio to a trusted handler's round trip with everything on
# one core, and what 1,000 handlers that nobody trusts take in one node. For a quiet machine.
#
#     tests/bench/workers.sh
set -eu
cd "$(dirname "$0")/../.."
. tests/packages.sh
# shellcheck disable=SC2086 # the names are words
need_packages $build_packages $test_packages
cmake --preset release >/dev/null
cmake --build --preset release >/dev/null
export LUNODE_PROGRAM="$PWD/build/lunode" MIX_ENV=test
taskset -c 0 mix run tests/bench/hop.exs
mix run tests/bench/tenants.exs
