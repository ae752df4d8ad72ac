#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""One godwit-blk process with one worker serves the four disks of two guests. One guest migrates by
postcopy to another process and back, over a slow wire. Each time, the wire is held when a disk waits for a
missing page. The other guest must continue its I/O, and its messages must be answered, while that disk still
waits. Both guests verify what they read, and the host verifies all images.

Exit status 0: success. 1: failure. 77: this machine lacks something, with the reason.
"""

import argparse
import os
import random
import sys
import time

sys.dont_write_bytecode = True  # keep the source folder clean

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'qemu'))

import initramfs
import migration
import postcopy
from image import Image
from lab import (INSTALLED, QEMU_HELP, Hardware, Lab, LabError, Lines, Process, Program, Skip, find_qemu,
                 peer_kernel, run_test)
from migration import MigratingGuest
from pattern import Pattern
from relay import Relay

N_BLOCKS = 16 * 2048            # 16 MiB of each disk are read and written
N_KEPT = 16 * 2048              # 16 MiB are only read, into memory that only the device writes
HOARD_MIB = 64
PLUGGED_BYTES = 128 << 20
N_REQUESTS = 200                # of each disk of the other guest, while the wire is held
SECONDS = 60
# If a fault is expected, it shows soon: no request at all is answered.
SECONDS_OF_FAULT = 5
N_LOOKS = 150                   # for a wait, while the wire is held
N_SAME = 50                     # of them find the same wait, so the page is not on its way
PAUSE = 0.002
DISKS = ('root', 'data')

STALLED = 'the other guest stalled'
FOUND = {'stalled': STALLED}


def require(condition, text):
    if not condition:
        raise LabError(text)


class Disks(Process):
    """A godwit-blk process with one worker, and a disk for each of the images."""

    def __init__(self, lab, program, name, images):
        self.sockets = {disk: lab.path(f'{name}.{disk}.sock') for disk in images}
        words = [program, '--workers', '1']
        for disk, image in images.items():
            words += ['--disk', f'name={disk},socket={self.sockets[disk]},file={image.path}']
        super().__init__(lab, name, words)
        lab.wait_until(lambda: all(os.path.exists(path) for path in self.sockets.values()),
                       f'the sockets of {name}', 20)


class Place:
    """The disks of one guest in a process."""

    def __init__(self, process, owner):
        self.process = process
        self.socket, self.second_socket = (process.sockets[f'{owner}-{disk}'] for disk in DISKS)


class SecondProgram(Program):
    """The guest's program of its second disk."""

    def __init__(self, guest):
        self.lab = guest.lab
        self.hardware = guest.hardware
        self.lines = Lines(self.lab, self.lab.path(f'{guest.name}.second.sock'), f'{guest.name}.second')

    def wait_answer(self, name, seconds):
        """A guest that was started again has reported its disk twice."""
        while True:
            line = self.lines.receive(seconds, f"'{name}'")
            if not line.startswith('ready') or name == 'ready':
                return self.parse_answer(name, line)


class SharedGuest(MigratingGuest):
    """A guest with two disks; an incoming one waits for a migration."""

    APPEND = MigratingGuest.APPEND + ' SECOND_DISK=vdb'

    def __init__(self, lab, qemu, kernel, archive, place, name, is_incoming):
        self.second = None
        super().__init__(lab, qemu, kernel, archive, place, name, Hardware(cpus=1), is_incoming)
        self.second = SecondProgram(self)

    def arguments(self, name, kernel, initramfs, backend_socket):
        path = self.lab.path(name)
        return super().arguments(name, kernel, initramfs, backend_socket) + [
            '-chardev', f'socket,id=second,path={path}.second.sock,server=on,wait=off',
            '-serial', 'chardev:second',
            '-chardev', f'socket,id=disk1,path={self.backend.second_socket}',
            '-device', 'vhost-user-blk-pci,id=disk1,chardev=disk1',
        ]

    def check(self):
        line = self.second.lines.peek(b'fail') if self.second is not None else None
        if line is not None:
            raise LabError(f'the guest says: {line}')
        super().check()

    def programs(self):
        return {'root': self, 'data': self.second}

    def all_busy(self, n, seconds):
        """Waits for n more requests on each disk."""
        for program in self.programs().values():
            program.busy(n, seconds)


