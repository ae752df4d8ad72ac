#!/bin/bash
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#
# The godwit command as its users see it: exit status, stdout, stderr, and nothing left behind.
# The back-ends are godwit-blk, godwit-rng, simple faulty ones, and, if installed,
# qemu-storage-daemon.
#
#     it_godwit_command.sh GODWIT GODWIT_BLK GODWIT_RNG

set -euo pipefail
export LC_ALL=C

godwit=$1
blk=$2
rng=$3
scratch=$(mktemp -d)
# shellcheck source=tests/integration/tool/command.sh
. "$(dirname "$0")/command.sh"
backend=
finish() {
    [ -z "$backend" ] || kill "$backend" 2>/dev/null || true
    rm -rf "$scratch"
}
trap finish EXIT

# run STATUS ARGUMENT...: check the exit status, and that no temporary directory remains.
run() {
    local wanted=$1 status=0
    shift
    "$godwit" "$@" >"$scratch/out" 2>"$scratch/err" </dev/null || status=$?
    [ "$status" = "$wanted" ] || wrong "status $status instead of $wanted: godwit $*"
    [ -z "$(ls -A "$TMPDIR")" ] || wrong "left behind: $(ls "$TMPDIR"): godwit $*"
}

wait_until() {
    for _ in $(seq 6000); do
        "$@" && return
        sleep 0.02
    done
    wrong "did not come: $*"
}

# Wait for a back-end that was killed on purpose, without the shell's job messages.
reap() {
    wait 2>/dev/null || true
    backend=
}

disk="$blk --socket-path {socket} --ram 64M --num-queues 2"
entropy="$rng --socket-path={socket}"

# ---- The command line

run 64
run 64 blorp
says "unknown command 'blorp'"
run 0 help
shows '^  probe '
run 0 --version
shows '^godwit [0-9]'
for command in probe bench migrate report; do
    run 0 help $command
    shows "^Usage: godwit $command"
    run 0 $command --version
    run 64 $command
    run 64 $command --no-such-option x
    run 64 $command a b c
done
run 64 probe --device=blkk x
says "--device=blkk is not one of"
run 64 bench --depth=1,,2 x
run 64 bench --depth=100000 x
run 64 bench --block-size=1000 x
says "not a multiple of 512"
run 64 bench --writes=60 --flushes=60 x
run 64 bench --time=soon x
says "such as 10ms"
run 64 migrate a
says "no DESTINATION"
run 64 migrate --backend="$disk" a
run 64 migrate same same
run 64 migrate --log-offset=-1 a b
run 64 migrate --log-offset=some a b
run 64 migrate --order=wrong a b
says "one of: qemu, rings"

# ---- Back-ends that are missing or fail

run 2 probe "$scratch/nobody"
says "there is no socket at $scratch/nobody: start the back-end first"
run 2 probe "$blk --socket-path x"
says "a command line must contain {socket}"
run 2 bench 'no-such-program {socket}'
says "there is no program no-such-program in PATH"
run 2 probe "sh -c 'echo first >&2; echo no disk today >&2; exit 3' {socket}"
says "ended with status 3; its last words: no disk today"
says "    back-end: first"
run 2 migrate --backend="sh -c 'echo no disk today >&2; exit 3' {socket}"
shows '^INCONCLUSIVE .* no connection: source \(sh\) ended with status 3; its last words: no disk today$' # once
run 2 probe --start-timeout=200ms "sh -c 'sleep 1000' {socket}"
says "it runs, but does not listen"
run 1 probe "sh -c 'exit 4' {fd}"
says "back-end (sh) ended with status 4, without any output"
says "messages    the last "
# The back-end lives and has printed why it hung up: both are shown.
run 1 probe "bash -c 'echo no such device >&2; exec {fd}<&-; sleep 60'"
says "probing: back-end: the back-end hung up"
says "    back-end: no such device"
run 64 probe "cat {file} {socket} {what}"
says "unknown placeholder {what}"

