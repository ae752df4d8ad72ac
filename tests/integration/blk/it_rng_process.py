#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""How signals end godwit-rng, even while a worker is stuck in a system call.

usage: it_rng_process.py GODWIT GODWIT_RNG STUCK_GETRANDOM
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

PATIENCE = 120
LIMIT = 5
TRIES = 5  # other processes disturb some of the measurements


def start(rng, path, **environ):
    process = subprocess.Popen([rng, f'--socket-path={path}'], stdin=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True, env=dict(os.environ, **environ))
    while not os.path.exists(path) and process.poll() is None:
        time.sleep(0.01)
    return process


def is_pending(process, number):
    """Whether the process has yet to take the signal. An exited process takes none."""
    with open(f'/proc/{process.pid}/status', encoding='ascii') as status:
        fields = dict(line.split(':', 1) for line in status)
    return 'Z' not in fields['State'] and int(fields['ShdPnd'], 16) >> number - 1 & 1


def end_by(process, *signals):
    """Returns: the exit status, the stderr output, and the duration in seconds."""
    begin = time.monotonic()
    for number in signals:
        process.send_signal(number)
        # Of two pending signals, the kernel delivers the one with the lower number first.
        while is_pending(process, number):
            time.sleep(0.01)
    said = process.communicate(timeout=PATIENCE)[1]
    return process.returncode, said, time.monotonic() - begin


def stuck(godwit, rng, preload, path, *signals):
    """Like end_by, with a worker that never returns from the device."""
    process = start(rng, path, LD_PRELOAD=preload)
    with subprocess.Popen([godwit, 'bench', '--device=rng', '--time=60s', path],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as bench:
        guard = threading.Timer(PATIENCE, process.kill)
        guard.start()
        try:
            assert process.stderr.readline() == 'stuck\n'
            return end_by(process, *signals)
        finally:
            guard.cancel()
            process.kill()
            bench.kill()


def check_stuck(godwit, rng, preload, folder, path, signals, why, limit):
    """A stuck worker does not keep these signals from ending the process in time."""
    for _ in range(TRIES):
        status, said, seconds = stuck(godwit, rng, preload, path, *signals)
        assert status == 1 and f'ended by {why}: worker 0 does not answer' in said, (status, said)
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        if seconds < limit:
            return
    raise AssertionError(f'{signals}: {seconds} s, limit {limit} s')


def main():
    godwit, rng, preload = map(os.path.abspath, sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'rng.sock')
        for number in (signal.SIGTERM, signal.SIGINT):
            status, said, _ = end_by(start(rng, path), number)
            assert (status, said) == (0, ''), (status, said)
            assert not os.listdir(folder), 'an orderly end removes the socket and its lock'
        for signals, why, limit in (((signal.SIGTERM,), 'the time limit', LIMIT),
                                    ((signal.SIGTERM, signal.SIGTERM), 'the time limit', LIMIT),
                                    ((signal.SIGTERM, signal.SIGINT), 'a further signal', LIMIT - 1)):
            check_stuck(godwit, rng, preload, folder, path, signals, why, limit)


if __name__ == '__main__':
    main()
