#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Rules for every text file: a licence line, no notes about future work, no conditional compilation in
the data path, no stray white space.

usage: check_text.py ROOT
"""

import re

import tree

LICENCE = "SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause"
LICENCE_LINES = 3  # it must be within the first lines
SOURCES = (".c", ".h", ".in", ".py", ".sh", ".map", ".supp", ".build", ".yml")
NAMED_SOURCES = ("meson_options.txt", "meson.options")

# The words are composed so that this file does not contain them.
PROMISE = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3)) + r")\b")

# Builds differ in the files that meson chooses, never in conditionals.
NO_CONDITIONAL = ("src/core", "src/log")
CONDITIONAL = re.compile(r"^[ \t]*#[ \t]*(if|ifdef|ifndef|elif|else)\b")


def is_source(path, text):
    if path.name.endswith(".json.in"):
        return False  # no room for comments
    return (path.suffix in SOURCES or path.name in NAMED_SOURCES or text.startswith("#!")
            or path.name.startswith(".clang-") or path.name == ".editorconfig")


def is_binary(path):
    return b"\0" in path.read_bytes()


def check(root):
    for path in tree.files(root):
        if is_binary(root / path):
            continue
        text = tree.read(root / path)
        lines = text.splitlines()
        if is_source(path, text) and LICENCE not in "\n".join(lines[:LICENCE_LINES]):
            yield f"{path}: no line '{LICENCE}' at its start"
        if text and not text.endswith("\n"):
            yield f"{path}: the last line has no end"
        for number, line in enumerate(lines, 1):
            if PROMISE.search(line):
                yield f"{path}:{number}: do it now, or open an issue: {line.strip()}"
            if line != line.rstrip() and path.suffix != ".patch":
                yield f"{path}:{number}: white space at the end of the line"
            if path.suffix in (".c", ".h") and "\t" in line:
                yield f"{path}:{number}: a tab"
            if CONDITIONAL.match(line) and any(tree.below(path, f) for f in NO_CONDITIONAL):
                yield f"{path}:{number}: conditional compilation: {line.strip()}"


if __name__ == "__main__":
    tree.main(check)
