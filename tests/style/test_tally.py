#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""tools/dev/tally.py counts what a test run did, and with --strict lets nothing be skipped unnoticed."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

TALLY = Path(__file__).resolve().parents[2] / "tools/dev/tally.py"
CASES = "[==========] x: Running 2 test(s).\n[  SKIPPED ] test_uring\n[  SKIPPED ] 1 test(s)."
MAY_SKIP = "# comment\n\nxen  slow_*  too slow there\nvalgrind  *:test_uring  no io_uring\n"


def tally(tests, *words):
    with tempfile.TemporaryDirectory() as folder:
        log, may_skip = Path(folder, "log.json"), Path(folder, "may_skip.txt")
        log.write_text("\n".join(json.dumps(test) for test in tests))
        may_skip.write_text(MAY_SKIP)
        words = [str(may_skip) if word == "MAY_SKIP" else word for word in words]
        r = subprocess.run([TALLY, *words, log], capture_output=True, text=True, check=False)
    return r.stdout.split(), r.stderr


def test(name, result, stdout=""):
    return {"name": f"godwit:unit / {name}", "result": result, "stdout": stdout, "stderr": "",
            "returncode": 0, "duration": 1.0}


def main():
    tests = [test("a", "OK"), test("slow_b", "SKIP", "skipped: no such device"),
             test("c", "FAIL", "it broke"), test("d", "TIMEOUT"), test("e", "OK", CASES),
             test("f", "EXPECTEDFAIL")]
    wrong = []
    for words, numbers, says in (
            ((), ["3", "2", "1"], ("skipped slow_b: skipped: no such device", "it broke")),
            (("--strict", "gcc", "MAY_SKIP"), ["2", "4", "0"], ("slow_b: must not", "e:test_uring")),
            (("--strict", "xen", "MAY_SKIP"), ["2", "3", "1"], ("e:test_uring",)),
            (("--strict", "valgrind", "MAY_SKIP"), ["3", "3", "0"], ("slow_b: must not",))):
        found, stderr = tally(tests, *words)
        wrong += [f"{words}: {found} instead of {numbers}"] if found != numbers else []
        wrong += [f"{words}: {text!r} is missing" for text in says if text not in stderr]
    print("\n".join(wrong))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
