#!/bin/bash
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#
# Use the installed libraries as others do: build the examples and tools/rng/rng.c with the flags
# of pkg-config alone, in a folder without the rest of this tree, and run them.
#
#     CC=... MESON=... out_of_tree.sh BUILD SOURCE NAME EXAMPLE...
#
# NAME is what the build calls the library: godwit, or godwit-xen. The examples are names of files
# in examples/, without the suffix.

set -euo pipefail
export LC_ALL=C

build=$1
source=$2
name=$3
shift 3

scratch=$(mktemp -d)
# shellcheck source=tests/abi/program.sh
. "$(dirname "$(readlink -f "$0")")/program.sh"

install_library "$build" "$name"
library=$LD_LIBRARY_PATH

# No header is installed whose functions are not.
folder=$(dirname "$(find "$scratch/root" -name godwit.h)")/godwit
mapfile -t headers < <(find "$folder" -maxdepth 1 -name '*.h' ! -name blk.h)
python3 "$source/tests/abi/linkage.py" "$library/lib$name.so" "$source/src/godwit.map" "${headers[@]}" ||
    fail "installed headers and library differ"
blk=godwit-blk${name#godwit}
python3 "$source/tests/abi/linkage.py" "$library/lib$blk.so" "$source/src/blk/godwit-blk.map" \
    "$folder/blk.h" || fail "installed headers and lib$blk differ"
# The front-end library is installed by the build of libgodwit without a suffix.
if [ "$name" = godwit ]; then
    python3 "$source/tests/abi/linkage.py" "$library/libgodwit-frontend.so" \
        "$source/src/frontend/godwit-frontend.map" \
        "$folder"/frontend/*.h ||
        fail "installed headers and libgodwit-frontend differ"
elif [ -n "$(find "$scratch/root" -name '*frontend*')" ]; then
    fail "the build with a suffix installs a front-end library"
fi

mkdir "$scratch/work"
cp "$source/tools/rng/rng.c" "$scratch/work/"
cd "$scratch/work"
# CC may hold arguments
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

# It serves: the socket appears, a front-end connects and disconnects, SIGTERM ends it cleanly.
./rng --socket-path=rng.sock &
pid=$!
await_socket rng.sock
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

# The examples. An example named *frontend is built with the front-end library, striped_disk with
# libgodwit-blk, vring_upper with both ends, the others with the library of devices.
for example in "$@"; do
    words=$name
    if [[ $example = *frontend ]]; then
        [ "$name" = godwit ] || continue
        words=godwit-frontend
    elif [ "$example" = striped_disk ]; then
        words=$blk
    elif [ "$example" = vring_upper ]; then
        [ "$name" = godwit ] || continue
        words='godwit godwit-frontend'
    fi
    cp "$source/examples/$example.c" .
    # shellcheck disable=SC2046,SC2086
    $CC -Wall -Werror -o "$example" "$example.c" $(pkg-config --cflags --libs $words) ||
        fail "examples/$example.c does not build against the installed $words"
    for word in $words; do
        readelf -d "$example" | grep -q "NEEDED.*lib$word\.so\." || fail "$example does not need lib$word"
    done
done

bin=$(dirname "$(find "$scratch/root" -path "*/bin/$name")")
# tool COMMAND...: run a subcommand of the installed godwit; show its output if it fails.
tool() {
    "$bin/$name" "$@" >out 2>&1 || { cat out; fail "$name $* failed"; }
}
tool probe --device=rng './device {socket}'
tool bench --device=rng --depth=8 --time=200ms './device {socket}'
tool probe --device=rng './poll_device {socket}'
ends_on_sigterm poll.sock ./poll_device poll.sock
tool probe --device=blk './file_device {socket} {file}'
grep -q ' RO$' out || fail "file_device does not offer RO"
tool bench --depth=8 --time=200ms --file-size=1M './file_device {socket} {file}'

# The load fills the disk with writes and checks all that it reads, also after a migration.
truncate -s 8M one.img two.img three.img
striped='./striped_disk {socket} one.img two.img three.img'
tool bench --writes=50 --verify --depth=8 --time=500ms "$striped"
tool migrate --copy-time=500ms --backend="$striped"
for file in one.img two.img three.img; do
    ! cmp -s "$file" <(head -c 8M /dev/zero) || fail "striped_disk has written nothing to $file"
done

[ "$name" = godwit ] || exit 0
./vring_upper >out || { cat out; fail "vring_upper failed"; }
printf 'IN THE FIRST VRING\nRESTORED FROM ITS STATE\n' | cmp - out || fail "vring_upper answers wrongly"
# shows FRONTEND CAPACITY BYTES: this front-end reads the back-end in $pid, which serves disk.sock.
shows() {
    await_socket disk.sock
    timeout 120 "./$1" disk.sock >out || { cat out; fail "$1 failed"; }
    grep -q ", $2 sectors\$" out || { cat out; fail "$1 does not show $2 sectors"; }
    grep -q "^sector 0: $3" out || { cat out; fail "$1 does not show $3"; }
}
{ printf godwit; head -c 1M /dev/zero; } >disk.img
for frontend in frontend poll_frontend; do
    ./file_device disk.sock disk.img &
    pid=$!
    shows "$frontend" 2048 '67 6f 64 77 69 74 00'
    wait "$pid" || fail "file_device ended with $? after $frontend had left"
done
"$bin/godwit-blk" --socket-path=disk.sock --ram=64M &
pid=$!
shows frontend 131072 '00 00'
shows poll_frontend 131072 '00 00'
kill -TERM "$pid"
wait "$pid" || fail "godwit-blk ended with $? after SIGTERM"
pid=
