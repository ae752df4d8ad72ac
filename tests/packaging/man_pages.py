#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Installs a build and checks its man pages: each program and each public function has one, no page
describes something that is not installed, and groff, mandoc and man-db find nothing to complain about.

usage: MESON=... man_pages.py BUILD MAP...
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# A page has no date, because the same sources make the same page. A link saves a copy.
ACCEPTED = re.compile(r'missing date, using ""|\.so is fragile')
TOOLS = ("mandoc", "groff", "man", "lexgrog")
COMMANDS = ("probe", "bench", "migrate", "crash", "report")


LINK = re.compile(r"^\.so (\S+)$", re.MULTILINE)


def output_of(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                          **options)
    return done.returncode, done.stdout


def link_of(page):
    match = LINK.search(page.read_text(encoding="utf-8"))
    return match and match.group(1)


def complaints(pages, man_dir):
    """What the readers of man pages say about these."""
    names = []
    for page in pages:
        link = link_of(page)
        if not link:
            names.append(str(page.relative_to(man_dir)))
        elif not (man_dir / link).is_file() or link_of(man_dir / link):
            yield f"{page.name}: {link} is no page"
    _, text = output_of("mandoc", "-Tlint", "-Wwarning", *names, cwd=man_dir)
    yield from (line for line in text.splitlines() if not ACCEPTED.search(line))
    # In one run it names no files: then it is repeated with each of them.
    if output_of("groff", "-ww", "-man", "-Tutf8", "-z", *names, cwd=man_dir)[1]:
        for name in names:
            _, text = output_of("groff", "-ww", "-man", "-Tutf8", "-z", name, cwd=man_dir)
            yield from text.splitlines()
    _, text = output_of("lexgrog", *names, cwd=man_dir)
    yield from (line for line in text.splitlines() if "parse failed" in line)


def pages_of(root):
    """The installed pages, and their folder."""
    man_dir = next(root.rglob("man1")).parent
    return sorted(page for page in man_dir.rglob("*") if page.is_file()), man_dir


def reading(root):
    """What goes wrong when man shows a link and a page, by their names and by path."""
    pages, man_dir = pages_of(root)
    links = [page for page in pages if link_of(page)]
    for page in (links[:1] + [page for page in pages if page.suffix == ".1"][:1]):
        _, text = output_of("man", "--warnings=w", "-M", man_dir, page.suffix[1:], page.stem)
        if page.stem not in text or "warning:" in text:
            yield f"man {page.suffix[1:]} {page.stem}: {text[:400]}"
        target = man_dir / (link_of(page) or page)
        code, text = output_of("man", "--warnings=w", "-l", target)
        if code != 0 or page.stem not in text or "warning:" in text:
            yield f"man -l {target}: {text[:400]}"


def described(page, programs):
    """Does a page of section 1 describe an installed program?"""
    command = page.rsplit("-", 1)
    return page in programs or (len(command) == 2 and command[1] in COMMANDS and command[0] in programs)


def check(root, maps):
    pages, man_dir = pages_of(root)
    programs = {program.name for folder in root.rglob("bin") for program in folder.iterdir()}
    headers = {header.stem for header in root.rglob("*.h")}
    functions = {name for script in maps
                 for name in re.findall(r"\b(gw_\w+)\s*;", Path(script).read_text(encoding="utf-8"))}
    names = {1: set(), 3: set()}
    for page in pages:
        names[int(page.suffix[1:])].add(page.stem)
    yield from complaints(pages, man_dir)
    for program in programs - names[1]:
        yield f"{program} has no man page"
    for name in names[1]:
        if not described(name, programs):
            yield f"{name}.1 is installed, {name} is not"
    for name in functions - names[3]:
        yield f"{name} has no man page"
    for name in names[3] - functions:
        if name.split("-")[-1] not in headers | {"libgodwit"}:
            yield f"{name}.3 describes no function and no header"
    if len(functions) < 10 or len(programs) < 3:
        yield f"only {len(functions)} functions and {len(programs)} programs found: this check is blind"


def main():
    build, maps = sys.argv[1], sys.argv[2:]
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        print(f"not installed: {' '.join(missing)}", file=sys.stderr)
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        code, text = output_of(*shlex.split(os.environ.get("MESON", "meson")), "install", "-C", build,
                               "--no-rebuild", "--quiet", "--destdir", root)
        if code != 0:
            sys.exit(text)
        findings = [*check(root, maps), *reading(root)]
    print("\n".join(findings))
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
