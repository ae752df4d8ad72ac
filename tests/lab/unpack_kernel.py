#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Unpacks a bzImage: QEMU starts the ELF file in it just as well (PVH), and TCG is spared the
decompression, which is nearly half of what a guest's start costs.

usage: unpack_kernel.py BZIMAGE OUTPUT
"""

import lzma
import struct
import sys
import zlib

# Documentation/arch/x86/boot.rst of Linux
SETUP_SECTORS = 0x1f1
PAYLOAD = 0x248  # where from the end of the setup, and how many bytes

UNPACK = {
    b'\xfd7zXZ\0': lambda data: lzma.LZMADecompressor().decompress(data),
    b'\x1f\x8b': lambda data: zlib.decompressobj(wbits=31).decompress(data),
}


def unpack(image):
    begin = (1 + (image[SETUP_SECTORS] or 4)) * 512
    offset, size = struct.unpack_from('<II', image, PAYLOAD)
    payload = image[begin + offset:begin + offset + size]
    for magic, function in UNPACK.items():
        if payload.startswith(magic):
            return function(payload)
    raise ValueError(f'packed in a way that is not known here ({payload[:4].hex()})')


def main():
    source, target = sys.argv[1:]
    with open(source, 'rb') as f:
        elf = unpack(f.read())
    if not elf.startswith(b'\x7fELF'):
        raise ValueError('what was packed is no ELF file')
    with open(target, 'wb') as f:
        f.write(elf)


if __name__ == '__main__':
    main()
