#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Turn the template of the HTML report into a C file, with all the files that it includes.

usage: embed.py TEMPLATE OUTPUT

{{> FILE}} includes another file of the folder; {{! TEXT}} is a comment, and left out.
"""

import re
import sys
from pathlib import Path

BYTES_A_LINE = 20


def load(path):
    text = re.sub(r"\{\{![^}]*\}\}\n?", "", path.read_text(encoding="utf-8"))
    return re.sub(r"\{\{> ([a-z_.]+)\}\}\n?", lambda match: load(path.parent / match[1]), text)


def main():
    data = load(Path(sys.argv[1])).encode() + b"\0"
    lines = [", ".join(str(byte) for byte in data[i:i + BYTES_A_LINE])
             for i in range(0, len(data), BYTES_A_LINE)]
    Path(sys.argv[2]).write_text(
        "/* Made by embed.py; change the template instead. */\n"
        '#include "html/page.h"\n\n'
        "const char page_template[] = {\n    " + ",\n    ".join(lines) + "};\n", encoding="utf-8")


if __name__ == "__main__":
    main()
