#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""tools/dev/tally.py counts the results of a test run; with --strict it reports unexpected skips."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
TALLY = TOP / "tools/dev/tally.py"
CASES = "[==========] x: Running 2 test(s).\n[  SKIPPED ] test_uring\n[  SKIPPED ] 1 test(s)."
MAY_SKIP = "# comment\n\nxen,lab  slow_b  too slow there\nvalgrind  e:test_uring  no io_uring\n"


def tally(tests, *words, listed=MAY_SKIP):
    with tempfile.TemporaryDirectory() as folder:
        log, may_skip = Path(folder, "log.json"), Path(folder, "may_skip.txt")
        log.write_text("\n".join(json.dumps(test) for test in tests))
        may_skip.write_text(listed)
        words = [str(may_skip) if word == "MAY_SKIP" else word for word in words]
        r = subprocess.run([TALLY, *words, log], capture_output=True, text=True, check=False)
    return r.stdout.split(), r.stderr


def test(name, result, stdout=""):
    return {"name": f"godwit:unit / {name}", "result": result, "stdout": stdout, "stderr": "",
            "returncode": 0, "duration": 1.0}


def stale():
    """Entries of the real list whose stage, test or case does not exist."""
    stages = set(re.findall(r"^stage_(\w+)\(\)", (TOP / "tools/test").read_text(), re.MULTILINE))
    sources = {path.stem: path.read_text() for path in (TOP / "tests").rglob("*")
               if path.suffix in (".c", ".py", ".sh")}
    for line in (TOP / "tests/may_skip.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        stage_list, test_and_case = line.split()[:2]
        name, _, case = test_and_case.partition(":")
        name = name.removesuffix("_external")
        if unknown := set(stage_list.split(",")) - stages:
            yield f"may_skip.txt: no stage {unknown}: {line}"
        files = [sources[stem] for stem in (f"test_{name}", f"it_{name}", name) if stem in sources]
        if not files:
            yield f"may_skip.txt: no test {name}: {line}"
        elif case and case != "io_uring" and not any(re.search(rf"\b{case}\b", text) for text in files):
            yield f"may_skip.txt: {name} has no case {case}: {line}"


def main():
    tests = [test("a", "OK"), test("slow_b", "SKIP", "skipped: no such device"),
             test("c", "FAIL", "it broke"), test("d", "TIMEOUT"), test("e", "OK", CASES),
             test("f", "EXPECTEDFAIL")]
    wrong = list(stale())
    if "without patterns" not in tally(tests, "--strict", "gcc", "MAY_SKIP", listed="gcc  a*  any\n")[1]:
        wrong.append("patterns are taken")
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
