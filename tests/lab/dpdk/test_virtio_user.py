#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""DPDK's virtio-user, a driver of another project with packed rings: it sends frames to a back-end that
returns them, and checks every byte; or dpdk-testpmd keeps some frames circulating.

Exit status 0: success. 1: failure. 77: this machine lacks something, with the reason.
"""

import argparse
import os
import random
import re
import sys
import time

sys.dont_write_bytecode = True  # keep the source folder clean
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..'))

from trixie import build_program, command_in
from lab import Lab, LabError, Process, peer, run_test

RING_PACKED = 34
IN_ORDER = 35
N_CIRCLING = 32     # frames that testpmd sends at first, and forwards from then on
PMD_SECONDS = 3

# DPDK uses huge pages by default. Without them its memory is a memfd, which can be shared. Its two
# threads share the processors with others.
EAL = ('--no-huge', '-m', '256', '--no-pci', '--no-shconf')


def require(condition, text):
    if not condition:
        raise LabError(text)


class Loopback(Process):
    """The back-end."""

    def __init__(self, lab, program, pairs):
        self.lab = lab
        self.socket = lab.path('loopback.sock')
        super().__init__(lab, 'loopback', [program, self.socket, str(pairs)])
        lab.wait_until(lambda: os.path.exists(self.socket), "the back-end's socket", 20)

    def said(self, pattern):
        """All matches, as numbers."""
        with open(self.log) as f:
            return [int(found, 0) for found in re.findall(pattern, f.read())]

    def features(self):
        """The features that the driver accepted."""
        found = self.said(r'(?m)^features (\w+)$')
        require(found, 'nothing was negotiated')
        return found[-1]


def vdev(loopback, options):
    words = ['net_virtio_user0', f'path={loopback.socket}', f'queues={options.pairs}',
             f'packed_vq={int(options.packed)}', f'in_order={int(options.in_order)}']
    return ','.join(words)


def check_features(loopback, options):
    features = loopback.features()
    require(bool(features >> RING_PACKED & 1) == options.packed,
            f'the rings are packed, or are not, against the request: {features:#x}')
    require(bool(features >> IN_ORDER & 1) == options.in_order,
            f'IN_ORDER was taken, or was not, against the request: {features:#x}')


def run_frames(lab, loopback, options):
    root = peer('dpdk')
    program = build_program(root, 'libdpdk', 'dpdk/frames.c', 'dpdk/frame.h', 'pattern.h')
    drivers = os.path.join(root, 'usr/lib/x86_64-linux-gnu/dpdk/pmds-25.0')
    words = [*command_in(root, program), *EAL, '--lcores', f'0@(0-{os.cpu_count() - 1})',
             '-d', f'{drivers}/librte_mempool_ring.so', '-d', f'{drivers}/librte_net_virtio.so',
             '--vdev', vdev(loopback, options), '--', str(options.pairs), str(options.segments),
             str(options.rounds), str(options.milliseconds), str(options.seed)]
    frames = Process(lab, 'frames', words)
    frames.is_expected_to_end = True
    lab.wait_until(frames.has_ended, 'the end of frames', options.limit)
    with open(frames.log) as f:
        said = f.read()
    require(frames.popen.returncode == 0, f'frames says: {said.splitlines()[-1:]}')
    counts = [int(n) for n in re.findall(r'pair \d+: (\d+) frames', said)]
    require(len(counts) == options.pairs and min(counts) > 1000, f'too few frames: {counts}')
    return sum(counts)


def run_testpmd(lab, loopback, options):
    words = [peer('testpmd'), '--vdev', vdev(loopback, options), '--', '--total-num-mbufs=4096',
             f'--rxq={options.pairs}', f'--txq={options.pairs}', '--auto-start', '--tx-first',
             '--stats-period=3600']
    testpmd = Process(lab, 'testpmd', words)
    lab.wait_until(lambda: loopback.said(r'(?m)^features (\w+)$'), 'a driver', 20)
    end = time.monotonic() + PMD_SECONDS
    lab.wait_until(lambda: time.monotonic() > end, 'the end', PMD_SECONDS + 1)
    testpmd.stop(20)
    with open(testpmd.log, errors='replace') as f:
        said = f.read().rpartition('Accumulated forward statistics')[2]
    counts = {name: int(n) for name, n in re.findall(r'([RT]X-(?:total|dropped)): *(\d+)', said)}
    lab.say(f'testpmd: {counts}')
    require(counts and counts['TX-dropped'] == 0, 'testpmd has dropped frames, or said nothing')
    require(counts['RX-total'] > 100 * N_CIRCLING, 'the frames did not go round')
    return counts['RX-total']


def run(options):
    with Lab(options.limit, options.keep) as lab:
        lab.say(f'seed {options.seed}')
        loopback = Loopback(lab, options.loopback, options.pairs)
        n_frames = (run_testpmd if options.testpmd else run_frames)(lab, loopback, options)
        check_features(loopback, options)
        loopback.stop()
        n_forwarded = sum(loopback.said(r'pair \d+: (\d+) frames'))
        lab.say(f'{n_frames} frames came back of {n_forwarded}')
        require(n_forwarded >= n_frames, 'more frames came back than were sent')


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n', maxsplit=1)[0])
    parser.add_argument('--loopback', required=True, help='the back-end, see loopback.c')
    parser.add_argument('--testpmd', action='store_true', help='dpdk-testpmd is the front-end')
    parser.add_argument('--packed', action='store_true', help='packed rings')
    parser.add_argument('--in-order', action='store_true', help='with IN_ORDER')
    parser.add_argument('--pairs', type=int, default=1, help='number of queue pairs (default 1)')
    parser.add_argument('--segments', type=int, default=1,
                        help='maximum number of buffers per frame; not with --packed, see '
                             'docs/peers.md')
    parser.add_argument('--rounds', type=int, default=3, help='number of starts of the port (default 3)')
    parser.add_argument('--milliseconds', type=int, default=500, help='time of each round (default 500)')
    parser.add_argument('--seed', type=int, default=random.randrange(1 << 48))
    parser.add_argument('--limit', type=int, default=60, help='time limit in seconds (default 60)')
    parser.add_argument('--keep', action='store_true', help='keep the folder of the run')
    return parser.parse_args()


if __name__ == '__main__':
    sys.exit(run_test(lambda: run(parse_options())))
