# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#
# Sourced by tests that build programs outside of this tree and run them: the folder
# $scratch, which the test creates, and the program $pid are gone when the test ends.

pid= # a program in the background; killed when the test ends
finish() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    rm -rf "$scratch"
}
trap finish EXIT

fail() {
    echo "$*"
    exit 1
}

# await_socket SOCKET: wait until the program $pid has created it.
await_socket() {
    for _ in $(seq 2400); do
        [ -S "$1" ] && return
        kill -0 "$pid" 2>/dev/null || fail "the program that serves $1 ended at once"
        sleep 0.05
    done
    fail "no socket $1"
}

# install_library BUILD NAME: install the library to $scratch/root, and point pkg-config and
# LD_LIBRARY_PATH there.
install_library() {
    local build=$1 name=$2 pc library
    # MESON may hold arguments
    # shellcheck disable=SC2086
    $MESON install -C "$build" --no-rebuild --quiet --destdir "$scratch/root" >"$scratch/out" 2>&1 ||
        { cat "$scratch/out"; fail "meson install failed"; }
    pc=$(find "$scratch/root" -name "$name.pc")
    [ -f "$pc" ] || fail "$name.pc is not installed"
    # Beside the machine's own, for what a static build needs.
    PKG_CONFIG_LIBDIR=${pc%/*}:$(pkg-config --variable pc_path pkg-config)
    export PKG_CONFIG_LIBDIR PKG_CONFIG_SYSROOT_DIR=$scratch/root
    library=$(dirname "$(find "$scratch/root" -name "lib$name.so")")
    [ -e "$library/lib$name.so" ] || fail "lib$name.so is not installed"
    export LD_LIBRARY_PATH=$library
}

# ends_on_sigterm SOCKET COMMAND...: a device serves SOCKET until SIGTERM, and then removes it.
ends_on_sigterm() {
    local socket=$1
    shift
    "$@" &
    pid=$!
    await_socket "$socket"
    kill -TERM "$pid"
    wait "$pid" || fail "$1 ended with $? after SIGTERM"
    pid=
    if [ -e "$socket" ] || [ -e "$socket.lock" ]; then
        fail "$1 leaves its socket or lock file"
    fi
}
