#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A vhost-user proxy in front of a correct disk. It forwards messages and file descriptors, except for one
behaviour (behaviours.py), which sends false replies or floods, hangs up, or modifies shared memory.

usage: proxy.py BEHAVIOUR SEED SOCKET GODWIT_BLK [OPTION...]

It writes a line to the file named by HOSTILE_LOG when the behaviour acts.
"""

import ctypes
import mmap
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time

HEADER = struct.Struct('<III')
VERSION, REPLY, NEED_REPLY = 0x1, 0x4, 0x8
NAMES = {
    'GET_FEATURES': 1, 'SET_FEATURES': 2, 'SET_OWNER': 3, 'SET_MEM_TABLE': 5, 'SET_LOG_BASE': 6,
    'SET_VRING_NUM': 8, 'SET_VRING_ADDR': 9, 'SET_VRING_BASE': 10, 'GET_VRING_BASE': 11,
    'SET_VRING_KICK': 12, 'SET_VRING_CALL': 13, 'SET_VRING_ERR': 14, 'GET_PROTOCOL_FEATURES': 15,
    'SET_PROTOCOL_FEATURES': 16, 'GET_QUEUE_NUM': 17, 'SET_VRING_ENABLE': 18,
    'SET_BACKEND_REQ_FD': 21, 'GET_CONFIG': 24, 'SET_CONFIG': 25, 'POSTCOPY_ADVISE': 28,
    'POSTCOPY_LISTEN': 29, 'POSTCOPY_END': 30, 'GET_INFLIGHT_FD': 31, 'SET_INFLIGHT_FD': 32,
    'GET_MAX_MEM_SLOTS': 36, 'ADD_MEM_REG': 37, 'REM_MEM_REG': 38,
}
NAMES_OF = {number: name for name, number in NAMES.items()}
TICK = 0.02
CDLL = ctypes.CDLL(None, use_errno=True)  # its calls release the interpreter lock


class HungUp(Exception):
    """One end, or the behaviour, has closed the connection."""


class Message:
    def __init__(self, request, payload=b'', fds=(), flags=VERSION):
        self.request, self.payload, self.fds, self.flags = request, payload, list(fds), flags
        self.size = None  # overrides the length of the payload

    @property
    def name(self):
        return NAMES_OF.get(self.request, str(self.request))

    def bytes(self):
        size = len(self.payload) if self.size is None else self.size
        return HEADER.pack(self.request, self.flags & 0xffffffff, size & 0xffffffff) + self.payload

    def close(self):
        for fd in self.fds:
            os.close(fd)
        self.fds = []


def receive(sock):
    data, fds, _, _ = socket.recv_fds(sock, HEADER.size, 64)
    while 0 < len(data) < HEADER.size:
        more = sock.recv(HEADER.size - len(data))
        if not more:
            break
        data += more
    if len(data) < HEADER.size:
        raise HungUp
    request, flags, size = HEADER.unpack(data)
    payload = b''
    while len(payload) < size:
        more = sock.recv(size - len(payload))
        if not more:
            raise HungUp
        payload += more
    return Message(request, payload, fds, flags)


class Region:
    def __init__(self, gpa, size, uva, offset, fd):
        self.gpa, self.size, self.uva, self.fd = gpa, size, uva, fd
        slack = offset % 4096
        self.map = mmap.mmap(fd, size + slack, offset=offset - slack)
        self.view = memoryview(self.map)[slack:slack + size]


class Ring:
    def __init__(self):
        self.num, self.desc, self.used, self.avail = 0, 0, 0, 0
        self.kick = self.call = None


class Session:
    """The state of a pair of connections, as known from the messages."""

    def __init__(self, front, back, behaviour, seed):
        self.front, self.back, self.behaviour = front, back, behaviour
        self.random = random.Random(seed)
        self.regions, self.rings, self.counts = [], {}, {}
        self.channel = self.log = None
        self.is_running = self.is_packed = False
        self.since = 0.0

    # ---- the guest ----

    def ring(self, index):
        return self.rings.setdefault(index, Ring())

    def first_ring(self):
        return self.rings[min(self.rings)] if self.rings else Ring()

    def at(self, uva, length):
        for region in self.regions:
            if region.uva <= uva and uva + length <= region.uva + region.size:
                return region.view[uva - region.uva:uva - region.uva + length]
        return None

    def note(self, m):
        """Record state that a behaviour may use."""
        self.counts[m.name] = self.counts.get(m.name, 0) + 1
        if m.name == 'SET_MEM_TABLE':
            self.regions = []
            n = struct.unpack_from('<I', m.payload)[0]
            for i in range(min(n, len(m.fds))):
                self.add_region(struct.unpack_from('<QQQQ', m.payload, 8 + 32 * i), m.fds[i])
        elif m.name == 'ADD_MEM_REG' and m.fds:
            self.add_region(struct.unpack_from('<QQQQ', m.payload, 8), m.fds[0])
        elif m.name in ('SET_VRING_KICK', 'SET_VRING_CALL'):
            ring = self.ring(m.payload[0])
            setattr(ring, m.name[10:].lower(), os.dup(m.fds[0]) if m.fds else None)
            self.is_running, self.since = True, time.monotonic()
        elif m.name == 'SET_VRING_NUM':
            index, num = struct.unpack('<II', m.payload)
            self.ring(index).num = num
        elif m.name == 'SET_VRING_ADDR':
            index, _, desc, used, avail, _ = struct.unpack('<IIQQQQ', m.payload)
            ring = self.ring(index)
            ring.desc, ring.used, ring.avail = desc, used, avail
        elif m.name == 'SET_FEATURES':
            self.is_packed = bool(struct.unpack('<Q', m.payload)[0] >> 34 & 1)
        elif m.name == 'SET_LOG_BASE' and m.fds:
            self.log = os.dup(m.fds[0])
        elif m.name == 'SET_BACKEND_REQ_FD' and m.fds:
            self.channel = socket.socket(fileno=os.dup(m.fds[0]))
            self.channel.setblocking(False)
        elif m.name == 'GET_VRING_BASE':
            self.is_running = False

    def add_region(self, numbers, fd):
        gpa, size, uva, offset = numbers
        try:
            self.regions.append(Region(gpa, size, uva, offset, os.dup(fd)))
        except (OSError, ValueError):
            pass

    # ---- messages ----

    def acted(self, what=''):
        with open(os.environ.get('HOSTILE_LOG', os.devnull), 'a', encoding='utf-8') as f:
            f.write(f'{self.behaviour.name} {what}\n')

    def send(self, sock, data, fds=()):
        """Sends everything; a peer that does not read blocks only this process."""
        sock.setblocking(True)
        while data:
            n = socket.send_fds(sock, [data], fds) if fds else sock.send(data)
            data, fds = data[n:], ()

    def pass_on(self, sock, m):
        if m is None:
            return
        for one in m if isinstance(m, (list, tuple)) else (m,):
            if isinstance(one, bytes):
                self.send(sock, one)
            else:
                self.send(sock, one.bytes(), one.fds)

    def step(self):
        ready, _, _ = select.select([self.front, self.back], [], [], TICK)
        if self.front in ready:
            m = receive(self.front)
            self.note(m)
            self.pass_on(self.back, self.behaviour.request(self, m))
            m.close()
        if self.back in ready:
            m = receive(self.back)
            self.pass_on(self.front, self.behaviour.reply(self, m))
            m.close()
        self.behaviour.tick(self)


def ends_with_us():
    CDLL.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


def serve(front, behaviour, seed, command):
    ours, theirs = socket.socketpair()
    disk = subprocess.Popen([*command, f'--fd={theirs.fileno()}'], pass_fds=[theirs.fileno()],
                            preexec_fn=ends_with_us)
    theirs.close()
    session = Session(front, ours, behaviour, seed)
    try:
        while True:
            session.step()
    except (HungUp, OSError):
        pass
    finally:
        for sock in (front, ours):
            sock.close()
        disk.terminate()
        disk.wait()


def main():
    from behaviours import TABLE

    name, seed, path, *command = sys.argv[1:]
    behaviour = TABLE[name]
    # The child must end with this process, so that the next one can lock the disk.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    behaviour.begin()
    if os.path.exists(path):  # left by a proxy that was killed
        os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(4)
        try:
            while True:
                front, _ = listener.accept()
                serve(front, behaviour, seed, command)
        finally:
            if os.path.exists(path):
                os.unlink(path)


if __name__ == '__main__':
    main()