for command in probe bench crash "migrate a" "migrate --backend"; do
    # shellcheck disable=SC2086 # these are words
    run 64 $command "$blk --socket-path {sock}"
    says "unknown placeholder {sock}; use {socket}, {fd} or {file}"
done
run 64 migrate --to=127.0.0.1:65536 "$disk"
says "port 65536 is out of range"
run 64 migrate --listen=127.0.0.1 "$disk"
says "has no port"

# ---- probe

run 0 probe --device=blk "$disk"
shows '^queues +2$'
shows '^    26  LOG_ALL$'
shows '^ +capacity +131072$'
shows '^migration +possible'
run 0 probe --require-migration --json "$entropy"
json 'd["can_migrate"] and d["queues"] == 1 and d["config"] is None'
run 0 probe --json --device=blk "$disk"
json 'd["config"]["fields"]["capacity"] == 131072'
run 0 probe --json "$blk --fd {fd} --blk-file {file}"
json 'd["command"] == "probe" and d["godwit"]'
run 0 probe --json="$scratch/p.json" --html="$scratch/p.html" "$entropy"
"$godwit" report - <"$scratch/p.json" | cmp - "$scratch/p.html" || wrong "another page of probe"
json 'd["verdict"] == "PASSED" and d["exit_status"] == 0 and d["evidence"] is None' "$scratch/p.json"
run 1 probe --json "sh -c 'echo I quit >&2; exit 4' {fd}"
json 'd["verdict"] == "FAILED" and d["exit_status"] == 1 and d["evidence"]["output"] == ["I quit"]'
json 'd["evidence"]["messages"]'
run 2 probe --json "sh -c 'exit 4' {socket}"
json 'd["verdict"] == "INCONCLUSIVE" and d["exit_status"] == 2'

# ---- bench

run 0 bench --time=200ms --depth=1,8 --block-size=512,4K --queues=2 "$disk"
[ "$(grep -cE '^ +(512|4096) +(1|8) ' "$scratch/out")" = 4 ] || wrong "not four runs"
run 0 bench --time=200ms --verify --writes=50 --depth=8 --indirect --segments=2 --json "$disk"
json 'len(d["runs"]) == 1 and d["runs"][0]["verified_blocks"] > 0'
json 'd["runs"][0]["backend_cpu_ns"] > 0 and d["runs"][0]["latency_ns"]["p99.9"] > 0'
run 2 bench --time=100ms --depth=1 --verify --writes=100 --json="$scratch/b.json" \
    --html="$scratch/b.html" "$disk"
"$godwit" report - <"$scratch/b.json" | cmp - "$scratch/b.html" || wrong "another page of bench"
says "none was verified"
json 'd["verdict"] == "NOT TESTED" and d["exit_status"] == 2' "$scratch/b.json"
run 0 bench --time=20ms --warm-up=0 --depth=1 --json "$disk --delay 300"
json 'd["runs"][0]["requests"] == 1'
run 0 bench --time=200ms --sleep --json "$disk"
json 'd["verdict"] == "PASSED"'
json '[r["depth"] for r in d["runs"]] == [1, 32]'
for layout in --packed --in-order '--packed --in-order --queue-size=100'; do
    # shellcheck disable=SC2086 # several options
    run 0 bench --time=300ms --verify --writes=50 --depth=1,32 --queues=2 $layout --json "$disk"
    json 'len(d["runs"]) == 2 and all(r["verified_blocks"] > 0 for r in d["runs"])'
done
run 0 bench --device=rng --time=200ms --block-size=64 --packed "$entropy"
run 64 bench --queue-size=100 x
run 0 bench --device=rng --time=200ms --block-size=64 --json "$entropy"
json 'd["runs"][1]["bytes"] > 0'
run 2 bench --time=200ms --queues=9 "$disk"
says "use fewer --queues"
run 2 bench --time=200ms --verify "$disk --read-only"
says "the disk is read-only"
run 2 bench --time=200ms "$entropy"

