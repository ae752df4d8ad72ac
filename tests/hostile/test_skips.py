#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Without userfaultfd, each test that uses postcopy reports what it skips in a form that
tools/dev/tally.py reads.

usage: test_skips.py TALLY_FOLDER INTEGRATION_FOLDER
"""

import contextlib
import io
import sys

SKIP = 77


def run(module, *words):
    """Returns: the exit status and the cases that it reports as skipped."""
    import tally

    sys.argv = [module.__name__, *words]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        status = module.main()
    return status, tally.CASE.findall(out.getvalue())


def main():
    sys.path[1:1] = sys.argv[1:]
    import it_migrate_link
    import it_migrate_netns
    import link_proxy
    import test_hostile
    import test_link_frames

    it_migrate_link.has_userfaultfd = test_hostile.has_userfaultfd = lambda: False
    it_migrate_netns.missing = link_proxy.lacks_loopback = lambda: None
    programs = ('godwit', 'godwit-blk', 'godwit-rng')
    for module, words, expected in (
            (it_migrate_link, (*programs, 'test_postcopy_disk'), (SKIP, ['test_postcopy_disk'])),
            (it_migrate_netns, (*programs, 'test_postcopy'), (SKIP, ['test_postcopy'])),
            (test_hostile, (*programs[:2], 'advise-never'), (SKIP, ['postcopy'])),
            (test_link_frames, ('--runs=0', *programs, sys.path[2]), (0, ['postcopy']))):
        found = run(module, *words)
        assert found == expected, f'{module.__name__}: {found} instead of {expected}'


if __name__ == '__main__':
    main()
