#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The godwit command with vhost-user back-ends of other projects: probe must show certain features,
bench must verify every block, and migrate must pass or report a known finding.

What the peers are known to do wrong is in docs/peers.md. It depends on timing, so both verdicts of a
migration are right here; wrong are "could not find out", a finding without a name, a hang, and a
back-end or a file that is left behind.

Exit 0: all as it must be. 1: not. 77: this machine lacks something, with the reason.
"""

import argparse
import json
import os
import shlex
import shutil
import sys

sys.dont_write_bytecode = True  # the source folder stays as it is
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'qemu'))

from lab import Lab, LabError, Process, Skip, describe_status, peer, run_test

PASSED, AT_FAULT, NOT_TESTED = 0, 1, 2
UNNAMED = 'outside everything'


def require(condition, text):
    if not condition:
        raise LabError(text)


# --- the command ---------------------------------------------------------------------------------

class Godwit:
    """Runs the command on one back-end, and looks for what it leaves behind."""

    def __init__(self, lab, program, backend):
        self.lab = lab
        self.program = program
        self.backend = backend
        self.scratch = lab.path('tmp')
        self.n_runs = 0
        os.mkdir(self.scratch)

    def run(self, statuses, *arguments):
        """One run, which has to end with one of the statuses; returns the status."""
        self.n_runs += 1
        process = Process(self.lab, f'godwit{self.n_runs}', [self.program, *arguments],
                          {'TMPDIR': self.scratch})
        status = process.wait(self.lab.limit)
        require(status in statuses,
                f'godwit {arguments[0]} ended {describe_status(status)}: {last_line(process.log)}')
        left = os.listdir(self.scratch)
        require(not left, f'godwit {arguments[0]} left files behind: {left}')
        left = processes_with(self.scratch)
        require(not left, f'godwit {arguments[0]} left processes behind: {left}')
        return status

    def report(self, *arguments):
        """What a command that writes JSON to stdout and nothing else has to say."""
        self.run([PASSED], *arguments, '--json', self.backend)
        with open(self.lab.path(f'godwit{self.n_runs}.log')) as f:
            return json.load(f)


def last_line(path):
    with open(path, errors='replace') as f:
        lines = f.read().splitlines()
    return lines[-1] if lines else 'it said nothing'


def processes_with(text):
    """The processes with a text in their command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{pid}/cmdline', 'rb') as f:
                if text.encode() in f.read():
                    found.append(int(pid))
        except OSError:
            pass  # it is gone
    return found


# --- the checks ----------------------------------------------------------------------------------

def names(features):
    return {bit['name'] for bit in features['bits'] if 'name' in bit}


def check_probe(lab, godwit, options):
    found = godwit.report('probe', '--device', options.device, '--require-migration')
    offered = names(found['features']) | names(found['protocol_features'])
    lab.say(f"{found['queues']} queues, {found['memory_slots']} memory slots, "
            f"{len(offered)} features")
    missing = set(options.offers) - offered
    require(not missing, f'probe does not show {sorted(missing)}')
    wrong = set(options.lacks) & offered
    require(not wrong, f'probe shows {sorted(wrong)}')
    require(options.queues in (None, found['queues']), f"probe shows {found['queues']} queues")
    require(options.slots in (None, found['memory_slots']),
            f"probe shows {found['memory_slots']} memory slots")


def check_bench(lab, godwit, options):
    found = godwit.report('bench', '--verify', '--writes=50', '--queues=2', '--time=500ms',
                          '--file-size=64M')
    require(found['runs'], 'bench made no run')
    for run in found['runs']:
        lab.say(f"depth {run['depth']}: {run['requests']} requests, "
                f"{run['verified_blocks']} blocks verified")
        require(run['verified_blocks'] > 0, 'bench verified nothing')
        require(run['writes'] > 0, 'bench wrote nothing')


def migration_arguments(godwit, options, seed, path):
    arguments = ['migrate', '--quiet', f'--seed={seed}', f'--device={options.device}',
                 '--copy-time=300ms', f'--json={path}', f'--backend={godwit.backend}']
    if options.device == 'blk':
        arguments += ['--file-size=64M', '--queues=2']
    if options.postcopy:
        arguments += ['--postcopy']
    return arguments


