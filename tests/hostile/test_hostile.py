#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""`godwit` against misbehaving back-ends. Every run must end with a verdict within the time limit plus
5 seconds, write a report, and leave no process, socket or temporary folder behind.

usage: test_hostile.py [--all] [--jobs=N] [--seed=N] [--list] GODWIT GODWIT_BLK [BEHAVIOUR[/COMMAND[/RING]]...]

Without --all each behaviour is tried once, with a command and a ring that follow from the seed.
"""

import argparse
import concurrent.futures
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import behaviours

GRACE = 5  # seconds past the time limit
SKIP = 77
PROXY = Path(__file__).with_name('proxy.py')
# Seconds that a command may take by its options: a message, or the whole run, and its end.
LIMITS = {'probe': 12, 'bench': 12, 'migrate': 8, 'postcopy': 8, 'crash': 8}
DID_NOT_ACT = 'the behaviour did not act'
# On a busy machine an honest message may miss its limit before the behaviour's turn comes, and a
# short run may end before it: the run is repeated with its limits and kills multiplied by these.
PATIENCE = (1, 5, 25, 25)


class Run:
    def __init__(self, options, name, command, ring):
        self.options, self.name, self.command, self.ring = options, name, command, ring
        self.behaviour = behaviours.TABLE[name]
        self.title = f'{name}/{command}/{ring}'
        self.folder = tempfile.mkdtemp(prefix='godwit-hostile.')
        self.acted = os.path.join(self.folder, 'acted')
        self.report = os.path.join(self.folder, 'report.json')
        self.temporary = os.path.join(self.folder, 'tmp')
        os.mkdir(self.temporary)
        self.token = f'{os.getpid()}.{self.title}.{random.random()}'

    def words(self, patience):
        o = self.options
        disk = f'{o.blk} --blk-file={{file}}'
        honest = f'{disk} --socket-path={{socket}}'
        hostile = shlex.join([sys.executable, str(PROXY), self.name, str(o.seed)]) + f' {{socket}} {disk}'
        packed = ['--packed'] if self.ring == 'packed' else []
        limits = [f'--timeout={8 * patience}s', f'--request-timeout={patience}s', '--quiet',
                  f'--json={self.report}']
        quick = ['--warm-up=100ms', '--copy-time=300ms', '--settle=100ms', '--hotplug=100ms',
                 '--disk-size=4M', '--memory=16M', f'--seed={o.seed}']
        return {
            'probe': ['probe', '--device=blk', '--json', hostile],
            'bench': ['bench', '--time=300ms', f'--stall-timeout={patience}s', '--depth=8', *packed, hostile],
            'migrate': ['migrate', *limits, *quick, *packed, hostile, honest],
            'postcopy': ['migrate', *limits, *quick, *packed, '--postcopy', '--postcopy-at=0',
                         '--link-rate=4M', honest, hostile],
            'crash': ['crash', *limits, f'--kills={3 * patience}', '--disk-size=4M', f'--seed={o.seed}', *packed,
                      hostile],
        }[self.command]

    def left(self):
        """Processes that still run, found by a variable in their environment."""
        mark = f'HOSTILE_RUN={self.token}'.encode()
        found = []
        for entry in Path('/proc').iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / 'environ').read_bytes().split(b'\0'):
                    found.append(int(entry.name))
            except OSError:
                pass
        return found

    def await_end(self, seconds):
        """Waits for killed processes to end. Returns: those that still run."""
        end = time.monotonic() + seconds
        while (left := self.left()) and time.monotonic() < end:
            time.sleep(0.05)
        return left

    def problems(self):
        for patience in PATIENCE:
            found = list(self.problems_with(patience))
            # With few requests the behaviour may have missed all of them: status 0.
            if found not in ([DID_NOT_ACT], ['exit status 0']):
                break
        return found

    def problems_with(self, patience):
        environ = dict(os.environ, COLUMNS='1000', TMPDIR=self.temporary, HOSTILE_LOG=self.acted, HOSTILE_RUN=self.token)
        out = os.path.join(self.folder, 'out')
        begin = time.monotonic()
        with open(out, 'wb') as f:
            process = subprocess.Popen([self.options.godwit, *self.words(patience)], env=environ, stdout=f,
                                       stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                       start_new_session=True)
        # A busy machine may need longer.
        busy = max(1.0, os.getloadavg()[0] / os.cpu_count())
        try:
            status = process.wait(LIMITS[self.command] * patience + GRACE * busy)
        except subprocess.TimeoutExpired:
            yield f'no verdict within {time.monotonic() - begin:.1f} s'
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
        self.took = time.monotonic() - begin
        self.status = status
        has_acted = os.path.exists(self.acted)
        if status not in (1, 2) and not (status == 0 and (self.command in self.behaviour.harmless)):
            yield f'exit status {status}'
        yield from self.report_problems(out, status)
        if not has_acted and 'time limit' not in self.said:
            yield DID_NOT_ACT
        left = self.await_end(GRACE * busy)
        if left:
            yield f'processes left behind: {left}'
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        if os.listdir(self.temporary):
            yield f'left behind: {os.listdir(self.temporary)}'

    def report_problems(self, out, status):
        with open(out, 'rb') as f:
            self.said = f.read().decode(errors='replace')
        if not self.said.strip():
            yield 'it said nothing'
        if 'Sanitizer' in self.said:
            yield 'a sanitizer complains'
        if self.command in ('probe', 'bench'):
            return
        try:
            with open(self.report, encoding='utf-8') as f:
                told = json.load(f)['exit_status']
            if told != status:
                yield f'the report says {told}'
        except (OSError, ValueError, KeyError) as e:
            yield f'no report: {e}'

    def run(self):
        try:
            return self.title, self.problems(), getattr(self, 'said', ''), self.status, self.took
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def chosen(options):
    """Names of behaviours, commands and rings."""
    chance = random.Random(options.seed)
    for name, b in behaviours.TABLE.items():
        every = [(name, command, ring) for command in b.commands for ring in b.rings]
        if options.wanted:
            every = [one for one in every if any('/'.join(one).startswith(w) for w in options.wanted)]
        elif not options.all:
            every = [chance.choice(every)]
        yield from every


def has_userfaultfd():
    try:
        os.close(behaviours.uffd.raw())
        return True
    except OSError:
        return False


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--all', action='store_true')
    parser.add_argument('--jobs', type=int, default=8)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--list', action='store_true')
    parser.add_argument('--verbose', action='store_true')
    parser.add_argument('godwit', nargs='?')
    parser.add_argument('blk', nargs='?')
    parser.add_argument('wanted', nargs='*')
    options = parser.parse_args()
    if options.list:
        for name, b in behaviours.TABLE.items():
            print(f'{name:32} {",".join(b.commands):36} {",".join(b.rings):14} 0 in: {",".join(b.harmless)}')
        return 0
    options.godwit, options.blk = map(os.path.abspath, (options.godwit, options.blk))
    runs = list(chosen(options))
    if not has_userfaultfd() and any(one[1] == 'postcopy' for one in runs):
        print('[  SKIPPED ] postcopy\nskipped: no userfaultfd for this user')
        runs = [one for one in runs if one[1] != 'postcopy']
        if not runs:
            return SKIP
    failures = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for title, problems, said, status, took in pool.map(lambda one: Run(options, *one).run(), runs):
            failures += bool(problems)
            if options.verbose or problems:
                print(f'{"FAIL" if problems else "ok  "} {title} (status {status}, {took:.1f} s)'
                      f' {"; ".join(problems)}', flush=True)
            if problems:
                print('\n'.join('     ' + line for line in said.splitlines()[-12:]), flush=True)
    print(f'{len(runs)} runs, {failures} failures, seed {options.seed}')
    return 1 if failures or not runs else 0


if __name__ == '__main__':
    sys.exit(main())
