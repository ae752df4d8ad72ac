#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""libgodwit's front-end and driver with DPDK's vhost, with split and packed rings: dpdk-testpmd returns
every frame, and the test checks every byte.

Exit status 0: success. 1: failure. 77: this machine lacks something, with the reason.
"""

import argparse
import os
import random
import re
import sys

sys.dont_write_bytecode = True  # keep the source folder clean
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'qemu'))

from lab import Lab, LabError, Process, peer, run_test
from postcopy import require_userfaultfd

# Features that both ends also have: indirect tables, EVENT_IDX, protocol features, VERSION_1.
FEATURES = 1 << 28 | 1 << 29 | 1 << 30 | 1 << 32
RING_PACKED = 1 << 34
IN_ORDER = 1 << 35


def run(options):
    testpmd = peer('testpmd')
    if options.postcopy:
        require_userfaultfd()
    features = (FEATURES | (RING_PACKED if options.packed else 0)
                | (IN_ORDER if options.in_order else 0))
    with Lab(options.limit, options.keep) as lab:
        lab.say(f'seed {options.seed}')
        socket = lab.path('vhost.sock')
        # DPDK must not lock memory whose pages are missing.
        device, words = (',postcopy-support=1', ['--no-mlockall']) if options.postcopy else ('', [])
        backend = Process(lab, 'testpmd', [
            testpmd, '--vdev', f'net_vhost0,iface={socket},queues=1{device}', '--', *words,
            '--total-num-mbufs=4096', '--auto-start', '--stats-period=3600'])
        lab.wait_until(lambda: os.path.exists(socket), "testpmd's socket", 20)
        exchange = Process(lab, 'exchange', [
            options.exchange, socket, hex(features), str(options.rounds),
            str(options.milliseconds), str(options.seed),
            *(['postcopy'] if options.postcopy else [])])
        exchange.is_expected_to_end = True
        lab.wait_until(exchange.has_ended, 'the end of exchange', options.limit)
        with open(exchange.log) as f:
            said = f.read().strip()
        count = re.fullmatch(r'(\d+) frames, (\d+) pages waited for', said)
        if exchange.popen.returncode != 0 or count is None:
            raise LabError(f'exchange says: {said}')
        if int(count[1]) < 1000:
            raise LabError(f'only {said}')
        lab.say(said)
        backend.stop(20)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n', maxsplit=1)[0])
    parser.add_argument('--exchange', required=True, help='the program, see exchange.c')
    parser.add_argument('--packed', action='store_true', help='packed rings')
    parser.add_argument('--in-order', action='store_true', help='with IN_ORDER')
    parser.add_argument('--postcopy', action='store_true',
                        help='add a session that starts without its memory')
    parser.add_argument('--rounds', type=int, default=3, help='number of starts of the device (default 3)')
    parser.add_argument('--milliseconds', type=int, default=500, help='time of each round (default 500)')
    parser.add_argument('--seed', type=int, default=random.randrange(1 << 48))
    parser.add_argument('--limit', type=int, default=60, help='time limit in seconds (default 60)')
    parser.add_argument('--keep', action='store_true', help='keep the folder of the run')
    return parser.parse_args()


if __name__ == '__main__':
    sys.exit(run_test(lambda: run(parse_options())))
