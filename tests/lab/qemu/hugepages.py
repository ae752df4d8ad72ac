# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Huge pages of 2 MiB for the time of a test."""

import fcntl

from lab import Skip

FOLDER = '/sys/kernel/mm/hugepages/hugepages-2048kB'
MIB_EACH = 2


def read_number(name):
    with open(f'{FOLDER}/{name}') as f:
        return int(f.read())


class HugePages:
    """Reserves n free pages; restores the previous number afterwards."""

    def __init__(self, n_mib):
        self.n = n_mib // MIB_EACH

    def __enter__(self):
        try:
            self.file = open(f'{FOLDER}/nr_hugepages', 'r+')
            fcntl.flock(self.file, fcntl.LOCK_EX)
            self.n_before = read_number('nr_hugepages')
            self.write(self.n_before + max(0, self.n - read_number('free_hugepages')))
        except OSError as e:
            raise Skip(f'huge pages cannot be had: {e}') from None
        n_free = read_number('free_hugepages')
        if n_free < self.n:
            self.__exit__()
            raise Skip(f'only {n_free} of {self.n} huge pages can be had')
        return self

    def __exit__(self, *args):
        self.write(self.n_before)
        self.file.close()

    def write(self, n):
        self.file.seek(0)
        self.file.write(str(n))
        self.file.flush()
