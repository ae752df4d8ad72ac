#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""linkage.py must find each way in which headers, map and library can differ.

usage: CC=... test_linkage.py
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = [f"gw_f{i}" for i in range(12)]

HEADER = """
typedef void gw_cb(void *arg);          /* no function: gw_comment(); */
struct gw_ops { int (*gw_member)(int); };
static inline int gw_inline(int a) { return a; }
#define gw_macro(a) gw_f0(a)
%s
"""


def text_of(names, form):
    return "\n".join(form % name for name in names)


def run(folder, declared, mapped, defined, tail="", local="local: *;"):
    """The exit code and output of linkage.py on a library made for the purpose."""
    (folder / "a.h").write_text(HEADER % text_of(declared, "int *%s(int a,\n    gw_cb *cb);"))
    (folder / "l.map").write_text("X_1 { global:\n%s\n%s };\n"
                                  % (text_of(mapped, "%s; /* a */"), local))
    (folder / "l.c").write_text(text_of(defined, "int %s(int a) { return a; }") + "\n" + tail)
    subprocess.run([*os.environ.get("CC", "cc").split(), "-w", "-shared", "-fPIC", "-nostdlib",
                    "-o", folder / "l.so", folder / "l.c",
                    f"-Wl,--version-script={folder / 'exports.map'}"], check=True)
    done = subprocess.run([sys.executable, HERE / "linkage.py", folder / "l.so", folder / "l.map",
                           folder / "a.h"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def main():
    cases = [
        ("all the same", True, "", (NAMES, NAMES, NAMES), {}),
        ("not in the map", False, "gw_new is declared in a.h but not named",
         (NAMES + ["gw_new"], NAMES, NAMES), {}),
        ("not defined", False, "gw_new is in the map but the library does not define it",
         (NAMES + ["gw_new"], NAMES + ["gw_new"], NAMES), {}),
        ("only in the map", False, "gw_new is in the map but in no header",
         (NAMES, NAMES + ["gw_new"], NAMES + ["gw_new"]), {}),
        ("exported", False, "gw_new is exported but not in the map",
         (NAMES, NAMES, NAMES + ["gw_new"]), {}),
        ("a variable", False, "gw_f0 is exported but is no function",
         (NAMES, NAMES, NAMES[1:]), {"tail": "int gw_f0 = 1;"}),
        ("open map", False, "everything would be exported", (NAMES, NAMES, NAMES), {"local": ""}),
        ("a pattern", False, "a pattern", (NAMES, NAMES + ["gw_*"], NAMES), {}),
        ("empty header", False, "this check is blind", ([], [], []), {}),
    ]
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "exports.map").write_text("X_1 { global: gw_*; local: *; };\n")
        for what, good, expected, names, extra in cases:
            code, output = run(folder, *names, **extra)
            if (code == 0) != good or expected not in output:
                failed += 1
                print(f"{what}: exit {code}\n{output}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
