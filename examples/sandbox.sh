#!/bin/sh
# Scripts that nobody trusts, from a fresh clone: installs what is missing (Debian 12 or later, as
# root or with sudo), builds, and lets tenants' scripts do what they can.
set -eu
cd "$(dirname "$0")/.."
. tests/packages.sh

# shellcheck disable=SC2086 # the names are words
need_packages $build_packages
mix compile
mix run examples/sandbox/sandbox.exs
