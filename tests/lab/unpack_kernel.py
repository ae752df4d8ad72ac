#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Unpacks a bzImage: QEMU can start the ELF file in it (PVH). That avoids decompression under TCG, which
takes nearly half of the time of a guest's start.

usage: unpack_kernel.py BZIMAGE OUTPUT
       unpack_kernel.py --check BZIMAGE    exit 0 if it can be unpacked, 1 with the reason if not
"""

import lzma
import struct
import sys
import zlib

# Documentation/arch/x86/boot.rst of Linux
SETUP_SECTORS = 0x1f1
PAYLOAD = 0x248  # offset from the end of the setup, and length

UNPACK = {
    b'\xfd7zXZ\0': lambda data: lzma.LZMADecompressor().decompress(data),
    b'\x1f\x8b': lambda data: zlib.decompressobj(wbits=31).decompress(data),
}


def payload_of(image):
    """The packed kernel, and the function that unpacks it."""
    if len(image) < PAYLOAD + 8:
        raise ValueError('too short for a bzImage')
    begin = (1 + (image[SETUP_SECTORS] or 4)) * 512
    offset, size = struct.unpack_from('<II', image, PAYLOAD)
    payload = image[begin + offset:begin + offset + size]
    for magic, function in UNPACK.items():
        if payload.startswith(magic):
            return payload, function
    raise ValueError(f'unknown compression ({payload[:4].hex()}); gzip and xz are supported')


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    check = sys.argv[1] == '--check'
    source = sys.argv[2 if check else 1]
    try:
        with open(source, 'rb') as f:
            payload, unpack = payload_of(f.read())
        if check:
            return
        elf = unpack(payload)
        if not elf.startswith(b'\x7fELF'):
            raise ValueError('the payload is not an ELF file')
        with open(sys.argv[2], 'wb') as f:
            f.write(elf)
    except (OSError, ValueError) as e:
        sys.exit(f'unpack_kernel.py: {source}: {e}')


if __name__ == '__main__':
    main()
