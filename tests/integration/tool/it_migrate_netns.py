#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""godwit migrate between two network namespaces, as between two hosts: over a veth pair that is
taken down, and with delay and loss by tc netem. If the kernel has no netem, this program itself
forwards packets between two tap interfaces, with delay and loss.

usage: it_migrate_netns.py GODWIT GODWIT_BLK GODWIT_RNG [NAME...]
"""

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time

from it_migrate_link import FETCH, Fixture, has, those_that_can_run

SOURCE, DESTINATION = '192.0.2.1', '192.0.2.2'
SKIPPED = 77
SMALL = ('--memory=16M', '--depth=8', '--disk-size=8M')
DELAY_MS, LOSS = 5, 0.01

TUNSETIFF = 0x400454ca
IFF_TAP, IFF_NO_PI = 2, 0x1000
CLONE_NEWNET = 0x40000000


def run(*words):
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, capture_output=True)


class Namespaces:
    """Two namespaces, one per half; they are deleted with all their contents when this exits."""

    def __init__(self):
        self.names = [f'godwit-{os.getpid()}-{side}' for side in 'sd']
        for name in self.names:
            run('ip', 'netns', 'add', name)
            self.inside(name, 'ip', 'link', 'set', 'lo', 'up')

    def inside(self, name, *words):
        run('ip', 'netns', 'exec', name, *words)

    def address(self, device):
        for name, address in zip(self.names, (SOURCE, DESTINATION)):
            self.inside(name, 'ip', 'address', 'add', f'{address}/24', 'dev', device)
            self.inside(name, 'ip', 'link', 'set', device, 'up')

    def prefixes(self):
        return {role: ('ip', 'netns', 'exec', name)
                for role, name in zip(('source', 'destination'), self.names)}

    def close(self):
        for name in self.names:
            subprocess.run(['ip', 'netns', 'del', name], capture_output=True, check=False)


class Veth:
    """A veth pair that can be taken down for a time."""

    def __init__(self, spaces):
        self.spaces = spaces
        run('ip', 'link', 'add', 'veth0', 'netns', spaces.names[0], 'type', 'veth', 'peer', 'name',
            'veth0', 'netns', spaces.names[1])
        spaces.address('veth0')

    def set(self, state):
        self.spaces.inside(self.spaces.names[1], 'ip', 'link', 'set', 'veth0', state)

    def wait_carried(self, n_bytes):
        """Wait until the source has sent that many bytes."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            said = subprocess.run(
                ['ip', '-n', self.spaces.names[0], '-s', '-j', 'link', 'show', 'dev', 'veth0'], check=True,
                stdin=subprocess.DEVNULL, capture_output=True).stdout
            if json.loads(said)[0]['stats64']['tx']['bytes'] >= n_bytes:
                return
            time.sleep(0.05)
        raise AssertionError(f'the link did not carry {n_bytes} bytes')

    def spoil(self):
        """Add delay and loss in both directions. Returns: whether the kernel supports it."""
        try:
            for name in self.spaces.names:
                self.spaces.inside(name, 'tc', 'qdisc', 'add', 'dev', 'veth0', 'root', 'netem', 'delay',
                                   f'{DELAY_MS}ms', 'loss', f'{LOSS * 100}%')
        except subprocess.CalledProcessError:
            return False
        return True

    def close(self):
        pass


