# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The wire of a migration, which can be held: no byte of the source arrives until it is released. Bytes of
the destination, such as its requests for pages, always pass."""

import os
import socket
import threading

BYTES = 1 << 16


class Relay:
    """Listens at `path`, and connects to `target` when the source has connected."""

    def __init__(self, path, target):
        self.target = target
        self.is_open = threading.Event()
        self.is_open.set()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        source, _ = self.listener.accept()
        destination = socket.socket(socket.AF_UNIX)
        destination.connect(self.target)
        threading.Thread(target=copy, args=(destination, source, None), daemon=True).start()
        copy(source, destination, self.is_open)

    def hold(self):
        self.is_open.clear()

    def release(self):
        self.is_open.set()


def copy(source, sink, is_open):
    """Copies until either end closes; an error of one end ends the other, which reports it."""
    try:
        while data := source.recv(BYTES):
            if is_open is not None:
                is_open.wait()
            sink.sendall(data)
    except OSError:
        pass
    for end, how in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
        try:
            end.shutdown(how)
        except OSError:
            pass  # closed by its peer