# By socket path; godwit finds the process from the socket.
"$blk" --socket-path="$scratch/disk.sock" --ram=64M 2>"$scratch/backend" &
backend=$!
wait_until test -S "$scratch/disk.sock"
run 0 bench --time=200ms --json "$scratch/disk.sock"
json 'd["runs"][0]["backend_cpu_ns_per_request"] > 0'
(sleep 0.5 && kill -KILL "$backend") &
run 1 bench --time=20s --stall-timeout=1s "$scratch/disk.sock"
reap

# Several sockets at the same time, of two processes; then one of the processes dies.
: >"$scratch/disks"
for i in 1 2 3 4 5 6 7 8; do
    echo "socket=$scratch/many$i.sock, ram=4M, num-queues=2" >>"$scratch/disks"
done
"$blk" --config="$scratch/disks" --workers=2 2>"$scratch/backend" &
backend=$!
"$blk" --socket-path="$scratch/one.sock" --ram=4M --num-queues=2 2>"$scratch/backend" &
other=$!
printf '# sockets\n\n  %s\n' "$scratch"/many{1..8}.sock "$scratch/one.sock" >"$scratch/sockets"
run 0 bench --time=300ms --queues=2 --depth=1,8 --verify --writes=50 --targets="$scratch/sockets"
shows "^back-ends   9 sockets of $scratch/sockets, in 2 processes"
shows "requests per s of one target"
run 0 bench --time=200ms --depth=1 --json --targets="$scratch/sockets"
json 'd["sockets"] == 9 and d["processes"] == 2'
json 'd["runs"][0]["per_target"]["fewest_requests_per_second"] > 0'
json 'd["runs"][0]["backend_cpu_ns"] > 0'
echo "$scratch/one.sock" | "$godwit" bench --time=100ms --depth=1 --targets=- >"$scratch/out" ||
    wrong "the list on stdin"
(sleep 0.5 && kill -KILL "$other") &
run 1 bench --time=20s --stall-timeout=1s --targets="$scratch/sockets"
says "$scratch/one.sock: "
run 2 bench --time=100ms --start-timeout=100ms --targets="$scratch/sockets"
run 2 bench --targets="$scratch/none"
says "No such file"
run 2 bench --targets=/dev/null
says "no socket in it"
run 64 bench --targets="$scratch/sockets" x
run 64 bench --targets="$scratch/sockets" --sleep
kill "$backend"
reap

# A back-end that stops answering under load: on a busy machine the load starts late.
for pause in 0.5 4 16; do
    "$blk" --socket-path="$scratch/disk.sock" --ram=64M 2>"$scratch/backend" &
    backend=$!
    wait_until test -S "$scratch/disk.sock"
    (sleep $pause && kill -STOP "$backend") &
    run 1 bench --time=60s --stall-timeout=500ms "$scratch/disk.sock"
    kill -KILL "$backend"
    reap
    ! grep -qF "load of" "$scratch/err" || break
done
says "load of 4096 bytes at depth 1: back-end:"

# ---- Signals: no child and no file remains

"$godwit" bench --time=60s "$disk" >"$scratch/out" 2>"$scratch/err" &
backend=$!
wait_until pgrep -P "$backend" >"$scratch/child"
kill -TERM "$backend"
status=0
wait "$backend" || status=$?
backend=
[ "$status" = 143 ] || wrong "status $status of SIGTERM"
says "ending the back-ends"
! kill -0 "$(head -n 1 "$scratch/child")" 2>/dev/null || wrong "a child stays"
[ -z "$(ls -A "$TMPDIR")" ] || wrong "left behind by SIGTERM: $(ls "$TMPDIR")"

# ---- migrate

short="--warm-up=50ms --copy-time=200ms --settle=50ms --replace-log-every=10ms --file-size=16M"
short+=" --request-timeout=120s --timeout=300s" # the disk below may be busy
disk_file="$blk --socket-path {socket} --blk-file {file}"
# shellcheck disable=SC2086 # these are words
run 0 migrate $short --backend="$disk_file" \
    --json="$scratch/m.json" --junit="$scratch/m.xml" --html="$scratch/m.html"
