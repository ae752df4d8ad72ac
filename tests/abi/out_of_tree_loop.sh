#!/bin/bash
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#
# Build an example that runs in the event loop of another project, with the flags of pkg-config alone,
# and run it.
#
#     CC=... MESON=... out_of_tree_loop.sh BUILD SOURCE NAME EXAMPLE PACKAGE DEBIAN-PACKAGE
#
# NAME is what the build calls the library: godwit, or godwit-xen. PACKAGE is what pkg-config calls the
# event loop. Exit status 77, with the reason, without the event loop.

set -euo pipefail
export LC_ALL=C

build=$1
source=$2
name=$3
example=$4
package=$5

scratch=$(mktemp -d)
# shellcheck source=tests/abi/program.sh
. "$(dirname "$(readlink -f "$0")")/program.sh"

if ! pkg-config --exists "$package"; then
    echo "skipped: $package is not installed (package $6)" >&2
    exit 77
fi
flags=$(pkg-config --cflags --libs "$package") # before the root of install_library applies to it
install_library "$build" "$name"

mkdir "$scratch/work"
cp "$source/examples/$example.c" "$scratch/work/"
cd "$scratch/work"
# CC may hold arguments
# shellcheck disable=SC2046,SC2086
$CC -Wall -Werror -o "$example" "$example.c" $(pkg-config --cflags --libs "$name") $flags ||
    fail "examples/$example.c does not build against the installed $name and $package"

bin=$(dirname "$(find "$scratch/root" -path "*/bin/$name")")
# tool COMMAND...: run a subcommand of the installed godwit; show its output if it fails.
tool() {
    "$bin/$name" "$@" >out 2>&1 || { cat out; fail "$name $* failed"; }
}
if [[ $example = *disk ]]; then
    tool probe --device=blk "./$example {socket} {file}"
    tool bench --depth=8 --writes=50 --time=200ms --file-size=1M "./$example {socket} {file}"
    truncate -s 1M disk.img
    ends_on_sigterm disk.sock "./$example" disk.sock disk.img
else
    tool probe --device=rng "./$example {socket}"
    tool bench --device=rng --depth=8 --time=200ms "./$example {socket}"
    ends_on_sigterm rng.sock "./$example" rng.sock
fi