class Wire(threading.Thread):
    """Two taps and the wire between them: each packet is delayed, some are lost."""

    def __init__(self, spaces):
        super().__init__(daemon=True)
        self.fds = [self.open_tap(name) for name in spaces.names]
        spaces.address('tap0')
        self.stop, self.n_passed, self.n_lost = False, 0, 0
        self.start()

    @staticmethod
    def open_tap(name):
        """The kernel creates the interface in the current namespace of this thread."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open('/proc/thread-self/ns/net', 'rb') as home, \
                open(f'/run/netns/{name}', 'rb') as there:
            if libc.setns(there.fileno(), CLONE_NEWNET) < 0:
                raise OSError(ctypes.get_errno(), 'setns')
            try:
                fd = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                fcntl.ioctl(fd, TUNSETIFF, struct.pack('16sH22x', b'tap0', IFF_TAP | IFF_NO_PI))
            finally:
                libc.setns(home.fileno(), CLONE_NEWNET)
        return fd

    def take(self, fd, queue):
        while True:
            try:
                packet = os.read(fd, 65536)
            except BlockingIOError:
                return
            if random.random() < LOSS:
                self.n_lost += 1
                continue
            self.n_passed += 1
            other = self.fds[1 - self.fds.index(fd)]
            heapq.heappush(queue, (time.monotonic() + DELAY_MS / 1000, self.n_passed, other, packet))

    def run(self):
        queue = []
        while not self.stop:
            wait = queue[0][0] - time.monotonic() if queue else 0.1
            for fd in select.select(self.fds, [], [], max(0, min(wait, 0.1)))[0]:
                self.take(fd, queue)
            while queue and queue[0][0] <= time.monotonic():
                _, _, fd, packet = heapq.heappop(queue)
                try:
                    os.write(fd, packet)
                except OSError:
                    self.n_lost += 1  # no buffer space: dropped, as on any wire

    def close(self):
        self.stop = True
        self.join()
        for fd in self.fds:
            os.close(fd)


def start(fixture, *words):
    destination = fixture.listen(*SMALL, *words, address=f'{DESTINATION}:0')
    return destination, lambda *more: fixture.connect(destination.port, *SMALL, *words, *more,
                                                  host=DESTINATION)


def test_precopy(fixture, spaces):
    Veth(spaces)
    destination, connect = start(fixture)
    connect().end(0)
    destination.end(0)


def test_postcopy(fixture, spaces):
    Veth(spaces)
    destination, connect = start(fixture)
    connect(*FETCH, '--link-rate=8M').end(0)
    destination.end(0)
    assert destination.result()['hops'][0]['postcopy']['pages_sent'] > 0


def test_link_down_in_precopy_cancels(fixture, spaces):
    link = Veth(spaces)
    destination, connect = start(fixture)
    source = connect('--copy-time=20s')
    link.wait_carried(1 << 20)
    link.set('down')
    has(source.end(2), 'the guest continues here')
    has(destination.end(2), 'cancelled')


def test_link_down_in_postcopy_resumes(fixture, spaces):
    """For longer than the TCP timeout: both halves notice, and resume over a new connection."""
    link = Veth(spaces)
    destination, connect = start(fixture)
    source = connect(*FETCH, '--link-rate=1M')
    link.wait_carried(1 << 20)
    link.set('down')
    time.sleep(8.0)
    link.set('up')
    source.end(0)
    destination.end(0)
    for half in (source, destination):
        assert half.result()['hops'][0]['reconnects'] > 0, 'the link was down and nobody noticed'


def delay_and_loss(fixture, spaces, *ways):
    link = Veth(spaces)
    spoiled = link.spoil()
    if not spoiled:
        print('     this kernel has no netem: a wire between two taps instead')
        spaces.close()
        spaces.__init__()
        link = Wire(spaces)
    try:
        for words in ways:
            destination, connect = start(fixture)
            source = connect(*words)
            source.end(0)
            destination.end(0)
            hop = source.result()['hops'][0]
            # GO travels one way and RUNNING the other.
            assert hop['downtime_ns'] > 2 * DELAY_MS * 1000000, hop['downtime_ns']
        assert spoiled or link.n_lost > 0
    finally:
        link.close()


def test_delay_and_loss(fixture, spaces):
    delay_and_loss(fixture, spaces, ())


def test_postcopy_delay_and_loss(fixture, spaces):
    delay_and_loss(fixture, spaces, (*FETCH, '--link-rate=4M'), (*FETCH, '--link-rate=4M', '--cut-link-every=300ms'))


def missing():
    """Why the test cannot run here; None if it can."""
    if os.geteuid() != 0:
        return 'network namespaces need root'
    for program in ('ip', 'tc'):
        if not shutil.which(program):
            return f'{program} is not installed (package iproute2)'
    try:
        spaces = Namespaces()
    except (OSError, subprocess.CalledProcessError) as e:
        return f'no network namespaces here: {getattr(e, "stderr", e)}'
    try:
        Veth(spaces)
    except subprocess.CalledProcessError as e:
        return f'no veth pairs here: {e.stderr}'
    finally:
        spaces.close()
    return None


def main():
    godwit, blk, rng, *names = sys.argv[1:]
    why = missing()
    if why is not None:
        print(f'skipped: {why}', file=sys.stderr)
        return SKIPPED
    failures = 0
    tests = {name: test for name, test in globals().items()
             if name.startswith('test_') and (not names or name in names)}
    tests = those_that_can_run(tests)
    if not tests:
        return SKIPPED
    for name, test in tests.items():
        begin = time.monotonic()
        spaces = Namespaces()
        with tempfile.TemporaryDirectory() as folder:
            fixture = Fixture(godwit, blk, rng, folder)
            fixture.prefixes = spaces.prefixes()
            try:
                test(fixture, spaces)
                print(f'ok   {name} ({time.monotonic() - begin:.1f} s)', flush=True)
            except (AssertionError, OSError, KeyError, TypeError,
                    subprocess.CalledProcessError) as e:
                failures += 1
                print(f'FAIL {name}: {type(e).__name__}: {e}', flush=True)
            finally:
                fixture.close()
                spaces.close()
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
