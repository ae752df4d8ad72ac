#!/bin/bash
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#
# Build and install the libraries as archives, link examples with the flags of pkg-config --static,
# and run them. One program links every function of two of them: both contain the objects of
# src/fd, and no symbol may be defined twice.
#
#     CC=... MESON=... static.sh SOURCE

set -euo pipefail
export LC_ALL=C

source=$1

scratch=$(mktemp -d)
# shellcheck source=tests/abi/program.sh
. "$(dirname "$(readlink -f "$0")")/program.sh"

# quietly COMMAND...: show its output only if it fails.
quietly() {
    "$@" >"$scratch/out" 2>&1 || { cat "$scratch/out"; fail "$* failed"; }
}

build=$scratch/build
# MESON and CC may hold arguments
# shellcheck disable=SC2086
{
    # Without optimization, to save time.
    quietly $MESON setup "$build" "$source" -Ddefault_library=static -Dtests=false -Ddocs=disabled \
        -Dsystemd=disabled -Doptimization=0 -Ddebug=false
    # Users build like this: without the packages that only tests need.
    ! $MESON introspect --dependencies "$build" | grep -Eq '"(cmocka|valgrind)"' ||
        fail "-Dtests=false searches packages for tests"
    quietly ninja -C "$build" src/libgodwit.a src/blk/libgodwit-blk.a src/libgodwit-frontend.a
    quietly $MESON install -C "$build" --no-rebuild --tags devel --destdir "$scratch/root"
}
[ -z "$(find "$scratch/root" -name '*.so*')" ] || fail "a static build installs a shared library"

pc=$(find "$scratch/root" -name godwit.pc)
# In addition to the packages of this machine, such as liburing.
PKG_CONFIG_LIBDIR=${pc%/*}:$(pkg-config --variable pc_path pkg-config)
export PKG_CONFIG_LIBDIR PKG_CONFIG_SYSROOT_DIR=$scratch/root

# A program with a function of the same name as a symbol of an archive does not link.
for archive in libgodwit.a libgodwit-blk.a libgodwit-frontend.a; do
    nm -g --defined-only --format=posix "$(find "$scratch/root" -name "$archive")" |
        awk 'NF > 1 && $1 !~ /^gw_/ { print $1; found = 1 } END { exit found }' ||
        fail "$archive defines symbols that do not begin with gw_"
done

mkdir "$scratch/work"
cp "$source"/examples/{device,striped_disk,frontend,poll_frontend}.c "$scratch/work/"
cd "$scratch/work"

# link PROGRAM 'LIBRARY...' OPTION...: PROGRAM.c becomes PROGRAM, without the shared libraries.
link() {
    local program=$1 libraries=$2
    shift 2
    # shellcheck disable=SC2046,SC2086
    $CC -Wall -Werror -o "$program" "$program.c" "$@" $(pkg-config --static --cflags --libs $libraries) ||
        fail "$program does not link with $libraries"
    ! readelf -d "$program" | grep -q 'NEEDED.*libgodwit' || fail "$program needs a shared library"
}
link device godwit
link striped_disk godwit-blk
link frontend godwit-frontend
link poll_frontend godwit-frontend

cat >both.c <<'CODE'
#include <godwit.h>
#include <godwit/frontend.h>
#include <string.h>
#include <sys/socket.h>

static int queue_ready(void *dev, struct gw_queue *q)
{
    return 0;
}

int main(void)
{
    const struct gw_device_ops ops = {.size = sizeof(ops), .queue_ready = queue_ready};
    const struct gw_daemon_config cfg = {.size = sizeof(cfg)};
    struct gw_frontend *fe;
    struct gw_daemon *d;
    uint64_t features;
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0 || gw_daemon_new(&d, &cfg, &ops, 0) < 0 ||
        gw_daemon_start(d, ends[0]) < 0 || gw_frontend_new(&fe, 0) < 0 ||
        gw_frontend_attach(fe, ends[1]) < 0 || gw_frontend_get_features(fe, &features) < 0)
        return 1;
    /* Each library has the reason of its own failure. */
    if (gw_daemon_start(d, ends[0]) == 0 || gw_frontend_connect(fe, "") == 0 ||
        !strstr(gw_frontend_last_error(), "connect") || !*gw_last_error() ||
        strstr(gw_last_error(), "connect"))
        return 1;
    gw_frontend_free(fe);
    gw_daemon_free(d);
    return !(features >> 32 & 1);
}
CODE
mapfile -t every < <(sed -n 's/^ *\(gw_[a-z0-9_]*\);$/-Wl,-u,\1/p' "$source/src/godwit.map" \
    "$source/src/frontend/godwit-frontend.map")
[ ${#every[@]} -gt 100 ] || fail "only ${#every[@]} functions found in the symbol maps"
link both 'godwit godwit-frontend' "${every[@]}"
link both 'godwit-frontend godwit' "${every[@]}"
timeout 120 ./both || fail "a program with both archives fails"

# The front-end starts the device, then fails because an entropy device has no config space.
./device device.sock &
pid=$!
await_socket device.sock
! timeout 120 ./frontend device.sock 2>out || fail "frontend reads a disk from an entropy device"
grep -q 'CONFIG' out || { cat out; fail "frontend does not name the feature that it misses"; }
wait "$pid" || fail "device ended with $? after the front-end had left"
pid=
