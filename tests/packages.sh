# shellcheck shell=sh disable=SC2034 # the lists are for those who read this
# Read by the other scripts: sets the environment that Mix needs, and `need_packages NAME...`
# installs the Debian packages that are missing, and says nothing when there are none.

export LC_ALL=C.UTF-8
: "${HOME:=$(mktemp -d)}"
export HOME

# What it takes to build and run lunode, and what testing takes beside it.
build_packages="cmake gcc libc6-dev make pkg-config erlang-base erlang-dev elixir
                liblua5.4-dev libuv1-dev libgmp-dev libedit-dev libseccomp-dev libmimalloc-dev
                uthash-dev"
test_packages="libcmocka-dev lua5.4 lua-busted procps git tmux"

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

need_packages() {
    missing=
    for package in "$@"; do
        case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
        *" installed") ;;
        *) missing="$missing $package" ;;
        esac
    done
    if [ -z "$missing" ]; then
        return 0
    fi
    if ! command -v apt-get >/dev/null; then
        echo "These Debian packages, or what your system calls them, are needed:$missing" >&2
        return 1
    fi
    echo "Installing$missing ..."
    log=$(mktemp)
    # shellcheck disable=SC2086 # the names are words
    if ! { as_root apt-get update && as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends $missing; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}
