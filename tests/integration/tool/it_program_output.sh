#!/bin/bash
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#
# What the programs print on request: --help and --version of each program and each godwit command.
# Unwritable output is a failure, closed standard streams are not.
#
#     it_program_output.sh GODWIT GODWIT_BLK OTHER_PROGRAM...

set -euo pipefail
export LC_ALL=C

godwit=$1
blk=$2
failed=0

wrong() {
    echo "FAILED: $*"
    failed=1
}

# shows COMMAND...: check that it prints something and succeeds, and fails if stdout is unwritable.
shows() {
    local text errors
    text=$("$@" 2>/dev/null) || wrong "status $?: $*"
    [ -n "$text" ] || wrong "no output: $*"
    if errors=$("$@" 2>&1 >/dev/full); then
        wrong "succeeds though /dev/full takes nothing: $*"
    fi
    case $* in
    *godwit-rng*) ;; # the example does not print why
    *) [[ $errors == *"cannot be written"* ]] || wrong "does not say why it failed: $*: $errors" ;;
    esac
    "$@" <&- >&- 2>&- || wrong "fails where the standard streams are closed: $*"
}

for program in "$@"; do
    shows "$program" --help
    shows "$program" --version
done
for program in "${@:2}"; do
    case $program in
    *xen-agent*) ;;
    *) shows "$program" --print-capabilities ;;
    esac
done
shows "$godwit" help
for command in probe bench migrate crash; do
    shows "$godwit" "$command" --help
    shows "$godwit" "$command" --version
    shows "$godwit" help "$command"
done
shows "$godwit" probe "$blk --socket-path={socket} --ram=1M"
shows "$godwit" probe --json "$blk --socket-path={socket} --ram=1M"
exit "$failed"
