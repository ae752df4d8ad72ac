#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Every C sample of a Markdown file (a block that begins with ```c) compiles as a file of its own
against the public headers.

usage: check_samples.py ROOT
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import tree

SAMPLE = re.compile(r"^```c\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = ["-x", "c", "-std=c11", "-D_DEFAULT_SOURCE", "-fsyntax-only", "-Wall", "-Werror"]


def write_version(root, folder):
    """Write the header that the build generates; its values do not matter here."""
    template = root / "include/godwit/version.h.in"
    Path(folder, "godwit").mkdir()
    if template.is_file():
        Path(folder, "godwit/version.h").write_text(re.sub(r"@\w+@", "0", tree.read(template)),
                                                    encoding="utf-8")


def check(root):
    compiler = shlex.split(os.environ.get("CC", "cc"))
    if not shutil.which(compiler[0]):
        print(f"{compiler[0]} is not installed", file=sys.stderr)
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        write_version(root, folder)
        command = [*compiler, *FLAGS, f"-I{root / 'include'}", f"-I{folder}", "-"]
        for path in tree.files(root):
            if path.suffix != ".md":
                continue
            text = tree.read(root / path)
            for match in SAMPLE.finditer(text):
                # The compiler names the line of the Markdown file.
                line = text.count("\n", 0, match.start(1)) + 1
                done = subprocess.run(command, input=f'#line {line} "{path}"\n{match.group(1)}',
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                      check=False)
                if done.returncode != 0:
                    yield f"{path}:{line}: the sample does not compile:\n{done.stdout}"


if __name__ == "__main__":
    tree.main(check)
