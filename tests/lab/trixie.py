# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Test programs that need a library of Debian 13: built with the compiler in a folder with Debian 13
(which needs root, once), and run with that folder's dynamic linker. Nothing is mounted.
"""

import hashlib
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, 'qemu'))

from lab import LabError, Skip

BUILD = ('cd "$0" && gcc -std=gnu11 -O2 -Wall -Wextra -o "$1" "$2" '
         '$(pkg-config --cflags --libs "$3")')


def digest_of(paths):
    digest = hashlib.sha256()
    for path in paths:
        with open(path, 'rb') as f:
            digest.update(f.read())
    return digest.hexdigest()[:16]


def build_program(root, package, source, *headers):
    """Builds a program from files of this folder, unless it is up to date; returns its path. `package`
    is a name of pkg-config, whose development files are in the Debian folder."""
    files = (source, *headers)
    title = os.path.splitext(os.path.basename(source))[0]
    name = f'{title}-{digest_of(os.path.join(HERE, file) for file in files)}'
    program = os.path.join(root, 'opt', name)
    if os.path.exists(program):
        return program
    if os.geteuid() != 0:
        raise Skip('only root can build in the Debian folder (chroot)')
    folder = os.path.join(root, 'opt', f'{name}.{os.getpid()}')
    os.mkdir(folder)
    try:
        for file in files:
            os.makedirs(os.path.join(folder, os.path.dirname(file)), exist_ok=True)
            shutil.copy(os.path.join(HERE, file), os.path.join(folder, file))
        r = subprocess.run(['chroot', root, 'sh', '-c', BUILD, '/opt/' + os.path.basename(folder),
                            title, source, package], capture_output=True, text=True)
        if r.returncode != 0:
            raise LabError(f'{title} cannot be built:\n{r.stderr}')
        os.rename(os.path.join(folder, title), program)
    finally:
        shutil.rmtree(folder)
    return program


def command_in(root, program):
    """The command that runs a program of the Debian folder from outside."""
    folders = [os.path.join(root, 'usr/lib/x86_64-linux-gnu'), os.path.join(root, 'usr/lib')]
    return [os.path.join(root, 'lib64/ld-linux-x86-64.so.2'), '--library-path', ':'.join(folders),
            program]
