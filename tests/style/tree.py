# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Shared by the style checks: the list of files to check, and the output of findings."""

import re
import sys
from pathlib import Path

# The top-level folders to check; build folders are not among them.
FOLDERS = ("include", "src", "tools", "tests", "examples", "docs", ".ci", ".github")
SKIPPED_FOLDERS = ("__pycache__", "corpus")


def files(root):
    """Every file to check, as paths relative to root."""
    for path in sorted(root.iterdir()):
        if path.is_file():
            yield path.relative_to(root)
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and not set(SKIPPED_FOLDERS) & set(path.relative_to(root).parts):
                yield path.relative_to(root)


def c_files(root):
    return [path for path in files(root) if path.suffix in (".c", ".h")]


def read(path):
    return path.read_text(encoding="utf-8", errors="replace")


def below(path, folder):
    """Is the relative path inside of the folder, such as "src/core"?"""
    return path.as_posix().startswith(folder + "/")


def strip_comments(text):
    """C without comments and the contents of strings; line numbers stay."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''

    def blank(match):
        token = match.group(0)
        return token[0] * 2 if token[0] in "\"'" else " " + "\n" * token.count("\n")

    return re.sub(pattern, blank, text, flags=re.DOTALL)


def main(check):
    """Run check(root), which yields findings, on the root given as argument; exit 1 on any."""
    findings = list(check(Path(sys.argv[1]).resolve()))
    for finding in findings:
        print(finding)
    sys.exit(1 if findings else 0)
