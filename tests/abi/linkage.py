#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What the headers declare, what the symbol map names and what the library exports is the same.

usage: linkage.py LIBRARY MAP HEADER...
"""

import re
import subprocess
import sys
from pathlib import Path


def without_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)


def declared(header):
    """The functions a public header declares: prototypes outside of any struct or body."""
    text = without_comments(header.read_text(encoding="utf-8"))
    text = re.sub(r"^[ \t]*#(?:.*\\\n)*.*$", "", text, flags=re.MULTILINE)
    text = text.replace('extern "C" {', "")
    while re.search(r"\{[^{}]*\}", text):
        text = re.sub(r"\{[^{}]*\}", ";", text)
    for statement in text.split(";"):
        match = re.search(r"\b(gw_\w+)\s*\(", statement)
        if match and not re.match(r"\s*(typedef|static)\b", statement):
            yield match.group(1)


def mapped(path):
    """The global names of a version script; each node ends with what is local."""
    text = without_comments(path.read_text(encoding="utf-8"))
    text = re.sub(r"#.*", "", text)
    if "*" in re.sub(r"local:\s*\*;", "", text):
        sys.exit(f"{path}: a pattern among the global names")
    if not re.search(r"local:\s*\*;", text):
        sys.exit(f"{path}: no 'local: *;', everything would be exported")
    return re.findall(r"\b(gw_\w+)\s*;", text)


def exported(library):
    """(name, type) of the defined dynamic symbols, without the version nodes themselves."""
    output = subprocess.run(["nm", "-D", "--defined-only", "--format=posix", library],
                            stdout=subprocess.PIPE, text=True, check=True).stdout
    for line in output.splitlines():
        name, kind = line.split()[:2]
        if kind != "A":
            yield name.split("@")[0], kind


def differences(left, right, text):
    return [text % name for name in sorted(set(left) - set(right))]


def main():
    library, script, headers = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    in_map = mapped(script)
    symbols = dict(exported(library))
    in_headers = {name: Path(header).name for header in headers
                  for name in declared(Path(header))}
    findings = [f"{name} is declared in {in_headers[name]} but not named in {script.name}"
                for name in sorted(set(in_headers) - set(in_map))]
    findings += differences(in_map, in_headers, "%s is in the map but in no header")
    findings += differences(in_map, symbols, "%s is in the map but the library does not define it")
    findings += differences(symbols, in_map, "%s is exported but not in the map")
    findings += [f"{name} is in the map twice" for name in sorted(set(in_map))
                 if in_map.count(name) > 1]
    findings += [f"{name} is exported but is no function" for name, kind in sorted(symbols.items())
                 if kind != "T"]
    if len(in_headers) < 10:
        findings.append(f"only {len(in_headers)} declarations found: this check is blind")
    print("\n".join(findings) or f"{len(symbols)} functions")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
