# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A TCP proxy between the two halves of a migration that parses their frames: it cuts the
connection before or after a given frame, drops or changes frames, and refuses connections for a
time.
"""

import errno
import socket
import struct
import threading
import time

HEADER = struct.Struct('<IHHII')
MAGIC = 0x6b6c7767
VERSION = 4

TYPES = ('HELLO WELCOME DATA ZEROS REGION ROUND DISCARD STATE HASHES COMPARE DIFFERS READY GO RUNNING '
         'REQUEST PAGE COMPLETE VERDICT BYE ERROR RESUME RESUMED MISSING').split()
NUMBERS = {name: number for number, name in enumerate(TYPES, 1)}


def frame(name, payload=b'', version=VERSION, magic=MAGIC):
    return HEADER.pack(magic, version, NUMBERS[name], len(payload), 0) + payload


def read_exactly(sock, n):
    data = b''
    while len(data) < n:
        piece = sock.recv(n - len(data))
        if not piece:
            raise ConnectionError('closed')
        data += piece
    return data


def read_frame(sock):
    """Returns: the name and the payload."""
    _, _, number, length, _ = HEADER.unpack(read_exactly(sock, HEADER.size))
    return TYPES[number - 1], read_exactly(sock, length)


def lacks_loopback():
    """Returns: why loopback connections fail (in a network namespace the device may be down);
    None if they work."""
    try:
        with socket.create_server(('127.0.0.1', 0)) as server:
            socket.create_connection(server.getsockname(), 5).close()
    except OSError as e:
        if e.errno not in (errno.ENETUNREACH, errno.EADDRNOTAVAIL):
            raise
        return f'no loopback in this network namespace: {e.strerror}'
    return None


class Cut(Exception):
    """The connection ends at this frame."""


class Proxy:
    """Listens at its own port for the source's half and connects to the destination's. For each
    frame it calls the rule, which returns the bytes to forward (None: unchanged; an iterator: all
    that it yields) or raises Cut.
    """

    def __init__(self, port, rule=None):
        self.target = port
        self.rule = rule or (lambda name, payload: None)
        self.lock = threading.Lock()
        self.pairs = []
        self.refused_until = 0.0
        self.n_connections = 0
        self.seen = []  # names of frames, in their order
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self.listener.close()
        self.cut()

    def cut(self, for_seconds=0.0):
        """Close the connection on both sides, and close new ones at once for a time."""
        with self.lock:
            self.refused_until = max(self.refused_until, time.monotonic() + for_seconds)
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for sock in pair:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                sock.close()

    def _serve(self):
        while True:
            try:
                source, _ = self.listener.accept()
            except OSError:
                return
            if time.monotonic() < self.refused_until:
                source.close()
                continue
            try:
                destination = socket.create_connection(('127.0.0.1', self.target), 5)
            except OSError:
                source.close()
                continue
            destination.settimeout(None)
            pair = (source, destination)
            with self.lock:
                self.n_connections += 1
                self.pairs.append(pair)
            for a, b in (pair, pair[::-1]):
                threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    def _pump(self, source, destination):
        try:
            while True:
                name, payload = read_frame(source)
                with self.lock:
                    self.seen.append(name)
                data = self.rule(name, payload)
                if data is None or isinstance(data, bytes):
                    data = (frame(name, payload) if data is None else data,)
                for piece in data:
                    destination.sendall(piece)
        except Cut as cut:
            self.cut(*cut.args)
        except (OSError, ConnectionError):
            self.cut()


def once(name, before=True, for_seconds=0.0, number=1):
    """A rule: cut before or after the given frame of that name (counted from 1)."""
    state = {'n': 0, 'behind': False}

    def rule(seen, _payload):
        if state['behind']:
            state['behind'] = False
            raise Cut(for_seconds)
        if seen == name:
            state['n'] += 1
            if state['n'] == number:
                if before:
                    raise Cut(for_seconds)
                state['behind'] = True
        return None
    return rule
