#!/bin/sh
# A soak: random operations on the Lua processes of one node and the processes of two BEAMs (spawn,
# link, monitor, exit, kill, trap_exit, call, register, and the connection to one BEAM lost and made
# again), compared with a model of what OTP would answer: no DOWN or EXIT lost, doubled or with a
# wrong reason, and no memory kept.
#
#     tests/soak.sh [--seed N] [--seconds N | --rounds N] [--against lunode|beam]
#
# The default is 60 s against lunode, with a random seed, which is printed; the same seed does the
# same operations. The variable LUNODE_PROGRAM names another build of the program. `--against beam`
# puts a third BEAM in lunode's place: that tests the model itself. Status 1 when anything was wrong,
# after the operations that led to it.
set -eu
cd "$(dirname "$0")/.."
export MIX_ENV=test
exec mix run tests/soak/soak.exs "$@"
