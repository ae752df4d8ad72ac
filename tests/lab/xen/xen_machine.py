# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A machine with Xen on it, emulated by QEMU (TCG): it runs what is in its dom0, tells what that
says, and comes back with its verdict.
"""

import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'qemu'))

from lab import LabError, die_with_parent

MEMORY_MIB = 1536
DOM0_MIB = 832

# A crash of Xen or dom0 reboots, and -no-reboot makes that the end of QEMU.
KERNEL = 'console=hvc0 quiet panic=1 oops=panic mitigations=off'
XEN = (f'console=com1 com1=115200,8n1 dom0_mem={DOM0_MIB}M,max:{DOM0_MIB}M dom0_max_vcpus=1 '
       'spec-ctrl=no bootscrub=0 watchdog=0')

# What the kernel or Xen says only when something is badly wrong.
ALARMS = re.compile(r'BUG:|WARNING: CPU|Oops|general protection|Bad page|Bad rss|\(XEN\).*(Panic|'
                    r'FATAL|Assertion)')


def qemu_command(peer, vmlinux, initramfs, dom0):
    """+svm,+npt: Debian's Xen has no shadow paging, so that PVH domains need nested paging. +rdrand:
    else the first random bytes are waited for. qemu64 is an AMD model, so that Xen does without
    page-table isolation. A PVH dom0 is built only where there is an IOMMU."""
    xen = XEN + (' dom0=pvh' if dom0 == 'pvh' else '')
    machine = ['-machine', 'q35', '-device', 'amd-iommu'] if dom0 == 'pvh' else []
    return ['qemu-system-x86_64', '-accel', 'tcg,thread=single', '-cpu', 'qemu64,+svm,+npt,+rdrand',
            *machine, '-smp', '1', '-m', str(MEMORY_MIB), '-display', 'none', '-monitor', 'none',
            '-serial', 'stdio', '-no-reboot', '-nodefaults', '-net', 'none',
            '-kernel', os.path.join(peer, 'xen'), '-append', xen,
            '-initrd', f'{vmlinux} {KERNEL},{initramfs}']


def run(peer, vmlinux, initramfs, dom0):
    """Boots, prints what is said with the time since the start; returns the verdict of dom0."""
    command = qemu_command(peer, vmlinux, initramfs, dom0)
    begin = time.monotonic()
    verdict = None
    alarms = []
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, preexec_fn=die_with_parent) as qemu:
        try:
            for raw in qemu.stdout:
                line = raw.decode(errors='replace').replace('\r', '').rstrip()
                print(f'{time.monotonic() - begin:6.1f}  {line}', flush=True)
                if ALARMS.search(line):
                    alarms.append(line)
                if line.startswith('LAB: exit '):
                    verdict = int(line.removeprefix('LAB: exit '))
        finally:
            qemu.kill()
    if verdict is None:
        raise LabError('the machine went down without a verdict')
    if alarms:
        raise LabError(f'the kernel or Xen complains: {alarms[0]}')
    return verdict
