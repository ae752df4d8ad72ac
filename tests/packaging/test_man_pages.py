#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The script that makes man pages from headers, and the check of installed pages, which must find each
of the mistakes fed to it.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import man_pages

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "docs/man"))
import make_page  # noqa: E402

HEADER = r"""/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Things that count.
 *
 * Context, unless a function states another: the main thread.
 */
#ifndef GODWIT_A_H
#define GODWIT_A_H
#ifdef __cplusplus
extern "C" {
#endif

struct gw_a; /* opaque */

/* ---- A heading ---- */

/* A size; gw_new(1) is no call. */
#define GW_SIZE_MAX \
    4

/* With a member. */
struct gw_b {
    int (*gw_member)(int); /* called; see gw_a_new */
};

static inline int gw_inline(int a) { return a; }

/*
 * Make a thing of `size` bytes (see poll(2)): it can't fail twice. Free it with gw_a_free.
 *
 * .so the second paragraph has a backslash \ in it.
 * Ownership: `ops` is copied.
 * Returns: 0; -EINVAL if `size` is wrong (0; or too large), or the moon; save: -ENOMEM; the
 * errno of open(2). Nothing has changed then.
 * Context: any thread.
 */
int gw_a_new(struct gw_a **ret,
             unsigned size); /* trailing words */
void gw_a_free(struct gw_a *a);
/* Is it gone? */
bool gw_a_is_gone(const struct gw_a *a);

int gw_a_bare(void);

#ifdef __cplusplus
}
#endif
#endif
"""

# Page, what it must hold, what it must not hold.
EXPECTED = [
    ("gw_a_new", [
        '.TH "gw_a_new" "3" "" "godwit 7.8.9" "libgodwit"',
        "gw_a_new, gw_a_free \\- make a thing of size bytes (see poll(2)): it can't fail twice",
        "\\fBint gw_a_new(struct gw_a **ret,\\fR\n\\fB             unsigned size);\\fR\n",
        "\\fBvoid gw_a_free(struct gw_a *a);\\fR",
        "Make a thing of \\fIsize\\fR bytes (see \\fBpoll\\fR(2)): it can't fail twice.\n"
        "Free it with \\fBgw_a_free\\fR(3).\n.PP\n\\&.so the second paragraph has a backslash \\e in it.",
        ".SH OWNERSHIP\n\\fIops\\fR is copied.",
        ".SH RETURN VALUE\n0 on success.",
        ".TP\n\\fB\\-EINVAL\\fR\nIf \\fIsize\\fR is wrong (0; or too large), or the moon.\n",
        ".TP\n\\fB\\-ENOMEM\\fR\nSave.\n",
        "The errno of \\fBopen\\fR(2).",
        ".SH CONTEXT\nAny thread.",
        "\\fBgodwit-a\\fR(3)",
    ], ["is gone", "main thread", "trailing"]),
    ("gw_a_free", [".so man3/gw_a_new.3\n"], []),
    ("gw_a_is_gone", ["\\- is it gone\n", ".SH CONTEXT\nThe main thread."], ["gw_a_new"]),
    ("godwit-a", ["struct gw_b {", "#define GW_SIZE_MAX \\e\n", "/* With a member. */", "Things that count",
                  "\\fBgw_a_new\\fR(3), \\fBgw_a_free\\fR(3)"], ["gw_inline", "opaque", "GODWIT_A_H"]),
    ("libgodwit", ["libgodwit \\- a library", "\\fBgodwit-a\\fR(3)\nThings that count."], []),
]


