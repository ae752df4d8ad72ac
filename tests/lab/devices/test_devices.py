#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""godwit-blk with block devices simulated by Debian's kernel: dm-thin, null_blk and scsi_debug. A machine
boots in QEMU, and device-checks runs in it with the given programs.

    test_devices.py --program godwit-blk --program device_guest [--only 'thin*']

Exit status 0: success. 1: failure. 77: this machine lacks something, with the reason.
"""

import argparse
import os
import shutil
import sys

sys.dont_write_bytecode = True  # keep the source folder clean

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'qemu'))

import machine
from initramfs import CannotBuild, Root
from lab import Guest, Lab, LabError, Skip, peer_kernel, run_test

MODULES = ('sd_mod', 'null_blk', 'dm-thin-pool', 'scsi_debug')
MEMORY = '512M'


def find_program(name, package):
    path = shutil.which(name, path=os.defpath + ':/usr/sbin:/sbin')
    if path is None:
        raise Skip(f'{name} is not installed (package {package})')
    return path


def build(path, kernel, programs, only):
    """Makes the initramfs; the modules are those of `kernel`."""
    root = Root(kernel, MODULES, os.path.join(HERE, 'devices-init'))
    for program in programs:
        root.add_program(f'lab/{os.path.basename(program)}', program)
    root.add_program('bin/dmsetup', find_program('dmsetup', 'dmsetup'))
    root.add_file('lab/checks', os.path.join(HERE, 'device-checks'))
    root.add('lab/only', only.encode() + b'\n', 0o100644)
    with open(path, 'wb') as f:
        f.write(root.finish())


def run(args):
    qemu = find_program('qemu-system-x86_64', 'qemu-system-x86')
    kernel, image = peer_kernel()
    with Lab(args.limit, keep=args.keep) as lab:
        initramfs = lab.path('initramfs')
        try:
            build(initramfs, kernel, args.program, args.only)
        except CannotBuild as e:
            raise Skip(str(e)) from None
        lab.say('the image is built')
        status = machine.run([qemu, '-accel', 'tcg', '-cpu', 'max', '-smp', '1', '-m', MEMORY,
                              '-kernel', image, '-append', Guest.APPEND, '-initrd', initramfs])
        if status != 0:
            raise LabError(f'the checks ended with status {status}')


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--program', action='append', default=[], help='for the machine')
    parser.add_argument('--only', default='*', help='devices to check, a shell pattern')
    parser.add_argument('--limit', type=int, default=600, help='seconds')
    parser.add_argument('--keep', action='store_true')
    args = parser.parse_args()
    return run_test(lambda: run(args))


if __name__ == '__main__':
    sys.exit(main())
