#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""godwit's Xen back-end on a real Xen: one machine boots in QEMU, with a dom0 and domains of the
given kinds, and dom0-checks runs in it.

    test_xen.py --dom0 pv --program godwit-blk-xen --program xen_checks ... --agent godwit-xen-agent
                --plan 'pv foreign io region' --plan 'pvh grant io'

Exit status 0: success. 1: failure. 77: this machine lacks something, with the reason.
"""

import argparse
import os
import shutil
import sys

sys.dont_write_bytecode = True  # keep the source folder clean

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'qemu'))

import xen_image
import xen_machine
from initramfs import CannotBuild
from lab import Lab, LabError, Skip, peer, run_test


def run(args):
    if not shutil.which('qemu-system-x86_64'):
        raise Skip('qemu-system-x86_64 is not installed')
    xen = peer('xen')
    kernel = peer('kernel')
    vmlinux = peer('vmlinux')
    with Lab(args.limit, keep=args.keep) as lab:
        plan = lab.path('plan')
        initramfs = lab.path('initramfs')
        with open(plan, 'w') as f:
            f.write(''.join(line + '\n' for line in args.plan))
        try:
            xen_image.build(initramfs, xen, kernel, vmlinux, args.program, args.agent,
                            [('lab/plan', plan), ('lab/checks', os.path.join(HERE, args.checks)),
                             ('lab/domains', os.path.join(HERE, 'domains'))])
        except CannotBuild as e:
            raise Skip(str(e)) from None
        lab.say('the image is built')
        status = xen_machine.run(xen, vmlinux, initramfs, args.dom0)
        if status != 0:
            raise LabError(f'dom0 ended with status {status}')


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--dom0', choices=('pv', 'pvh'), default='pv')
    parser.add_argument('--program', action='append', default=[], help='a program for dom0; may be repeated')
    parser.add_argument('--agent', action='append', default=[], help='a program for the domains; may be repeated')
    parser.add_argument('--plan', action='append', default=[], help='TYPE FORM STEP...')
    parser.add_argument('--checks', default='dom0-checks', help='the script that dom0 runs')
    parser.add_argument('--limit', type=int, default=1500, help='time limit in seconds (default 1500)')
    parser.add_argument('--keep', action='store_true')
    args = parser.parse_args()
    return run_test(lambda: run(args))


if __name__ == '__main__':
    sys.exit(main())
