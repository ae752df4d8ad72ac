#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Summarizes a `meson test`: prints what failed, and what was skipped and why, on stderr, and the
numbers of passed, failed and skipped tests on stdout.

usage: tally.py TESTLOG.json
       tally.py --strict STAGE MAY_SKIP TESTLOG.json

With --strict, a skipped test and a skipped case of a test count as failed, unless a line of the file
MAY_SKIP allows it in this stage: STAGE[,STAGE...] TEST[:CASE] REASON.
"""

import json
import re
import sys

LINES = 40  # of the output of a test that failed
PASSED = ("OK", "EXPECTEDFAIL")
CASE = re.compile(r"^\[  SKIPPED \] (?!\d+ test)(?:\w+: )?(\w+)", re.MULTILINE)


def output(test):
    return ((test.get("stdout") or "") + (test.get("stderr") or "")).rstrip().splitlines()


def name_of(test):
    return test["name"].split(" / ")[-1]


def read_may_skip(path, stage):
    """Each TEST or TEST:CASE that this stage may skip."""
    names = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            words = line.split(None, 2)
            if not words or words[0].startswith("#"):
                continue
            if len(words) < 3:
                sys.exit(f"{path}: a stage, a test and a reason expected: {line.strip()}")
            if set("*?[") & set(words[0] + words[1]):
                sys.exit(f"{path}: names are listed one by one, without patterns: {line.strip()}")
            if stage in words[0].split(","):
                names.append(words[1])
    return names


def skipped_cases(test):
    """The cases that a test of cmocka skipped, by its output."""
    return sorted(set(CASE.findall("\n".join(output(test)))))


def forbidden(test, may_skip):
    """What this test skipped and must not skip."""
    name = name_of(test)
    if test["result"] == "SKIP":
        skipped = [name]
    elif test["result"] in PASSED:
        skipped = [f"{name}:{case}" for case in skipped_cases(test)]
    else:
        skipped = []
    return [s for s in skipped if s not in may_skip]


def main():
    words = sys.argv[1:]
    may_skip = None
    if words[:1] == ["--strict"] and len(words) == 4:
        may_skip = read_may_skip(words[2], words[1])
        words = words[3:]
    if len(words) != 1:
        sys.exit(__doc__)
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    with open(words[0], encoding="utf-8") as log:
        tests = [json.loads(line) for line in log if line.strip()]
    for test in tests:
        name = name_of(test)
        must_run = forbidden(test, may_skip) if may_skip is not None else []
        if must_run:
            counts["failed"] += 1
            print(f"    FAILED {name}: must not be skipped here: {', '.join(must_run)}: "
                  f"{(output(test) or ['no reason given'])[-1]}", file=sys.stderr)
        elif test["result"] in PASSED:
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
