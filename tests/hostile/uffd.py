# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""userfaultfd(2) for a back-end that misuses it."""

import ctypes
import fcntl
import mmap
import os
import struct
import threading
import time

from proxy import CDLL

SYSCALL = {'x86_64': 323, 'aarch64': 282}[os.uname().machine]
API, REGISTER = 0xc018aa3f, 0xc020aa00
EVENT_FORK, EVENT_REMOVE, EVENT_UNMAP = 1 << 1, 1 << 3, 1 << 6
MINOR_SHMEM = 1 << 10
MISSING, MINOR = 1, 4
PAGE = 4096
PAGES = 64


def raw():
    """A userfaultfd without UFFDIO_API."""
    fd = CDLL.syscall(SYSCALL, os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        raise OSError(ctypes.get_errno(), 'userfaultfd')
    return fd


def swallow(fd):
    while True:
        try:
            os.read(fd, 32)
        except OSError:
            time.sleep(0.0001)


def keep_blocking(fd):
    while True:
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)
        try:
            os.read(fd, 32)
        except OSError:
            time.sleep(0.0001)


class Uffd:
    """A userfaultfd with pages of its own, outside of guest memory."""

    def __init__(self, features):
        self.fd = raw()
        self.is_busy = False
        fcntl.ioctl(self.fd, API, struct.pack('<QQQ', 0xaa, features, 0))
        self.map = mmap.mmap(-1, PAGES * PAGE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        fcntl.ioctl(self.fd, REGISTER, struct.pack('<QQQQ', self.address, PAGES * PAGE, MISSING, 0))

    def share(self, fd, size, offset):
        """Map guest memory. Returns: the address, at which faults belong to the region."""
        slack = offset % PAGE
        size = (size + slack + PAGE - 1) // PAGE * PAGE
        CDLL.mmap.restype = ctypes.c_void_p
        CDLL.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                              ctypes.c_int, ctypes.c_long]
        address = CDLL.mmap(None, size, 3, mmap.MAP_SHARED, fd, offset - slack)
        fcntl.ioctl(self.fd, REGISTER, struct.pack('<QQQQ', address, size, MISSING | MINOR, 0))
        self.address = address
        return address + slack

    def _touch(self, page):
        CDLL.memcpy(ctypes.create_string_buffer(8), ctypes.c_void_p(self.address + page * PAGE), 8)

    def touch_elsewhere(self):
        for page in range(PAGES // 2):
            threading.Thread(target=self._touch, args=(page,), daemon=True).start()

    def _change(self, kind, page):
        at = ctypes.c_void_p(self.address + page * PAGE)
        if kind == 'remove':
            CDLL.madvise(at, PAGE, mmap.MADV_DONTNEED)
        elif kind == 'unmap':
            CDLL.munmap(at, PAGE)
        elif CDLL.fork() == 0:
            os._exit(0)

    def change(self, kind):
        """Cause events that must be read before the kernel accepts pages, and faults among them."""
        self.touch_elsewhere()
        for page in range(PAGES // 2, PAGES):
            threading.Thread(target=self._change, args=(kind, page), daemon=True).start()
