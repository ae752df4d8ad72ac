#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Every function of a public header is documented as docs/HACKING.md asks: a comment directly above it,
or above its group, that says what it does, what it returns, its errors, and from which threads it may
be called. The man pages of section 3 are made from these comments.

usage: check_api_comments.py ROOT
"""

import re
import sys
from pathlib import Path

import tree

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tools/dev"))
import api_comments  # noqa: E402

# A getter may say in its first sentence what it returns: "The index of a queue."
NAMES_RESULT = re.compile(r"(The|Its?|Is|Are|Whether)\b|[^.]*\?")
ERRNO = re.compile(r"(?<![\w-])-E[A-Z0-9]+\b")
REFERENCE = re.compile(r"\b(?:as|errors of) (?:the requests\b|(gw_\w+))")
CANNOT_FAIL = re.compile(r"0\.?$|0 \(cannot fail\)|the number\b|whether\b|the fd\b")
SUMMARY_MAX = 250


def missing(group, header, names):
    """What the comment of a group lacks."""
    if not group.text:
        yield "no comment directly above it"
        return
    if not group.summary:
        yield "the comment does not begin with what the function does"
    elif len(group.summary) > SUMMARY_MAX:
        yield f"its first sentence has {len(group.summary)} characters, the limit is {SUMMARY_MAX}"
    if not group.part("Context") and not header.context:
        yield "no 'Context:', and none for all functions at the top of the header"
    yield from missing_result(group, names)


def missing_result(group, names):
    returned = group.part("Returns")
    is_named = NAMES_RESULT.match(group.description)
    if not returned and not is_named and any(f.result != "void" for f in group.functions):
        yield "no 'Returns:'"
    if not returned or all(f.result != "int" for f in group.functions):
        return
    references = REFERENCE.findall(returned)
    if not ERRNO.search(returned) and "errno" not in returned and not references \
            and not CANNOT_FAIL.match(returned):
        yield "'Returns:' lists no errno, nor a function with the same ones"
    for name in references:
        if name and name not in names:
            yield f"'Returns:' refers to {name}, which is no public function"


def check(root):
    paths = [path for path in tree.c_files(root) if tree.below(path, "include")]
    paths += [path for path in tree.files(root)
              if tree.below(path, "include") and path.name.endswith(".h.in")]
    headers = {path: api_comments.read(tree.read(root / path)) for path in paths}
    names = {function.name for header in headers.values() for function in header.functions()}
    for path, header in headers.items():
        for group in header.groups:
            for finding in missing(group, header, names):
                yield f"{path}:{group.functions[0].line}: {group.functions[0].name}: {finding}"


if __name__ == "__main__":
    tree.main(check)
