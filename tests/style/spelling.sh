#!/bin/bash
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#
#     spelling.sh ROOT

set -euo pipefail

# Words of ours that codespell takes for mistakes.
WORDS=crate,inflight,inout

if ! command -v codespell >/dev/null; then
    echo "codespell is not installed" >&2
    exit 77
fi
cd "$1"
paths=()
for path in *.md include src tools tests examples docs .ci .github; do
    [ -e "$path" ] && paths+=("$path")
done
codespell --quiet-level=2 --check-hidden --ignore-words-list="$WORDS" \
    --skip='corpus,__pycache__,*.pyc' "${paths[@]}"
