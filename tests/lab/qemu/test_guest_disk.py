#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A real guest on a vhost-user disk: verified I/O on two queues, memory plugged and unplugged while
the disk is busy, then every byte of the image compared with the guest's table of generations.

Exit status 0: success. 1: failure. 77: this machine lacks something, with the reason.
"""

import argparse
import random
import sys

sys.dont_write_bytecode = True  # keep the source folder clean

import initramfs
from image import Image
from lab import (INSTALLED, QEMU_HELP, Backend, Guest, Hardware, Lab, LabError, Skip, find_qemu,
                 peer_kernel, run_test)
from pattern import BLOCK, Pattern

N_BLOCKS = 64 * 2048            # 64 MiB under test
PLUGGED_BYTES = 256 << 20
VIRTIO_BLK_F_RO = 1 << 5
VIRTIO_BLK_F_MQ = 1 << 12
VIRTIO_F_VERSION_1 = 1 << 32

# Faults on purpose, and the error that must follow: a test of this test.
SABOTAGE = {
    'backend': 'backend ended on its own by signal 9',  # killed while busy
    'disk': 'the guest says: fail block',               # changed by the host during I/O
    'image': 'on the host: block',                      # changed after the guest has ended
}


def require(condition, text):
    if not condition:
        raise LabError(text)


# --- the run -------------------------------------------------------------------------------------

def check_disk(lab, disk, image, read_only, serial):
    lab.say(f'the guest is up: {disk}')
    require(disk['capacity'] == image.size // BLOCK, 'the capacity is wrong')
    require(disk['features'] & VIRTIO_BLK_F_MQ, 'VIRTIO_BLK_F_MQ was not negotiated')
    require(disk['features'] & VIRTIO_F_VERSION_1, 'VIRTIO_F_VERSION_1 was not negotiated')
    require(disk['ro'] == int(read_only), 'the disk is read-only, or is not, against the request')
    require(serial in (None, disk['serial']), f"the serial is {disk['serial']}, not {serial}")
    require(bool(disk['features'] & VIRTIO_BLK_F_RO) == read_only, 'VIRTIO_BLK_F_RO is wrong')


def check_progress(guest, before, after, what):
    for cpu, (n, m) in enumerate(zip(guest.requests_of(before), guest.requests_of(after))):
        require(m > n, f'CPU {cpu} was idle during the {what}')
    return after['requests'] - before['requests']


def plug(lab, guest):
    before = guest.busy(50)
    guest.plug_memory('dimm0', PLUGGED_BYTES)
    during = guest.busy(20)
    answer = guest.ask(f'online {PLUGGED_BYTES}')
    after = guest.wait_for(lambda c: c['plugged'] - before['plugged'] >= 200,
                           'I/O in plugged memory')
    n = check_progress(guest, before, during, 'plugging')
    lab.say(f"memory plugged at {answer['begin']:#x} in the middle of {n} requests; "
            f"{after['plugged']} requests in it so far")


def unplug(lab, guest):
    before = guest.busy(50)
    answer = guest.ask('offline')
    require(answer['requests'] > 0, 'the disk was idle while the memory was put offline')
    middle = guest.busy(20)
    guest.unplug_memory('dimm0')
    after = guest.busy(50)
    n = check_progress(guest, middle, after, 'unplugging')
    lab.say(f"memory offline after {answer['requests']} requests, unplugged in the middle of {n}")
    check_progress(guest, before, after, 'whole unplugging')


def crash(lab, guest, backend, number):
    """Kills the back-end during I/O, which must continue with the next one."""
    before = guest.busy(5)
    backend.crash()
    after = guest.busy(20)
    lab.say(f"crash {number}: {after['requests'] - before['requests']} requests since")


def check_counters(lab, disk, counters, read_only):
    lab.say(f'counters: {counters}')
    for queue in range(disk['queues']):
        require(counters[f'irq{queue}'] > 20, f'queue {queue} was not used')
    require(counters['reads'] > 0, 'no reads')
    if not read_only:
        require(counters['writes'] > 0, 'no writes')
        require(counters['flushes'] > 0, 'no flushes')
        require(counters['zeroed'] > 0 or not disk['zeroes'], 'no write-zeroes')
        require(counters['discarded'] > 0 or not disk['discard'], 'no discards')


def run_guest(lab, options, backend, image, seed):
    """Boots the guest and runs I/O; returns the checksum of the table of generations."""
    kernel, start = 2 * [options.kernel] if options.kernel else peer_kernel()
    archive = initramfs.build(kernel, lab.folder)
    guest = Guest(lab, options.qemu, start, archive, backend.socket,
                  hardware=Hardware.of(options, options.crashes > 0))
    disk = guest.wait_ready()
    check_disk(lab, disk, image, options.read_only, options.serial)
    guest.ask(f'start {seed} {N_BLOCKS} {"ro" if options.read_only else "rw"}')
    if options.sabotage == 'backend':
        guest.busy(50)
        backend.popen.kill()
    if options.sabotage == 'disk':
        guest.busy(50)
        image.corrupt(2000)
    if options.read_only:
        guest.busy(500)
    else:
        for number in range(options.crashes):
            crash(lab, guest, backend, number + 1)
        for _ in range(options.rounds):
            plug(lab, guest)
            unplug(lab, guest)
        guest.wait_for(lambda c: c['requests'] >= options.requests,
                       f'{options.requests} requests', 60)
    check_counters(lab, disk, guest.ask('stat'), options.read_only)
    crc = guest.ask('stop')['crc']
    lab.say('the guest has verified every block')
    guest.power_off()
    return crc


def run(options):
    seed = options.seed if options.seed is not None else random.randrange(1 << 48)
    options.qemu = find_qemu(options.qemu)
    with Lab(options.limit, options.keep, quiet=bool(options.sabotage)) as lab:
        lab.say(f'seed {seed}')
        image = Image(lab, Pattern(seed), N_BLOCKS)
        command = options.backend.replace('{slow}', str(options.slow))
        backend = Backend(lab, command, image.path)
        try:
            crc = run_guest(lab, options, backend, image, seed)
        except initramfs.CannotBuild as e:
            raise Skip(str(e)) from None
        backend.stop()
        if options.sabotage == 'image':
            image.corrupt()
        image.verify(crc, options.read_only)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n', maxsplit=1)[0])
    parser.add_argument('--qemu', default=INSTALLED, help=QEMU_HELP)
    parser.add_argument('--backend', required=True, help='a command with {socket} and {file} in it, and {slow} where it can be '
                             'made slow')
    parser.add_argument('--kernel', help='vmlinuz (default: the peer)')
    parser.add_argument('--read-only', action='store_true', help='the back-end is read-only')
    parser.add_argument('--serial', help='serial number that the guest must see')
    parser.add_argument('--requests', type=int, default=8000,
                        help='number of requests (default 8000)')
    parser.add_argument('--rounds', type=int, default=1, help='number of times that memory is plugged (default 1)')
    parser.add_argument('--slow', type=int, default=0, metavar='MS',
                        help='delay of each read and write of the disk (default 0)')
    parser.add_argument('--crashes', type=int, default=0, metavar='N',
                        help='kill the backend N times, and start it again')
    Hardware.add_options(parser)
    parser.add_argument('--seed', type=int)
    parser.add_argument('--limit', type=int, default=600, help='time limit in seconds (default 600)')
    parser.add_argument('--keep', action='store_true', help='keep the folder of the run')
    parser.add_argument('--sabotage', choices=sorted(SABOTAGE),
                        help='break something on purpose: succeed if just that is found')
    return parser.parse_args()


def main():
    options = parse_options()
    return run_test(lambda: run(options), SABOTAGE.get(options.sabotage))


if __name__ == '__main__':
    sys.exit(main())
