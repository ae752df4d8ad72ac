#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Every source file must be built: a meson.build of its folder, or of a folder above, names it.

usage: check_listed.py ROOT
"""

import re
from pathlib import Path

import tree

FOLDERS = ("include", "src", "tools", "tests", "examples")
# A test is listed by its name without the folder's prefix and the suffix.
PREFIXES = ("test_", "it_", "fuzz_", "bench_")
# tests/abi builds the examples out of tree, so its meson.build lists them.
BUILT_BY = {"examples": "tests/abi"}
# Scripts in the same folder build the programs for guests and for other systems.
BUILT_BY_SCRIPTS = ("tests/lab", "tests/bench/peers")


def names(path):
    """The ways in which a meson.build may name the file."""
    yield path.name
    if tree.below(path, "tests") or tree.below(path, "examples"):
        yield path.stem
        for prefix in PREFIXES:
            if path.stem.startswith(prefix):
                yield path.stem[len(prefix):]


def built_by_script(root, path):
    if not any(tree.below(path, folder) for folder in BUILT_BY_SCRIPTS):
        return False
    scripts = [other for other in (root / path).parent.iterdir()
               if other.is_file() and other.suffix in ("", ".py", ".sh")]
    return any(path.name in tree.read(script) for script in scripts)


def check(root):
    for path in tree.c_files(root):
        public = tree.below(path, "include")
        if not any(tree.below(path, folder) for folder in FOLDERS) or \
                (path.suffix == ".h" and not public):
            continue
        folder, found = path.parent, built_by_script(root, path)
        folder = Path(BUILT_BY.get(folder.as_posix(), folder))
        while not found:
            build = root / folder / "meson.build"
            text = re.sub(r"#.*", "", tree.read(build)) if build.is_file() else ""
            found = any(re.search(rf"['/]{re.escape(name)}'", text) for name in names(path))
            if folder == folder.parent:
                break
            folder = folder.parent
        if not found:
            yield f"{path}: no meson.build names it"


if __name__ == "__main__":
    tree.main(check)
