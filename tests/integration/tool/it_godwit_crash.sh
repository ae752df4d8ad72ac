#!/bin/bash
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#
# godwit crash as its users see it: godwit-blk survives kills with rings of every layout, and
# back-ends that cannot survive a kill are detected. tests/mutants has back-ends that are wrong in a
# single store.
#
#     it_godwit_crash.sh GODWIT GODWIT_BLK GODWIT_RNG

set -euo pipefail
export LC_ALL=C

godwit=$1
blk=$2
rng=$3
scratch=$(mktemp -d)
# shellcheck source=tests/integration/tool/command.sh
. "$(dirname "$0")/command.sh"
crash=
finish() {
    [ -z "$crash" ] || kill "$crash" 2>/dev/null || true
    rm -rf "$scratch"
}
trap finish EXIT

# run STATUS ARGUMENT...: check the exit status, and that no file and no process remains.
run() {
    local wanted=$1 status=0
    shift
    "$godwit" crash --request-timeout=5s --file-size=16M "$@" \
        >"$scratch/out" 2>"$scratch/err" </dev/null || status=$?
    [ "$status" = "$wanted" ] || wrong "status $status instead of $wanted: $*"
    [ -z "$(ls -A "$TMPDIR")" ] || wrong "left behind: $(ls "$TMPDIR"): $*"
    ! pgrep -f "$TMPDIR" >/dev/null || wrong "a child stays: $*"
}

disk="$blk --socket-path {socket} --blk-file {file} --num-queues 4"

# ---- The command line

run 64
says "no TARGET"
run 64 "$scratch/some.sock"
says "TARGET must be a command line"
run 64 --writes=70 --flushes=40 "$disk"
run 64 --depth=100 --queue-size=128 "$disk"
says "needs 300 descriptors"
run 64 --kills=0 "$disk"

# ---- godwit-blk survives

for rings in "" --packed --in-order "--packed --in-order"; do
    # shellcheck disable=SC2086 # these are words
    run 0 --quiet --kills=60 --queues=4 $rings --json=- "$disk"
    json 'd["verdict"] == "PASSED" and d["kills"] == 60 and d["fault"] is None'
    json 'sum(d["kills_at"].values()) == 60'
    json 'd["counts"]["taken"] > 0 and d["counts"]["drains"] > 0'
    json 'd["counts"]["verified_blocks"] > 0 and d["counts"]["blocks_read_after_restarts"] > 0'
    json 'd["counts"]["disk_blocks_read_back"] == 4096'
done
run 0 --kills=10 --depth=1 --handovers=90 --block-size=64K --junit="$scratch/crash.xml" "$disk"
shows '^PASSED after .*10 kills'
python3 -c 'import sys, xml.dom.minidom as x; x.parse(sys.argv[1])' "$scratch/crash.xml" ||
    wrong "no XML"
grep -q 'name="godwit.crash" tests="7" failures="0"' "$scratch/crash.xml" || wrong "not 7 checks"
run 0 --kills=10 "$blk --fd {fd} --blk-file {file}"
run 0 --kills=5 "sh -c '$blk --socket-path {socket} --blk-file {file}; true'"

# If {file} does not have the contents of the disk, godwit reads them through the device.
truncate -s 16M "$scratch/odd.img" "$scratch/odd.img.store"
run 0 --quiet --kills=10 --shared-file="$scratch/odd.img" --json=- \
    "sh -c 'exec $blk --socket-path {socket} --blk-file $scratch/odd.img.store' {file}"
json 'd["counts"]["disk_blocks_read_back"] == 4096'
run 2 --block-size=512 "$blk --socket-path {socket} --blk-file {file} --logical-block-size=4096"
shows '^INCONCLUSIVE after .*blocks of 4096 bytes: --block-size=512 is no multiple'
shows '^skipped +every restart succeeded'

# ---- Back-ends that cannot survive, and inconclusive runs

