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
