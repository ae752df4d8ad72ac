#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""godwit migrate in two processes over loopback: successful migrations, detected faults, the effect
of a connection lost at any point, and rejected peers.

usage: it_migrate_link.py GODWIT GODWIT_BLK GODWIT_RNG [NAME...]
"""

import contextlib
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import link_proxy
from link_proxy import Proxy, frame, once

QUICK = ['--quiet', '--warm-up=50ms', '--copy-time=250ms', '--settle=100ms', '--hotplug=60ms',
         '--request-timeout=60s', '--timeout=240s']


class Skip(Exception):
    """This machine lacks what the test needs."""


class Half:
    """One half of the migration, with its stderr (read continuously) and its report."""

    def __init__(self, fixture, role, *words):
        self.report = os.path.join(fixture.folder, f'{role}.json')
        self.errors = open(os.path.join(fixture.folder, f'{role}.err'), 'w+b')
        command = [*fixture.prefixes.get(role, ()), fixture.godwit, 'migrate', *QUICK, f'--json={self.report}', *words]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=self.errors, start_new_session=True,
                                        env={**os.environ, 'COLUMNS': '1000'})  # unwrapped lines

    def said(self):
        self.errors.flush()
        with open(self.errors.name, encoding='utf-8', errors='replace') as f:
            return f.read()

    def wait_for(self, pattern, seconds=120):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            match = re.search(pattern, self.said())
            if match:
                return match
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        raise AssertionError(f'it did not say {pattern!r} but:\n{self.said()}')

    def end(self, status, seconds=300):
        """Check that it exits with that status. Returns: its stdout."""
        try:
            out = self.process.communicate(timeout=seconds)[0].decode()
        except subprocess.TimeoutExpired:
            self.process.kill()
            out = self.process.communicate()[0].decode()
            raise AssertionError(f'it does not end:\n{out}\n{self.said()}') from None
        if self.process.returncode != status:
            raise AssertionError(f'status {self.process.returncode}, not {status}:\n{out}\n'
                                 f'{self.said()}')
        return out

    def wait_most(self, seconds):
        """Wait until it exits, and record its peak memory."""
        end = time.monotonic() + seconds
        self.most_kib = 0
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with open(f'/proc/{self.process.pid}/status', encoding='ascii') as f:
                    found = re.search(r'VmHWM:\s+(\d+)', f.read())
            except OSError:
                found = None
            if found:
                self.most_kib = max(self.most_kib, int(found[1]))
            time.sleep(0.02)

    def result(self):
        with open(self.report, encoding='utf-8') as f:
            return json.load(f)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        self.process.stdout.close()
        self.errors.close()


class Fixture:
    """The two halves, with a proxy between them if the test needs one."""

    def __init__(self, godwit, blk, rng, folder):
        self.godwit, self.blk, self.rng, self.folder = godwit, blk, rng, folder
        self.halves, self.proxies, self.sockets = [], [], []
        self.prefixes = {}  # role -> words that run a command elsewhere
        self.disk = os.path.join(folder, 'disk.img')

    def words(self, device):
        if device == 'rng':
            return ['--device=rng', f'{self.rng} --socket-path={{socket}}']
        return [f'--shared-file={self.disk}',
                f'{self.blk} --socket-path={{socket}} --blk-file={{file}} --num-queues=2']

    def half(self, role, *words, device='blk'):
        half = Half(self, role, *words, *self.words(device))
        self.halves.append(half)
        return half

    def listen(self, *words, device='blk', address='127.0.0.1:0'):
        half = self.half('destination', f'--listen={address}', *words, device=device)
        half.port = int(half.wait_for(r'listening at \S+:(\d+);')[1])
        return half

    def connect(self, port, *words, device='blk', host='127.0.0.1'):
        return self.half('source', f'--to={host}:{port}', *words, device=device)

    def proxy(self, port, rule=None):
        proxy = Proxy(port, rule)
        self.proxies.append(proxy)
        return proxy

    def close(self):
        for half in self.halves:
            half.close()
        for other in self.proxies + self.sockets:
            other.close()


def has(text, part):
    assert part in text, f'no {part!r} in:\n{text}'


def both_pass(fixture, *words, device='blk'):
    destination = fixture.listen(*words, device=device)
    source = fixture.connect(destination.port, *words, device=device)
    source.end(0)
    destination.end(0)
    there, here = source.result(), destination.result()
    assert there['exit_status'] == here['exit_status'] == 0
    assert there['seed'] == here['seed'], 'the destination has the seed of the source'
    assert there['load']['requests'] > 0 and here['load']['requests'] > 0
    return there, here


def change_rule(name, change, number=3, least=0):
    """Change the payload of the given frame of that name; shorter payloads are not counted."""
    state = {'n': 0}

    def rule(seen, payload):
        if seen != name or len(payload) < least:
            return None
        state['n'] += 1
        return change(payload) if state['n'] == number else None
    return rule


# ---- Successful migrations ----

def test_disk(fixture):
    there, here = both_pass(fixture)
    assert here['load']['disk_blocks_read_back'] > 0 and there['load']['disk_blocks_read_back'] == 0
    assert there['hops'][0]['downtime_ns'] == here['hops'][0]['downtime_ns'] > 0
    assert there['hops'][0]['compare_bytes'] > 0
    size = there['hops'][0]['device_state_bytes']
    assert size == here['hops'][0]['device_state_bytes'] > 0, 'the state of the disk was loaded'


def test_damaged_device_state_is_refused(fixture):
    def rule(seen, payload):
        if seen != 'STATE' or payload[:4] != b'\2\0\0\0':
            return None
        return frame('STATE', payload[:30] + bytes([payload[30] ^ 1]) + payload[31:])
    destination = fixture.listen()
    proxy = fixture.proxy(destination.port, rule)
    source = fixture.connect(proxy.port)
    has(destination.end(1), 'CHECK_DEVICE_STATE: the back-end failed')
    source.end(2)


def test_disk_packed_in_order_two_queues(fixture):
    both_pass(fixture, '--packed', '--in-order', '--queues=2', '--seed=3')


def test_several_devices(fixture):
    both_pass(fixture, '--devices=2')


def test_entropy(fixture):
    both_pass(fixture, device='rng')


def test_sparse_terabyte(fixture):
    both_pass(fixture, '--memory-top=1T', '--no-hotplug')


def test_many_seeds(fixture):
    for seed in range(2):
        both_pass(fixture, f'--seed={seed}', '--order=random', '--log-offset=random')


def test_killed_backends(fixture):
    destination = fixture.listen('--kill-at=start')
    source = fixture.connect(destination.port, '--kill-at=copy')
    source.end(0)
    destination.end(0)
    assert source.result()['kills'] == destination.result()['kills'] == 1
    destination = fixture.listen()
    fixture.connect(destination.port, '--kill-at=random').end(0)
    destination.end(0)


def test_ipv6(fixture):
    try:
        socket.create_server(('::1', 0), family=socket.AF_INET6).close()
    except OSError as e:
        raise Skip(f'no IPv6 loopback: {e.strerror}') from None
    destination = fixture.listen(address='[::1]:0')
    fixture.connect(destination.port, host='[::1]').end(0)
    destination.end(0)


# ---- Detected faults ----

def lose_last_round():
    """Drop the data of the last round, before the state."""
    held = []

    def rule(name, payload):
        if name in ('DATA', 'ZEROS'):
            held.append(frame(name, payload))
            return b''
        before = b'' if name == 'STATE' else b''.join(held)
        held.clear()
        return before + frame(name, payload)
    return rule


def test_lost_pages_are_found_and_named(fixture):
    destination = fixture.listen()
    proxy = fixture.proxy(destination.port, lose_last_round())
    source = fixture.connect(proxy.port)
    out = source.end(1)
    has(out, 'written and not marked')
    result = source.result()
    assert result['hops'][0]['pages_lost'] > 0
    assert result['lost'] and all(page['text'] for page in result['lost'])
    has(destination.end(1), 'its half reports')
    assert 'DIFFERS' in proxy.seen and 'PAGE' in proxy.seen


# ---- Lost connections ----

def cancelled(fixture, rule, text='cancelled'):
    destination = fixture.listen()
    proxy = fixture.proxy(destination.port, rule)
    source = fixture.connect(proxy.port)
    out = source.end(2)
    has(out, text)
    has(out, 'the guest continues here')
    has(destination.end(2), 'cancelled')
    result = source.result()
    assert result['load']['disk_blocks_read_back'] > 0, 'the disk was not read back at the source'
    assert result['load']['requests'] > 0


def test_cut_in_first_round_cancels(fixture):
    cancelled(fixture, once('DATA', number=5))


def test_cut_in_later_round_cancels(fixture):
    cancelled(fixture, once('ROUND', number=4))


def test_cut_in_state_cancels(fixture):
    cancelled(fixture, once('STATE'))


def test_cut_in_comparison_cancels(fixture):
    cancelled(fixture, once('HASHES', number=2))


def test_cut_before_ready_cancels_source(fixture):
    destination = fixture.listen('--reconnect-timeout=1s')
    proxy = fixture.proxy(destination.port, once('READY'))
    source = fixture.connect(proxy.port, '--no-hotplug')
    has(source.end(2), 'the guest continues here')
    has(destination.end(2), 'cancelled')


def resumed(fixture, name, before, for_seconds=0.0, words=(), least=1):
    destination = fixture.listen(*words)
    proxy = fixture.proxy(destination.port, once(name, before, for_seconds))
    source = fixture.connect(proxy.port, *words)
    source.end(0)
    destination.end(0)
    assert proxy.n_connections > least, 'it was not cut'
    return source.result(), destination.result()


def test_cut_before_go_resumes(fixture):
    there, here = resumed(fixture, 'GO', True)
    assert there['hops'][0]['reconnects'] >= 1 and here['hops'][0]['reconnects'] >= 1


def test_cut_for_a_second_resumes(fixture):
    there, _ = resumed(fixture, 'GO', True, 1.0)
    assert there['hops'][0]['downtime_ns'] > 900e6


def test_cut_behind_running_resumes(fixture):
    resumed(fixture, 'RUNNING', False)


def test_cut_before_running_resumes(fixture):
    resumed(fixture, 'RUNNING', True, 0.2)


def test_cut_before_either_verdict_resumes(fixture):
    for number in (1, 2):
        destination = fixture.listen()
        proxy = fixture.proxy(destination.port, once('VERDICT', True, 0.1, number))
        fixture.connect(proxy.port).end(0)
        destination.end(0)
        assert proxy.n_connections == 2


def test_cut_before_bye_is_the_end(fixture):
    destination = fixture.listen()
    proxy = fixture.proxy(destination.port, once('BYE'))
    fixture.connect(proxy.port).end(0)
    destination.end(0)


def test_nobody_comes_back(fixture):
    words = ('--reconnect-timeout=500ms',)
    destination = fixture.listen(*words)
    proxy = fixture.proxy(destination.port, once('RUNNING', True, 60.0))
    source = fixture.connect(proxy.port, *words)
    has(source.end(2), 'the state of the guest is unknown')
    has(destination.end(2), 'the source did not reconnect within 500 ms')


def under_way(fixture, destination, *words, name='ROUND'):
    """Returns: a source with these options, once it has sent two frames of that name."""
    proxy = fixture.proxy(destination.port)
    source = fixture.connect(proxy.port, *words)
    end = time.monotonic() + 120
    while proxy.seen.count(name) < 2:
        assert time.monotonic() < end, f'no {name} was sent:\n{source.said()}'
        time.sleep(0.01)
    return source


def test_source_ends(fixture):
    for number in (signal.SIGKILL, signal.SIGTERM):
        destination = fixture.listen()
        source = under_way(fixture, destination, '--copy-time=20s')
        source.process.send_signal(number)
        has(destination.end(2), 'cancelled')
        source.end(-number)


def test_destination_ends(fixture):
    for number in (signal.SIGKILL, signal.SIGTERM):
        destination = fixture.listen()
        source = under_way(fixture, destination, '--copy-time=20s')
        destination.process.send_signal(number)
        has(source.end(2), 'the guest continues here')
        destination.end(-number)


# ---- Postcopy ----

FETCH = ('--postcopy', '--postcopy-at=0', '--page-order=random')


def has_userfaultfd():
    """Whether a program may use userfaultfd for faults from the kernel, too."""
    if os.geteuid() == 0 or os.access('/dev/userfaultfd', os.R_OK | os.W_OK):
        return True
    with open('/proc/sys/vm/unprivileged_userfaultfd', encoding='utf-8') as f:
        return f.read().strip() == '1'


NO_USERFAULTFD = 'no userfaultfd for this user (sysctl vm.unprivileged_userfaultfd)'


def those_that_can_run(tests):
    """Print the names of the skipped tests. Returns: the others."""
    if has_userfaultfd():
        return tests
    for name in tests:
        if 'postcopy' in name:
            print(f'[  SKIPPED ] {name}\nskipped: {NO_USERFAULTFD}')
    return {name: test for name, test in tests.items() if 'postcopy' not in name}


def fetched(fixture, *words, device='blk', rule=None, there=()):
    destination = fixture.listen(*there, device=device)
    proxy = fixture.proxy(destination.port, rule)
    source = fixture.connect(proxy.port, *FETCH, *there, *words, device=device)
    source.end(0)
    destination.end(0)
    here = destination.result()['hops'][0]['postcopy']
    assert here['pages_early'] == 0
    assert here['pages_sent'] > 0 or '--postcopy-at=2' in words
    assert 'GO' in proxy.seen and 'COMPLETE' in proxy.seen
    return proxy, source.result(), destination.result()


def test_postcopy_disk(fixture):
    proxy, _, here = fetched(fixture, '--link-rate=16M')
    assert 'REQUEST' in proxy.seen and here['hops'][0]['postcopy']['faults'] > 0


def test_postcopy_after_rounds(fixture):
    fetched(fixture, '--postcopy-at=2', there=('--packed', '--in-order'))


def test_postcopy_entropy(fixture):
    fetched(fixture, '--link-rate=32M', device='rng')


def test_postcopy_several_devices(fixture):
    fetched(fixture, '--link-rate=32M', there=('--devices=2', '--queues=2'))


def test_postcopy_sparse_terabyte(fixture):
    fetched(fixture, there=('--memory-top=1T',))


def test_postcopy_cut_on_purpose(fixture):
    for seed in range(2):
        _, there, here = fetched(fixture, f'--seed={seed}', '--link-rate=16M', '--cut-link-every=30ms')
        assert there['hops'][0]['reconnects'] > 0 and here['hops'][0]['reconnects'] > 0


def test_postcopy_cut_by_others(fixture):
    cuts = {'PAGE': (0, 100, 1000), 'REQUEST': (0, 3), 'MISSING': (0,), 'GO': (0,),
            'COMPLETE': (0,), 'VERDICT': (0, 1)}
    state = {}

    def rule(name, _payload):
        n = state[name] = state.get(name, -1) + 1
        if n in cuts.get(name, ()):
            raise link_proxy.Cut(0.05)
    proxy, _, _ = fetched(fixture, '--link-rate=32M', rule=rule)
    assert proxy.n_connections > 8


def test_postcopy_nobody_comes_back(fixture):
    words = ('--reconnect-timeout=500ms',)
    destination = fixture.listen(*words)
    proxy = fixture.proxy(destination.port, once('PAGE', True, 60.0, 200))
    source = fixture.connect(proxy.port, *FETCH, *words)
    has(source.end(2), 'the state of the guest is unknown')
    has(destination.end(2), 'the source did not reconnect within 500 ms')


def test_postcopy_source_dies(fixture):
    destination = fixture.listen('--reconnect-timeout=500ms')
    source = under_way(fixture, destination, *FETCH, '--link-rate=1M', name='PAGE')
    source.process.kill()
    source.end(-signal.SIGKILL)
    has(destination.end(2), 'the source did not reconnect within 500 ms')


def test_postcopy_lies_end_it(fixture):
    lies = (('PAGE', lambda p: frame('PAGE', struct.pack('<Q', 1 << 60) + p[8:])),
            ('PAGE', lambda p: frame('PAGE', p[:8] + b'x')),
            ('PAGE', lambda p: frame('HELLO', b'x' * 40)),
            ('DISCARD', lambda p: frame('DISCARD', struct.pack('<QQ', 4096, 4096))),
            ('REQUEST', lambda p: frame('REQUEST', struct.pack('<QQ', 4096, 4096))))
    for name, change in lies:
        destination = fixture.listen()
        proxy = fixture.proxy(destination.port, change_rule(name, change, 1))
        source = fixture.connect(proxy.port, *FETCH, '--link-rate=8M')
        source.end(2)
        destination.end(2)


# ---- Rejected peers ----

def test_strangers_are_sent_away(fixture):
    destination = fixture.listen()
    strangers = {
        b'GET / HTTP/1.1\r\nHost: x\r\n\r\n': 'not from a godwit migrate',
        os.urandom(4096): 'rejected',
        frame('HELLO', b'x' * 40, version=99): 'speaks version 99',
        frame('HELLO', b'\xff' * 64): 'sent an unexpected or invalid HELLO',
        frame('DATA', b'x' * 100): 'sent an unexpected DATA',
        frame('RESUME', b'x' * 16): 'wants to resume is not running here',
        struct.pack('<IHHII', link_proxy.MAGIC, link_proxy.VERSION, 1, 0xffffffff, 0): 'HELLO of 4294967295 bytes',
    }
    for data, text in strangers.items():
        with socket.create_connection(('127.0.0.1', destination.port), 5) as sock:
            sock.sendall(data)
            name, payload = link_proxy.read_frame(sock)
            assert name == 'ERROR' and payload, name
        destination.wait_for(re.escape(text))
    socket.create_connection(('127.0.0.1', destination.port), 5).close()
    fixture.connect(destination.port).end(0)
    destination.end(0)


def test_other_machines_are_sent_away(fixture):
    destination = fixture.listen()
    for words, text in ((('--memory=128M',), '--memory is 134217728 at the source and 67108864'),
                        (('--queues=2',), '--queues is 2 at the source'),
                        (('--packed',), '--packed is 1 at the source')):
        out = fixture.connect(destination.port, *words).end(2)
        has(out, text)
        has(out, 'start both halves with the same value')
    fixture.connect(destination.port).end(0)
    destination.end(0)


def test_intruders_do_not_disturb(fixture):
    """Other clients connect during the migration, and after it."""
    destination = fixture.listen('--settle=500ms')
    source = fixture.connect(destination.port, '--settle=500ms')
    others = [socket.create_connection(('127.0.0.1', destination.port), 5) for _ in range(2)]
    others[0].sendall(frame('RESUME', b'x' * 16))
    source.end(0)
    destination.end(0)
    for other in others:
        other.close()


def silent(fixture, port, n=200):
    """Connections that send nothing, or too little."""
    for i in range(n):
        sock = socket.create_connection(('127.0.0.1', port), 5)
        sock.sendall(frame('RESUME', b'x' * 16)[:i % 24])
        fixture.sockets.append(sock)


def test_silent_strangers_keep_nobody_out(fixture):
    destination = fixture.listen()
    silent(fixture, destination.port)
    proxy = fixture.proxy(destination.port)
    cut = once('RUNNING')

    def rule(name, payload):
        if name == 'GO':
            silent(fixture, destination.port)
        return cut(name, payload)
    proxy.rule = rule
    fixture.connect(proxy.port).end(0)
    destination.end(0)
    assert proxy.n_connections > 1


def test_destination_without_descriptors_waits(fixture):
    destination = fixture.listen()
    with socket.create_connection(('127.0.0.1', destination.port), 5) as stranger:
        stranger.sendall(b'GET / HTTP/1.1\r\nHost: x\r\n\r\n')
        stranger.settimeout(120)
        with contextlib.suppress(ConnectionResetError):
            while stranger.recv(4096):  # setup is complete once it has been rejected
                pass
    pid = destination.process.pid
    old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = set(map(int, os.listdir(f'/proc/{pid}/fd')))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(set(range(len(used) + 1)) - used), old[1]))
    source = fixture.connect(destination.port)
    destination.wait_for('cannot accept connections: Too many open files')
    time.sleep(0.5)
    assert destination.said().count('cannot accept') == 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, old)
    source.end(0)
    destination.end(0)


def laid_out_in_another_way(fixture, *words):
    destination = fixture.listen()
    proxy = fixture.proxy(destination.port,
                      change_rule('HELLO', lambda p: frame('HELLO', p[:-8] + os.urandom(8)), 1))
    has(fixture.connect(proxy.port, *words).end(2), 'its guest has another layout')
    fixture.connect(destination.port).end(0)
    destination.end(0)
    assert destination.result()['memory_bytes'] == 64 << 20


def test_guests_laid_out_in_another_way_are_sent_away(fixture):
    laid_out_in_another_way(fixture)


def test_postcopy_guests_laid_out_in_another_way_are_sent_away(fixture):
    laid_out_in_another_way(fixture, *FETCH)


def with_feature(bit):
    """A change of HELLO: add this feature to the first device of the source."""
    def change(payload):
        at = 16 + 8 + 1  # after id, seed and --postcopy
        n_options, = struct.unpack_from('<H', payload, at)
        at += 2
        for _ in range(n_options):
            at += 1 + payload[at] + 8
        at += 4 + 8  # after the length of the layout and the number of devices
        features, = struct.unpack_from('<Q', payload, at)
        return frame('HELLO', payload[:at] + struct.pack('<Q', features | 1 << bit) + payload[at + 8:])
    return change


def test_disks_that_do_not_match_are_sent_away(fixture):
    """With equal options on both sides, sectors and features depend on the back-end alone."""
    destination = fixture.listen()
    name, fixture.disk = fixture.disk, os.path.join(fixture.folder, 'other.img')
    with open(fixture.disk, 'wb') as f:
        f.truncate(32 << 20)
    out = fixture.connect(destination.port).end(2)
    text = r'its disk has \d{6} sectors, the other disk has 65536'
    assert re.search(f'does not match the one at the source: {text}', out), out
    destination.wait_for(f'was rejected: .*{text}')
    fixture.disk = name

    for bit, text in ((50, 'the device at the source has'), (26, 'the options contradict')):
        proxy = fixture.proxy(destination.port, change_rule('HELLO', with_feature(bit), 1))
        has(fixture.connect(proxy.port).end(2), text)
        destination.wait_for(f'was rejected: .*{text}')
    fixture.connect(destination.port).end(0)
    destination.end(0)
    assert not destination.result()['faults']


def endless(name):
    """A rule: repeat that frame endlessly."""
    def rule(seen, payload):
        return iter(lambda: frame(name, payload) * 512, b'') if seen == name else None
    return rule


def ends_in_time(fixture, name, role, *words):
    """The time limit holds during an endless stream of frames, and memory use stays bounded."""
    destination = fixture.listen('--timeout=3s')
    proxy = fixture.proxy(destination.port, endless(name))
    source = fixture.connect(proxy.port, '--timeout=3s', *words)
    half = destination if role == 'destination' else source
    # 5 seconds past the time limit, or more on a busy machine.
    limit = 3 + 5 * max(1.0, os.getloadavg()[0] / os.cpu_count())
    begin = time.monotonic()
    half.wait_most(limit)
    assert half.most_kib < 600 << 10, f'{name}: {half.most_kib} KiB'
    has(half.end(2), 'time limit')
    assert time.monotonic() - begin < limit, name
    proxy.close()
    other = source if half is destination else destination
    assert other.process.wait(120) in (0, 2), f'{name}: {other.process.returncode}'


def test_endless_frames_end_in_time(fixture):
    for name, role in (('ROUND', 'destination'), ('DATA', 'destination'), ('GO', 'destination'),
                         ('RUNNING', 'source')):
        ends_in_time(fixture, name, role)


def test_postcopy_endless_pages_end_in_time(fixture):
    ends_in_time(fixture, 'PAGE', 'destination', *FETCH)


def test_postcopy_region_behind_the_discard_is_refused(fixture):
    """The fault server would not know it, and the back-end would be blamed for its faults."""
    destination = fixture.listen()
    proxy = fixture.proxy(destination.port, change_rule(
        'STATE', lambda p: frame('REGION', struct.pack('<QQ', 16 << 30, 1 << 20)) + frame('STATE', p), 1))
    source = fixture.connect(proxy.port, *FETCH)
    has(source.end(2), 'sent an unexpected or invalid REGION')
    destination.end(2)
    assert all(fault['side'] != 'destination' for fault in destination.result()['faults'])


def test_lies_end_it(fixture):
    lies = {
        'DATA': lambda p: frame('DATA', struct.pack('<Q', 1 << 60) + p[8:]),
        'ZEROS': lambda p: frame('ZEROS', struct.pack('<QQ', 4096, 1 << 62)),
        'REGION': lambda p: frame('REGION', struct.pack('<QQ', 1 << 40, 1 << 50)),
        'STATE': lambda p: frame('STATE', p[:4] + b'\xff\xff\xff\xff' + p[8:]),
        'HASHES': lambda p: frame('HASHES', struct.pack('<Q', 1 << 60) + p[8:]),
        'ROUND': lambda p: frame('BYE'),
        'COMPARE': lambda p: b'garbage garbage garbage garbage',
    }
    for name, change in lies.items():
        number = 1 if name in ('STATE', 'REGION') else 2
        # A busy machine may not reach the second frame of a kind in the usual time.
        for time_limit in ('500ms', '5s', '50s'):
            destination = fixture.listen()
            proxy = fixture.proxy(destination.port, change_rule(name, change, number))
            source = fixture.connect(proxy.port, f'--copy-time={time_limit}')
            source.process.wait(300)
            if proxy.seen.count(name) >= number:
                break
        out = source.end(2)
        has(out, 'the guest continues here')
        has(destination.end(2), 'cancelled')


def test_state_that_was_changed_is_refused(fixture):
    destination = fixture.listen()
    proxy = fixture.proxy(destination.port,
                      change_rule('STATE', lambda p: frame('STATE', p[:60] + b'\xff' * (len(p) - 60)),
                                  1))
    source = fixture.connect(proxy.port)
    has(source.end(2), 'the state of rings or load does not belong to this guest')
    destination.end(2)


def test_nobody_listens(fixture):
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = server.getsockname()[1]
    source = fixture.connect(port, '--request-timeout=500ms')
    has(source.end(2), 'is the half with --listen there?')


def main():
    godwit, blk, rng, *names = sys.argv[1:]
    tests = {name: test for name, test in globals().items()
             if name.startswith('test_') and (not names or name in names)}
    failures = 0
    why = link_proxy.lacks_loopback()
    if why:
        print(f'skipped: {why}')
        return 77
    tests = those_that_can_run(tests)
    if not tests:
        return 77
    for name, test in tests.items():
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            os.environ['TMPDIR'] = os.path.join(folder, 'tmp')
            os.mkdir(os.environ['TMPDIR'])
            fixture = Fixture(godwit, blk, rng, folder)
            try:
                test(fixture)
                left = os.listdir(os.environ['TMPDIR'])
                assert not left or 'ends' in name or 'dies' in name, f'left behind: {left}'
                print(f'ok   {name} ({time.monotonic() - begin:.1f} s)', flush=True)
            except Skip as e:
                print(f'[  SKIPPED ] {name}\nskipped: {e}', flush=True)
            except (AssertionError, OSError, KeyError, TypeError, ValueError) as e:
                failures += 1
                print(f'FAIL {name}: {type(e).__name__}: {e}', flush=True)
            finally:
                fixture.close()
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
