#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Limits on the length of files and functions, except those of tests, and on the number of files in a folder.

usage: check_size.py ROOT
"""

import re
from collections import Counter

import tree

MAX_SOURCE = 700
MAX_PRIVATE_HEADER = 200
MAX_PUBLIC_HEADER = 350
MAX_FUNCTION = 80
MAX_FOLDER = 20  # .c and .h files; tests, too

# The largest share of the library that one file may have, once the library is big enough.
MAX_SHARE = 0.15
LIBRARY = ("src/base", "src/core", "src/log", "src/postcopy", "src/xen")
BIG_LIBRARY = 4000

# path -> (lines allowed, why)
LONG_FILES = {
    "include/godwit/daemon.h": (300, "the configuration and the daemon, mostly prose"),
    "include/godwit/frontend/frontend.h": (560, "all that a front-end sends in one header, mostly prose"),
    "tools/load/load.h": (270, "the interface of the load, mostly prose"),
}

# path:function -> (lines allowed, why)
LONG_FUNCTIONS = {
}

# clang-format puts the braces of a function, and of nothing else, alone in the first column.
FUNCTION = re.compile(r"^\{\n.*?^\}$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"\b(\w+)\s*\(")


def functions(text):
    """(name, first line, number of lines) of each function, from its brace to its brace."""
    code = tree.strip_comments(text)
    for match in FUNCTION.finditer(code):
        before = re.split(r"[;}]\s*\n|^#.*$", code[:match.start()], flags=re.MULTILINE)[-1]
        names = [name for name in NAME.findall(before) if not name.startswith("__")]
        first = code.count("\n", 0, match.start()) + 1
        yield names[0] if names else "?", first, match.group(0).count("\n") + 1


def file_limit(path):
    if path.as_posix() in LONG_FILES:
        return LONG_FILES[path.as_posix()][0]
    if path.suffix == ".c":
        return MAX_SOURCE
    return MAX_PUBLIC_HEADER if tree.below(path, "include") else MAX_PRIVATE_HEADER


def check(root):
    library = {}
    for folder, files in Counter(path.parent for path in tree.c_files(root)).items():
        if files > MAX_FOLDER:
            yield f"{folder}: {files} source files, the limit is {MAX_FOLDER}"
    for path in tree.c_files(root):
        if tree.below(path, "tests"):
            continue
        text = tree.read(root / path)
        lines = text.count("\n")
        if lines > file_limit(path):
            yield f"{path}: {lines} lines, the limit is {file_limit(path)}"
        for name, first, length in functions(text):
            limit = LONG_FUNCTIONS.get(f"{path}:{name}", (MAX_FUNCTION, ""))[0]
            if length > limit:
                yield f"{path}:{first}: {name} has {length} lines, the limit is {limit}"
        if any(tree.below(path, folder) for folder in LIBRARY):
            library[path] = lines
    total = sum(library.values())
    for path, lines in library.items():
        if total >= BIG_LIBRARY and lines > MAX_SHARE * total:
            yield f"{path}: {100 * lines // total} % of the library, the limit is {MAX_SHARE:.0%}"


if __name__ == "__main__":
    tree.main(check)
