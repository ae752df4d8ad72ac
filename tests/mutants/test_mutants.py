#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""`godwit migrate` must find each mutant of the library (mutate.py) and report correctly what it lost.
With the same options and seeds it must find nothing in the real back-end.

usage: test_mutants.py GODWIT REAL-BACKEND [NAME=MUTANT-BACKEND...]

Some losses only show if page borders and the wrap of a batch coincide, so the test tries several seeds
until one reveals the mutant. The reports of all runs must be right.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

SEEDS = 12
SECONDS = 60
QUICK = ["--quiet", "--strict", "--copy-time=200ms", "--warm-up=50ms", "--settle=50ms", "--disk-size=4M"]
SLOW_DISK = ["--delay", "10"]  # of the back-end: requests are in flight at any moment


class Mutant:
    def __init__(self, *options, uses=(), fault=None, backend=()):
        self.options = options
        self.uses = set(uses)  # what the lost pages may hold; one of them must be found
        self.fault = fault  # part of a fault's text, if the mutant does not show in pages
        self.backend = backend


BUFFERS = ("data buffer", "status byte")
HINTS = {"avail_event", "used flags", "device event area"}  # nothing is lost without their marks
LINKED = ("used-elements", "status-byte")
EXPECTED = {
    "used-idx": Mutant(uses=["used index"]),
    "avail-event": Mutant(uses=["avail_event"]),
    "used-elements": Mutant(uses=["used element"]),
    "packed-used": Mutant("--packed", uses=["descriptor written back"]),
    "packed-wrap": Mutant("--packed", "--queue-size=1024", "--depth=300", "--hops=6",
                          uses=["descriptor written back"], backend=SLOW_DISK),
    "packed-event": Mutant("--packed", uses=["device event area"]),
    # Needs a ring longer than a page, and a last batch that wraps.
    "used-wrap": Mutant("--queue-size=1024", "--depth=300", "--hops=6", uses=["used element"],
                        backend=SLOW_DISK),
    "last-page": Mutant("--block-size=64K", uses=["data buffer"]),
    "status-byte": Mutant(uses=["status byte"]),
    "indirect-data": Mutant(uses=BUFFERS),
    "late-region": Mutant("--replace-log-every=0", "--hotplug=50ms", "--copy-time=500ms",
                          uses=BUFFERS),
    "late-map": Mutant("--replace-log-every=0", "--hotplug=50ms", "--copy-time=500ms", uses=BUFFERS),
    "mark-before-write": Mutant(uses=BUFFERS, backend=SLOW_DISK),
    "stop-before-drain": Mutant(backend=SLOW_DISK, fault="taken and not completed"),
    "replaced-log": Mutant("--replace-log-every=20ms", uses=(
        *BUFFERS, "used flags", "used index", "used element", "avail_event")),
    "log-all-off": Mutant("--cancel=1", fault="after LOG_ALL had been cleared"),
    "postcopy-own-address": Mutant("--postcopy", "--postcopy-at=0", "--link-rate=20M",
                                   fault="in none of its"),
}

CRASH = "only who comes after a crash can tell"
AS_IT_COMES = "only where the first to touch a region told later is too early, which is rarely so"

# No migration can reveal these, because used rings are at the addresses where they are logged; unit tests
# find them.
INVISIBLE = {
    "used-flags": "flags and index are in one word, so the mark of the index covers both",
    "not-in-flight": CRASH,
    "shown-before-linked": CRASH,
    "cleared-before-shown": CRASH,
    "old-used": CRASH,
    "done-twice": CRASH,
    "other-order": CRASH,
    "stop-suspends": "no migration negotiates GET_VRING_BASE_INFLIGHT",
    "trusts-zeroes": CRASH,
    "postcopy-late-region": AS_IT_COMES,
    "postcopy-registers-late": AS_IT_COMES,
    "postcopy-unacknowledged": AS_IT_COMES,
    "postcopy-control-reads": "the page comes, so it only takes longer",
}


def check_verdict(status, told, uses):
    """Hints alone are a fault with --strict only; other losses always are."""
    wanted = told["verdict"]
    if uses and not uses <= HINTS:
        wanted = "FAILED"
    elif uses and not told["faults"]:
        wanted = "PASSED, with hints"
    if wanted != told["verdict"] or status != told["exit_status"]:
        sys.exit(f"lost {sorted(uses)}: verdict {told['verdict']}, status {status}")


