#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Have spin search all states of a model: without mutations it must find nothing, and each of its
mutations must be found. Skipped (77) without spin.

usage: test_models.py MODEL COMPILER...
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SKIP = 77
MEMORY_MIB = 1024
SECONDS = 100


def run(args, folder):
    return subprocess.run(args, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=SECONDS, check=False)


def must(args, folder):
    done = run(args, folder)
    if done.returncode != 0:
        sys.exit(f"{' '.join(args)}:\n{done.stdout}")


def verify(model, compiler, mutation):
    """The output of a search of all states: (errors, states, whether it was complete, text)."""
    with tempfile.TemporaryDirectory() as folder:
        define = [f"-D{mutation}"] if mutation else []
        must(["spin", *define, "-a", str(model)], folder)
        must([*compiler, "-O1", "-w", "-DSAFETY", "-DCOLLAPSE", "-DNOFAIR",
              f"-DMEMLIM={MEMORY_MIB}", "-o", "pan", "pan.c"], folder)
        text = run(["./pan", "-m200000"], folder).stdout
    errors = re.search(r"errors: (\d+)", text)
    states = re.search(r"(\d+) states, stored", text)
    if errors is None or states is None:
        sys.exit(f"{model.name} {mutation}: no result:\n{text}")
    complete = not re.search(r"max search depth too small|out of memory|reached -DMEMLIM|"
                             r"Search not completed", text)
    return int(errors.group(1)), int(states.group(1)), complete, text


def main():
    model, compiler = Path(sys.argv[1]).resolve(), sys.argv[2:]
    if not shutil.which("spin"):
        print("skipped: spin is not installed (Debian package spin)", file=sys.stderr)
        sys.exit(SKIP)
    os.environ["LC_ALL"] = "C"
    failed = False
    mutations = re.findall(r"^ \*   -D(\w+)", model.read_text(encoding="utf-8"), re.MULTILINE)
    if not mutations:
        sys.exit(f"{model.name} names no mutations")
    for mutation in [None, *mutations]:
        errors, states, complete, text = verify(model, compiler, mutation)
        if mutation is None:
            good = errors == 0 and complete
        else:
            good = errors > 0 and "assertion violated" in text
        print(f"{'ok' if good else 'NOT OK'}: {model.name} {mutation or 'as it is'}: "
              f"{errors} errors in {states} states")
        if not good:
            print(text)
            failed = True
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
