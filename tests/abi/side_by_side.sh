#!/bin/bash
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#
# Two builds with different memory backends, installed into one place: both install only what
# collisions.py lists, the same to the byte, and a device out of this tree is built against either, from the same source.
#
#     CC=... MESON=... side_by_side.sh BUILD OTHER-BUILD SOURCE

set -euo pipefail
export LC_ALL=C

build=$1
other=$2
source=$3

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
    echo "$*"
    exit 1
}

[ -e "$other/build.ninja" ] || { echo "there is no build with another memory backend in $other" >&2; exit 77; }
[ -z "$(find "$other/src" -name 'libgodwit-xen.so' -print)" ] ||
    { echo "$other has this memory backend, too" >&2; exit 77; }

# install BUILD ROOT; MESON may hold arguments
install_into() {
    # shellcheck disable=SC2086
    $MESON install -C "$1" --no-rebuild --quiet --destdir "$2" >"$scratch/out" 2>&1 ||
        { cat "$scratch/out"; fail "meson install of $1 failed"; }
}
install_into "$build" "$scratch/one"
install_into "$other" "$scratch/two"

"$source/tests/abi/collisions.py" "$scratch/one" "$scratch/two" >"$scratch/out" ||
    { cat "$scratch/out"; fail "the builds cannot be installed into one prefix"; }

mkdir "$scratch/root"
cp -a "$scratch/one/." "$scratch/two/." "$scratch/root/"
pc=$(find "$scratch/root" -name godwit.pc)
# Beside the machine's own, for what a static build needs.
PKG_CONFIG_LIBDIR=${pc%/*}:$(pkg-config --variable pc_path pkg-config)
export PKG_CONFIG_LIBDIR PKG_CONFIG_SYSROOT_DIR=$scratch/root
LD_LIBRARY_PATH=$(dirname "$(find "$scratch/root" -name 'libgodwit.so')")
export LD_LIBRARY_PATH
mkdir "$scratch/work"
cp "$source/tools/rng/rng.c" "$source/examples/striped_disk.c" "$scratch/work/"
cd "$scratch/work"
for name in godwit godwit-xen; do
    # shellcheck disable=SC2046,SC2086
    $CC -Wall -Werror -o "$name" rng.c $(pkg-config --cflags --libs "$name") ||
        fail "rng.c does not build with $name"
    readelf -d "$name" | grep -q "NEEDED.*lib$name\.so\." || fail "it does not need lib$name"
    "./$name" --print-capabilities | grep -q '"type"' || fail "$name does not run"
    blk=godwit-blk${name#godwit}
    # shellcheck disable=SC2046,SC2086
    $CC -Wall -Werror -o "$blk" striped_disk.c $(pkg-config --cflags --libs "$blk") ||
        fail "striped_disk.c does not build with $blk"
    ldd "$blk" | grep -q "lib$name\.so\." || fail "$blk does not load lib$name"
    [ "$name" = godwit-xen ] || ! ldd "$blk" | grep -q xen || fail "$blk loads the library of another memory backend"
    [ "$name" = godwit ] || ! ldd "$blk" | grep -q "libgodwit\.so" || fail "$blk loads two libraries of daemons"
done
