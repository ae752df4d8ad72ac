# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The memory of two QEMU processes, compared byte by byte while neither of them runs."""

import mmap
import os
import struct

from pattern import BLOCK, MAGIC

PAGE = 4096
CHUNK = 1 << 20
MEMFD = '/memfd:memory-backend-memfd'
HEAD = struct.Struct('<QQI')


def find_memory(pid):
    """The memory files of a process as (size, path), each once, in the order of creation."""
    folder = f'/proc/{pid}/fd'
    files = {}
    for name in sorted(os.listdir(folder), key=int):
        path = os.path.join(folder, name)
        try:
            if os.readlink(path).startswith(MEMFD):
                status = os.stat(path)
                files.setdefault(status.st_ino, (status.st_size, path))
        except FileNotFoundError:
            pass  # closed since
    return list(files.values())


def describe_block(data):
    """Describes 512 bytes, as far as they are recognizable."""
    if data == bytes(BLOCK):
        return 'zeroes'
    if data == b'\xa5' * BLOCK:
        return 'a buffer before its read'
    magic, number, generation = HEAD.unpack_from(data)
    if magic == MAGIC:
        return f'disk block {number} of generation {generation}'
    return 'something else'


class Difference:
    """A page that differs between the two processes."""

    def __init__(self, address, source, destination):
        self.address = address
        self.blocks = [(describe_block(source[i:i + BLOCK]), describe_block(destination[i:i + BLOCK]))
                       for i in range(0, PAGE, BLOCK)
                       if source[i:i + BLOCK] != destination[i:i + BLOCK]]
        offsets = [i for i in range(PAGE) if source[i] != destination[i]]
        self.n_bytes = len(offsets)
        self.has_disk_blocks = any(block.startswith('disk') for pair in self.blocks
                                   for block in pair)
        # The words around the first difference.
        self.at = offsets[0]
        word = self.at & -8
        self.words = [side[word:word + 8][::-1].hex() for side in (source, destination)]

    def __str__(self):
        source, destination = self.blocks[0]
        return (f'page {self.address:#x}: {self.n_bytes} bytes differ in {len(self.blocks)} of '
                f'{PAGE // BLOCK} blocks; the first at {self.at:#x}: source has {source} '
                f'({self.words[0]}), destination {destination} ({self.words[1]})')


def compare_maps(a, b, size):
    for begin in range(0, size, CHUNK):
        if a[begin:begin + CHUNK] == b[begin:begin + CHUNK]:
            continue
        for page in range(begin, min(begin + CHUNK, size), PAGE):
            source, destination = a[page:page + PAGE], b[page:page + PAGE]
            if source != destination:
                yield Difference(page, source, destination)


def compare(source_pid, destination_pid):
    """All differing pages of the two processes, and the number of pages compared."""
    differences, n_pages = [], 0
    sides = [find_memory(source_pid), find_memory(destination_pid)]
    if not sides[0] or [f[0] for f in sides[0]] != [f[0] for f in sides[1]]:
        raise ValueError(f'the memory files do not match: {sides}')
    for (size, source), (_, destination) in zip(*sides):
        with open(source, 'rb') as f, open(destination, 'rb') as g:
            with mmap.mmap(f.fileno(), size, prot=mmap.PROT_READ) as a, \
                    mmap.mmap(g.fileno(), size, prot=mmap.PROT_READ) as b:
                differences += compare_maps(a, b, size)
        n_pages += size // PAGE
    return differences, n_pages
