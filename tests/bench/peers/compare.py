#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The same RAM disk on libgodwit, on libvhost-user and on rust-vmm's vhost-user-backend, driven by the
same front-end: requests per second, and the back-end's CPU time for each of them.

The peers are fetched from Debian 13 and built (tests/lab/peers); an unavailable peer is left out,
with the reason printed. The benchmark needs two otherwise idle processors for two minutes.

Exit status 0: measured. 1: failed. 77: no peer is available on this machine.
"""

import argparse
import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True  # keep the source folder unchanged
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', '..', 'lab'))

from trixie import command_in, digest_of
from lab import LabError, Skip, peer

POLL_US = '20'  # the default of godwit-blk
REGISTRY = '/usr/share/cargo/registry'
CRATES = ('vhost-user-backend', 'virtio-queue', 'vm-memory')
C_FLAGS = ['-std=gnu11', '-O2', '-g', '-D_GNU_SOURCE']


def run(what, command, **options):
    r = subprocess.run(command, capture_output=True, text=True, **options)
    if r.returncode != 0:
        raise LabError(f'{what} cannot be built:\n{r.stderr}')


# --- the peers' disks ----------------------------------------------------------------------------

def libvhost_user(folder):
    """Use the machine's compiler, as for libgodwit. Returns: disks by name, their version."""
    root = peer('libvhost-user')
    library = os.path.join(root, 'subprojects', 'libvhost-user')
    with open(os.path.join(root, 'version')) as f:
        version = f.read().strip()
    program = os.path.join(folder, 'ram_libvhost_user')
    sources = [os.path.join(HERE, name) for name in ('ram_libvhost_user.c', 'ram_disk.c')]
    # As system headers, so that our warning flags do not apply to them.
    run('ram_libvhost_user', [os.environ.get('CC', 'cc').split()[-1], *C_FLAGS, '-isystem', library,
                              '-o', program, *sources, os.path.join(library, 'libvhost-user.c'),
                              '-pthread'])
    disks = {'libvhost-user': [program, '{socket}'],
             'libvhost-user, one by one': [program, '{socket}', '1']}
    return disks, f'of QEMU {version}'


def crate_versions(root):
    names = sorted(os.listdir(root + REGISTRY))
    return ', '.join(f'{name} {entry[len(name) + 1:]}' for name in CRATES for entry in names
                     if entry.startswith(name + '-') and entry[len(name) + 1].isdigit())


def rust_vmm(_folder):
    """Build in the Debian folder with its compiler, unless an identical build exists."""
    root = peer('rust-vmm')
    source = os.path.join(HERE, 'ram_rust_vmm')
    files = [os.path.join(source, name) for name in ('Cargo.toml', 'main.rs')]
    versions = crate_versions(root)
    name = f'ram_rust_vmm-{digest_of(files)}'
    program = os.path.join(root, 'opt', name)
    if not os.path.exists(program):
        if os.geteuid() != 0:
            raise Skip('only root can build in the Debian folder (chroot)')
        work = os.path.join('/opt', f'{name}.{os.getpid()}')
        shutil.copytree(source, root + work)
        try:
            run('ram_rust_vmm', [
                'chroot', root, 'env', '-C', work, f'CARGO_HOME={work}/home', 'cargo', 'build',
                '--release', '--offline', '--config', 'source.crates-io.replace-with="debian"',
                '--config', f'source.debian.directory="{REGISTRY}"'])
            os.rename(f'{root}{work}/target/release/ram_rust_vmm', program)
        finally:
            shutil.rmtree(root + work)
    return {'rust-vmm': [*command_in(root, program), '{socket}']}, versions


PEERS = {'libvhost-user': libvhost_user, 'rust-vmm': rust_vmm}


# --- the run -------------------------------------------------------------------------------------

def own_disks(bench):
    program = os.path.join(bench, 'ram_godwit')
    polls = f'polls {POLL_US} us'
    return [
        ['split', 'godwit', program, '{socket}'],
        ['split', f'godwit, {polls}', program, '{socket}', POLL_US],
        ['packed', 'godwit, packed', program, '{socket}'],
        ['packed', f'godwit, packed, {polls}', program, '{socket}', POLL_US],
    ]


def peer_disks(folder):
    for name, build in PEERS.items():
        try:
            disks, versions = build(folder)
        except Skip as e:
            print(f'{name}: left out: {e}', flush=True)
            continue
        print(f'{name}: {versions}', flush=True)
        for title, command in disks.items():
            yield ['peer', title, *command]


def compare(options):
    bench = os.path.join(os.path.abspath(options.build), 'tests', 'bench')
    folder = os.path.join(bench, 'peers')
    os.makedirs(folder, exist_ok=True)
    disks = list(peer_disks(folder))
    if not disks:
        raise Skip('there is nothing to compare with')
    command = [os.path.join(bench, 'bench_peers'), *(['--indirect'] if options.indirect else [])]
    for i, disk in enumerate(own_disks(bench) + disks):
        command += (['--'] if i > 0 else []) + disk
    if subprocess.run(command).returncode != 0:
        raise LabError('bench_peers failed')


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n', maxsplit=1)[0])
    parser.add_argument('build', nargs='?', default='build', help='the build folder')
    parser.add_argument('--indirect', action='store_true',
                        help='put each request into an indirect table, as most guests do')
    try:
        compare(parser.parse_args())
    except Skip as e:
        print(e)
        return 77
    except (LabError, OSError) as e:
        print(f'compare.py: {e}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
