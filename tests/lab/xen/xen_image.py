# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What dom0 and the domUs boot beside their kernel: the initramfs of dom0 and, in it, that of the
domUs. Nothing is compressed, as that would be undone under emulation. There is no disk and no network.
"""

import os
import re
import stat
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'qemu'))

from initramfs import CannotBuild, Cpio, find_busybox, module_paths, read_module

MODULES = ('xen-privcmd', 'xenfs', 'xen-evtchn', 'xen-gntdev', 'xen-gntalloc')
TOOLS = ('xl', 'xenstored', 'xenconsoled', 'xen-init-dom0', 'libxl-save-helper')
# One program; what it does is its name.
XENSTORE = ('read', 'ls', 'list', 'exists', 'rm', 'chmod', 'write')
# glibc loads it by name when a thread is cancelled, as xl does; ldd cannot tell.
LOADED_BY_NAME = ('libgcc_s.so.1',)


def libraries_of(program, folder):
    """What a program loads, by name; those of the folder come before the machine's own."""
    r = subprocess.run(['ldd', program], capture_output=True, text=True,
                       env={**os.environ, 'LD_LIBRARY_PATH': folder})
    missing = re.findall(r'^\s*(\S+) => not found', r.stdout, re.MULTILINE)
    if missing:
        raise CannotBuild(f'{program} needs {", ".join(missing)}')
    return {os.path.basename(path): path
            for path in re.findall(r'(/\S+) \(0x', r.stdout)}


class Root:
    """The root file system of a domain."""

    def __init__(self, peer, kernel, init):
        self.peer = peer
        self.libraries = os.path.join(peer, 'usr/lib/x86_64-linux-gnu')
        self.archive = Cpio()
        self.names = set()
        for name in ('bin', 'dev', 'etc', 'etc/xen', 'lab', 'lab/lib', 'lib64', 'modules', 'proc',
                     'root', 'run', 'sys', 'tmp', 'usr', 'usr/lib', 'var', 'var/lib', 'var/log',
                     'var/log/xen'):
            self.archive.add_folder(name)
        self.link('var/run', '/run')
        self.link('var/lock', '/run/lock')
        self.add('bin/busybox', find_busybox())
        for name in subprocess.run(['busybox', '--list'], capture_output=True, text=True,
                                   check=True).stdout.split():
            self.link(f'bin/{name}', 'busybox')
        self.add_file('init', os.path.join(HERE, init))
        self.program('bin/xenstore-write', os.path.join(peer, 'usr/bin/xenstore-write'))
        for name in XENSTORE[:-1]:
            self.link(f'bin/xenstore-{name}', 'xenstore-write')
        self.modules(kernel)

    def link(self, name, target):
        if name not in self.names:
            self.names.add(name)
            self.archive.add(name, stat.S_IFLNK | 0o777, target.encode())

    def add(self, name, content, mode=0o100755):
        if name not in self.names:
            self.names.add(name)
            self.archive.add_file(name, content, mode)

    def add_file(self, name, path):
        with open(path, 'rb') as f:
            self.add(name, f.read())

    def program(self, name, path):
        """A program and its libraries: the linker where it wants to be, the rest in one folder."""
        self.add_file(name, path)
        for library, place in libraries_of(path, self.libraries).items():
            folder = 'lib64' if library.startswith('ld-linux') else 'lab/lib'
            self.add_file(f'{folder}/{library}', place)

    def modules(self, kernel):
        order = []
        for path in module_paths(kernel, MODULES):
            name = os.path.basename(path).split('.ko')[0] + '.ko'
            self.add(f'modules/{name}', read_module(path))
            order.append(name + '\n')
        self.add('modules/order', ''.join(order).encode(), 0o100644)


def find_library(name):
    for folder in ('/lib/x86_64-linux-gnu', '/usr/lib/x86_64-linux-gnu'):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            return path
    raise CannotBuild(f'{name} is not on this machine')


def build(path, peer, kernel, vmlinux, dom0_programs, domu_programs, dom0_files):
    """Makes the initramfs of dom0, with the domUs' kernel `vmlinux` in it; the modules are those of
    `kernel`. Programs are paths; files are pairs of a name in dom0 and a path."""
    domu = Root(peer, kernel, 'domu-init')
    for program in domu_programs:
        domu.program(f'lab/{os.path.basename(program)}', program)
    dom0 = Root(peer, kernel, 'dom0-init')
    # libxl looks for its helper where the packages have it.
    dom0.archive.add_folder('usr/lib/xen-4.17')
    dom0.archive.add_folder('usr/lib/xen-4.17/bin')
    for name in TOOLS:
        dom0.program(f'usr/lib/xen-4.17/bin/{name}',
                     os.path.join(peer, 'usr/lib/xen-4.17/bin', name))
        dom0.link(f'bin/{name}', f'/usr/lib/xen-4.17/bin/{name}')
    for name in LOADED_BY_NAME:
        dom0.add_file(f'lab/lib/{name}', find_library(name))
    dom0.add('etc/xen/xl.conf', b'', 0o100644)
    for program in dom0_programs:
        dom0.program(f'lab/{os.path.basename(program)}', program)
    for name, file in dom0_files:
        dom0.add_file(name, file)
    dom0.add_file('lab/vmlinux', vmlinux)
    dom0.add('lab/domu.cpio', domu.archive.finish(), 0o100644)
    with open(path, 'wb') as f:
        f.write(dom0.archive.finish())
