#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Makes the man page of a program from its source in this folder.

usage: make_page.py RST2MAN SOURCE.rst OUTPUT SUFFIX
       make_page.py --names SUFFIX PAGE...      the names of these pages in such a build, one a line

SUFFIX is that of the programs of the build, such as -xen, or empty. Builds with different suffixes are
installed into one prefix, so the pages have different names, like the programs.
"""

import re
import subprocess
import sys
from pathlib import Path

# The suffix follows the name of the program; the name of a command of godwit follows the suffix.
COMMAND = re.compile(r"godwit(-(?:probe|bench|migrate|crash|report))?")


def renamed(name, suffix):
    """The name of a page in a build with this suffix."""
    if name.endswith("-agent"):
        return name  # only one build has this program
    command = COMMAND.fullmatch(name)
    return f"godwit{suffix}{command.group(1) or ''}" if command else name + suffix


def rename(text, suffix):
    """The page of a build with this suffix: its title, its synopsis and references to other pages."""
    title = re.search(r"^=+\n(.+)\n=+$", text, re.MULTILINE)
    old = title.group(1)
    name = renamed(old, suffix)
    text = re.sub(r"\*\*(godwit[\w-]*)\*\*(?=\\ \(\d\))",
                  lambda page: f"**{renamed(page.group(1), suffix)}**", text)
    if name == old:
        return text
    line = "=" * len(name)
    text = text.replace(title.group(0), f"{line}\n{name}\n{line}", 1)
    program = old if name == old + suffix else "godwit"
    text = re.sub(rf"^\| \*\*{program}\b", f"| **{program}{suffix}", text, flags=re.MULTILINE)
    note = (f"This is the page of the build with **-Dmemory={suffix[1:]}**, whose programs have names with\n"
            f"**{suffix}**. The text below uses the names without it.\n\n")
    return re.sub(r"^(DESCRIPTION\n=+\n\n)", lambda heading: heading.group(1) + note, text, count=1,
                  flags=re.MULTILINE)


def tidy(page):
    """Without what mandoc warns of: space behind a heading, and a font that it does not know."""
    page = re.sub(r"^(\.S[HS] .*\n)\.sp\n", r"\1", page, flags=re.MULTILINE)
    return re.sub(r"^\.ft C$", ".ft CR", page, flags=re.MULTILINE)


def main():
    if sys.argv[1:2] == ["--names"] and len(sys.argv) > 3:
        for page in sys.argv[3:]:
            name, section = page.rsplit(".", 1)
            print(f"{renamed(name, sys.argv[2])}.{section}")
        return
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    rst2man, source, output, suffix = sys.argv[1:]
    text = Path(source).read_text(encoding="utf-8")
    page = subprocess.run([rst2man, "--strict"], input=rename(text, suffix) if suffix else text,
                          stdout=subprocess.PIPE, text=True, encoding="utf-8", check=True).stdout
    Path(output).write_text(tidy(page), encoding="utf-8")


if __name__ == "__main__":
    main()
