# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The disk image of a run: the blocks that the guest writes, then its table of generations, then blocks
that it only reads."""

import os
import random
import struct
import zlib

from lab import LabError
from pattern import BLOCK, Mismatch

TABLE_SPACE = 1 << 20


class Image:
    def __init__(self, lab, pattern, n_blocks, n_kept=0, name='disk.img'):
        self.lab = lab
        self.pattern = pattern
        self.n_blocks = n_blocks
        self.n_kept = n_kept
        self.first_kept = n_blocks + TABLE_SPACE // BLOCK
        self.size = (self.first_kept + n_kept) * BLOCK
        self.path = lab.path(name)
        with open(self.path, 'wb') as f:
            f.seek(self.first_kept * BLOCK)
            pattern.fill(f, self.first_kept, n_kept)
            f.truncate(self.size)
        self.renew()

    def renew(self):
        """Restores the original contents of the blocks that the guest writes."""
        with open(self.path, 'r+b') as f:
            self.pattern.fill(f, 0, self.n_blocks)

    def read_generations(self, file, crc):
        file.seek(self.n_blocks * BLOCK)
        table = file.read(self.n_blocks * 4)
        if zlib.crc32(table) != crc:
            raise LabError("the table of generations on the disk is not the guest's")
        return struct.unpack(f'<{self.n_blocks}I', table)

    def verify(self, crc, read_only=False):
        """Compares every byte with the guest's table of generations, whose checksum is crc."""
        with open(self.path, 'rb') as f:
            generations = [0] * self.n_blocks if read_only else self.read_generations(f, crc)
            try:
                f.seek(0)
                self.pattern.verify(f, 0, generations)
                f.seek(self.first_kept * BLOCK)
                self.pattern.verify(f, self.first_kept, [0] * self.n_kept)
            except Mismatch as e:
                raise LabError(f'on the host: {e}') from None
        written = sum(g != 0 for g in generations)
        self.lab.say(f'the image is right in every byte; {written} of {self.n_blocks} blocks were '
                     'written')

    def corrupt(self, n_blocks=1):
        with open(self.path, 'r+b', buffering=0) as f:
            for _ in range(n_blocks):
                f.seek(random.randrange(self.n_blocks) * BLOCK + 300)
                byte = f.read(1)[0]
                f.seek(-1, os.SEEK_CUR)
                f.write(bytes([byte ^ 1]))
