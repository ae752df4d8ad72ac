# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Builds the initramfs of dom0, which contains the initramfs of the domUs. They have neither disk nor
network.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'qemu'))

from initramfs import CannotBuild, Root

MODULES = ('xen-privcmd', 'xenfs', 'xen-evtchn', 'xen-gntdev', 'xen-gntalloc')
TOOLS = ('xl', 'xenstored', 'xenconsoled', 'xen-init-dom0', 'libxl-save-helper')
# Links to one program, which acts by its name.
XENSTORE = ('read', 'ls', 'list', 'exists', 'rm', 'chmod', 'write')
# glibc loads it by name when a thread is cancelled, which xl does; ldd does not list it.
LOADED_BY_NAME = ('libgcc_s.so.1',)


class XenRoot(Root):
    """The root file system of a domain."""

    FOLDERS = (*Root.FOLDERS, 'etc/xen', 'usr', 'usr/lib', 'var', 'var/lib', 'var/log',
               'var/log/xen')

    def __init__(self, peer, kernel, init):
        super().__init__(kernel, MODULES, os.path.join(HERE, init),
                         libraries=os.path.join(peer, 'usr/lib/x86_64-linux-gnu'))
        self.link('var/run', '/run')
        self.link('var/lock', '/run/lock')
        self.add_program('bin/xenstore-write', os.path.join(peer, 'usr/bin/xenstore-write'))
        for name in XENSTORE[:-1]:
            self.link(f'bin/xenstore-{name}', 'xenstore-write')


def find_library(name):
    for folder in ('/lib/x86_64-linux-gnu', '/usr/lib/x86_64-linux-gnu'):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            return path
    raise CannotBuild(f'{name} is not on this machine')


def build(path, peer, kernel, vmlinux, dom0_programs, domu_programs, dom0_files):
    """Makes the initramfs of dom0, with the domUs' kernel `vmlinux` in it; the modules are those of
    `kernel`. Programs are paths; files are pairs of a name in dom0 and a path."""
    domu = XenRoot(peer, kernel, 'domu-init')
    for program in domu_programs:
        domu.add_program(f'lab/{os.path.basename(program)}', program)
    dom0 = XenRoot(peer, kernel, 'dom0-init')
    # libxl expects its helper at the path of the packages.
    dom0.archive.add_folder('usr/lib/xen-4.17')
    dom0.archive.add_folder('usr/lib/xen-4.17/bin')
    for name in TOOLS:
        dom0.add_program(f'usr/lib/xen-4.17/bin/{name}',
                         os.path.join(peer, 'usr/lib/xen-4.17/bin', name))
        dom0.link(f'bin/{name}', f'/usr/lib/xen-4.17/bin/{name}')
    for name in LOADED_BY_NAME:
        dom0.add_file(f'lab/lib/{name}', find_library(name))
    dom0.add('etc/xen/xl.conf', b'', 0o100644)
    for program in dom0_programs:
        dom0.add_program(f'lab/{os.path.basename(program)}', program)
    for name, file in dom0_files:
        dom0.add_file(name, file)
    dom0.add_file('lab/vmlinux', vmlinux)
    dom0.add('lab/domu.cpio', domu.finish(), 0o100644)
    with open(path, 'wb') as f:
        f.write(dom0.finish())