class Run:
    def __init__(self, lab, options):
        self.lab = lab
        self.options = options
        self.qemu = find_qemu(options.qemu)
        kernel, self.kernel = peer_kernel()
        self.archive = initramfs.build(kernel, lab.folder)
        self.images = {f'{owner}-{disk}': self.make_image(f'{owner}-{disk}')
                       for owner in ('moving', 'other') for disk in DISKS}
        moving = {name: image for name, image in self.images.items() if name.startswith('moving')}
        self.shared = Disks(lab, options.program, 'shared', self.images)
        self.elsewhere = Disks(lab, options.program, 'elsewhere', moving)
        self.n_stations = 0

    def make_image(self, name):
        return Image(self.lab, Pattern(self.options.seed), N_BLOCKS, N_KEPT, f'{name}.img')

    def start_guest(self, process, owner, is_incoming=False):
        name = f'{owner}{self.n_stations}'
        self.n_stations += 1
        return SharedGuest(self.lab, self.qemu, self.kernel, self.archive, Place(process, owner), name,
                           is_incoming)

    def begin_io(self, guest, has_hoard):
        self.lab.say(f'{guest.name} is up: {guest.wait_ready()}')
        guest.second.wait_answer('ready', SECONDS)
        for program in guest.programs().values():
            program.ask(f'start {self.options.seed} {N_BLOCKS} rw')
        if has_hoard:
            if self.options.qemu == INSTALLED:
                guest.ask('spin')  # see MigratingGuest.APPEND
            guest.ask(f"hoard {self.options.seed} {self.images['moving-root'].first_kept} {N_KEPT} "
                      f'{HOARD_MIB}')

    def end_io(self, guest, owner):
        """Stops the I/O; guest and host verify every block."""
        for disk, program in guest.programs().items():
            crc = program.ask('stop')['crc']
            self.lab.say(f'{guest.name} has verified {disk}: {program.ask("stat")}')
            self.images[f'{owner}-{disk}'].verify(crc)
        guest.power_off()


# --- a wait for a page ---------------------------------------------------------------------------

def waits(process):
    """The threads of a process that wait for a missing page, each with the number of its sleeps."""
    found = {}
    for thread in postcopy.waiting_threads(process):
        try:
            with open(f'/proc/{process.popen.pid}/task/{thread}/status') as f:
                found[thread] = next(line for line in f if line.startswith('voluntary_ctxt_switches'))
        except OSError:
            pass  # it has ended
    return found


