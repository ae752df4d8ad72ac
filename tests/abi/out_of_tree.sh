#!/bin/bash
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#
# What a user of the installed library does: build the example device with pkg-config's words alone,
# from a folder where nothing else of this tree can be found, and run it.
#
#     CC=... MESON=... out_of_tree.sh BUILD SOURCE NAME
#
# NAME is what the build calls the library: godwit, or godwit-xen.

set -euo pipefail
export LC_ALL=C

build=$1
source=$2
name=$3

scratch=$(mktemp -d)
pid=
finish() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    rm -rf "$scratch"
}
trap finish EXIT

fail() {
    echo "$*"
    exit 1
}

# MESON and CC may hold arguments
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

# No header is installed whose functions are not.
python3 "$source/tests/abi/linkage.py" "$library/lib$name.so" "$source/src/godwit.map" \
    "$(dirname "$(find "$scratch/root" -name godwit.h)")"/godwit/*.h || fail "installed headers and library differ"
# The front-end library is installed by the build of libgodwit without a suffix.
if [ "$name" = godwit ]; then
    python3 "$source/tests/abi/linkage.py" "$library/libgodwit-frontend.so" \
        "$source/src/frontend/godwit-frontend.map" \
        "$(dirname "$(find "$scratch/root" -name godwit.h)")"/godwit/frontend/*.h ||
        fail "installed headers and libgodwit-frontend differ"
elif [ -n "$(find "$scratch/root" -name '*frontend*')" ]; then
    fail "the build with a suffix installs a front-end library"
fi

mkdir "$scratch/work"
cp "$source/tools/rng/rng.c" "$scratch/work/"
cd "$scratch/work"
# shellcheck disable=SC2046,SC2086
$CC -Wall -Werror -o rng rng.c $(pkg-config --cflags --libs "$name") ||
    fail "tools/rng/rng.c does not build against the installed library"
readelf -d rng | grep -q "NEEDED.*lib$name\.so\." || fail "rng does not name lib$name's soname"

# The version in the .pc file, in the header and in the running library is one.
cat >version.c <<'END'
#include <godwit.h>
#include <stdio.h>
#include <string.h>
int main(void)
{
    puts(gw_version());
    return strcmp(gw_version(), GW_VERSION_STRING) != 0;
}
END
# shellcheck disable=SC2046,SC2086
$CC -std=c99 -o version version.c $(pkg-config --cflags --libs "$name")
[ "$(./version)" = "$(pkg-config --modversion "$name")" ] || fail "versions differ"

./rng 2>usage && fail "rng without a socket succeeds"
grep -q socket-path usage || fail "rng does not tell its usage"
./rng --print-capabilities | python3 -c 'import json, sys; json.load(sys.stdin)["type"]' ||
    fail "rng --print-capabilities is no JSON with a type"

# It serves: the socket appears, somebody connects and leaves, SIGTERM ends it cleanly.
./rng --socket-path=rng.sock &
pid=$!
for _ in $(seq 2400); do
    [ -S rng.sock ] && break
    kill -0 "$pid" 2>/dev/null || fail "rng ended at once"
    sleep 0.05
done
python3 - <<'END' || fail "rng does not answer GET_FEATURES"
import socket, struct
peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
peer.settimeout(120)
peer.connect("rng.sock")
peer.sendall(struct.pack("=III", 1, 1, 0))
answer = peer.recv(20, socket.MSG_WAITALL)
request, flags, size, features = struct.unpack("=IIIQ", answer)
assert (request, flags, size) == (1, 5, 8), answer
assert features >> 32 & 1 and features >> 30 & 1, hex(features)
END
kill -TERM "$pid"
status=0
wait "$pid" || status=$?
pid=
[ "$status" = 0 ] || fail "rng ended with $status after SIGTERM"
