#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""`peers kernel` picks a kernel that the lab can use, whatever other kernels are installed."""

import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PACKED = {'xz': b'\xfd7zXZ\0', 'gzip': b'\x1f\x8b\x08', 'lz4': b'\x02\x21\x4c\x18',
          'zstd': b'\x28\xb5\x2f\xfd'}


def install(root, version, packed, modules=True):
    """A bzImage with only the fields that unpack_kernel.py reads."""
    image = bytearray(1024)
    image[0x1f1] = 1
    payload = PACKED[packed] + bytes(64)
    struct.pack_into('<II', image, 0x248, 0, len(payload))
    (root / 'boot').mkdir(parents=True, exist_ok=True)
    (root / 'boot' / f'vmlinuz-{version}').write_bytes(image + payload)
    if modules:
        (root / 'lib/modules' / version / 'kernel').mkdir(parents=True, exist_ok=True)


def check(expected, *kernels):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / 'kernel'
        for kernel in kernels:
            install(root, *kernel)
        r = subprocess.run([HERE / 'peers', 'kernel'], capture_output=True, text=True, check=False,
                           env={**os.environ, 'GODWIT_LAB_DIR': folder})
        found = r.stdout.strip()
        if found != str(root / 'boot' / f'vmlinuz-{expected}'):
            sys.exit(f'of {kernels}, peers chose {found!r} instead of {expected}\n{r.stderr}')


def main():
    check('6.1.0-40-amd64', ('6.1.0-40-amd64', 'xz'))
    check('6.1.0-50-amd64', ('6.1.0-9-amd64', 'xz'), ('6.1.0-50-amd64', 'gzip'))
    # Newer, but of another flavour, packed in another way, or without its modules.
    check('6.1.0-40-amd64', ('6.1.0-40-amd64', 'xz'), ('6.1.0-50-cloud-amd64', 'lz4'),
          ('6.1.0-51-rt-amd64', 'xz'), ('6.12.1-1-amd64', 'zstd'), ('6.1.0-52-amd64', 'lz4'),
          ('6.1.0-53-amd64', 'xz', False))


if __name__ == '__main__':
    main()
