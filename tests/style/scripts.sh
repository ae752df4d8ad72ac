#!/bin/bash
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#
# Every shell script of the tree passes shellcheck; it need not follow sourced system files (SC1091).
#
#     scripts.sh ROOT

set -euo pipefail

if ! command -v shellcheck >/dev/null; then
    echo "shellcheck is not installed" >&2
    exit 77
fi
cd "$1"
folders=()
for folder in tools tests docs .ci; do
    [ -d "$folder" ] && folders+=("$folder")
done
grep -rlZ --exclude-dir=corpus --exclude-dir=__pycache__ -m 1 -E '^#!/bin/(ba)?sh' "${folders[@]}" |
    xargs -0 -r shellcheck --exclude=SC1091
