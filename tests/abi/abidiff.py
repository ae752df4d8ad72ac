#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Compares the ABI of a library with a recorded one. A function or a public type that was removed or
changed needs a new soname. New functions do not, nor do new members at the end of structures that begin
with `size`. RELEASE.md describes the record.

usage: abidiff.py BASELINE LIBRARY HEADERS            compare
       abidiff.py --record BASELINE LIBRARY HEADERS   record the ABI of the library
HEADERS is the folder of the public headers: types that only the library knows do not count.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

CHANGED = 4 | 8  # exit status of abidiff: a change, an incompatible one


def record(baseline, library, headers):
    subprocess.run(["abidw", "--headers-dir", headers, "--drop-private-types", "--no-corpus-path",
                    "--no-comp-dir-path", "--no-show-locs", "--no-write-default-sizes", "--exported-interfaces-only",
                    "--no-elf-needed", "--type-id-style", "hash", "--out-file", baseline, library], check=True)
    # abidw compares only the base names of headers, and src/core/queue/queue.h is not public.
    tree = ElementTree.parse(baseline)
    hide(tree.getroot(), set(opaque(headers)))
    drop_unreachable(tree.getroot())
    tree.write(baseline, encoding="unicode")
    with open(baseline, "a", encoding="utf-8") as file:
        file.write("\n")


def opaque(headers):
    """The structures that public headers declare and do not define."""
    text = "\n".join(header.read_text(encoding="utf-8") for header in sorted(Path(headers).rglob("*.h")))
    return set(re.findall(r"\bstruct (\w+)", text)) - set(re.findall(r"\bstruct (\w+) \{", text))


def hide(root, names):
    for element in root.iter("class-decl"):
        if element.get("name") in names:
            for child in list(element):
                element.remove(child)
            for key in set(element.attrib) & {"size-in-bits", "alignment-in-bits"}:
                del element.attrib[key]
            element.set("is-declaration-only", "yes")


def drop_unreachable(root):
    """Only the types that a function uses remain."""
    types, wanted = {}, []
    for element in (child for unit in root.iter("abi-instr") for child in unit):
        if element.tag in ("function-decl", "var-decl"):
            wanted.append(element)
        else:
            types.setdefault(element.get("id"), []).append(element)
    reached = set()
    while wanted:
        for part in wanted.pop().iter():
            for key in ("type-id", "naming-typedef-id", "def-of-decl-id"):
                name = part.get(key)
                if name and name not in reached:
                    reached.add(name)
                    wanted += types.get(name, [])
    for unit in list(root.iter("abi-instr")):
        for element in list(unit):
            if element.tag not in ("function-decl", "var-decl") and element.get("id") not in reached:
                unit.remove(element)
        if len(unit) == 0:
            root.remove(unit)


def growing(headers):
    """The structures that may grow at their end."""
    for header in sorted(Path(headers).rglob("*.h")):
        yield from re.findall(r"^struct (\w+) \{\s*(?:/\*(?:[^*]|\*(?!/))*\*/\s*)*size_t size;",
                              header.read_text(encoding="utf-8"), re.MULTILINE)


def suppression(headers):
    names = "|".join(growing(headers))
    return f"[suppress_type]\n  name_regexp = ^({names})$\n  has_data_member_inserted_at = end\n" if names else ""


def soname_of_baseline(baseline):
    match = re.search(r"\bsoname=['\"]([^'\"]*)['\"]", Path(baseline).read_text(encoding="utf-8"))
    if not match:
        sys.exit(f"{baseline}: no soname")
    return match.group(1)


def soname_of(library):
    output = subprocess.run(["readelf", "-d", "-W", library], stdout=subprocess.PIPE, text=True, check=True).stdout
    match = re.search(r"Library soname: \[(.*)\]", output)
    return match.group(1) if match else ""


def main():
    words = sys.argv[1:]
    is_record = words[:1] == ["--record"]
    if len(words) != 3 + is_record:
        sys.exit(__doc__)
    baseline, library, headers = words[is_record:]
    for tool in ("abidw", "abidiff", "readelf"):
        if not shutil.which(tool):
            print(f"{tool} is not installed", file=sys.stderr)
            sys.exit(1 if is_record else 77)
    if is_record:
        record(baseline, library, headers)
        return
    old, new = soname_of_baseline(baseline), soname_of(library)
    if old != new:
        print(f"the soname has changed from {old} to {new}: nothing to compare")
        return
    # Neither record holds private types. With its own options for them, abidiff 2.2 aborts or hides changes.
    with tempfile.TemporaryDirectory() as folder:
        record(f"{folder}/now.abi", library, headers)
        Path(folder, "growing").write_text(suppression(headers), encoding="utf-8")
        done = subprocess.run(["abidiff", "--no-added-syms", "--suppressions", f"{folder}/growing",
                               baseline, f"{folder}/now.abi"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(done.stdout)
    if done.returncode & CHANGED:
        print(f"The ABI of {old} has changed. Undo the change, or increase soversion; RELEASE.md tells how to "
              "record the new ABI before the first release.")
    sys.exit(1 if done.returncode else 0)


if __name__ == "__main__":
    main()