shows '^PASSED after'
json 'd["verdict"] == "PASSED" and d["exit_status"] == 0 and d["rounds"]' "$scratch/m.json"
python3 -c 'import sys, xml.dom.minidom as x; x.parse(sys.argv[1])' "$scratch/m.xml" ||
    wrong "no XML"
grep -q '</html>' "$scratch/m.html" || wrong "no HTML"
json 'all(b["build_id"] and b["executable"].endswith("godwit-blk") for b in d["backends"])' "$scratch/m.json"
json '"FLUSH" in [f["name"] for f in d["backends"][1]["features"]["bits"]]' "$scratch/m.json"
json 'd["host"]["kernel"].startswith("Linux ")' "$scratch/m.json"
json 'all(c["rule"] for c in d["checks"] if c["name"] != "downtime")' "$scratch/m.json"
shows '^back-end    source: .*build-id [0-9a-f]+'
shows '^features    of source: .*FLUSH.*; protocol: .*LOG_SHMFD'
shows '^features    of destination: those of source$'
# Text is wrapped at 80 columns without a terminal, except for the command that repeats the run.
unset COLUMNS
# shellcheck disable=SC2086
run 0 migrate $short --quiet --backend="$disk_file"
! grep -v '^repeat' "$scratch/out" | grep -qE '^.{81}' || wrong "a line of more than 80 columns"
head -n 1 "$scratch/out" | grep -q '^repeat      godwit migrate --seed=' || wrong "no command to repeat"
! grep -q $'\033' "$scratch/out" || wrong "colours without a terminal"
export COLUMNS=1000
# shellcheck disable=SC2086
NO_COLOR=1 run 0 migrate $short --quiet --color=always --backend="$disk_file"
shows $'^\033\\[1;32mPASSED\033\\[0m after'
for command in "" probe bench migrate crash report; do
    # shellcheck disable=SC2086
    run 0 help $command
    ! grep -qE '^.{81}' "$scratch/out" || wrong "help $command is wider than 80 columns"
done
run 64 probe --color=blue "$disk"
says "--color=blue is not one of: auto, always, never"
run 0 report "$scratch/m.json"
cmp "$scratch/out" "$scratch/m.html" || wrong "another page than that of --html"
run 0 report -o "$scratch/m2.html" "$scratch/m.json"
cmp "$scratch/m2.html" "$scratch/m.html" || wrong "another page with -o"
head -c 2000 "$scratch/m.json" >"$scratch/half.json"
run 2 report "$scratch/half.json"
says "half.json: the JSON is incomplete: it ends after 2000 bytes"
run 2 report "$scratch/m.xml"
says "m.xml: not JSON at byte 1"
run 2 report "$scratch"
says "cannot be read: Is a directory"
run 2 report "$scratch/none.json"
says "give a file that --json has written"
run 2 report -o /dev/full "$scratch/m.json"
says "/dev/full cannot be written: No space left on device"
run 64 report
says "no FILE"
run 64 report a b
# shellcheck disable=SC2086
run 0 migrate $short --quiet --json=- --backend="$disk_file"
json 'd["seed"] > 0'
says "PASSED after"
# shellcheck disable=SC2086
run 0 migrate $short --quiet --json=- --device=rng "$entropy" "$entropy"
json '0 < d["load"]["latency_p50_ns"] <= d["load"]["latency_p99_ns"] <= d["load"]["latency_max_ns"]'
json 'd["copy_bytes_per_second"] > 0'
json 'all(h["downtime_ns"] >= h["device_stop_ns"] + h["device_start_ns"] for h in d["hops"])'
for phase in warm-up copy stop start settle; do
    for layout in --queues=1 --packed; do
        # shellcheck disable=SC2086
        run 0 migrate $short --quiet --json=- --kill-at=$phase "$layout" --backend="$disk_file"
        json 'd["kills"] == 1 and d["options"]["kill_at"] == "'$phase'"'
        json '[e["kind"] for e in d["events"]].count("killed, started again") == 1'
    done
