#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""`godwit migrate` in two processes, over a link whose frames are changed at random. Whatever comes,
both halves end within the time limit plus 5 seconds, with a report, and leave nothing behind.

usage: test_link_frames.py [--runs=N] [--jobs=N] [--seed=N] GODWIT GODWIT_BLK GODWIT_RNG INTEGRATION_FOLDER
"""

import argparse
import concurrent.futures
import os
import random
import struct
import subprocess
import sys
import tempfile
import time

LIMIT, GRACE = 8, 5


def changes(chance, link_proxy):
    """Ways to change one frame: name and payload -> bytes."""
    frame, types = link_proxy.frame, link_proxy.TYPES

    def flip(name, payload):
        data = bytearray(frame(name, payload))
        for _ in range(chance.choice((1, 1, 2, 8))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        return bytes(data)

    def field(name, payload):
        data = bytearray(payload)
        if len(data) >= 8:
            at = chance.randrange(len(data) // 8) * 8 if chance.random() < 0.5 else 0
            struct.pack_into('<Q', data, at, chance.choice((0, 1, 4095, 1 << 31, 1 << 32, 1 << 62,
                                                            (1 << 63) + 4096, (1 << 64) - 1)))
        return frame(name, bytes(data))

    def cut(name, payload):
        return frame(name, payload[:chance.randrange(len(payload) + 1)])

    def other(_name, payload):
        return frame(chance.choice(types), payload)

    def insert(name, payload):
        noise = chance.randbytes(chance.choice((0, 4, 8, 16, 24, 40, 4104)))
        return frame(chance.choice(types), noise) + frame(name, payload)

    def twice(name, payload):
        return frame(name, payload) * 2

    def many(name, payload):
        return iter(lambda: frame(name, payload) * 64, b'')

    def drop(_name, _payload):
        return b''

    def noise(_name, _payload):
        return chance.randbytes(chance.choice((1, 15, 16, 17, 1000)))
    return flip, field, cut, other, insert, twice, many, drop, noise


def rule_of(chance, link_proxy):
    """Change one or more frames, preferably others than the many frames with memory."""
    change = chance.choice(changes(chance, link_proxy))
    wanted, number = chance.choice(link_proxy.TYPES), chance.choice((0, 0, 1, 2, 5))
    often = chance.random() < 0.2
    state = {'n': 0}

    def rule(name, payload):
        if often:
            return change(name, payload) if chance.random() < 0.02 else None
        if name != wanted:
            return None
        state['n'] += 1
        return change(name, payload) if state['n'] == number + 1 else None
    return rule, f'{change.__name__} {"often" if often else wanted}'


def run(options, seed):
    import it_migrate_link
    import link_proxy

    chance = random.Random(seed)
    rule, title = rule_of(chance, link_proxy)
    words = [f'--timeout={LIMIT}s', '--reconnect-timeout=2s', '--request-timeout=2s', '--memory=16M',
             '--disk-size=4M']
    is_postcopy = chance.random() < 0.5 and it_migrate_link.has_userfaultfd()
    postcopy = ['--postcopy', '--postcopy-at=0'] if is_postcopy else []
    packed = ['--packed'] if chance.random() < 0.5 else []
    problems = []
    with tempfile.TemporaryDirectory(prefix='godwit-hostile.') as folder:
        temporary = os.path.join(folder, 'tmp')
        os.mkdir(temporary)
        fixture = it_migrate_link.Fixture(options.godwit, options.blk, options.rng, folder)
        fixture.prefixes = {role: ('env', f'TMPDIR={temporary}') for role in ('source', 'destination')}
        begin = time.monotonic()
        try:
            destination = fixture.listen(*words, *packed)
            source = fixture.connect(fixture.proxy(destination.port, rule).port, *words, *packed, *postcopy)
            for half in (source, destination):
                busy = max(1.0, os.getloadavg()[0] / os.cpu_count())
                left = begin + LIMIT + GRACE * busy - time.monotonic()
                try:
                    status = half.process.wait(max(left, 0.1))
                except subprocess.TimeoutExpired:
                    problems.append(f'no verdict after {time.monotonic() - begin:.1f} s')
                    continue
                if status not in (0, 1, 2):
                    problems.append(f'status {status}: {half.said()[-300:]}')
                elif half.result()['exit_status'] != status:
                    problems.append('another status in the report')
            if not problems and os.listdir(temporary):
                problems.append(f'left behind: {os.listdir(temporary)}')
        except (AssertionError, OSError, ValueError, KeyError) as e:
            problems.append(f'{type(e).__name__}: {e}')
        finally:
            fixture.close()
    return seed, title, problems


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--runs', type=int, default=40)
    parser.add_argument('--jobs', type=int, default=4)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--verbose', action='store_true')
    parser.add_argument('godwit')
    parser.add_argument('blk')
    parser.add_argument('rng')
    parser.add_argument('folder')
    options = parser.parse_args()
    sys.path.insert(0, options.folder)
    import it_migrate_link
    import link_proxy
    why = link_proxy.lacks_loopback()
    if why:
        print(f'skipped: {why}')
        return 77
    if not it_migrate_link.has_userfaultfd():
        print(f'[  SKIPPED ] postcopy\nskipped: {it_migrate_link.NO_USERFAULTFD}')
    failures = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        seeds = range(options.seed, options.seed + options.runs)
        for seed, title, problems in pool.map(lambda seed: run(options, seed), seeds):
            failures += bool(problems)
            if problems or options.verbose:
                print(f'{"FAIL" if problems else "ok  "} --seed={seed} ({title}) {"; ".join(problems)}',
                      flush=True)
    print(f'{options.runs} migrations, {failures} failures, from seed {options.seed}')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
