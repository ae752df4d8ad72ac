#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The examples that run a device in an event loop of their own serve one guest: a disk in libevent's loop,
entropy devices in a poll(2) loop and in GLib's. The guest verifies what it reads, is reset, and does so
again. No library thread may run in the processes, except those for file operations.

    test_loops.py --disk libevent_disk --random poll_device --random glib_device [--without-uring PROGRAM]

Exit status 0: success. 1: failure. 77: this machine lacks something, with the reason.
"""

import argparse
import os
import random
import sys

sys.dont_write_bytecode = True  # keep the source folder clean

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'qemu'))

import initramfs
from image import Image
from lab import (INSTALLED, QEMU_HELP, Backend, Guest, Hardware, Lab, LabError, Skip, find_qemu,
                 peer_kernel, run_test)
from pattern import Pattern

N_BLOCKS = 32 * 2048            # 32 MiB
N_REQUESTS = 2000
N_RECORDS = 64 * 64             # of each entropy device
POOL_THREADS = 8                # for file operations, with epoll
GLIB_THREADS = ('gmain',)         # GLib waits for signals in it


def require(condition, text):
    if not condition:
        raise LabError(text)


class ManyDevices(Guest):
    """A guest with a disk and entropy devices."""

    def __init__(self, lab, qemu, kernel, archive, disk, randoms):
        self.randoms = randoms
        super().__init__(lab, qemu, kernel, archive, disk.socket, hardware=Hardware(cpus=1))

    def arguments(self, name, kernel, initramfs, backend_socket):
        arguments = super().arguments(name, kernel, initramfs, backend_socket)
        for backend in self.randoms:
            arguments += ['-chardev', f'socket,id={backend.name},path={backend.socket}',
                          '-device', f'vhost-user-rng-pci,chardev={backend.name}']
        return arguments


def threads_of(backend):
    """The names of the process's threads, without the first one and those of the kernel."""
    folder = f'/proc/{backend.popen.pid}/task'
    names = []
    for thread in os.listdir(folder):
        if int(thread) == backend.popen.pid:
            continue
        with open(f'{folder}/{thread}/comm') as f:
            name = f.read().strip()
        if not name.startswith('iou-'):
            names.append(name)
    return names


def check_threads(lab, backend, n_allowed):
    names = threads_of(backend)
    n_own = sum(name not in GLIB_THREADS for name in names)
    require(n_own <= n_allowed, f'{backend.name} has threads: {names}')
    lab.say(f'{backend.name}: {1 + len(names)} threads {names}')


def use(lab, guest, image, seed):
    """The guest has booted: it reads and writes, and verifies everything."""
    lab.say(f'the guest is up: {guest.wait_ready()}')
    guest.ask(f'start {seed} {N_BLOCKS} rw')
    for i, backend in enumerate(guest.randoms):
        entropy = guest.ask(f'entropy {i} {N_RECORDS}')
        require(entropy['seed'] == i + 1, f'the entropy is not that of {backend.name}')
        lab.say(f'{backend.name}: {N_RECORDS} records up to number {entropy["last"]} are right')
    guest.wait_for(lambda c: c['requests'] >= N_REQUESTS, f'{N_REQUESTS} requests', 120)


def finish_use(lab, guest, image):
    crc = guest.ask('stop')['crc']
    lab.say(f'the guest has verified every block: {guest.ask("stat")}')
    image.verify(crc)


def end(backend):
    """SIGTERM, which the program receives in its loop; it removes its socket and lock file."""
    backend.stop()
    require(backend.popen.returncode == 0, f'{backend.name} has no handler for SIGTERM')
    for path in (backend.socket, f'{backend.socket}.lock'):
        require(not os.path.exists(path), f'{backend.name} leaves {path}')


def start_random(lab, prefix, program, preload, number):
    """An entropy device, whose bytes the guest can verify."""
    return Backend(lab, f'{prefix}"{program}" {{socket}}', '', os.path.basename(program),
                   {'LD_PRELOAD': preload, 'KNOWN_RANDOM_SEED': str(number)})


def run(options):
    if options.missing:
        raise Skip(f'not installed when the examples were built: {", ".join(options.missing)}')
    for program in (options.disk, *options.random):
        require(os.path.exists(program), f'{program} does not exist')
    prefix = f'"{options.without_uring}" ' if options.without_uring else ''
    qemu = find_qemu(options.qemu)
    with Lab(options.limit, options.keep) as lab:
        lab.say(f'seed {options.seed}')
        try:
            preload = lab.path('known_random.so')
            initramfs.run(['cc', '-shared', '-fPIC', '-O2', '-o', preload,
                           os.path.join(HERE, 'known_random.c')])
            kernel, start = peer_kernel()
            archive = initramfs.build(kernel, lab.folder)
        except initramfs.CannotBuild as e:
            raise Skip(str(e)) from None
        image = Image(lab, Pattern(options.seed), N_BLOCKS)
        disk = Backend(lab, f'{prefix}"{options.disk}" {{socket}} {{file}}', image.path,
                       os.path.basename(options.disk))
        randoms = [start_random(lab, prefix, program, preload, i + 1)
                   for i, program in enumerate(options.random)]
        guest = ManyDevices(lab, qemu, start, archive, disk, randoms)
        for boot in range(2):
            use(lab, guest, image, options.seed)
            check_threads(lab, disk, POOL_THREADS if options.without_uring else 0)
            for backend in randoms:
                check_threads(lab, backend, 0)
            finish_use(lab, guest, image)
            if boot == 0:
                image.renew()
                guest.reset()
        guest.power_off()
        for backend in (disk, *randoms):
            end(backend)
        lab.say('all devices have ended')


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n', maxsplit=1)[0])
    parser.add_argument('--disk', help='a program with the arguments SOCKET and FILE')
    parser.add_argument('--random', action='append', default=[], help='a program with the argument SOCKET')
    parser.add_argument('--missing', action='append', default=[], metavar='PACKAGE',
                        help='an example was not built because of this package')
    parser.add_argument('--without-uring', metavar='PROGRAM', help='runs another one without io_uring')
    parser.add_argument('--qemu', default=INSTALLED, help=QEMU_HELP)
    parser.add_argument('--seed', type=int, default=random.randrange(1 << 48))
    parser.add_argument('--limit', type=int, default=600, help='time limit in seconds (default 600)')
    parser.add_argument('--keep', action='store_true', help='keep the folder of the run')
    options = parser.parse_args()
    return run_test(lambda: run(options))


if __name__ == '__main__':
    sys.exit(main())
