#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A user-mode Linux writes and reads a disk of godwit-blk. Its front-end (virtio_uml) has no eventfds: kicks
and calls are messages (in-band notifications).

    test_uml.py BACKEND GUEST       the variant of godwit-blk that offers them; the static program uml_guest

Exit status 0: success. 1: failure. 77: this machine lacks something, with the reason.
"""

import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

KERNEL = '/usr/bin/linux.uml'
DRIVER = '/usr/lib/uml/modules/*/kernel/drivers/block/virtio_blk.ko'
TIME_LIMIT = 300                # seconds
DISK = 16 << 20
VERDICT = 'uml: 64 blocks written and read, 0 bad'


def skip(reason):
    print(f'skipped: {reason}', file=sys.stderr)
    sys.exit(77)


def end_group(process):
    """The kernel is several processes, which stay behind if only the first one is killed."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def boot(root, socket):
    """Boot it with `root` as its file system. Returns its console."""
    command = [KERNEL, 'mem=128M', 'rootfstype=hostfs', f'rootflags={root}', 'rw', 'init=/init', 'con=null',
               'con0=fd:0,fd:1', f'virtio_uml.device={socket}:2']
    with tempfile.TemporaryFile('w+', errors='replace') as console:
        kernel = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                                  start_new_session=True)
        try:
            kernel.wait(TIME_LIMIT)
        except subprocess.TimeoutExpired:
            print(f'the kernel has not ended in {TIME_LIMIT} s', file=sys.stderr)
        finally:
            end_group(kernel)
        console.seek(0)
        return console.read()


def run(folder, backend_program, guest):
    root, socket, disk = (os.path.join(folder, name) for name in ('root', 'socket', 'disk'))
    for name in ('dev', 'proc'):
        os.makedirs(os.path.join(root, name))
    shutil.copy(guest, os.path.join(root, 'init'))
    shutil.copy(glob.glob(DRIVER)[0], root)
    with open(disk, 'wb') as file:
        file.truncate(DISK)
    with open(os.path.join(folder, 'log'), 'w+', errors='replace') as log:
        backend = subprocess.Popen([backend_program, '--socket-path', socket, '--blk-file', disk, '-vv'],
                                   stderr=log)
        try:
            while not os.path.exists(socket) and backend.poll() is None:
                time.sleep(0.01)
            console = boot(root, socket)
        finally:
            backend.terminate()
            status = backend.wait()
        log.seek(0)
        messages = log.read()
    n_kicks = messages.count('VRING_KICK (35)') - messages.count('SET_VRING_KICK')
    print(f'{n_kicks} kicks by message')
    if VERDICT not in console or status != 0 or n_kicks < 64 or 'refused' in messages:
        print(f'FAILED: the back-end ended with {status}\n{console}\n{messages}', file=sys.stderr)
        return 1
    return 0


def main():
    backend, guest = sys.argv[1:]
    if not os.path.exists(KERNEL):
        skip('user-mode Linux is not installed (Debian: user-mode-linux)')
    if not glob.glob(DRIVER):
        skip(f'there is no {DRIVER}')
    with tempfile.TemporaryDirectory(prefix='godwit-uml-') as folder:
        sys.exit(run(folder, backend, guest))


if __name__ == '__main__':
    main()
