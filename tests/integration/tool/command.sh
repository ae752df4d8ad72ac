# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#
# For scripts that check what a godwit command prints. The script has made the directory "$scratch",
# whose `out` and `err` are the streams of the last run; failed checks are recorded in `failures`.

: "${scratch:?}"
export COLUMNS=1000 # unwrapped lines, to be compared
export TMPDIR=$scratch/tmp # godwit creates its temporary directories here
mkdir "$TMPDIR"

wrong() {
    echo "FAILED: $*" | tee -a "$scratch/failures"
    echo "--- stdout"
    head -n 40 "$scratch/out"
    echo "--- stderr"
    head -n 40 "$scratch/err"
}

says() {
    grep -qF -- "$1" "$scratch/err" || wrong "stderr does not say: $1"
}

shows() {
    grep -qE -- "$1" "$scratch/out" || wrong "stdout does not show: $1"
}

# json EXPRESSION [FILE]: check the expression on the JSON document, named d, in FILE or on stdout.
json() {
    python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); sys.exit(not eval(sys.argv[2]))' \
        "${2:-$scratch/out}" "$1" 2>>"$scratch/err" || wrong "not so: $1"
}

# Repeat the failures and exit with 1 if there were any.
end_checks() {
    [ -e "$scratch/failures" ] || return 0
    cat "$scratch/failures"
    exit 1
}