def check_migration(lab, godwit, options, seed):
    path = lab.path(f'migration{seed}.json')
    # Rings that nobody uses prove nothing; the messages of a migration are answered all the same.
    is_driven = options.device != 'generic'
    wanted = [PASSED, AT_FAULT] if is_driven else [NOT_TESTED, AT_FAULT]
    status = godwit.run(wanted, *migration_arguments(godwit, options, seed, path))
    with open(path) as f:
        found = json.load(f)
    require(found['exit_status'] == status, 'the report has another exit status')
    require(found['hops'] and found['hops'][0]['rounds'] > 0, 'no round of copying was made')
    if options.device == 'blk':
        require(found['load']['verified_blocks'] > 0, 'nothing was verified')
    if status == AT_FAULT:
        require(found['reason'] and found['faults'], 'at fault, and nobody says of what')
        require(all(fault['text'] for fault in found['faults']), 'a fault without a text')
        require(not found['lost_by_use'].get(UNNAMED), f"pages lost {UNNAMED}: {found['lost']}")
    if not is_driven and status == NOT_TESTED:
        require(found['verdict'] == 'NOT TESTED', f"not tested, and {found['verdict']}")
        status = PASSED
    require(any(text in (found['reason'] or '') for text in options.finds),
            f"found {found['reason']}")
    lab.say(f"seed {seed}: {found['verdict']}, {found['reason']}")
    return status


def check_migrate(lab, godwit, options):
    statuses = [check_migration(lab, godwit, options, seed) for seed in range(1, options.seeds + 1)]
    require(not options.passes or not any(statuses), 'a migration of this back-end has to pass')


CHECKS = {'probe': check_probe, 'bench': check_bench, 'migrate': check_migrate}


# --- the run -------------------------------------------------------------------------------------

def find_backend(options):
    """The command, with the peer's in it."""
    command = options.backend
    if options.peer is not None:
        command = command.replace('{peer}', peer(options.peer))
    program = shlex.split(command)[0]
    if shutil.which(program) is None:
        raise Skip(f'{program} is not installed')
    return command


def run(options):
    backend = find_backend(options)
    with Lab(options.limit, options.keep) as lab:
        # {folder} is for a back-end that shares one
        os.mkdir(lab.path('shared'))
        backend = backend.replace('{folder}', lab.path('shared'))
        CHECKS[options.check](lab, Godwit(lab, options.godwit, backend), options)


def comma_separated(text):
    return text.split(',')


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n', maxsplit=1)[0])
    parser.add_argument('check', choices=sorted(CHECKS))
    parser.add_argument('--godwit', required=True, help='the command')
    parser.add_argument('--backend', required=True,
                        help='a command with {socket} in it, and {peer}, {file}, {folder} as needed')
    parser.add_argument('--peer', help='what {peer} is, see ../peers')
    parser.add_argument('--device', default='blk', help='see godwit --help')
    parser.add_argument('--offers', type=comma_separated, default=[], metavar='NAME,...',
                        help='features that probe has to show')
    parser.add_argument('--lacks', type=comma_separated, default=[], metavar='NAME,...',
                        help='features that probe must not show')
    parser.add_argument('--queues', type=int, help='what probe has to show')
    parser.add_argument('--slots', type=int, help='likewise')
    parser.add_argument('--seeds', type=int, default=3, metavar='N', help='make N migrations')
    parser.add_argument('--passes', action='store_true', help='nothing may be found in a migration')
    parser.add_argument('--postcopy', action='store_true', help='migrate by postcopy')
    parser.add_argument('--finds', default=[''], nargs='+', metavar='TEXT',
                        help='each migration has to find one of these')
    parser.add_argument('--limit', type=int, default=90, help='seconds for all')
    parser.add_argument('--keep', action='store_true', help='keep the folder of the run')
    return parser.parse_args()


if __name__ == '__main__':
    sys.exit(run_test(lambda: run(parse_options())))
