#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""operators.py makes the mutants of a line that a test can detect, and no others."""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent))

import operators  # noqa: E402  pylint: disable=wrong-import-position

FOUND = (  # lines of C, and the first line of each mutant, without indentation
    ('if (a < b)\n        return;', ['if (a <= b)']),
    ('if (a >= 0 && !b)', ['if (a > 0 && !b)', 'if (a >= 1 && !b)', 'if (a >= 0 || !b)',
                             'if (a >= 0 && b)']),
    ('return r;', ['return 0;']),
    ('return gw_fail(-EINVAL, "too long: %u", n);', ['return 0;']),
    ('f(a, 0); /* f(b, 0); */', ['f(a, 1); /* f(b, 0); */', ';']),
    ('gw_log_warning("x < y");', []),
    ('/* if (a < b) */', []),
    # A prefetch changes speed only.
    ('__builtin_prefetch(&ring[0]);', []),
    ('for (unsigned i = 0; i < PREFETCH_BYTES; i += 64)', []),
    # More memory changes nothing, and destroying a mutex frees none.
    ('a = calloc(1, 2);', [';']),
    ('pthread_mutex_destroy(&a->lock);', []),
    # The smaller or the larger of two values.
    ('if (n > room)\n        n = room;', []),
    ('if (end >= a->b[i].len)\n        end = a->b[i].len;', []),
    ('return a < b ? a : b;', []),
    ('x = y + (left < b[i].len ? left : b[i].len);',
     ['x = y - (left < b[i].len ? left : b[i].len);', ';']),
    ('return r < 0 ? r : 0;', ['return r < 1 ? r : 0;', 'return r < 0 ? r : 1;']),
    # These only resemble it.
    ('if (n > room)\n        n = room - x;', ['if (n >= room)']),
    ('if (n > room)\n        x = room;', ['if (n >= room)']),
    ('if (a < b || n > room)\n        n = room;',
     ['if (a <= b || n > room)', 'if (a < b || n >= room)', 'if (a < b && n > room)']),
    ('return a < b ? b : c;', ['return a <= b ? b : c;']),
    ('return a < 0 || b < a ? b : a;', ['return a <= 0 || b < a ? b : a;',
                                       'return a < 1 || b < a ? b : a;',
                                       'return a < 0 && b < a ? b : a;']),
)


def main():
    failed = 0
    for lines, expected in FOUND:
        text = f'    {lines}\n'
        found = [m.after.strip() for m in operators.mutants('x.c', text) if m.line == 1]
        if sorted(found) != sorted(expected):
            print(f'{lines!r}: made {found}, not {expected}')
            failed += 1
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
