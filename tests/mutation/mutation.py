#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Random mutation testing: changes single lines of the sources, one at a time, and runs the tests that
execute the line. A mutant that passes all tests has survived: the tests have a gap, or the mutant is
equivalent (equivalent.txt lists those, with the reason).

Works on a copy of the tree. The first run builds the copy twice, once to measure which test executes
which line. --work keeps the copy, so that the next run starts with the mutants.

Exit status: 0 the score is at least --score, 1 it is lower, 2 the run failed.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import operators

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ('src/base', 'src/core', 'src/log', 'src/postcopy', 'src/frontend', 'src/blk',
           'tools/blk')
EQUIVALENT = Path(__file__).with_name('equivalent.txt')
# Time limit of a test: this multiple of its normal time, plus this many seconds.
PATIENCE, PATIENCE_S = 10, 60
SKIPPED = 77


class CannotRun(Exception):
    pass


def run(*command, **options):
    r = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL,
                       capture_output=True, text=True, check=False, **options)
    if r.returncode != 0:
        raise CannotRun(f'{" ".join(map(str, command))}: exit {r.returncode}\n'
                        + (r.stdout + r.stderr)[-2000:])
    return r.stdout


class Test:
    """A test as meson describes it; run without meson, since several mutants share a build."""

    def __init__(self, build, description, files):
        self.build = build
        self.name = description['name']
        self.command = description['cmd']
        self.env = description['env']
        self.files = [file for target in description['depends'] for file in files[target]]
        self.seconds = None

    def targets(self):
        """The programs that it runs, and their arguments, as ninja names them."""
        return [os.path.relpath(file, self.build) for file in self.files]

    def run(self, limit, **env):
        """Returns: its exit status; None after the time limit."""
        p = subprocess.Popen(self.command, cwd=self.build, env={**os.environ, **self.env, **env},
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            return p.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            # Kill its process group, including back-ends.
            try:
                os.killpg(p.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            p.wait()


class Tree:
    """A copy of the sources with two builds: `build`, and `coverage`, which counts lines."""

    def __init__(self, work, suites):
        self.suites = suites
        self.root = Path(work) / 'tree'
        self.build = self.root / 'build'
        self.coverage = self.root / 'build-coverage'
        self.map_file = Path(work) / 'lines.json'

    def copy(self):
        files = run('git', '-C', ROOT, 'ls-files', '-z').split('\0')
        for name in filter(None, files):
            source, target = ROOT / name, self.root / name
            if not source.exists():
                continue
            content = source.read_bytes()
            # Unchanged files keep their modification time, so that ninja does not rebuild them.
            if target.exists() and target.read_bytes() == content:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
            os.utime(target)
            self.map_file.unlink(missing_ok=True)

    def configure(self, folder, *options):
        if not (folder / 'build.ninja').exists():
            run('meson', 'setup', folder, '-Ddocs=disabled', *options, cwd=self.root)

    def tests(self, folder):
        listed = json.loads(run('meson', 'introspect', '--tests', folder))
        targets = json.loads(run('meson', 'introspect', '--targets', folder))
        files = {target['id']: target['filename'] for target in targets}
        tests = [Test(folder, t, files) for t in listed
                 if any(suite.split(':')[-1] in self.suites for suite in t['suite'])]
        return {test.name: test for test in tests}

    def ninja(self, folder, targets):
        return subprocess.run(['ninja', '-C', folder, *targets], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, check=False)


def lines_of(tree, prefix):
    """The executed lines, from the counters that a test wrote under `prefix`."""
    executed = {}
    counters = [str(path) for path in prefix.rglob('*.gcda')]
    for path in counters:
        notes = Path('/') / Path(path).relative_to(prefix).with_suffix('.gcno')
        link = Path(path).with_suffix('.gcno')
        if notes.exists() and not link.exists():
            link.symlink_to(notes)
    if not counters:
        return executed
    text = run('gcov', '--json-format', '--stdout', *counters, cwd=tree.coverage)
    for document in text.splitlines():
        for file in json.loads(document)['files']:
            path = os.path.relpath(os.path.normpath(tree.coverage / file['file']), tree.root)
            if path.startswith(FOLDERS):
                executed.setdefault(path, set()).update(
                    line['line_number'] for line in file['lines'] if line['count'] > 0)
    return executed


def map_lines(tree, jobs, say):
    """file -> line -> names of the tests that execute it; and name -> seconds."""
    if tree.map_file.exists():
        return json.loads(tree.map_file.read_text(encoding='utf-8'))
    tests = tree.tests(tree.coverage)
    built = tree.ninja(tree.coverage, sorted({t for test in tests.values() for t in test.targets()}))
    if built.returncode != 0:
        raise CannotRun('the build that counts lines failed:\n' + built.stdout[-2000:])
    found = {'lines': {}, 'seconds': {}}

    def one(test):
        with tempfile.TemporaryDirectory() as prefix:
            begun = time.monotonic()
            status = test.run(600, GCOV_PREFIX=prefix)
            # Left out, the test would catch nothing: a failure on a busy machine has a second chance.
            if status not in (0, SKIPPED):
                begun = time.monotonic()
                status = test.run(600, GCOV_PREFIX=prefix)
            seconds = time.monotonic() - begun
            return test, status, seconds, lines_of(tree, Path(prefix)) if status == 0 else {}

    with ThreadPoolExecutor(jobs) as pool:
        for n, (test, status, seconds, files) in enumerate(pool.map(one, tests.values()), 1):
            if status != 0:
                say(f'without {test.name}: exit {status} before anything was changed')
                continue
            found['seconds'][test.name] = seconds
            for file, lines in files.items():
                for line in lines:
                    found['lines'].setdefault(file, {}).setdefault(str(line), []).append(test.name)
            say(f'{n} of {len(tests)} tests: {test.name}')
    tree.map_file.write_text(json.dumps(found), encoding='utf-8')
    return found


def read_equivalent():
    """(file, line as it is, line as mutated) of the mutants that are shown to change nothing."""
    known, entry = set(), []
    for line in EQUIVALENT.read_text(encoding='utf-8').splitlines():
        if line.startswith('#') or not line.strip():
            continue
        entry.append(line.strip())
        if len(entry) == 4:  # file, before, after, reason
            known.add(tuple(entry[:3]))
            entry = []
    if entry:
        raise CannotRun(f'{EQUIVALENT.name}: the last entry is incomplete')
    return known


class Runner:
    def __init__(self, tree, found, jobs):
        self.tree, self.found, self.jobs = tree, found, jobs
        self.tests = tree.tests(tree.build)
        self.objects = {}

    def object_of(self, file):
        """The object code of a file, to detect mutants that compile to the same code."""
        pattern = '*/' + file.split('/', 1)[1].replace('/', '_') + '.o'
        paths = sorted(self.tree.build.rglob(pattern)) or sorted(
            self.tree.build.rglob('*' + Path(file).name + '.o'))
        code = b''
        for path in paths:
            code += subprocess.run(['objdump', '-d', '-s', '-j', '.text', '-j', '.rodata',
                                    '-j', '.data', '--no-show-raw-insn', path],
                                   capture_output=True, check=False).stdout
        return code

    def catch(self, mutant):
        """Returns: the test that caught it; '' if it survived; None if it is not a valid mutant."""
        names = self.found['lines'][mutant.file][str(mutant.line)]
        names = sorted((name for name in names if name in self.tests),
                       key=lambda name: self.found['seconds'][name])
        targets = sorted({t for name in names for t in self.tests[name].targets()})
        source = self.tree.root / mutant.file
        text = source.read_text(encoding='utf-8')
        try:
            if mutant.file not in self.objects:
                self.tree.ninja(self.tree.build, targets)
                self.objects[mutant.file] = self.object_of(mutant.file)
            source.write_text(mutant.apply(text), encoding='utf-8')
            if self.tree.ninja(self.tree.build, targets).returncode != 0:
                return None
            if self.object_of(mutant.file) == self.objects[mutant.file]:
                return None
            return self.run_tests(names)
        finally:
            source.write_text(text, encoding='utf-8')

    def run_tests(self, names):
        caught = []

        def one(name):
            if caught:
                return
            limit = self.found['seconds'][name] * PATIENCE + PATIENCE_S
            status = self.tests[name].run(limit)
            if status is None:
                caught.append(f'{name} (over {limit:.0f} s)')
            elif status != 0:
                caught.append(f'{name} (exit {status})')

        with ThreadPoolExecutor(self.jobs) as pool:
            list(pool.map(one, names))
        return caught[0] if caught else ''


def draw(tree, found, rng, only):
    """Mutants in random order, at most one per place."""
    mutants = []
    for file, lines in found['lines'].items():
        if not file.endswith('.c') or (only and not any(word in file for word in only)):
            continue
        text = (tree.root / file).read_text(encoding='utf-8')
        mutants += [m for m in operators.mutants(file, text) if str(m.line) in lines]
    mutants.sort(key=lambda m: (m.file, m.line, m.after))
    rng.shuffle(mutants)
    return mutants


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seed', type=int, default=random.randrange(1 << 31),
                        help='random seed; reuse it to reproduce a run')
    parser.add_argument('--count', type=int, default=100, help='number of mutants (default: 100)')
    parser.add_argument('--score', type=float, default=90,
                        help='percentage that must be caught (default: 90)')
    parser.add_argument('--only', action='append', metavar='TEXT',
                        help='mutate files whose path contains TEXT; may be repeated')
    parser.add_argument('--suite', action='append',
                        help='suites that may catch mutants (default: unit and integration)')
    parser.add_argument('--jobs', type=int, default=os.cpu_count(), help='tests at once')
    parser.add_argument('--work', help='folder to keep the copy and its builds in')
    return parser.parse_args()


def report(args, results, n_equivalent):
    survivors = [mutant for mutant, caught in results if not caught]
    n = len(results)
    print(f'\nseed {args.seed}: {n - len(survivors)} of {n} mutants caught, {n_equivalent} equivalent')
    for kind, count in sorted(Counter(m.kind for m in survivors).items()):
        print(f'    {count} survived of the kind: {kind}')
    for mutant in survivors:
        print(f'\nSURVIVED {mutant.file}:{mutant.line} ({mutant.kind})\n'
              f'    - {mutant.before.strip()}\n    + {mutant.after.strip()}')
    score = 100 * (n - len(survivors)) / n if n else 0
    print(f'\nscore: {score:.1f} % (at least {args.score:g} %)')
    return 0 if n > 0 and score >= args.score else 1


def mutate(args, work):
    def say(text):
        print(text, file=sys.stderr, flush=True)

    tree = Tree(work, args.suite or ['unit', 'integration'])
    tree.copy()
    tree.configure(tree.coverage, '-Db_coverage=true', '--optimization=0')
    # Leaks and what is out of bounds count as noticed: the sanitizer stages of tools/test see them.
    tree.configure(tree.build, '--optimization=1', '-Db_sanitize=address,undefined')
    found = map_lines(tree, args.jobs, say)
    known = read_equivalent()
    runner = Runner(tree, found, args.jobs)
    results, n_equivalent = [], 0
    for mutant in draw(tree, found, random.Random(args.seed), args.only):
        if len(results) >= args.count:
            break
        if mutant.key() in known:
            n_equivalent += 1
            continue
        caught = runner.catch(mutant)
        if caught is None:
            continue
        results.append((mutant, caught))
        say(f'{len(results)}/{args.count} {mutant.file}:{mutant.line} {mutant.kind}: '
            + (f'caught by {caught}' if caught else 'SURVIVED'))
    return report(args, results, n_equivalent)


def main():
    args = parse()
    try:
        if args.work:
            Path(args.work).mkdir(parents=True, exist_ok=True)
            return mutate(args, os.path.abspath(args.work))
        with tempfile.TemporaryDirectory(prefix='godwit-mutation-') as work:
            return mutate(args, work)
    except CannotRun as e:
        print(f'mutation.py: {e}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.dont_write_bytecode = True
    sys.exit(main())