done
# shellcheck disable=SC2086
run 0 migrate $short --quiet --json=- --kill-at=random --hops=3 --backend="$disk_file"
json 'd["kills"] == 3'
run 64 migrate --kill-at=copy "$scratch/a.sock" "$scratch/b.sock"
says "--kill-at needs back-ends that godwit starts"
for offset in 1 12345 random; do
    # shellcheck disable=SC2086
    run 0 migrate $short --quiet --json=- --log-offset=$offset --backend="$disk_file"
    json "d['options']['log_offset'] == ${offset/random/0}"
    json "d['options']['log_offset_random'] == ('$offset' == 'random')"
done
for layout in --packed --in-order '--packed --in-order --queue-size=300'; do
    # shellcheck disable=SC2086 # several options
    run 0 migrate $short --quiet --json=- $layout --backend="$disk_file"
    json 'd["verdict"] == "PASSED"'
done
# shellcheck disable=SC2086
run 0 migrate $short --quiet --device=rng --packed "$entropy" "$entropy"
run 64 migrate --queue-size=300 a b
# If {file} does not have the contents of the disk, godwit reads them through the device.
truncate -s 16M "$scratch/odd.img" "$scratch/odd.img.store"
odd="sh -c 'exec $blk --socket-path {socket} --blk-file $scratch/odd.img.store' {file}"
# shellcheck disable=SC2086
run 0 migrate $short --quiet --json=- --shared-file="$scratch/odd.img" --backend="$odd"
json 'd["verdict"] == "PASSED" and d["load"]["disk_blocks_read_back"] == (16 << 20) / 4096'
# godwit keeps to the block size of a disk: smaller requests are not sent, and no fault is reported.
blocks="$blk --socket-path {socket} --blk-file {file} --logical-block-size=4096"
# shellcheck disable=SC2086
run 2 migrate $short --quiet --block-size=512 --backend="$blocks"
shows '^INCONCLUSIVE after .*blocks of 4096 bytes: --block-size=512 is no multiple'
# shellcheck disable=SC2086
run 0 migrate $short --quiet --backend="$blocks"
run 2 bench --time=100ms --block-size=512,4K "$blocks"
says "blocks of 4096 bytes: --block-size=512 is no multiple"
run 0 bench --time=100ms --depth=1 "$blocks"
run 2 bench --time=100ms --depth=1 --block-size=2M "$disk_file"
says "2097152 bytes in 1 segments do not fit, in 2 they do"
run 0 bench --time=100ms --depth=1 --block-size=2M --segments=2 "$disk_file"
# Without a request nothing was tested, and godwit does not claim otherwise.
# shellcheck disable=SC2086
run 2 migrate $short --quiet --device=generic --json=- --junit="$scratch/g.xml" \
    --report="$scratch/g.html" "$entropy" "$entropy"
json 'd["verdict"] == "NOT TESTED" and d["exit_status"] == 2 and d["load"]["requests"] == 0'
json '{c["name"]: c["outcome"] for c in d["checks"]}["pages-marked"] == "skipped"'
json 'all(c["text"] for c in d["checks"])'
grep -q 'failures="0" errors="1"' "$scratch/g.xml" || wrong "not an error of JUnit"
grep -q '<b>NOT TESTED</b> (exit status 2)' "$scratch/g.html" || wrong "another verdict in HTML"
says "NOT TESTED after"
says "skipped     every page written was marked: --device=generic makes no requests"
! grep -q "^PASSED\|^passed .*page" "$scratch/err" || wrong "it says to have passed"
# shellcheck disable=SC2086
run 0 migrate $short --quiet --json=- --devices=3 --hops=2 --kill-at=random --backend="$disk_file"
json 'd["options"]["devices"] == 3 and d["hops"][0]["source"] == "A 1 and 2 more"'
json 'd["load"]["disk_blocks_read_back"] == 3 * (16 << 20) / 4096'
run 64 migrate --devices=2 a b
says "--devices needs back-ends that godwit starts"
run 64 migrate --link-rate=1M a b
says "--cut-link-* need --postcopy"
run 64 migrate --postcopy --kill-at=start "$disk_file" "$disk_file"
says "cannot restart before its memory has arrived"
run 64 migrate --postcopy --postcopy-at=soon a b
run 64 migrate --postcopy --fault-delay=2s a b

