# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A machine with Xen, emulated by QEMU (TCG), which runs the script in its dom0."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'qemu'))

import machine

MEMORY_MIB = 1536
DOM0_MIB = 832

KERNEL = 'console=hvc0 quiet panic=1 oops=panic mitigations=off'
XEN = (f'console=com1 com1=115200,8n1 dom0_mem={DOM0_MIB}M,max:{DOM0_MIB}M dom0_max_vcpus=1 '
       'spec-ctrl=no bootscrub=0 watchdog=0')

# Messages of a kernel, or of Xen, in serious trouble.
ALARMS = machine.ALARMS + r'|\(XEN\).*(Panic|FATAL|Assertion)'


def qemu_command(peer, vmlinux, initramfs, dom0):
    """+svm,+npt: Debian's Xen has no shadow paging, so PVH domains need nested paging. +rdrand: without
    it the kernel waits for its first random bytes. qemu64 is an AMD model, so Xen works without
    page-table isolation. A PVH dom0 needs an IOMMU."""
    xen = XEN + (' dom0=pvh' if dom0 == 'pvh' else '')
    iommu = ['-machine', 'q35', '-device', 'amd-iommu'] if dom0 == 'pvh' else []
    return ['qemu-system-x86_64', '-accel', 'tcg,thread=single', '-cpu', 'qemu64,+svm,+npt,+rdrand',
            *iommu, '-smp', '1', '-m', str(MEMORY_MIB),
            '-kernel', os.path.join(peer, 'xen'), '-append', xen,
            '-initrd', f'{vmlinux} {KERNEL},{initramfs}']


def run(peer, vmlinux, initramfs, dom0):
    """Returns the verdict of dom0."""
    return machine.run(qemu_command(peer, vmlinux, initramfs, dom0), ALARMS)
