#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""`godwit crash` must find each mutant of inflight tracking (mutate.py) and report the right failure. With
the same options and seeds it must find nothing in the real back-end.

usage: test_crashes.py GODWIT REAL-BACKEND [NAME=MUTANT-BACKEND...]      other mutants are left out

Kills happen at random, so the test tries several seeds until one reveals the mutant. The reports of all
runs must be right.
"""

import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

SEEDS = 12
SECONDS = 300
KILLS = 120
KILLS_MIN = 10  # with fewer, no kill may happen with a request in flight
QUICK = ["--quiet", "--queues=2", "--disk-size=4M", "--file-size=4M",
         "--request-timeout=10s"]
SPLIT, PACKED, IN_ORDER = [], ["--packed"], ["--in-order"]

# Mutants that need requests in flight when a ring stops: options that slow down their disk.
SLOW = {"stop-suspends": " --delay 20"}

# Mutants that only a kill between two particular stores reveals. Without watchpoints it takes long to
# stop there.
EXACT = {"shown-before-linked", "cleared-before-shown", "old-used"}

# The checks that may fail, and the kinds of rings that reveal the mutant.
ANSWERS = {"region", "answered-once", "answered-all"}
EXPECTED = {
    "not-in-flight": (ANSWERS, [SPLIT, PACKED]),
    # A resubmitted request is numbered before newer ones that reused its id.
    "shown-before-linked": ({"region", "answered-once", "order"}, [SPLIT, PACKED]),
    "cleared-before-shown": (ANSWERS, [SPLIT, PACKED]),
    "old-used": (ANSWERS, [SPLIT, PACKED]),
    "done-twice": (ANSWERS | {"restarts"}, [SPLIT, PACKED]),
    "other-order": ({"order", *ANSWERS}, [SPLIT, PACKED, IN_ORDER]),
    "stop-suspends": ({"region"}, [SPLIT, PACKED]),  # on a slow disk, see SLOW
    # With nothing in flight, a split ring itself shows where to continue.
    "trusts-zeroes": (ANSWERS | {"restarts"}, [PACKED]),
}


def crash(godwit, backend, disk, options, seed, kills=KILLS):
    """Returns: (exit status, the check that failed, kills until then, the output)."""
    command = f"{shlex.quote(str(backend))} --socket-path {{socket}} --blk-file {{file}} " \
              "--num-queues 2" + disk
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        done = subprocess.run(
            [godwit, "crash", *QUICK, *options, f"--kills={kills}", f"--seed={seed}",
             f"--json={result}", command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=SECONDS, check=False)
        if not result.exists():
            return done.returncode, None, 0, done.stdout
        report = json.loads(result.read_text(encoding="utf-8"))
    fault = report["fault"]
    return done.returncode, fault and fault["check"], report["kills"], done.stdout


def find(godwit, real, name, backend, options):
    """Is the mutant found, for the right reason, and nothing in the real back-end?"""
    wanted, _ = EXPECTED[name]
    what = " ".join([name, *options])
    options = options + [f"--exact={80 if name in EXACT else 0}"]
    for seed in range(1, SEEDS + 1):
        status, check, kills, said = crash(godwit, backend, SLOW.get(name, ""), options, seed)
        if status == 0:
            continue
        if status != 1 or check not in wanted:
            print(f"NOT OK: {what}, seed {seed}: status {status}, {check}\n{said}")
            return False
        print(f"ok: {what}, seed {seed}: {check}: {said.splitlines()[-2]}")
        status, check, _, said = crash(godwit, real, SLOW.get(name, ""), options, seed,
                                       max(kills, KILLS_MIN))
        if status != 0:
            print(f"NOT OK: the real back-end as {what}, seed {seed}: {check}\n{said}")
        return status == 0
    print(f"NOT OK: {what} is not found with seeds 1 to {SEEDS}")
    return False


def main():
    godwit, real, *pairs = sys.argv[1:]
    backends = dict(pair.split("=", 1) for pair in pairs)
    failed = False
    for name, (_, rings) in EXPECTED.items():
        if name not in backends:
            print(f"NOT OK: {name} is not there")
            failed = True
            continue
        for options in rings:
            failed |= not find(godwit, real, name, backends[name], options)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