run 2 migrate --json="$scratch/no/such/directory" "$entropy" "$entropy"
says "create its directory first"
# shellcheck disable=SC2086
run 2 migrate $short --report=/dev/full --backend="$disk_file"
says "/dev/full cannot be written: No space left on device"
shows '^PASSED after'
# shellcheck disable=SC2086
run 1 migrate $short "$disk" "$disk" # two disks, not one
# If the load only writes, the read-back at the end detects lost data.
# shellcheck disable=SC2086
run 1 migrate $short --quiet --writes=100 --flushes=0 --json=- "$disk" "$disk"
json '{c["name"]: c["outcome"] for c in d["checks"]}["data"] == "failed"'
json 'd["load"]["reads"] == 0 and len(d["faults"]) == 1'
json '[(e["who"], e["output"]) for e in d["faults"][0]["evidence"]] == [("destination", [])]'
json '[0 < m["at_ns"] <= d["duration_ns"] for m in d["faults"][0]["evidence"][0]["messages"]] == [True] * 16'
run 2 migrate "$disk" "$blk --socket-path {socket} --ram 32M --num-queues 2"
shows '^fault +destination, .*its disk has 65536 sectors, the other disk has 131072$'
run 2 migrate --queues=2 "$disk" "$blk --socket-path {socket} --ram 64M"
shows '^fault +destination, .*2 queues requested, it has 1$'
run 2 migrate "$disk" "$entropy"
shows '^fault +destination, .*the source has .*FLUSH \(virtio bit 9\) .*, which it does not offer$'
run 2 migrate "$disk" "sh -c 'echo gone >&2; exit 5' {socket}"
grep -qF "gone" "$scratch/out" "$scratch/err" || wrong "its last words are missing"
# The output of a back-end that still runs is shown, too.
run 1 migrate --json="$scratch/w.json" "$disk" \
    "bash -c 'echo no such device >&2; exec {fd}<&-; sleep 60'"
json '[e["output"] for e in d["faults"][0]["evidence"]] == [["no such device"]]' "$scratch/w.json"
shows '^    destination: no such device$'

# ---- Postcopy, if this machine permits it

# shellcheck disable=SC2086
"$godwit" migrate $short --quiet --postcopy --backend="$disk_file" >"$scratch/out" 2>&1 || status=$?
has_postcopy=
if grep -q "no postcopy here" "$scratch/out"; then
    printf '[  SKIPPED ] postcopy\nskipped: %s\n' "$(grep -m 1 'no postcopy here' "$scratch/out")"
else
    # shellcheck disable=SC2086
    run 0 migrate $short --quiet --postcopy --hops=2 --queues=1 --memory-form=table \
        --json="$scratch/p.json" --junit="$scratch/p.xml" --report="$scratch/p.html" \
        --backend="$disk_file"
    shows '^ +postcopy: .* pages stale at the switch'
    # A process with several disks: their workers are shared.
    # shellcheck disable=SC2086
    run 0 migrate $short --quiet --postcopy --backend="$blk --disk=socket={socket},file={file} \
        --disk=socket={socket}.2,ram=1M"
    json 'all(h["postcopy"]["end_ns"] > h["postcopy"]["begin_ns"] for h in d["hops"])' "$scratch/p.json"
    json '[c["outcome"] for c in d["checks"] if c["name"] == "pages-arrived"] == ["passed"]' \
        "$scratch/p.json"
    grep -q 'name="memories-equal"/>' "$scratch/p.xml" || wrong "no test case"
    grep -q '<h2>Postcopy</h2>' "$scratch/p.html" || wrong "no table"
    for layout in --packed --in-order --devices=2 --kill-at=random --postcopy-at=0; do
        # shellcheck disable=SC2086
        run 0 migrate $short --quiet --json=- --postcopy --link-rate=50M --fault-delay=100us \
            --page-order=random --cut-link-every=5ms "$layout" --backend="$disk_file"
        json 'd["hops"][0]["postcopy"]["pages_early"] == 0 and d["hops"][0]["postcopy"]["bytes_sent"] > 0'
    done
    json 'd["page_faults"]["at_ns"] == sorted(d["page_faults"]["at_ns"])'
    json 'd["hops"][0]["postcopy"]["cuts"] > 0 and d["hops"][0]["postcopy"]["faults"] > 0'
    # shellcheck disable=SC2086
    run 0 migrate $short --quiet --postcopy --device=rng --packed "$entropy" "$entropy"
    # shellcheck disable=SC2086
    run 2 migrate $short --quiet --postcopy --device=generic "$entropy" "$entropy"
    shows '^NOT TESTED after .*--device=generic makes no requests'
    has_postcopy=yes
