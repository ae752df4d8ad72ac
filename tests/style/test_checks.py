#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Tests of the style checks: each check must accept a small tree without mistakes, and must find a single
mistake in that tree.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SPDX = "SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause"
C = f"/* {SPDX} */\n"
PROMISE = "TO" + "DO"

# checker -> a tree it accepts: path -> contents
GOOD = {
    "check_includes.py": {
        "include/godwit/a.h": C + "#include <stdint.h>\n",
        "src/base/cleanup.h": C,
        "src/base/proto.h": C,
        "src/core/memory/mapping.h": C,
        "src/core/queue/a.h": C,
        "src/core/queue/a.c": C + '#include "a.h"\n#include "core/memory/mapping.h"\n#include <godwit/a.h>\n',
        "src/core/loop/l.c": C + '#include "core/queue/queue.h"\n#include <liburing.h>\n',
        "src/core/queue/queue.h": C,
        "src/log/b.h": C,
        "src/log/b.c": C + '#include "b.h"\n#include "base/cleanup.h"\n#include "../core/memory/mapping.h"\n',
        "src/frontend/c.c": C + '#include "base/proto.h"\n#include <sys/socket.h>\n',
        "tests/unit/test_a.c": C + '#include "core/queue/a.h"\n#include <cmocka.h>\n',
        "examples/a.c": C + "#include <godwit/a.h>\n",
    },
    "check_api_comments.py": {
        "include/godwit/a.h": C + "/*\n * Things.\n *\n * Context, unless a function states another: any thread.\n */\n\n"
                              "/* Make a thing. Returns: 0; -ENOMEM. */\nint gw_a_new(void);\nvoid gw_a_free(void);\n\n"
                              "/* Open it. Returns: as gw_a_new. Context: the main thread. */\nint gw_a_open(void);\n"
                              "/* The number of things. */\nunsigned gw_a_count(void);\n",
        "include/godwit/b.h": C + "/* Close it. Context: the main thread. */\nvoid gw_b_close(void);\n",
        "include/godwit/version.h.in": C + "/* The version. Context: any thread. */\nconst char *gw_version(void);\n",
    },
    "check_size.py": {
        "src/core/queue/a.c": C + "int f(int a)\n{\n" + "    a++;\n" * 78 + "}\n",
        "src/core/queue/a.h": C + "\n" * 199,
        "include/godwit/a.h": C + "\n" * 349,
        "tests/unit/a.c": C + "\n" * 2000,
        "tests/unit/a.py": "",
        **{f"tests/unit/{i}.h": C for i in range(19)},
        **{f"src/log/{i}.c": C + "\n" * 560 for i in range(6)},
    },
    "check_text.py": {
        "meson.build": f"# {SPDX}\n",
        "src/core/queue/a.c": C + "int f(void);\n",
        "src/core/queue/a.h": C + "#pragma once\n",
        "tools/test": f"#!/bin/bash\n# {SPDX}\n",
        "docs/a.md": "text\n",
    },
    "check_listed.py": {
        "src/meson.build": "sources = files('core/a.c')\n",
        "src/core/queue/a.c": C,
        "src/core/queue/a.h": C,
        "include/godwit/meson.build": "h = files('a.h')\n",
        "include/godwit/a.h": C,
        "tests/unit/meson.build": "foreach name : ['a']\nendforeach\n",
        "tests/unit/test_a.c": C,
        "tests/lab/x/guest.c": C,
        "tests/lab/x/build.py": "cc('guest.c')\n",
        "tests/abi/meson.build": "examples = ['device']\n",
        "examples/device.c": C,
    },
    "check_links.py": {
        "README.md": "# The one\n\n## Two `words`, and\n\n[a](docs/a.md#b-c-1) [b](#two-words-and) [c](docs) "
                     "`[d](none)`\n\n```sh\n[e](none)\n```\n\n[f]: https://example.com/none\n",
        "docs/a.md": "# B c\n## B c\n[up](../README.md), godwit(1), tests/test_NAME.c, tests/a.h\n",
        "docs/man/godwit.1.rst": "**godwit-blk**\\ (1), **fio**\\ (1)\n",
        "docs/man/godwit-blk.1.rst": "",
        "tests/a.h.in": C,
        "tests/a.c": C + "/* docs/a.md */\n",
    },
    "check_samples.py": {
        "include/godwit.h": C + "#include <godwit/version.h>\nint gw_f(void);\n",
        "include/godwit/version.h.in": "#define GW_VERSION @version@\n",
        "README.md": "```c\n#include <godwit.h>\n\nint f(void)\n{\n    return gw_f() + GW_VERSION;\n}\n```\n"
                     "\n```sh\nno C\n```\n",
    },
    "check_prose.py": {
        "src/a.c": C + "/* Who owns the fd? The caller, who closes it. Two pages are told apart by\n"
                       " * so many bits that none of them is over 4096. Nothing else. */\n"
                       "int who; /* queue:\n * the thread who pops */\n"
                       'static const char *a = "go on the ring, of the guest", *told = "told", *b = "as told";\n',
        "tools/a.c": C + '/* of the guest */\n{"a", "guest memory size, "\n "of the guest"}, x(a, "who")\n',
        "docs/a.md": "If there is none, `is told`.\n\n```\nwho waits is told\n```\n",
        "docs/man/a.1.rst": "It continues\n",
        "tools/a": f"#!/bin/bash\n# {SPDX}\necho 'is told' # reported\n",
        "tools/a.py": f"# {SPDX}\n\"\"\"Reports.\"\"\"\nA = 'is told'\n",
        "tests/style/prose_exceptions.txt": "# comment\nsrc/a.c | as told | a quotation\n"
                                            "docs/a.md | If there is none | a quotation\n",
    },
    "clang_format.sh": {
        "src/a.c": C + "int f(int a)\n{\n    return a;\n}\n",
    },
    "spelling.sh": {
        "docs/a.md": "receive\n",
    },
    "scripts.sh": {
        "tools/test": '#!/bin/bash\necho "$1"\n',
    },
}

