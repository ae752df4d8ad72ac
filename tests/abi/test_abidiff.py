#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""abidiff.py must find each incompatible change of a library, and accept what programs do not notice.

usage: CC=... test_abidiff.py
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADER = """
#include <stddef.h>
struct gw_cfg { int a; int b; };
struct gw_growing {
    /* its * size */
    size_t size;
    long a; long b;
};
enum gw_kind { GW_ONE, GW_TWO };
struct gw_hidden;
int gw_new(struct gw_hidden **ret, const struct gw_cfg *cfg);
int gw_set(struct gw_hidden *h, enum gw_kind kind);
int gw_grow(const struct gw_growing *g);
void gw_free(struct gw_hidden *h);
"""
SOURCE = """
#include "public/a.h"
#include "private/a.h"
int gw_new(struct gw_hidden **ret, const struct gw_cfg *cfg) { return ret == 0 || cfg->a; }
int gw_grow(const struct gw_growing *g) { return g->a == g->b; }
int gw_set(struct gw_hidden *h, enum gw_kind kind) { return h->secret + (int)kind; }
void gw_free(struct gw_hidden *h) { h->secret = 0; }
"""
# Its name is that of the public header.
PRIVATE = """
struct gw_inner { int secret; };
struct gw_hidden { struct gw_inner *inner; int secret; };
"""
SONAME = "libgw.so.0"

# What, accepted?, (text, its replacement) in header and source, soname.
CASES = [
    ("nothing", True, [], SONAME),
    ("a new function", True, [("void gw_free", "int gw_more(void);\nvoid gw_free"),
                              ("#include \"public/a.h\"", "#include \"public/a.h\"\nint gw_more(void) { return 1; }")], SONAME),
    ("a hidden structure", True, [("int secret;", "long other; int secret;")], SONAME),
    ("a new member at the end of a growing structure", True, [("long a; long b;", "long a; long b; long c;")], SONAME),
    ("a new member within a growing structure", False, [("long a; long b;", "long a; long c; long b;")], SONAME),
    ("a removed member of a growing structure", False, [("long a; long b;", "long a;"), ("g->a == g->b", "g->a")],
     SONAME),
    ("a removed function", False, [("int gw_set(struct gw_hidden *h, enum gw_kind kind)",
                                    "static inline int gw_set(struct gw_hidden *h, enum gw_kind kind)")], SONAME),
    ("a new member", False, [("int a; int b;", "int a; int b; int c;")], SONAME),
    ("a wider member", False, [("int a; int b;", "long a; int b;")], SONAME),
    ("members in another order", False, [("int a; int b;", "int b; int a;")], SONAME),
    ("another value", False, [("GW_ONE, GW_TWO", "GW_TWO, GW_ONE")], SONAME),
    ("another parameter", False, [("enum gw_kind kind", "long kind")], SONAME),
    ("a removed function, a new soname", True,
     [("int gw_set(struct gw_hidden *h, enum gw_kind kind)",
       "static inline int gw_set(struct gw_hidden *h, enum gw_kind kind)")], "libgw.so.1"),
]


def build(folder, changes, soname):
    header, source, private = HEADER, SOURCE, PRIVATE
    for old, new in changes:
        header, source, private = (text.replace(old, new) for text in (header, source, private))
    if "static inline" in header:  # the body is in the source
        header = "\n".join(line for line in header.splitlines() if "static inline" not in line)
    folder.mkdir()
    (folder / "private").mkdir()
    (folder / "private/a.h").write_text(private)
    (folder / "public").mkdir()
    (folder / "public/a.h").write_text(header)
    (folder / "a.c").write_text(source)
    subprocess.run([*os.environ.get("CC", "cc").split(), "-w", "-g", "-shared", "-fPIC", f"-Wl,-soname,{soname}",
                    "-o", folder / "libgw.so", folder / "a.c"], check=True)


def run(*words):
    done = subprocess.run([sys.executable, HERE / "abidiff.py", *words], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def main():
    if not shutil.which("abidw"):
        print("abidw is not installed", file=sys.stderr)
        sys.exit(77)
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder / "old", [], SONAME)
        code, output = run("--record", folder / "old.abi", folder / "old/libgw.so", folder / "old/public")
        if code != 0:
            sys.exit(output)
        for number, (what, is_accepted, changes, soname) in enumerate(CASES):
            build(folder / str(number), changes, soname)
            code, output = run(folder / "old.abi", folder / str(number) / "libgw.so",
                               folder / str(number) / "public")
            if (code == 0) != is_accepted:
                failed += 1
                print(f"{what}: exit {code}\n{output}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