def check_hints(godwit, backend, seed):
    """Words that cannot lose data are reported as hints, with exit status 0 unless --strict is given."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        command = f"{shlex.quote(str(backend))} --socket-path {{socket}} --blk-file {{file}}"
        options = [option for option in QUICK if option != "--strict"]
        done = subprocess.run(
            [godwit, "migrate", *options, f"--seed={seed}", f"--json={result}", "--backend",
             command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=SECONDS, check=False)
        told = json.loads(result.read_text(encoding="utf-8"))
    if done.returncode != 0 or (told["verdict"], told["exit_status"]) not in (
            ("PASSED, with hints", 0), ("PASSED", 0)):  # another run may lose none
        print(f"NOT OK: hints are {told['verdict']}, status {done.returncode}\n{done.stdout}")
        return False
    return True


def check_untested(godwit, backend):
    """Unused rings cannot reveal a back-end that loses its marks."""
    command = f"{shlex.quote(str(backend))} --socket-path {{socket}} --blk-file {{file}}"
    done = subprocess.run(
        [godwit, "migrate", *QUICK, "--device=generic", "--backend", command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=SECONDS, check=False)
    if done.returncode != 2 or "NOT TESTED after" not in done.stdout:
        print(f"NOT OK: without a request: status {done.returncode}\n{done.stdout}")
        return False
    return True


def migrate(godwit, backend, mutant, seed):
    """Returns: (exit status, all faults, uses of the pages lost, output). A verdict that contradicts the
    losses ends the program."""
    command = " ".join([shlex.quote(str(backend)), "--socket-path {socket} --blk-file {file}",
                        *mutant.backend])
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        done = subprocess.run(
            [godwit, "migrate", *QUICK, *mutant.options, f"--seed={seed}", f"--json={result}",
             "--backend", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=SECONDS, check=False)
        if not result.exists():
            return done.returncode, "no result", set(), done.stdout
        told = json.loads(result.read_text(encoding="utf-8"))
    uses = {use for use, n in told["lost_by_use"].items() if n > 0}
    check_verdict(done.returncode, told, uses)
    faults = "; ".join([told["reason"], *(fault["text"] for fault in told["faults"])])
    return done.returncode, faults, uses, done.stdout


def find(godwit, name, backend):
    """Returns: the seed that reveals the mutant; 0: not supported here; None: missed, already reported."""
    mutant = EXPECTED[name]
    for seed in range(1, SEEDS + 1):
        status, reason, uses, said = migrate(godwit, backend, mutant, seed)
        if status == 0:
            continue
        if "no postcopy here" in said:
            print(f"skipped: {name}: {reason or said}")
            return 0
        right = status == 1
        if mutant.fault:
            right = right and mutant.fault in reason
        else:
            right = right and bool(uses) and uses <= mutant.uses
        if not right:
            print(f"NOT OK: {name}, seed {seed}: status {status}, lost {sorted(uses)}\n{said}")
            return None
        print(f"ok: {name}, seed {seed}: {reason} {sorted(uses) or ''}")
        return seed
    print(f"NOT OK: {name} is not found with seeds 1 to {SEEDS}")
    return None


def migrate_linked(godwit, backend, seed):
    """In two processes, with postcopy: losses are found while the guest already runs."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        command = f"{shlex.quote(str(backend))} --socket-path {{socket}} --blk-file {{file}}"
        words = [godwit, "migrate", *QUICK, f"--shared-file={folder}/disk", command]
        with subprocess.Popen(
                [*words, "--listen=127.0.0.1:0"], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as there:
            port = re.search(r"listening at \S+:(\d+);", there.stderr.readline())
            done = subprocess.run(
                [*words, f"--to=127.0.0.1:{port[1]}", f"--json={result}", f"--seed={seed}",
                 "--postcopy", "--postcopy-at=2"] if port else ["false"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, timeout=SECONDS, check=False)
            said = done.stdout + there.communicate(timeout=SECONDS)[1]
        if not result.exists():
            return done.returncode, set(), said
        told = json.loads(result.read_text(encoding="utf-8"))
    return done.returncode, {use for use, n in told["lost_by_use"].items() if n > 0}, said


def find_linked(godwit, real, backends):
    for name in LINKED:
        for seed in range(1, SEEDS + 1):
            status, uses, said = migrate_linked(godwit, backends[name], seed)
            if status:
                break
        if "no postcopy here" in said:
            print(f"skipped: {name} in two processes: {said}")
            continue
        if status != 1 or not uses or not uses <= EXPECTED[name].uses:
            print(f"NOT OK: {name} in two processes: status {status}, lost {sorted(uses)}\n{said}")
            return False
        print(f"ok: {name} in two processes, seed {seed}: {sorted(uses)}")
        status, uses, said = migrate_linked(godwit, real, seed)
        if status:
            print(f"NOT OK: the real back-end in two processes: lost {sorted(uses)}\n{said}")
            return False
    return True


def main():
    os.environ["COLUMNS"] = "1000"  # unwrapped lines
    godwit, real, *pairs = sys.argv[1:]
    backends = dict(pair.split("=", 1) for pair in pairs)
    failed = False
    for name, backend in backends.items():
        if name in INVISIBLE:
            print(f"invisible: {name}: {INVISIBLE[name]}")
            continue
        if name not in EXPECTED:
            sys.exit(f"{name}: nobody says what should be found")
        seed = find(godwit, name, backend)
        if seed is None:
            failed = True
        if not seed:
            continue
        if name == "avail-event":
            failed |= not check_hints(godwit, backend, seed)
        status, reason, _, said = migrate(godwit, real, EXPECTED[name], seed)
        if status != 0:
            print(f"NOT OK: the real back-end as {name}, seed {seed}: {reason}\n{said}")
            failed = True
    failed |= not check_untested(godwit, backends["used-idx"])
    failed |= not find_linked(godwit, real, backends)
    for name in set(EXPECTED) - set(backends):
        print(f"NOT OK: {name} is not there")
        failed = True
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