def made_pages(folder):
    """The pages of the header above."""
    include = folder / "include/godwit"
    include.mkdir(parents=True)
    (include / "a.h").write_text(HEADER)
    (folder / "include/godwit.h").write_text("/* SPDX-License-Identifier: */\n/* libgodwit: a library. */\n")
    (folder / "l.map").write_text("A { global: gw_a_new; gw_a_free; /* gw_none; */ gw_a_is_gone; gw_a_bare; };")
    script = ROOT / "tools/dev/man_pages.py"
    subprocess.run([script, "libgodwit", "7.8.9", folder / "include/godwit.h", folder, include / "a.h"],
                   check=True)
    listed = subprocess.run([script, "--list", "libgodwit", folder / "l.map", include / "a.h"],
                            stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return listed, {page.stem: page.read_text() for page in folder.glob("*.3")}


def wrong_pages():
    with tempfile.TemporaryDirectory() as folder:
        listed, pages = made_pages(Path(folder))
    if sorted(listed) != sorted(pages):
        yield f"listed {sorted(listed)}, made {sorted(pages)}"
    for name, held, absent in EXPECTED:
        text = pages.get(name, "")
        for words in held:
            if words not in text:
                yield f"{name}.3 does not hold {words!r}:\n{text}"
        for words in absent:
            if words in text:
                yield f"{name}.3 holds {words!r}:\n{text}"


SOURCE = """====
%s
====

SYNOPSIS
========

| **%s** **--help**

DESCRIPTION
===========

First. **%s** is bold, see **godwit-probe**\\ (1), **godwit-blk**\\ (1), **godwit-xen-agent**\\ (1).
"""


def wrong_names():
    for name, program, page, command in [
            ("godwit", "godwit", "godwit-xen", "godwit-xen"),
            ("godwit-probe", "godwit probe", "godwit-xen-probe", "godwit-xen probe"),
            ("godwit-rng", "godwit-rng", "godwit-rng-xen", "godwit-rng-xen"),
            ("godwit-xen-agent", "godwit-xen-agent", "godwit-xen-agent", "godwit-xen-agent")]:
        text = make_page.rename(SOURCE % (name, program, program), "-xen")
        line = "=" * len(page) if page != name else "===="
        for words in (f"{line}\n{page}\n{line}\n", f"\n| **{command}** **--help**\n", f"First. **{program}** is",
                      "see **godwit-xen-probe**\\ (1), **godwit-blk-xen**\\ (1), **godwit-xen-agent**\\ (1)."):
            if words not in text:
                yield f"{name} with -xen does not hold {words!r}:\n{text}"
        if ("**-Dmemory=xen**" in text) != (page != name):
            yield f"{name} with -xen: the note on the build\n{text}"


PAGE = '.TH "%s" "%s" "" "a" "b"\n.SH NAME\n%s \\- a page\n.SH DESCRIPTION\nA text.\n'
# What is changed in an installed tree without mistakes, and the finding.
MISTAKES = [
    ("bin/godwit-new", "", "godwit-new has no man page"),
    ("share/man/man1/godwit-old.1", PAGE % ("A", 1, "godwit-old"), "godwit-old is not"),
    ("share/man/man3/gw_f0.3", None, "gw_f0 has no man page"),
    ("share/man/man3/gw_old.3", PAGE % ("A", 3, "gw_old"), "describes no function"),
    ("share/man/man3/gw_f0.3", ".so man3/gw_none.3\n", "is no page"),
    ("share/man/man3/gw_f0.3", PAGE % ("A", 3, "gw_f0") + ".Bogus\n", "Bogus"),
    ("share/man/man3/gw_f0.3", PAGE % ("A", 3, "gw_f0") + "\\*[bogus]\n", "bogus"),
    ("share/man/man3/gw_f0.3", PAGE % ("A", 3, "gw_f0") + ".SH EMPTY\n.PP\n.PP\n", "skipping paragraph"),
    ("share/man/man3/gw_f0.3", '.TH "A" "3" "" "a" "b"\n.SH DESCRIPTION\nA text.\n', "parse failed"),
]


def installed(root):
    """An installed tree without a mistake, and its symbol map."""
    for folder in ("bin", "include/godwit", "share/man/man1", "share/man/man3"):
        (root / folder).mkdir(parents=True)
    for name in ("godwit", "godwit-blk", "godwit-rng", "godwit-probe"):
        if name != "godwit-probe":
            (root / "bin" / name).write_text("")
        (root / f"share/man/man1/{name}.1").write_text(PAGE % (name, 1, name))
    (root / "include/godwit/queue.h").write_text("")
    names = [f"gw_f{number}" for number in range(11)]
    for name in (*names, "godwit-queue", "libgodwit"):
        (root / f"share/man/man3/{name}.3").write_text(PAGE % (name, 3, name))
    (root / "share/man/man3/gw_f1.3").write_text(".so man3/gw_f2.3\n")
    (root / "l.map").write_text("A { global: " + " ".join(name + ";" for name in names) + " };")
    return root / "l.map"


def missed_mistakes():
    for path, text, finding in [("l.map", None, None), *MISTAKES]:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            script = installed(root)
            if finding and text is None:
                (root / path).unlink()
            elif finding:
                (root / path).write_text(text)
            found = list(man_pages.check(root, [script]))
        if finding is None and found:
            yield f"without a mistake: {found}"
        if finding is not None and not any(finding in line for line in found):
            yield f"{path}: {finding!r} is not in {found}"


def main():
    missing = [tool for tool in man_pages.TOOLS if not shutil.which(tool)]
    failed = [*wrong_pages(), *wrong_names(), *(missed_mistakes() if not missing else [])]
    print("\n".join(failed))
    if missing and not failed:
        print(f"not installed: {' '.join(missing)}", file=sys.stderr)
        sys.exit(77)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
