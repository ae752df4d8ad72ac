#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Two builds that are installed into one prefix share only what the list below allows, and install the
same bytes there: the public headers of libgodwit and their man pages.

usage: collisions.py ONE TWO      the folders of two installed trees
       collisions.py --test       each mistake is found
"""

import fnmatch
import sys
import tempfile
from pathlib import Path

SHARED = ("include/godwit.h", "include/godwit/*.h", "share/man/man3/libgodwit.3",
          "share/man/man3/libgodwit-blk.3", "share/man/man3/gw_*.3",
          "share/man/man3/godwit-*.3")
SHARED_MIN = 7
HEADERS = "include/godwit"


def installed(root):
    """The files of a tree by their path below the prefix, which is the folder above include."""
    prefix = next(path.parent for path in sorted(root.rglob("include")) if path.is_dir())
    return {path.relative_to(root).as_posix(): (path.relative_to(prefix).as_posix()
                                                if path.is_relative_to(prefix) else path.as_posix())
            for path in root.rglob("*") if path.is_symlink() or not path.is_dir()}


def bytes_of(path):
    return path.readlink() if path.is_symlink() else path.read_bytes()


def check(one, two):
    shared = 0
    others = installed(two)
    for path, name in sorted(installed(one).items()):
        if path not in others:
            continue
        shared += 1
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in SHARED):
            yield f"{path} is installed by both builds"
        elif bytes_of(one / path) != bytes_of(two / path):
            yield f"{path} is not the same in both builds"
    if shared < SHARED_MIN:
        yield f"only {shared} files are in both: this check is blind"


# The path of a file, its contents in both trees (None: absent), and the finding.
CASES = [
    ("bin/godwit", "a", None, ""),
    (HEADERS + "/a.h", "a", "a", ""),
    (HEADERS + "/a.h", "a", "b", "a.h is not the same"),
    ("share/man/man3/gw_a.3", "a", "b", "gw_a.3 is not the same"),
    ("bin/godwit", "a", "a", "bin/godwit is installed by both"),
    ("share/man/man1/godwit.1", "a", "a", "godwit.1 is installed by both"),
    ("share/zsh/site-functions/_godwit", "a", "b", "_godwit is installed by both"),
    ("../lib/systemd/system/a.service", "a", "a", "a.service is installed by both"),
]


def test():
    failed = 0
    for path, *texts, finding in [*CASES, (None, None, None, "blind")]:
        with tempfile.TemporaryDirectory() as folder:
            roots = [Path(folder, name) for name in ("one", "two")]
            for root, text in zip(roots, texts):
                (root / "usr/include/godwit").mkdir(parents=True)
                for number in range(SHARED_MIN if path else SHARED_MIN - 1):
                    (root / f"usr/include/godwit/{number}.h").write_text("")
                if text is not None:
                    (root / "usr" / path).parent.mkdir(parents=True, exist_ok=True)
                    (root / "usr" / path).write_text(text)
            found = list(check(*roots))
        if bool(found) != bool(finding) or (finding and finding not in found[0]):
            failed += 1
            print(f"{path}: {found}, not {finding!r}")
    return failed


def main():
    if sys.argv[1:] == ["--test"]:
        sys.exit(1 if test() else 0)
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    findings = list(check(Path(sys.argv[1]), Path(sys.argv[2])))
    print("\n".join(findings))
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
