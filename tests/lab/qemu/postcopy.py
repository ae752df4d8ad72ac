# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The switch to postcopy, by QMP: the guest continues at the destination while nearly all of its memory
is still at the source, and the back-end of its disk touches missing pages."""

import ctypes
import os
import time

import migration
from lab import LIBC, LabError, Skip

SYS_USERFAULTFD = 323  # of x86-64, as all the guests
# Low, so that hardly anything is sent before the switch, and little but requested pages after it, until
# enough waits were observed.
BEFORE_BANDWIDTH = 1 << 20
BANDWIDTH = 4 << 20
FINAL_BANDWIDTH = 1 << 30
SECONDS = 60
# A requested page may arrive within a few milliseconds.
LOOK_SECONDS = 0.002


def require_userfaultfd():
    """Checks this machine's userfaultfd; QEMU before 8.1 does not use the device node."""
    fd = LIBC.syscall(SYS_USERFAULTFD, os.O_CLOEXEC)
    if fd < 0:
        raise Skip('userfaultfd cannot be had here: ' + os.strerror(ctypes.get_errno()))
    os.close(fd)


def waiting_threads(process):
    """Its threads that sleep because a page is missing, see proc(5)."""
    folder = f'/proc/{process.popen.pid}/task'
    threads = []
    for thread in os.listdir(folder):
        try:
            with open(f'{folder}/{thread}/wchan') as f:
                if f.read() == 'handle_userfault':
                    threads.append(thread)
        except OSError:
            pass  # it has ended
    return threads


def set_bandwidth(source, bandwidth):
    source.qmp.command('migrate-set-parameters', **{'max-postcopy-bandwidth': bandwidth})


def start(source, destination, has_preempt, wire=None):
    """Starts a migration that switches to postcopy at once, over a wire if its socket is given."""
    source.set_limits(BEFORE_BANDWIDTH, migration.BUSY_DOWNTIME)
    set_bandwidth(source, BANDWIDTH)
    migration.connect(source, destination,
                      ('postcopy-ram', 'postcopy-preempt') if has_preempt else ('postcopy-ram',),
                      wire)
    source.qmp.command('migrate-start-postcopy')
    migration.wait_migration(source, lambda state: state['status'] != 'active', 'the switch')
    destination.wait_status('running', 20)


def n_missing(source):
    """Bytes of memory not sent yet."""
    source.lab.check()
    return migration.migration_state(source)['ram']['remaining']


def see_waits(source, backend, n):
    """Samples the back-end until it was waiting for a page in n samples, while pages are still missing;
    returns the number of samples."""
    n_seen = n_looks = 0
    end = time.monotonic() + SECONDS
    while n_seen < n:
        if time.monotonic() > end:
            raise LabError(f'the backend was seen waiting for a page in {n_seen} of {n_looks} looks, not '
                           f'{n}; {n_missing(source)} bytes of memory are missing')
        source.lab.check()
        time.sleep(LOOK_SECONDS)
        n_looks += 1
        n_seen += bool(waiting_threads(backend))
    if n_missing(source) == 0:
        raise LabError('all memory was there when enough was seen')
    return n_looks


def finish(source, destination):
    """Waits until both sides report that all memory arrived. QEMU 10 with preempt never does if a back-end
    waited for a page at an address that differs from QEMU's (docs/peers.md)."""
    set_bandwidth(source, FINAL_BANDWIDTH)
    migration.wait_migration(source, lambda state: n_missing(source) == 0, 'the last page', SECONDS)
    migration.wait_migration(source, lambda state: state['status'] == 'completed',
                             'the end of postcopy')
    # QEMU reports this after the back-end has received POSTCOPY_END.
    migration.wait_migration(destination, lambda state: state.get('status') == 'completed',
                             "the end of the destination's postcopy")
