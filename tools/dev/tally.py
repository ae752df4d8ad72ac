#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What a `meson test` did: tells what failed and what was skipped and why, on stderr, and the
numbers of tests passed, failed and skipped on stdout.

usage: tally.py TESTLOG.json
"""

import json
import sys

LINES = 40  # of the output of a test that failed
PASSED = ("OK", "EXPECTEDFAIL")


def output(test):
    return ((test.get("stdout") or "") + (test.get("stderr") or "")).rstrip().splitlines()


def main():
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    with open(sys.argv[1], encoding="utf-8") as log:
        tests = [json.loads(line) for line in log if line.strip()]
    for test in tests:
        name = test["name"].split(" / ")[-1]
        if test["result"] in PASSED:
            counts["passed"] += 1
        elif test["result"] == "SKIP":
            counts["skipped"] += 1
            print(f"    skipped {name}: {(output(test) or ['no reason given'])[-1]}",
                  file=sys.stderr)
        else:
            counts["failed"] += 1
            print(f"    FAILED {name} ({test['result'].lower()}, exit {test['returncode']}, "
                  f"{test['duration']:.1f} s)", file=sys.stderr)
            for line in output(test)[-LINES:]:
                print(f"        {line}", file=sys.stderr)
    print(counts["passed"], counts["failed"], counts["skipped"])


if __name__ == "__main__":
    main()
