#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A real guest migrates from one QEMU and back-end to another QEMU and back-end, or through several,
with its disk busy: the guest verifies everything that it reads, the test compares the image at the end,
and the guest checks memory that only the device has written after each switch.

Exit status 0: success. 1: failure. 77: this machine lacks something, with the reason.
"""

import argparse
import contextlib
import os
import random
import sys
import time

sys.dont_write_bytecode = True  # keep the source folder clean

import initramfs
import memory
import migration
import postcopy
from hugepages import HugePages
from image import Image
from lab import (INSTALLED, LAB, QEMU_HELP, Backend, Hardware, Lab, LabError, Skip, find_qemu,
                 peer_kernel, run_test)
from migration import MigratingGuest
from pattern import Pattern

N_BLOCKS = 32 * 2048            # 32 MiB are read and written
N_KEPT = 32 * 2048              # 32 MiB are only read, into memory that is checked much later
HOARD_MIB = 64
LATE_SECONDS = 0.5              # a backend that still writes after its stop has done so by then
N_SHOWN = 8
PHASES = ('before', 'during', 'after')
N_WAITS = {False: 100, True: 15}  # observed waits of the back-end: for single pages, and for huge ones

# Faults that must be found: a back-end that loses all marks, found by the guest or by a comparison; one
# that does not register its memory; one that does not offer postcopy.
FOUND = {
    'unlogged': 'the guest says: fail',
    'unlogged-compared': 'the two memories differ',
    'unregistered': 'postcopy was interrupted',
    'no-postcopy': 'QMP migrate-set-capabilities: Postcopy is not supported: vhost-user backend not '
                   'capable of postcopy',
}


def require(condition, text):
    if not condition:
        raise LabError(text)


class Run:
    """A guest's sequence of QEMUs and back-ends, and their common state."""

    def __init__(self, lab, options):
        self.lab = lab
        self.options = options
        self.n_stations = 0
        self.hardware = Hardware.of(options, bool(options.crash), options.huge)
        self.image = Image(lab, Pattern(options.seed), N_BLOCKS, N_KEPT)
        kernel, self.kernel = 2 * [options.kernel] if options.kernel else peer_kernel()
        self.archive = initramfs.build(kernel, lab.folder)
        self.preload = self.build_preload() if options.slow else None

    def build_preload(self):
        """Returns a library that slows down the storage of a back-end without such an option, or None."""
        if '{slow}' in self.options.backend:
            return None
        path = self.lab.path('slow_io.so')
        initramfs.run(['cc', '-shared', '-fPIC', '-O2', '-o', path,
                       os.path.join(LAB, 'slow_io.c')])
        return {'LD_PRELOAD': path, 'SLOW_IO_MS': str(self.options.slow)}

    def start_station(self, is_first):
        """Starts a back-end with a QEMU; all but the first wait for an incoming migration."""
        number = self.n_stations
        self.n_stations += 1
        qemu = self.options.qemus[number % 2]
        command = self.options.backend.replace('{slow}', str(self.options.slow))
        backend = Backend(self.lab, command, self.image.path, f'backend{number}', self.preload)
        return MigratingGuest(self.lab, qemu, self.kernel, self.archive, backend,
                              f'qemu{number}', self.hardware, not is_first,
                              self.options.compare and not is_first)


def crash(run, guest, phase):
    """Kills the guest's back-end during I/O, which must continue with the next one."""
    if phase not in run.options.crash:
        return
    before = guest.busy(5)
    guest.backend.crash()
    after = guest.busy(20)
    run.lab.say(f"{guest.backend.name} was killed {phase} a migration; "
                f"{after['requests'] - before['requests']} requests since")


def count_messages(backend, name):
    """Counts messages in a back-end's log that lists them; otherwise 0."""
    with open(backend.log, errors='replace') as f:
        return f.read().count(name)


def replace_memory(run, guest, message):
    """Makes memory far above the rest appear and disappear; each change sends `message` to the back-end."""
    before = count_messages(guest.backend, message)
    for _ in range(run.options.replace_memory):
        for state in ('closed', 'open'):
            guest.ask(f'window {state}')
            guest.busy(5)
    n = count_messages(guest.backend, message) - before
    if before > 0:
        run.lab.say(f'{n} times {message}')
    return n if before > 0 else None


