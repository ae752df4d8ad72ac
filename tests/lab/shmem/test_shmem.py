#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A device of libgodwit maps files into a shared memory region of QEMU's generic device, and the guest
reads and writes them through the BAR of the region.

    test_shmem.py --device window --guest window_guest [--qemu qemu11]

Exit status 0: success. 1: failure. 77: this machine lacks something, with the reason.
"""

import argparse
import os
import subprocess
import sys

sys.dont_write_bytecode = True  # keep the source folder clean

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'qemu'))

import machine
from initramfs import CannotBuild, Root
from lab import QEMU_HELP, Backend, Guest, Lab, LabError, Skip, find_qemu, peer_kernel, run_test

GENERIC = 'vhost-user-test-device-pci'
ENTROPY = 4  # virtio-id
MEMORY = '256M'
STEPS = ('mapped the first file', 'the guest has answered', 'unmapped the first file',
         'mapped the second file')
CHANGED = 'the guest has changed the second file'  # which it was shown read-only


def check_qemu(qemu):
    r = subprocess.run([qemu, '-device', f'{GENERIC},help'], capture_output=True, text=True)
    if r.returncode != 0:
        raise Skip(f'{qemu} has no {GENERIC}')


def build(path, kernel, guest):
    root = Root(kernel, ('virtio_pci', 'virtio_rng'), os.path.join(HERE, 'window-init'))
    root.add_program('lab/window_guest', guest)
    with open(path, 'wb') as f:
        f.write(root.finish())


def run(args):
    qemu = find_qemu(args.qemu)
    check_qemu(qemu)
    kernel, image = peer_kernel()
    with Lab(args.limit, keep=args.keep) as lab:
        initramfs = lab.path('initramfs')
        try:
            build(initramfs, kernel, args.guest)
        except CannotBuild as e:
            raise Skip(str(e)) from None
        device = Backend(lab, f'"{args.device}" {{socket}}', '', 'window')
        status = machine.run([
            qemu, '-machine', 'q35,accel=tcg,memory-backend=mem', '-cpu', 'max', '-smp', '1',
            '-m', MEMORY, '-object', f'memory-backend-memfd,id=mem,size={MEMORY},share=on',
            '-kernel', image, '-append', Guest.APPEND, '-initrd', initramfs,
            '-chardev', f'socket,id=window,path={device.socket}',
            '-device', f'{GENERIC},chardev=window,virtio-id={ENTROPY},num_vqs=1'])
        device.stop()
        if status != 0:
            raise LabError(f'the guest ended with status {status}')
        with open(device.log, encoding='utf-8', errors='replace') as f:
            lines = f.read().splitlines()
        steps = [line for line in lines if line in STEPS]
        if steps != list(STEPS):
            raise LabError(f'the device made the steps {steps}')
        if (CHANGED in lines) != args.ignores_read_only:
            raise LabError('a read-only mapping can' + ('' if CHANGED in lines else 'not') +
                           ' be written')
        lab.say('the guest has read both files through the BAR')


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', required=True, help='the program window')
    parser.add_argument('--guest', required=True, help='the program window_guest')
    parser.add_argument('--qemu', default='qemu11', help=QEMU_HELP)
    parser.add_argument('--ignores-read-only', action='store_true',
                        help='this QEMU maps everything writable')
    parser.add_argument('--limit', type=int, default=300, help='seconds')
    parser.add_argument('--keep', action='store_true')
    args = parser.parse_args()
    return run_test(lambda: run(args))


if __name__ == '__main__':
    sys.exit(main())
