#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A unit test linked with a mutant must fail, in a test of the detail that the mutant lacks.

usage: test_caught.py PROGRAM TEST...      the names of tests, one of which must be the first to fail
"""

import os
import signal
import subprocess
import sys
import threading

SECONDS = 150
SKIP = 77
# An event that the mutant loses never happens, so wait less than usual for it. If another test fails first
# because the machine is busy, repeat with more patience.
PATIENCE_MS = (2000, 20000, 60000)
BEGUN = "[ RUN      ] test_"
ENDED = "[       OK ] test_"
FAILED = ("[  FAILED  ] test_", "[  ERROR   ] test_")


def name_in(line):
    return line.split("]")[1].strip()


def first_failure(program, argument, patience_ms):
    """Run the program up to the first test that fails, hangs or ends the process; later tests may fail
    because of that one. Returns: its name, or None; the output.
    """
    said, begun = [], None
    # Slow programs accept the name of a single test; the others run all tests.
    with subprocess.Popen(["stdbuf", "-oL", program, argument], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", start_new_session=True,
                          env={**os.environ, "TEST_PATIENCE_MS": str(patience_ms)}) as process:
        alarm = threading.Timer(SECONDS, os.killpg, (process.pid, signal.SIGKILL))
        alarm.start()
        try:
            for line in process.stdout:
                said.append(line)
                if line.startswith(FAILED):
                    return name_in(line), "".join(said)
                if line.startswith(BEGUN):
                    begun = name_in(line)
                elif line.startswith(ENDED):
                    begun = None
            status = process.wait()
        finally:
            alarm.cancel()
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    if status == SKIP:
        print("".join(said))
        sys.exit(SKIP)
    return begun if status != 0 else None, "".join(said)


def main():
    program, *wanted = sys.argv[1:]
    for patience_ms in PATIENCE_MS:
        failed, said = first_failure(program, wanted[0], patience_ms)
        print(f"waiting for {patience_ms} ms: the first to fail is {failed or 'none'}")
        if failed in wanted:
            return
        print(said)
    sys.exit(f"the mutant is not caught by {' or '.join(wanted)}")


if __name__ == "__main__":
    main()
