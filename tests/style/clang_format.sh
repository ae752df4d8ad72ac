#!/bin/bash
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#
# The formatter is the only judge of layout. Its output differs from version to version: the one of
# Debian 12 counts.
#
#     clang_format.sh ROOT

set -euo pipefail

VERSION=14

for program in "clang-format-$VERSION" clang-format; do
    if command -v "$program" >/dev/null && "$program" --version | grep -q " version $VERSION\."; then
        cd "$1"
        folders=()
        for folder in include src tools tests examples; do
            [ -d "$folder" ] && folders+=("$folder")
        done
        output=$(find "${folders[@]}" -name '*.[ch]' -print0 |
            xargs -0 -r "$program" --dry-run -Werror --style=file 2>&1) && exit
        grep -E '^[^ ]+: ' <<<"$output" | sort -u -t : -k 1,1
        echo "$program -i puts them right"
        exit 1
    fi
done
echo "clang-format $VERSION is not installed" >&2
exit 77