fi

# ---- A back-end that is killed or stopped during a migration

two_children() {
    pgrep -P "$1" >"$scratch/children" && [ "$(wc -l <"$scratch/children")" = 2 ]
}

# hurt SIGNAL WHICH PHASE WORDS OPTION...: signal the source (1) or the destination (2) during a
# long phase. godwit must name the back-end and the phase, and no process may remain.
hurt() {
    local signal=$1 which=$2 phase=$3 words=$4 status=0
    local names=(- source destination)
    shift 4
    : >"$scratch/err" # do not match the progress output of the previous run
    # shellcheck disable=SC2086
    "$godwit" migrate $short "$@" --backend="$disk_file" >"$scratch/out" 2>"$scratch/err" &
    backend=$!
    wait_until grep -q " s  $phase  " "$scratch/err"
    wait_until two_children "$backend"
    kill "-$signal" "$(sed -n "${which}p" "$scratch/children")" || true # checked below
    wait "$backend" 2>/dev/null || status=$?
    backend=
    [ "$status" = 1 ] || wrong "status $status instead of 1: $signal to $which in $phase"
    shows "^fault +${names[which]}.*, phase \"$phase\".*$words"
    while read -r child; do
        ! kill -0 "$child" 2>/dev/null || wrong "a child stays: $signal to $which in $phase"
    done <"$scratch/children"
    [ -z "$(ls -A "$TMPDIR")" ] || wrong "left behind: $(ls "$TMPDIR")"
}

hurt KILL 1 "warm up" "signal 9" --warm-up=20s
hurt KILL 2 "warm up" "signal 9" --warm-up=20s
hurt KILL 1 copy "signal 9" --copy-time=20s
hurt KILL 2 copy "signal 9" --copy-time=20s
hurt KILL 2 settle "signal 9" --settle=20s
hurt STOP 1 copy "" --copy-time=20s --request-timeout=3s
hurt STOP 2 settle "" --settle=20s --request-timeout=3s
if [ -n "$has_postcopy" ]; then
    hurt KILL 2 postcopy "signal 9" --postcopy --postcopy-at=0 --link-rate=300K
fi

# ---- qemu-storage-daemon

if command -v qemu-storage-daemon >/dev/null; then
    qsd="qemu-storage-daemon --blockdev driver=file,node-name=f,filename={file},locking=off"
    qsd+=" --export vhost-user-blk,id=e,node-name=f,writable=on,addr.type=unix,addr.path={socket}"
    qsd+=",num-queues=2"
    run 0 probe --device=blk --json "$qsd"
    json 'd["queues"] == 2 and d["can_migrate"] and d["config"]["length"] == 60'
    run 0 bench --time=300ms --queues=2 --depth=8 --verify --writes=50 "$qsd"
    shows 'all as they were last written'
    run 2 bench --packed "$qsd"
    says 'RING_PACKED (34) was not negotiated'
    run 2 bench --in-order "$qsd"
    says 'does not offer IN_ORDER (35)'
    run 2 migrate --packed --backend="$qsd"
    shows 'RING_PACKED \(virtio bit 34\), which it does not offer'
fi

end_checks
if ! command -v qemu-storage-daemon >/dev/null; then
    echo "all else passed, but qemu-storage-daemon is not installed" >&2
    exit 77
fi
