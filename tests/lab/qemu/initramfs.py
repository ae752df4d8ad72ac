# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Builds the initramfs of a guest: busybox, the modules in loading order, and either one static program
(build) or programs with their libraries (Root). It is not compressed, because decompression is slow
under emulation.
"""

import lzma
import os
import re
import shutil
import stat
import subprocess
import zlib

SOURCES = ('guest.c', 'guest_io.c', 'guest_hoard.c', 'guest_memory.c', 'guest_window.c',
           'guest_entropy.c', 'guest_util.c')

INIT = '''#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
while read module; do
    $b insmod /modules/$module || echo "insmod $module failed" >/dev/console
done </modules/order
# A second disk (SECOND_DISK=vdb on the kernel's command line) has a program of its own.
if [ -n "$SECOND_DISK" ]; then
    $b stty -F /dev/ttyS2 raw -echo
    /guest "$SECOND_DISK" </dev/ttyS2 >/dev/ttyS2 2>/dev/console &
fi
$b stty -F /dev/ttyS1 raw -echo
/guest </dev/ttyS1 >/dev/ttyS1 2>/dev/console && $b poweroff -f
# Do not power off: the host must read the error instead of noticing that QEMU ended.
echo "fail the guest's program ended with status $?" >/dev/ttyS1
$b sleep 1000000
'''


class CannotBuild(Exception):
    """This machine lacks a component of the guest."""


def run(args):
    try:
        return subprocess.run(args, check=True, capture_output=True, text=True, timeout=60).stdout
    except FileNotFoundError:
        raise CannotBuild(f'{args[0]} is not installed') from None
    except subprocess.CalledProcessError as e:
        raise CannotBuild(f'{" ".join(args)}: {e.stderr.strip()}') from None


def kernel_version(kernel):
    return os.path.basename(kernel).removeprefix('vmlinuz-')


def module_paths(kernel, names):
    """The files of the modules and of their dependencies, in loading order."""
    modprobe = shutil.which('modprobe', path=os.defpath + ':/usr/sbin:/sbin') or 'modprobe'
    root = os.path.dirname(os.path.dirname(os.path.abspath(kernel)))
    paths = []
    for name in names:
        lines = run([modprobe, '-d', root, '-S', kernel_version(kernel), '--show-depends', name])
        for line in lines.splitlines():
            word, *path = line.split()
            if word == 'insmod' and path[0] not in paths:
                paths.append(path[0])
    return paths


def read_module(path):
    with open(path, 'rb') as f:
        data = f.read()
    if path.endswith('.xz'):
        return lzma.decompress(data)
    if path.endswith('.gz'):
        return zlib.decompress(data, wbits=31)
    return data


class Cpio:
    """An archive in the kernel's form, see Documentation/driver-api/early-userspace."""

    def __init__(self):
        self.data = bytearray()
        self.inode = 0

    def add(self, name, mode, content=b''):
        self.inode += 1
        encoded = name.encode() + b'\0'
        fields = [self.inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0]
        self.data += b'070701' + b''.join(b'%08x' % f for f in fields) + encoded
        self.pad()
        self.data += content
        self.pad()

    def pad(self):
        self.data += bytes(-len(self.data) % 4)

    def add_folder(self, name):
        self.add(name, 0o040755)

    def add_file(self, name, content, mode=0o100755):
        self.add(name, mode, content)

    def finish(self):
        self.add('TRAILER!!!', 0)
        return bytes(self.data)


def find_busybox():
    for path in ('/bin/busybox', '/usr/bin/busybox'):
        if os.path.exists(path):
            with open(path, 'rb') as f:
                data = f.read()
            # A busybox with an interpreter is not static, and would not run in the guest.
            if b'/ld-linux' not in data[:4096]:
                return data
    raise CannotBuild('no static busybox (package busybox-static)')


def libraries_of(program, folder=''):
    """The libraries of a program by name; those in the folder take precedence over the machine's."""
    environment = {**os.environ, 'LD_LIBRARY_PATH': folder} if folder else None
    r = subprocess.run(['ldd', program], capture_output=True, text=True, env=environment)
    missing = re.findall(r'^\s*(\S+) => not found', r.stdout, re.MULTILINE)
    if missing:
        raise CannotBuild(f'{program} needs {", ".join(missing)}')
    return {os.path.basename(path): path
            for path in re.findall(r'(/\S+) \(0x', r.stdout)}


class Root:
    """A root file system: busybox under all its names, an init script, modules, and programs with
    their libraries, which need LD_LIBRARY_PATH=/lab/lib. /modules/order lists the modules."""

    FOLDERS = ('bin', 'dev', 'etc', 'lab', 'lab/lib', 'lib64', 'modules', 'proc', 'root', 'run',
               'sys', 'tmp')

    def __init__(self, kernel, modules, init, libraries=''):
        self.libraries = libraries
        self.archive = Cpio()
        self.names = set()
        for name in self.FOLDERS:
            self.archive.add_folder(name)
        self.add('bin/busybox', find_busybox())
        for name in run(['busybox', '--list']).split():
            self.link(f'bin/{name}', 'busybox')
        self.add_file('init', init)
        self.add_modules(kernel, modules)

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

    def add_program(self, name, path):
        """Adds a program and its libraries: the dynamic linker at its path, the rest in one folder."""
        self.add_file(name, path)
        for library, place in libraries_of(path, self.libraries).items():
            folder = 'lib64' if library.startswith('ld-linux') else 'lab/lib'
            self.add_file(f'{folder}/{library}', place)

    def add_modules(self, kernel, names):
        order = []
        for path in module_paths(kernel, names):
            name = os.path.basename(path).split('.ko')[0] + '.ko'
            self.add(f'modules/{name}', read_module(path))
            order.append(name + '\n')
        self.add('modules/order', ''.join(order).encode(), 0o100644)

    def finish(self):
        return self.archive.finish()


def build_program(output):
    folder = os.path.dirname(os.path.abspath(__file__))
    sources = [os.path.join(folder, name) for name in SOURCES]
    run([os.environ.get('CC', 'cc'), '-std=gnu11', '-O2', '-Wall', '-Wextra', '-static', '-pthread',
         '-o', output, *sources])
    with open(output, 'rb') as f:
        return f.read()


def build(kernel, folder):
    """Makes the initramfs for this kernel in the folder and returns its path."""
    archive = Cpio()
    for name in ('bin', 'dev', 'proc', 'sys', 'modules'):
        archive.add_folder(name)
    archive.add_file('init', INIT.encode())
    archive.add_file('bin/busybox', find_busybox())
    archive.add_file('guest', build_program(os.path.join(folder, 'guest')))
    order = []
    for path in module_paths(kernel, ['virtio_pci', 'virtio_blk', 'virtio_rng']):
        name = os.path.basename(path).split('.ko')[0] + '.ko'
        archive.add_file(f'modules/{name}', read_module(path))
        order.append(name)
    archive.add_file('modules/order', ''.join(name + '\n' for name in order).encode(), 0o100644)
    path = os.path.join(folder, 'initramfs')
    with open(path, 'wb') as f:
        f.write(archive.finish())
    return path