run 1 --quiet --kills=60 --json=- "$blk --socket-path {socket} --ram 16M"
json 'd["fault"]["check"] == "writes-kept" and d["exit_status"] == 1 and d["kills"] > 0'
json '0 < len(d["fault"]["evidence"]["messages"]) <= 16'
json 'all(m["text"] and m["at_ns"] >= 0 for m in d["fault"]["evidence"]["messages"])'
json 'd["fault"]["evidence"]["output"] is not None'
says "repeat      godwit crash --seed="
run 1 --kills=20 --max-recovery=1ms "$blk --socket-path {socket} --blk-file {file} --delay 20"
shows '^FAILED +recovery stayed within the limit: .*limit 1.00 ms$'
run 1 --kills=5 "sh -c '[ -e $scratch/once ] && echo never again >&2 && exit 3; touch $scratch/once; \
    exec $blk --socket-path {socket} --blk-file {file}'"
shows '^FAILED after .*ended with status 3; its last words: never again'
shows '^    back-end: never again'
# The load reads nothing: only the read-back at the end can detect what the last restart lost.
# A kill may hit the shell before it has counted its life; then the run is made again.
for life in 0 12; do
    for _ in 1 2 3 4 5 6 7 8; do
        : >"$scratch/lives"
        status=0
        "$godwit" crash --quiet --kills=10 --handovers=0 --writes=100 --flushes=0 --json=- "sh -c '
            echo >>$scratch/lives
            [ \$(wc -l <$scratch/lives) != $life ] ||
                dd if=/dev/zero of=$scratch/lives.img bs=1M count=16 conv=notrunc 2>/dev/null
            exec $blk --socket-path {socket} --blk-file $scratch/lives.img' {file}" \
            --shared-file="$scratch/lives.img" >"$scratch/out" 2>"$scratch/err" || status=$?
        [ "$(wc -l <"$scratch/lives")" != 12 ] || break
    done
    [ "$(wc -l <"$scratch/lives")" = 12 ] || wrong "not twelve lives"
    [ "$status" = $((life != 0)) ] || wrong "life $life: exit status $status"
    [ $life = 0 ] || json 'd["fault"]["check"] == "writes-kept"'
done
# Without INFLIGHT_SHMFD, which a crash test needs, there is no fault and no check runs.
run 2 --kills=5 --json=- "python3 -B $(dirname "$0")/../../hostile/proxy.py \
    protocol-features-no-inflight 1 {socket} $blk --blk-file {file}"
json 'd["verdict"] == "INCONCLUSIVE" and d["kills"] == 0'
json 'all(c["outcome"] == "skipped" for c in d["checks"])'
json '"does not offer INFLIGHT_SHMFD" in d["reason"]'
run 2 "$rng --socket-path {socket}"
shows 'so it is not a disk$'
run 2 --queues=2 "$blk --socket-path {socket} --blk-file {file}"
shows '2 queues requested, it has 1'
run 2 "$blk --socket-path {socket} --blk-file {file} --read-only"
shows 'its disk is read-only'
run 2 --disk-size=64K --depth=32 "$disk"
shows 'too small for 32 requests'
run 2 --timeout=300ms --kills=100000 "$disk"
shows 'kills within the 300 ms of the time limit'
run 2 'no-such-program {socket}'
shows 'there is no program no-such-program in PATH'

# ---- Interrupted by a signal

"$godwit" crash --quiet --kills=100000 "$disk" >"$scratch/out" 2>"$scratch/err" &
crash=$!
sleep 0.5
kill -TERM "$crash"
status=0
wait "$crash" || status=$?
crash=
[ "$status" = 143 ] || wrong "status $status of SIGTERM"
[ -z "$(ls -A "$TMPDIR")" ] || wrong "left behind by SIGTERM: $(ls "$TMPDIR")"
! pgrep -f "$TMPDIR" >/dev/null || wrong "a child stays behind SIGTERM"

end_checks
