#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A unit test, linked with a mutant, must fail, and in the test that is about what the mutant lacks.

usage: test_caught.py PROGRAM TEST...      the names of tests, one of which must be the first to fail
"""

import os
import subprocess
import sys

SECONDS = 150
SKIP = 77
# What the mutant loses never comes, and is not waited for as long as usual; only where a busy machine
# made something else fail first is it waited for longer.
PATIENCE_MS = (2000, 20000, 60000)


def check_hung(program, said, wanted):
    """What waits for an answer that never comes has found the mutant, too."""
    begun = died_in(said)
    print(f"hangs in {begun[0] if begun else 'no test'}")
    if begun and begun[0] in wanted:
        return None
    print(said)
    return f"{program} hangs, and not in {' or '.join(wanted)}"


def died_in(said):
    """The test that began and did not end, as where an assertion of the library fails."""
    last = [line for line in said.splitlines() if line.startswith("[ ") and "] test_" in line][-1:]
    return [line.split("]")[1].strip() for line in last if line.startswith("[ RUN")]


def run(program, wanted, patience_ms):
    """What the mutant's program did wrong, or None if it failed where it must. Ends if it is skipped."""
    try:
        # Slow programs take the name of a test to run alone; the others run all.
        done = subprocess.run([program, wanted[0]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace",
                              timeout=SECONDS, check=False,
                              env={**os.environ, "TEST_PATIENCE_MS": str(patience_ms)})
    except subprocess.TimeoutExpired as hung:
        return check_hung(program, (hung.stdout or b"").decode(errors="replace"), wanted)
    if done.returncode == SKIP:
        print(done.stdout)
        sys.exit(SKIP)
    # What fails behind the first may fail for what that one left behind.
    failed = [line.split("]")[1].strip() for line in done.stdout.splitlines()
              if line.startswith(("[  FAILED  ] test_", "[  ERROR   ] test_"))] or died_in(done.stdout)
    print(f"status {done.returncode}, failed: {', '.join(failed) or 'nothing'}")
    if done.returncode != 0 and failed and failed[0] in wanted:
        return None
    print(done.stdout)
    return f"the mutant is not caught by {' or '.join(wanted)}"


def main():
    program, *wanted = sys.argv[1:]
    for patience_ms in PATIENCE_MS:
        wrong = run(program, wanted, patience_ms)
        if wrong is None:
            return
    sys.exit(wrong)


if __name__ == "__main__":
    main()
