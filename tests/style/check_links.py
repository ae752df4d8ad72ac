#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Broken references: links and anchors of Markdown files, man pages of this project, and paths of this
tree in prose and comments.

usage: check_links.py ROOT
"""

import os.path
import re

import tree

# Files that name paths outside of this tree: samples of a test, other projects, earlier releases.
OTHER_TREES = ("tests/style/test_checks.py", "tests/lab/peers", "CHANGELOG.md")

CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)
ANCHOR = re.compile(r"<a\s+(?:id|name)=\"([^\"]+)\"")
ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]*:")

# godwit-blk(1), and in reStructuredText **godwit-blk**\ (1)
MANUAL = re.compile(r"\b(godwit(?:-[a-z]+)*)(?:\*\*\\ )?\(([1-9])\)")

PATH = re.compile(r"(?<![\w./-])((?:src|tools|tests|include|docs|examples)/[\w./-]*\w"
                  r"\.(?:c|h|md|rst|py|sh|map))\b")
# tests/unit/test_NAME.c stands for any name.
PLACEHOLDER = re.compile(r"NAME")


def blank(match):
    return "\n" * match.group(0).count("\n")


def anchors(text):
    """The anchors that a Markdown page has, as GitHub makes them from its headings."""
    text = CODE.sub(blank, text)
    found, seen = set(ANCHOR.findall(text)), {}
    for heading in HEADING.findall(text):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = seen[slug] = seen.get(slug, -1) + 1
        found.add(f"{slug}-{count}" if count else slug)
    return found


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def check_markdown(root, path, text):
    text = INLINE_CODE.sub("", CODE.sub(blank, text))
    for match in LINK.finditer(text):
        target = match.group(1) or match.group(2)
        where = f"{path}:{line_of(text, match.start())}"
        if ELSEWHERE.match(target):
            continue
        name, _, anchor = target.partition("#")
        file = os.path.normpath(path.parent / name) if name else path.as_posix()
        if file.startswith("../") or target.startswith("/"):
            yield f"{where}: {target} is outside of the tree"
        elif not (root / file).exists():
            yield f"{where}: {target} does not exist"
        elif anchor and (not file.endswith(".md") or anchor not in anchors(tree.read(root / file))):
            yield f"{where}: {target}: no heading has this anchor"


def check_references(root, path, text):
    for match in MANUAL.finditer(text):
        page = f"docs/man/{match.group(1)}.{match.group(2)}.rst"
        if not (root / page).is_file():
            yield f"{path}:{line_of(text, match.start())}: {match.group(0)}: {page} does not exist"
    for match in PATH.finditer(text):
        file = match.group(1)
        built_from = root / f"{file}.in"
        if not (PLACEHOLDER.search(file) or (root / file).exists() or built_from.exists()):
            yield f"{path}:{line_of(text, match.start())}: {file} does not exist"


def check(root):
    for path in tree.files(root):
        text = tree.read(root / path)
        if path.suffix == ".md":
            yield from check_markdown(root, path, text)
        if path.as_posix() not in OTHER_TREES:
            yield from check_references(root, path, text)


if __name__ == "__main__":
    tree.main(check)