def hold_during_wait(lab, relay, process):
    """Holds the wire until a thread of the process waits for a page that is not on its way; returns the waits."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        lab.wait_until(lambda: waits(process), f'a wait for a page in {process.name}', SECONDS)
        relay.hold()
        found, n_same = {}, 0
        for _ in range(N_LOOKS):
            time.sleep(PAUSE)
            before, found = found, waits(process)
            n_same = n_same + 1 if found and found == before else 0
            if n_same == N_SAME:
                return found
        relay.release()  # perhaps the guest's CPU waits, and the disk has nothing to do
    raise LabError(f'{process.name} never waited for a page for long')


def use_other(run, other, number):
    """The other guest makes requests, and changes its memory, which takes messages to both disks."""
    seconds = SECONDS_OF_FAULT if run.options.finds else SECONDS
    begin = time.monotonic()
    try:
        other.all_busy(N_REQUESTS, seconds)
        other.plug_memory(f'dimm{number}', PLUGGED_BYTES)
        other.all_busy(N_REQUESTS, seconds)
    except LabError as e:
        if 'requests on each CPU did not happen' in str(e):
            raise LabError(f'{STALLED}: {e}') from None
        raise
    return time.monotonic() - begin


def continue_while_held(run, relay, other, process, number):
    """The other guest continues while a disk of this process waits for a page all the time."""
    end = time.monotonic() + SECONDS
    while True:
        found = hold_during_wait(run.lab, relay, process)
        seconds = use_other(run, other, number)
        still = waits(process)
        relay.release()
        if any(still.get(thread) == sleeps for thread, sleeps in found.items()):
            run.lab.say(f'{2 * N_REQUESTS} requests of each disk of {other.name}, and new memory, in '
                        f'{seconds:.1f} s, while {process.name} waited for a page')
            return
        require(time.monotonic() < end, f'{process.name} did not wait long enough')
        number += 100  # the name of the next memory


# --- the run -------------------------------------------------------------------------------------

def connect_through(lab, source, destination):
    """Starts a migration over a wire that can be held; returns it."""
    path = f'{lab.path(destination.name)}.wire.sock'
    relay = Relay(path, migration.incoming_socket(destination))
    postcopy.start(source, destination, has_preempt=False, wire=path)
    return relay


def hop(run, source, other, process, number):
    """The guest migrates to its disks in the process; returns it there."""
    lab = run.lab
    destination = run.start_guest(process, 'moving', is_incoming=True)
    source.all_busy(20, SECONDS)
    other.all_busy(20, SECONDS)
    relay = connect_through(lab, source, destination)
    lab.say(f'{destination.name} runs, and its memory is still at {source.name}')
    continue_while_held(run, relay, other, process, number)
    destination.all_busy(10, SECONDS)
    require(postcopy.n_missing(source) > 0, 'all memory was there before the test had ended')
    postcopy.finish(source, destination)
    kept = destination.ask('inspect')
    destination.all_busy(50, SECONDS)
    lab.say(f"{source.name} is now {destination.name}; {kept['blocks']} blocks that only the device "
            'wrote are right')
    source.quit()
    return destination


def run(options):
    postcopy.require_userfaultfd()
    with Lab(options.limit, options.keep, quiet=options.finds is not None) as lab:
        lab.say(f'seed {options.seed}')
        try:
            run = Run(lab, options)
        except initramfs.CannotBuild as e:
            raise Skip(str(e)) from None
        # A disk that waits in the process of the other guest is what matters, so that is the last hop.
        places = [run.shared, run.elsewhere, run.shared][-options.hops - 1:]
        other = run.start_guest(run.shared, 'other')
        moving = run.start_guest(places[0], 'moving')
        run.begin_io(other, has_hoard=False)
        run.begin_io(moving, has_hoard=True)
        for number, process in enumerate(places[1:]):
            moving = hop(run, moving, other, process, number)
        run.end_io(moving, 'moving')
        run.end_io(other, 'other')
        run.shared.stop(30)
        run.elsewhere.stop(30)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n', maxsplit=1)[0])
    parser.add_argument('--program', required=True, help='godwit-blk')
    parser.add_argument('--qemu', default=INSTALLED, help=QEMU_HELP)
    parser.add_argument('--hops', type=int, default=2, choices=(1, 2),
                        help='2: away and back (default); 1: the guest starts elsewhere')
    parser.add_argument('--finds', choices=FOUND,
                        help='something is wrong with the program: succeed if that is found')
    parser.add_argument('--seed', type=int, default=random.randrange(1 << 48))
    parser.add_argument('--limit', type=int, default=600, help='time limit in seconds (default 600)')
    parser.add_argument('--keep', action='store_true', help='keep the folder of the run')
    options = parser.parse_args()
    return run_test(lambda: run(options), FOUND.get(options.finds))


if __name__ == '__main__':
    sys.exit(main())