# checker, path, contents with one mistake, part of the finding
BAD = [
    ("check_includes.py", "include/godwit/a.h", '#include "../../src/core/queue/a.h"\n', "must not include"),
    ("check_includes.py", "src/core/queue/a.c", '#include "frontend/x.h"\n', "no header of ours"),
    ("check_includes.py", "src/log/b.c", '#include "core/queue/a.h"\n', "b.c:1: must not include"),
    ("check_includes.py", "src/core/memory/m.c", '#include "core/queue/a.h"\n', "must not include"),
    ("check_includes.py", "src/base/a.c", '#include "core/queue/a.h"\n', "must not include"),
    ("check_includes.py", "src/log/b.c", "#include <liburing.h>\n", "<liburing.h> is for src/core/loop"),
    ("check_includes.py", "src/log/b.c", "# include <sys/socket.h>\n", "is for"),
    ("check_includes.py", "src/frontend/c.c", '#include "core/memory/mapping.h"\n', "must not include"),
    ("check_includes.py", "tools/rng/rng.c", '#include "src/core/queue/a.h"\n', "must not include"),
    ("check_includes.py", "src/core/queue/x.c", "#include <xengnttab.h>\n", "is for src/xen"),
    ("check_includes.py", "src/core/queue/x.c", "#include <cmocka.h>\n", "is for tests"),
    ("check_includes.py", "tests/integration/it_a.c", '#include "core/queue/a.h"\n', "must not include"),
    ("check_includes.py", "examples/a.c", '#include "src/core/queue/a.h"\n', "must not include"),
    ("check_includes.py", "src/new/x.c", "", "no rule"),
    ("check_api_comments.py", "include/godwit/b.h", C + "void gw_b(void);\n", "b.h:2: gw_b: no comment"),
    ("check_api_comments.py", "include/godwit/b.h",
     C + "/* Close it. Context: any thread. */\n\nvoid gw_b(void);\n", "gw_b: no comment"),
    ("check_api_comments.py", "include/godwit/b.h",
     C + "/* A. Context: any thread. */\nvoid gw_b(void);\n\nvoid gw_c(void);\n", "b.h:5: gw_c: no comment"),
    ("check_api_comments.py", "include/godwit/b.h", C + "/* Close it. */\nvoid gw_b(void);\n", "no 'Context:'"),
    ("check_api_comments.py", "include/godwit/b.h",
     C + "/* Close it. Context: any thread. */\nint gw_b(void);\n", "no 'Returns:'"),
    ("check_api_comments.py", "include/godwit/b.h",
     C + "/* Close it. Context: any thread. Returns: 0 or an error. */\nint gw_b(void);\n", "lists no errno"),
    ("check_api_comments.py", "include/godwit/b.h",
     C + "/* Close it. Context: any thread. Returns: as gw_none. */\nint gw_b(void);\n", "refers to gw_none"),
    ("check_api_comments.py", "include/godwit/b.h",
     C + "/* Returns: 0; -EINVAL. Context: any thread. */\nint gw_b(void);\n", "does not begin with"),
    ("check_api_comments.py", "include/godwit/b.h",
     C + "/* Close" + " and so on" * 30 + ". Context: any thread. */\nvoid gw_b(void);\n", "the limit is 250"),
    ("check_api_comments.py", "include/godwit/version.h.in", C + "const char *gw_version(void);\n", "no comment"),
    ("check_size.py", "src/core/queue/a.c", "\n" * 701, "701 lines, the limit is 700"),
    ("check_size.py", "src/core/queue/a.h", "\n" * 201, "the limit is 200"),
    ("check_size.py", "include/godwit/a.h", "\n" * 351, "the limit is 350"),
    ("check_size.py", "include/godwit/frontend/frontend.h", "\n" * 561, "the limit is 560"),
    ("check_size.py", "src/core/queue/a.c",
     "int a(void);\n\nstatic int\nlong_one(int b)\n{\n" + "    b++; /* } */\n" * 79 + "}\n",
     "a.c:5: long_one has 81 lines"),
    ("check_size.py", "src/core/queue/a.c",
     "".join(f"int f{i}(void)\n{{\n}}\n" for i in range(100))
     + "static void last(void)\n{\n" + "\n" * 79 + "}\n", "last has 81 lines"),
    ("check_size.py", "src/core/queue/b.c", "\n" * 690, "b.c: 15 % of the library"),
    ("check_size.py", "tests/unit/b.c", C, "tests/unit: 21 source files, the limit is 20"),
    ("check_text.py", "src/core/queue/a.c", "int f(void);\n", "no line 'SPDX"),
    ("check_text.py", "examples/a.c", "int f(void);\n", "no line 'SPDX"),
    ("check_text.py", ".github/workflows/test.yml", "name: test\n", "no line 'SPDX"),
    ("check_text.py", "tools/demo", "#!/bin/bash\n", "no line 'SPDX"),
    ("check_text.py", "tests/meson.build", "\n", "no line 'SPDX"),
    ("check_text.py", "src/core/queue/a.c", C + f"/* {PROMISE}: later */\n", "a.c:2: do it now"),
    ("check_text.py", "docs/a.md", f"{PROMISE} more\n", "do it now"),
    ("check_text.py", "docs/a.md", "text \n", "white space"),
    ("check_text.py", "docs/a.md", "text", "no end"),
    ("check_text.py", "src/core/queue/a.c", C + "\tint a;\n", "a tab"),
    ("check_text.py", "src/core/queue/a.h", C + "#ifndef A_H\n", "a.h:2: conditional compilation"),
    ("check_text.py", "src/log/a.c", C + "  # if defined(X)\n", "conditional compilation"),
    ("check_listed.py", "src/core/queue/b.c", C, "b.c: no meson.build names it"),
    ("check_listed.py", "include/godwit/b.h", C, "b.h: no meson.build names it"),
    ("check_listed.py", "src/meson.build", "# 'core/a.c'\n", "a.c: no meson.build names it"),
    ("check_listed.py", "tests/lab/x/b.c", C, "b.c: no meson.build names it"),
    ("check_listed.py", "tests/unit/test_b.c", C, "test_b.c: no meson.build names it"),
    ("check_listed.py", "examples/other.c", C, "other.c: no meson.build names it"),
    ("check_links.py", "docs/b.md", "[a](none.md)\n", "docs/b.md:1: none.md does not exist"),
    ("check_links.py", "docs/b.md", "[a]: none.md\n", "none.md does not exist"),
    ("check_links.py", "docs/b.md", "# A\n\n[a](#b)\n", "docs/b.md:3: #b: no heading"),
    ("check_links.py", "docs/b.md", "[a](a.md#b-c-2)\n", "no heading has this anchor"),
    ("check_links.py", "docs/b.md", "```sh\n# A\n```\n[a](#a)\n", "docs/b.md:4: #a: no heading"),
    ("check_links.py", "docs/b.md", "[a](../../b.md)\n", "outside of the tree"),
    ("check_links.py", "docs/man/godwit.1.rst", "**godwit-net**\\ (1)\n", "docs/man/godwit-net.1.rst does not exist"),
    ("check_links.py", "docs/b.md", "godwit-blk(8)\n", "docs/man/godwit-blk.8.rst does not exist"),
    ("check_links.py", "tests/a.c", C + "/* src/none.c */\n", "tests/a.c:2: src/none.c does not exist"),
    ("check_samples.py", "docs/b.md", "A\n\n```c\nint f(void);\nint a = gw_none();\n```\n", "docs/b.md:5:"),
    ("check_samples.py", "docs/b.md", "```c\n#include <godwit/none.h>\n```\n", "godwit/none.h"),
    ("check_samples.py", "docs/b.md", "```c\nint f(void)\n```\n", "docs/b.md:2: the sample does not compile"),
    ("check_prose.py", "src/b.c", C + "/*\n * A thread.\n * Whoever waits is woken.\n */\n", "src/b.c:4: 'Whoever'"),
    ("check_prose.py", "src/b.c", C + "/* Who waits\n is woken. */\n", "src/b.c:2: 'Who'"),
    ("check_prose.py", "src/b.c", C + "/* ---- who waits ---- */\n", "'who'"),
    ("check_prose.py", "src/b.h", C + "// A page for who waits.\n", "'for who'"),
    ("check_prose.py", "src/b.c", C + "/* Add to what is\n * there. */\n", "src/b.c:2: 'what is there'"),
    ("check_prose.py", "src/b.c", C + 'x("the caller is "\n  "told");\n', "src/b.c:3: 'told'"),
    ("check_prose.py", "src/b.c", C + 'x("the queue %" PRIu32 " is" " over");\n', "'is over'"),
    ("check_prose.py", "src/b.c", C + "/* Send so many bytes. */\n", "'so many'"),
    ("check_prose.py", "src/b.c", C + "/* Huge pages cannot be had. */\n", "'be had'"),
    ("check_prose.py", "src/b.c", C + "/* NULL: there is none. */\n", "'is none'"),
    ("check_prose.py", "src/b.c", C + "/* It did not come to that. */\n", "'come to that'"),
    ("check_prose.py", "src/b.c", C + "/* The session goes on. */\n", "'goes on'"),
    ("check_prose.py", "src/b.c", C + "/* Not mapped any more. */\n", "'any more'"),
    ("check_prose.py", "src/b.c", C + "/* Log it where there is a log. */\n", "'where there'"),
    ("check_prose.py", "src/b.c", C + "/* The byte is looked at. */\n", "'looked at'"),
    ("check_prose.py", "src/b.c", C + "/* It means, that the page is lost. */\n", "'means, that'"),
    ("check_prose.py", "src/b.c", C + "/* Skip it, for it is empty. */\n", "', for it'"),
    ("check_prose.py", "src/b.c", C + "/* Pages are sent meanwhile. */\n", "'meanwhile'"),
    ("check_prose.py", "src/b.c", C + "/* Begin anew: the handler of before. */\n", "'of before'"),
    ("check_prose.py", "src/b.c", C + "/* A thread runs beside. */\n", "'beside'"),
    ("check_prose.py", "src/b.c", C + "/* Free it else. */\n", "'else'"),
    ("check_prose.py", "src/b.c", C + "/* Somebody reads his page. */\n", "'his'"),
    ("check_prose.py", "tools/b.c", C + '{"memory", "of the guest (default: 64M)"},\n', "stands alone"),
    ("check_prose.py", "docs/b.md", "A\n\n- The caller\n  is told.\n", "docs/b.md:4: 'told'"),
    ("check_prose.py", "docs/man/b.1.rst", "It goes on\n", "'goes on'"),
    ("check_prose.py", "README.md", "It goes on.\n", "README.md:1: 'goes on'"),
    ("check_prose.py", "tools/b", f"#!/bin/bash\n# {SPDX}\nx # it goes on\n", "tools/b:3: 'goes on'"),
    ("check_prose.py", "tools/b.py", f'# {SPDX}\ndef f():\n    """It\n    goes on."""\n', "tools/b.py:4: 'goes on'"),
    ("check_prose.py", "tools/b.py", "x(help='of the run')\n", "tools/b.py:1: 'of the run'"),
    ("check_prose.py", "tests/style/prose_exceptions.txt",
     "src/a.c | as told | a quotation\ndocs/a.md | If there is none | a quotation\ndocs/a.md | x | y\n",
     "prose_exceptions.txt:3: docs/a.md has no 'x'"),
    ("check_prose.py", "tests/style/prose_exceptions.txt",
     "src/a.c | as told | a quotation\ndocs/a.md | If there is none |\n", "prose_exceptions.txt:2: not 'path"),
    ("clang_format.sh", "examples/a.c", C + "int  a;\n", "clang-format"),
    ("clang_format.sh", "src/a.c", C + "int f(int a) { return a; }\n", "clang-format"),
    ("clang_format.sh", "tests/unit/a.c", C + "int  a;\n", "clang-format"),
    ("spelling.sh", "docs/a.md", "rec" + "ieve\n", "receive"),
    ("spelling.sh", "CONTRIBUTING.md", "rec" + "ieve\n", "receive"),
    ("spelling.sh", ".github/a.md", "rec" + "ieve\n", "receive"),
    ("spelling.sh", "examples/a.c", "/* rec" + "ieve */\n", "receive"),
    ("scripts.sh", ".ci/run", "#!/bin/bash\necho $1\n", "SC2086"),
]


def run(checker, tree):
    """The exit code and all output of the checker on a tree."""
    with tempfile.TemporaryDirectory() as folder:
        for name, contents in tree.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(contents)
        shutil.copy(ROOT / ".clang-format", folder)
        done = subprocess.run([HERE / checker, folder], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def main():
    failed = 0
    missing = set()
    for checker, tree in GOOD.items():
        code, output = run(checker, tree)
        if code == 77:
            missing.add(checker)
            print(f"{checker}: not tried: {output.strip()}", file=sys.stderr)
        elif code != 0:
            failed += 1
            print(f"{checker} refuses a tree without mistakes:\n{output}")
    for checker, path, contents, expected in BAD:
        if checker in missing:
            continue
        code, output = run(checker, {**GOOD[checker], path: contents})
        if code in (0, 77) or expected not in output:
            failed += 1
            print(f"{checker} does not find '{expected}' in {path}: exit {code}\n{output}")
    untested = {path.name for path in HERE.glob("*") if path.name.startswith("check_")
                or path.suffix == ".sh"} - {bad[0] for bad in BAD}
    for checker in sorted(untested):
        failed += 1
        print(f"{checker}: nothing shows that it can fail")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
