# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The disk content of ../pattern.h, on the host."""

import struct

BLOCK = 512
ZEROED = 0xffffffff
MAGIC = 0x31746977646f6721
OFFSETS = 65536
MASK = (1 << 64) - 1
HEAD = struct.Struct('<QQII')


class Mismatch(Exception):
    """The disk does not hold what it must hold."""


def mix(z):
    z = ((z ^ (z >> 30)) * 0xbf58476d1ce4e5b9) & MASK
    z = ((z ^ (z >> 27)) * 0x94d049bb133111eb) & MASK
    return z ^ (z >> 31)


def make_noise(seed):
    words, state = [], seed
    for _ in range((OFFSETS + BLOCK) // 8):
        state = (state + 0x9e3779b97f4a7c15) & MASK
        words.append(mix(state))
    return struct.pack(f'<{len(words)}Q', *words)


class Pattern:
    def __init__(self, seed):
        self.seed = seed
        self.noise = make_noise(seed)

    def block(self, number, generation):
        if generation == ZEROED:
            return bytes(BLOCK)
        value = mix(self.seed ^ ((number << 32) & MASK) ^ generation)
        offset = (value >> 32) % OFFSETS
        return (HEAD.pack(MAGIC, number, generation, value & 0xffffffff)
                + self.noise[offset:offset + BLOCK - HEAD.size])

    def fill(self, file, first, n_blocks):
        """Writes generation 0 of the blocks."""
        for begin in range(first, first + n_blocks, 2048):
            end = min(begin + 2048, first + n_blocks)
            file.write(b''.join(self.block(n, 0) for n in range(begin, end)))

    def verify(self, file, first, generations):
        """Compares every byte of the blocks; generations[i] is that of block first + i."""
        for number, generation in enumerate(generations, first):
            data = file.read(BLOCK)
            if data != self.block(number, generation):
                raise Mismatch(self.describe(data, number, generation))

    def describe(self, data, number, generation):
        if len(data) < BLOCK:
            return f'the image ends inside block {number}'
        expected = self.block(number, generation)
        at = next(i for i in range(BLOCK) if data[i] != expected[i])
        magic, found, found_generation, _ = HEAD.unpack_from(data)
        has = 'has the' if magic == MAGIC else 'lacks the'
        return (f'block {number} must hold generation {generation} but differs from byte {at} on; '
                f'it {has} magic, number {found}, generation {found_generation}')