def replace_log(run, guest):
    """Makes the log longer and shorter together with the memory."""
    check_plug(run, guest)
    n = replace_memory(run, guest, 'SET_LOG_BASE')
    require(n is None or n >= 2 * run.options.replace_memory, f'only {n} logs were replaced')


def check_plug(run, guest):
    """Checks that QEMU refuses to plug a memory module, which would be simpler."""
    try:
        guest.plug_memory('dimm', 128 << 20)
        run.lab.say(f'{guest.name} let memory be plugged during the migration')
    except LabError as e:
        require('not allowed while migrating' in str(e), str(e))
        guest.qmp.command('object-del', id='dimm-mem')


def compare(run, source, destination):
    time.sleep(LATE_SECONDS)
    differences, n_pages = memory.compare(source.popen.pid, destination.popen.pid)
    for difference in differences[::len(differences) // N_SHOWN + 1]:
        run.lab.say(str(difference))
    n_disk = sum(difference.has_disk_blocks for difference in differences)
    require(not differences, f'the two memories differ in {len(differences)} of {n_pages} pages; '
                             f'{n_disk} of them hold disk blocks')
    run.lab.say(f'{n_pages} pages of {source.name} and {destination.name} are the same')


def migrate(run, source, destination):
    crash(run, source, 'before')
    migration.begin(source, destination)
    crash(run, source, 'during')
    if run.options.replace_memory:
        replace_log(run, source)
    migration.wait_rounds(source, run.options.sync_rounds)
    source.busy(5)
    state = migration.finish(source, destination, run.options.stop_first)
    run.lab.say(f"{source.name} to {destination.name}: {state['ram']['dirty-sync-count']} rounds, "
                f"{state['total-time']} ms, down for {state['downtime']} ms")
    if run.options.compare:
        compare(run, source, destination)
    if run.options.compare or run.options.stop_first:
        destination.qmp.command('cont')


def migrate_by_postcopy(run, source, destination):
    postcopy.start(source, destination, run.options.preempt)
    begin = time.monotonic()
    if run.options.replace_memory:
        n = replace_memory(run, destination, 'ADD_MEM_REG')
        require(n is None or n >= run.options.replace_memory, f'memory was added only {n} times')
    destination.busy(10)
    n = N_WAITS[run.options.huge]
    n_looks = postcopy.see_waits(source, destination.backend, n)
    postcopy.finish(source, destination)
    run.lab.say(f'{source.name} to {destination.name}: pages were missing for '
                f'{time.monotonic() - begin:.1f} s; the backend waited for one in {n} of '
                f'{n_looks} looks')


def begin_io(run, guest):
    """The guest has booted, for the first time or again: starts its I/O."""
    disk = guest.wait_ready()
    run.lab.say(f'the guest is up: {disk}')
    guest.ask(f'start {run.options.seed} {N_BLOCKS} rw')
    if INSTALLED in (run.options.qemu_from, run.options.qemu_to):
        guest.ask('spin')  # see MigratingGuest.APPEND
    huge = guest.ask(f'hoard {run.options.seed} {run.image.first_kept} {N_KEPT} {HOARD_MIB}')['huge']
    require(huge >= HOARD_MIB // 4, f'only {huge} MiB are in huge pages')


def end_io(run, guest):
    """Stops the I/O; the guest verifies every block, and so does the host."""
    crc = guest.ask('stop')['crc']
    run.lab.say(f'the guest has verified every block: {guest.ask("stat")}')
    return crc


def reset(run, guest):
    """Reboots the guest at its destination, from the disk that it has."""
    run.image.verify(end_io(run, guest))
    run.image.renew()
    guest.reset()
    begin_io(run, guest)


def hop(run, source, number):
    """One migration; returns the guest at its destination."""
    destination = run.start_station(is_first=False)
    before = source.busy(20)
    if number in run.options.postcopy_hops:
        migrate_by_postcopy(run, source, destination)
    else:
        migrate(run, source, destination)
    kept = destination.ask('inspect')
    after = destination.busy(50)
    run.lab.say(f"{kept['blocks']} blocks that only the device wrote are right, "
                f"{kept['requests']} reads to them; "
                f"{after['requests'] - before['requests']} requests since")
    crash(run, destination, 'after')
    source.quit()
    source.backend.stop(30)
    return destination


def run(options):
    with contextlib.ExitStack() as stack:
        if options.huge:
            stack.enter_context(HugePages(2 * MigratingGuest.MEMORY_MIB))
        lab = stack.enter_context(Lab(options.limit, options.keep, quiet=options.finds is not None))
        lab.say(f'seed {options.seed}')
        try:
            run = Run(lab, options)
        except initramfs.CannotBuild as e:
            raise Skip(str(e)) from None
        guest = run.start_station(is_first=True)
        begin_io(run, guest)
        for number in range(options.hops):
            guest = hop(run, guest, number)
            if options.life and number == 0:
                reset(run, guest)
        crc = end_io(run, guest)
        guest.power_off()
        guest.backend.stop(30)
        run.image.verify(crc)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n', maxsplit=1)[0])
    parser.add_argument('--backend', required=True,
                        help='a command with {socket} and {file} in it, and {slow} where it can be '
                             'made slow')
    parser.add_argument('--qemu-from', default=INSTALLED, metavar='QEMU', help=QEMU_HELP)
    parser.add_argument('--qemu-to', default=None, metavar='QEMU', help='default: the same')
    parser.add_argument('--hops', type=int, default=1, help='number of migrations, back and forth (default 1)')
    parser.add_argument('--life', action='store_true',
                        help='all in one: a migration, a reset of the guest, which boots again, and '
                             'back in postcopy')
    parser.add_argument('--slow', type=int, default=0, metavar='MS',
                        help='delay of each read and write of the disk (default 0)')
    parser.add_argument('--compare', action='store_true',
                        help='hold the destination and compare its memory with that of the source')
    parser.add_argument('--stop-first', action='store_true',
                        help='stop the guest before the last round, which QEMU before 10 needs for '
                             'a reliable --compare')
    parser.add_argument('--replace-memory', type=int, default=0, metavar='N',
                        help='let memory appear and disappear N times during each migration')
    parser.add_argument('--postcopy', action='store_true',
                        help='switch to postcopy at once: memory arrives when the guest runs already')
    parser.add_argument('--preempt', action='store_true',
                        help='in postcopy, pages that are waited for have their own connection')
    parser.add_argument('--huge', action='store_true', help='use huge pages of 2 MiB')
    parser.add_argument('--finds', choices=FOUND,
                        help='something is wrong with the backend: succeed if that is found')
    parser.add_argument('--crash', choices=PHASES, nargs='+', default=[], metavar='PHASE',
                        help='kill the backend before, during or after each migration, and start '
                             'it again')
    Hardware.add_options(parser)
    parser.add_argument('--sync-rounds', type=int, default=3, metavar='N',
                        help='let no migration end before N synchronizations of the dirty log')
    parser.add_argument('--kernel', help='vmlinuz (default: the peer)')
    parser.add_argument('--seed', type=int, default=random.randrange(1 << 48))
    parser.add_argument('--limit', type=int, default=600, help='time limit in seconds (default 600)')
    parser.add_argument('--keep', action='store_true', help='keep the folder of the run')
    return parser.parse_args()


def prepare_and_run(options):
    if options.life:
        options.hops = 2
    # Migrations in postcopy: all, or with --life the last one.
    options.postcopy_hops = range(1, 2) if options.life else range(options.hops if options.postcopy else 0)
    if options.postcopy_hops:
        postcopy.require_userfaultfd()
    options.qemu_to = options.qemu_to or options.qemu_from
    options.qemus = [find_qemu(options.qemu_from), find_qemu(options.qemu_to)]
    run(options)


def main():
    options = parse_options()
    return run_test(lambda: prepare_and_run(options),
                    FOUND.get(options.finds))


if __name__ == '__main__':
    sys.exit(main())
