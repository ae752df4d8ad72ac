# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The parts of a laboratory run: a supervised set of processes, a backend, QEMU with a guest, QMP.

    with Lab(limit=90) as lab:
        backend = Backend(lab, 'godwit-blk --socket-path {socket} --blk-file {file}', image)
        guest = Guest(lab, qemu, kernel, initramfs, backend.socket)
        guest.ask('start ...')

A failure raises LabError with a sentence for people; a component that this machine lacks raises Skip.
Every wait checks all processes, so it ends at once if one of them ends, or at the lab's time limit. The
processes never outlive the lab.
"""

import ctypes
import dataclasses
import json
import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

LAB = os.path.dirname(os.path.abspath(__file__))
PR_SET_PDEATHSIG = 1
VIRTIO_F_ACCESS_PLATFORM = 1 << 33
VIRTIO_F_RING_PACKED = 1 << 34
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM)
LIBC = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The run failed."""


class Stalled(LabError):
    """The guest's kernel runs without a timer."""


class Skip(Exception):
    """This machine lacks something that the run needs."""


def peer(name):
    """The path of one of the outside peers."""
    r = subprocess.run([os.path.join(LAB, '..', 'peers'), name], capture_output=True, text=True)
    if r.returncode != 0:
        raise Skip(r.stderr.strip() or f'the peer {name} cannot be had')
    return r.stdout.strip()


INSTALLED = '7.2'
QEMUS = ('qemu10', 'qemu-debian13', 'qemu11')
QEMU_HELP = f"{INSTALLED} (the installed one), one of the peers {', '.join(QEMUS)}, or a path"


def find_qemu(name):
    if name == INSTALLED:
        return 'qemu-system-x86_64'
    return peer(name) if name in QEMUS else name


def knows_milliseconds(qemu):
    """Whether a chardev has reconnect-ms: since QEMU 9.2, and the only way since QEMU 11."""
    r = subprocess.run([qemu, '--version'], capture_output=True, text=True)
    found = re.search(r'version (\d+)\.(\d+)', r.stdout)
    if found is None:
        raise Skip(f'{qemu} does not tell its version')
    return tuple(map(int, found.groups())) >= (9, 2)


def peer_kernel():
    """A kernel, and the file of it that QEMU starts."""
    kernel = peer('kernel')
    try:
        return kernel, peer('vmlinux')
    except Skip:
        return kernel, kernel


# --- processes -----------------------------------------------------------------------------------

class Process:
    """A child that must stay alive until it is stopped, with its output in a file."""

    def __init__(self, lab, name, args, env=None):
        self.name = name
        self.log = lab.path(f'{name}.log')
        self.is_expected_to_end = False
        self.args = args
        self.env = {**os.environ, **(env or {})}
        self.popen = self.start()
        lab.processes.append(self)

    def start(self):
        with open(self.log, 'ab') as log:
            try:
                return subprocess.Popen(self.args, stdin=subprocess.DEVNULL, stdout=log,
                                        stderr=subprocess.STDOUT, start_new_session=True,
                                        env=self.env, preexec_fn=die_with_parent)
            except OSError as e:
                raise LabError(f'{self.name} cannot be started: {e}') from None

    def has_ended(self):
        return self.popen.poll() is not None

    def check(self):
        status = self.popen.poll()
        if status is not None and not self.is_expected_to_end:
            raise LabError(f'{self.name} ended on its own {describe_status(status)}')

    def wait(self, seconds):
        """Waits for a process that ends on its own; returns its status."""
        self.is_expected_to_end = True
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise LabError(f'{self.name} did not end within {seconds} s') from None

    def stop(self, seconds=10):
        """Terminates the process, which must exit cleanly."""
        self.is_expected_to_end = True
        self.popen.terminate()
        status = self.wait(seconds)
        if status not in (0, -signal.SIGTERM):
            raise LabError(f'{self.name} ended {describe_status(status)} when it was stopped')

    def kill(self):
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait()


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def describe_status(status):
    if status < 0:
        return f'by signal {-status} ({signal.strsignal(-status)})'
    return f'with status {status}'


class Lab:
    """A folder, the processes in it and a time limit."""

    def __init__(self, limit, keep=False, quiet=False):
        self.limit = limit
        self.keep = keep
        self.quiet = quiet  # a failure is expected, so do not print its logs
        self.processes = []
        self.folder = None
        self.begin = time.monotonic()

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix='godwit-lab-')
        for number in SIGNALS:
            signal.signal(number, self.on_signal)
        signal.alarm(self.limit)
        return self

    def __exit__(self, kind, error, traceback):
        signal.alarm(0)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        for process in reversed(self.processes):
            process.kill()
        if kind is not None and not issubclass(kind, Skip) and not self.quiet:
            self.print_logs()
        if self.keep:
            self.say(f'kept {self.folder}')
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def on_signal(self, number, frame):
        if number == signal.SIGALRM:
            raise LabError(f'the run did not end within {self.limit} s')
        raise LabError(f'interrupted by signal {number}')

    def path(self, name):
        return os.path.join(self.folder, name)

    def say(self, text):
        print(f'[{time.monotonic() - self.begin:5.1f}] {text}', flush=True)

    def check(self):
        for process in self.processes:
            process.check()

    def wait_until(self, condition, what, seconds):
        end = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() > end:
                raise LabError(f'{what} did not happen within {seconds} s')
            time.sleep(0.02)

    def print_logs(self):
        for name in sorted(os.listdir(self.folder)):
            if name.endswith('.log'):
                with open(self.path(name), errors='replace') as f:
                    lines = f.read().splitlines()
                print(f'--- the end of {name} ({len(lines)} lines)')
                print('\n'.join(line[:200] for line in lines[-25:]), flush=True)


# --- lines over a socket -------------------------------------------------------------------------

class Lines:
    """A Unix socket that lines are read from and written to."""

    def __init__(self, lab, path, name):
        self.lab = lab
        self.name = name
        self.buffer = b''
        self.log = open(lab.path(f'{name}.log'), 'ab', buffering=0)
        self.socket = socket.socket(socket.AF_UNIX)
        lab.wait_until(lambda: self.connect(path), f'the socket of {name}', 20)

    def connect(self, path):
        try:
            self.socket.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False  # not yet: a socket has its path before the process listens
        return True

    def send(self, line):
        self.log.write(b'> ' + line.encode() + b'\n')
        try:
            self.socket.sendall(line.encode() + b'\n')
        except OSError as e:
            self.closed(str(e))

    def receive(self, seconds, what):
        end = time.monotonic() + seconds
        while b'\n' not in self.buffer:
            if select.select([self.socket], [], [], 0.1)[0]:
                self.read_some()  # before the check: the last lines explain more than a status
                continue
            self.lab.check()
            if time.monotonic() > end:
                raise LabError(f'{self.name}: no {what} within {seconds} s')
        line, self.buffer = self.buffer.split(b'\n', 1)
        self.log.write(line + b'\n')
        return line.decode(errors='replace').strip()

    def peek(self, pattern):
        """Returns the next complete line that matches and was not received yet, or None. Does not wait."""
        try:
            while select.select([self.socket], [], [], 0)[0]:
                data = self.socket.recv(65536)
                if not data:
                    break
                self.buffer += data
        except OSError:
            pass  # closed: the next read reports it
        lines = self.buffer.split(b'\n')[:-1]
        return next((line.decode(errors='replace').strip() for line in lines
                     if re.match(pattern, line)), None)

    def read_some(self):
        try:
            data = self.socket.recv(65536)
        except OSError:
            data = b''
        if not data:
            self.closed('end of file')
        self.buffer += data

    def closed(self, why):
        # The process at the other end is about to be reaped; its status explains more.
        time.sleep(0.2)
        self.lab.check()
        raise LabError(f'{self.name}: the connection was closed ({why})')


class Qmp:
    """QEMU's monitor."""

    def __init__(self, lab, path, name):
        self.lines = Lines(lab, path, name)
        self.events = []
        if 'QMP' not in self.receive(20, 'greeting'):
            raise LabError('this is no QMP socket')
        self.command('qmp_capabilities')

    def receive(self, seconds, what):
        message = json.loads(self.lines.receive(seconds, what))
        if 'event' in message:
            self.events.append(message)
        return message

    def command(self, name, **arguments):
        self.lines.send(json.dumps({'execute': name, 'arguments': arguments}))
        while True:
            message = self.receive(30, f'answer to {name}')
            if 'error' in message:
                raise LabError(f'QMP {name}: {message["error"]["desc"]}')
            if 'return' in message:
                return message['return']

    def has_migrated(self, status):
        """Whether an event has reported this status of a migration."""
        return (any(event['event'] == 'MIGRATION' and event['data']['status'] == status
                    for event in self.events)
                or self.lines.peek(b'.*"MIGRATION".*"%b"' % status.encode()) is not None)

    def wait_event(self, names, seconds):
        """Waits for the first event that has one of the names, and takes it."""
        while True:
            for event in self.events:
                if event['event'] in names:
                    self.events.remove(event)
                    return event
            self.receive(seconds, ' or '.join(names))


# --- the backend and the guest -------------------------------------------------------------------

class Backend(Process):
    """A vhost-user-blk backend, from a command with {socket} and {file} in it."""

    def __init__(self, lab, command, image, name='backend', env=None):
        self.socket = lab.path(f'{name}.sock')
        words = [w.replace('{socket}', self.socket).replace('{file}', image)
                 for w in shlex.split(command)]
        super().__init__(lab, name, words, env)
        lab.wait_until(lambda: os.path.exists(self.socket), "the backend's socket", 20)

    def crash(self):
        """Kills it, and starts it again on the same socket."""
        self.check()
        self.kill()
        self.popen = self.start()


@dataclasses.dataclass(frozen=True)
class Hardware:
    """The guest's hardware."""
    cpus: int = 2               # each with a queue of the disk
    packed: bool = False        # the rings
    reconnects: bool = False    # QEMU tries to reconnect to the back-end every second
    huge: bool = False          # memory in huge pages of 2 MiB
    iommu: str = ''             # an IOMMU, which the guest flushes at each unmap (strict) or later (lazy)

    @classmethod
    def add_options(cls, parser):
        parser.add_argument('--queues', type=int, default=cls.cpus,
                            help='number of queues of the disk, and of CPUs')
        parser.add_argument('--packed', action='store_true', help='use packed rings')
        parser.add_argument('--iommu', choices=['strict', 'lazy'], default='',
                            help='put the disk behind an IOMMU, which the guest flushes at each unmap, '
                                 'or all at once every few milliseconds')

    @classmethod
    def of(cls, options, reconnects, huge=False):
        return cls(options.queues, options.packed, reconnects, huge, options.iommu)

    def check(self, disk):
        """Checks the features that the guest sees, because QEMU silently drops those not offered."""
        if disk['queues'] != self.cpus:
            raise LabError(f"the guest has {disk['queues']} queues, not {self.cpus}")
        if bool(disk['features'] & VIRTIO_F_RING_PACKED) != self.packed:
            raise LabError('the rings are packed, or are not, against the request: '
                           f"{disk['features']:#x}")
        if bool(disk['features'] & VIRTIO_F_ACCESS_PLATFORM) != bool(self.iommu):
            raise LabError('the disk is behind an IOMMU, or is not, against the request: '
                           f"{disk['features']:#x}")

    def kernel_arguments(self):
        if not self.iommu:
            return ''
        return f" intel_iommu=on iommu.passthrough=0 iommu.strict={int(self.iommu == 'strict')}"

    def iommu_arguments(self):
        if not self.iommu:
            return []
        return ['-device', 'intel-iommu,intremap=on,device-iotlb=on']


def parse_fields(line):
    """'stat a=1 b=0x2 c=x' as a dict, numbers as int."""
    fields = {}
    for word in line.split()[1:]:
        key, equals, value = word.partition('=')
        if equals:
            try:
                fields[key] = int(value, 0)
            except ValueError:
                fields[key] = value
    return fields


class Program:
    """The guest's program of one disk (guest.c): self.lab, self.lines, self.hardware."""

    def wait_answer(self, name, seconds):
        return self.parse_answer(name, self.lines.receive(seconds, f"'{name}'"))

    @staticmethod
    def parse_answer(name, line):
        if line.startswith('fail'):
            raise LabError(f'the guest says: {line}')
        if line.split()[0] != name or ' refused' in line:
            raise LabError(f"the guest answered '{line}' to '{name}'")
        return parse_fields(line)

    def ask(self, command):
        # The guest may answer for a long time after the back-end ended.
        self.lab.check()
        self.lines.send(command)
        return self.wait_answer(command.split()[0], self.lab.limit)

    def wait_for(self, condition, what, seconds=30):
        """Reads the counters until they meet the condition; returns them."""
        end = time.monotonic() + seconds
        while True:
            counters = self.ask('stat')
            if condition(counters):
                return counters
            if time.monotonic() > end:
                raise LabError(f'{what} did not happen within {seconds} s: {counters}')
            time.sleep(0.1)

    def requests_of(self, counters):
        """The requests of each CPU."""
        return [counters[f'cpu{i}'] for i in range(self.hardware.cpus)]

    def busy(self, n, seconds=30):
        """Waits for n more requests on each CPU; returns the counters."""
        now = self.requests_of(self.ask('stat'))
        return self.wait_for(
            lambda c: all(then - before >= n for then, before in zip(self.requests_of(c), now)),
            f'{n} requests on each CPU', seconds)


class Guest(Process, Program):
    """QEMU with the laboratory's guest and one vhost-user disk."""

    MACHINE = 'q35'
    CPU = 'max'
    MEMORY = '512M'
    # On a busy machine the kernel's test of its timer fails, and the kernel runs without it or panics.
    APPEND = 'console=ttyS0 quiet panic=-1 oops=panic no_timer_check'

    def __init__(self, lab, qemu, kernel, initramfs, backend_socket, name='qemu',
                 hardware=Hardware()):
        if shutil.which(qemu) is None:
            raise Skip(f'{qemu} is not installed (package qemu-system-x86)')
        self.lab = lab
        self.reconnect = 'reconnect-ms=1000' if knows_milliseconds(qemu) else 'reconnect=1'
        self.lines = None
        self.hardware = hardware
        self.is_booting = False
        self.console = lab.path(f'{name}.console.log')
        super().__init__(lab, name, [qemu, *self.arguments(name, kernel, initramfs,
                                                           backend_socket)])
        self.lines = Lines(lab, lab.path(f'{name}.commands.sock'), f'{name}.commands')
        self.qmp = Qmp(lab, lab.path(f'{name}.qmp.sock'), f'{name}.qmp')

    def arguments(self, name, kernel, initramfs, backend_socket):
        path = self.lab.path(name)
        reconnect = f',{self.reconnect}' if self.hardware.reconnects else ''
        packed = ',packed=on' if self.hardware.packed else ''
        huge = ',hugetlb=on,hugetlbsize=2M' if self.hardware.huge else ''
        iommu = ',disable-legacy=on,iommu_platform=on,ats=on' if self.hardware.iommu else ''
        return [
            '-machine', f'{self.MACHINE},accel=tcg,memory-backend=mem', '-cpu', self.CPU,
            '-smp', str(self.hardware.cpus), '-m', f'{self.MEMORY},slots=4,maxmem=2G',
            '-object', f'memory-backend-memfd,id=mem,size={self.MEMORY},share=on{huge}',
            '-kernel', kernel, '-initrd', initramfs, '-append',
            self.APPEND + self.hardware.kernel_arguments(),
            '-nodefaults', '-no-reboot', '-display', 'none',
            '-chardev', f'file,id=console,path={self.console},append=on',
            '-serial', 'chardev:console',
            '-chardev', f'socket,id=commands,path={path}.commands.sock,server=on,wait=off',
            '-serial', 'chardev:commands',
            '-qmp', f'unix:{path}.qmp.sock,server=on,wait=off',
            '-chardev', f'socket,id=disk,path={backend_socket}{reconnect}',
            *self.hardware.iommu_arguments(),
            # As in the project's README: a queue for each CPU, and QEMU's default queue size.
            '-device', f'vhost-user-blk-pci,id=disk0,chardev=disk{packed}{iommu}',
        ]

    def check(self):
        """Reports the guest's own error first, because it explains more than a status."""
        line = self.lines.peek(b'fail') if self.lines is not None else None
        if line is not None:
            raise LabError(f'the guest says: {line}')
        super().check()
        if self.is_booting and self.has_stalled():
            raise Stalled('the guest has lost its timer')

    def has_stalled(self):
        with open(self.console, 'rb') as f:
            return b'kthread timer wakeup didn\'t happen' in f.read()

    def reset(self):
        """Resets the guest, with the same QEMU and back-end; call wait_ready next. More resets may
        follow before that: SeaBIOS resets once more if it finds that it has run before."""
        os.truncate(self.console, 0)
        self.qmp.command('set-action', reboot='reset')
        self.qmp.command('system_reset')

    def wait_ready(self):
        """Waits for the guest program; returns its description of the disk. On a busy machine a CPU of
        TCG sometimes loses its timer while the kernel boots, which the kernel reports."""
        self.is_booting = True
        for _ in range(3):
            try:
                disk = self.wait_answer('ready', self.lab.limit)
                break
            except Stalled:
                self.lab.say('the guest has lost its timer and is started again')
                self.reset()
        else:
            raise LabError('the guest lost its timer again and again')
        self.is_booting = False
        self.qmp.command('set-action', reboot='shutdown')
        self.hardware.check(disk)
        return disk

    def plug_memory(self, name, n_bytes):
        self.qmp.command('object-add', **{'qom-type': 'memory-backend-memfd', 'id': f'{name}-mem',
                                          'size': n_bytes, 'share': True})
        self.qmp.command('device_add', driver='pc-dimm', id=name, memdev=f'{name}-mem')

    def unplug_memory(self, name):
        self.qmp.command('device_del', id=name)
        event = self.qmp.wait_event(('DEVICE_DELETED', 'DEVICE_UNPLUG_GUEST_ERROR',
                                     'MEM_UNPLUG_ERROR'), 20)
        if event['event'] != 'DEVICE_DELETED':
            raise LabError(f'the memory was not unplugged: {event}')
        self.qmp.command('object-del', id=f'{name}-mem')

    def power_off(self):
        self.is_expected_to_end = True
        self.lines.send('poweroff')
        status = self.wait(20)
        if status != 0:
            raise LabError(f'qemu ended {describe_status(status)}')


def run_test(function, expected_error=None):
    """Runs a test's main function: prints one verdict and returns the exit status.

    With an expected error (the beginning of its text), only that error is a success.
    """
    try:
        function()
    except Skip as e:
        print(f'skipped: {e}', file=sys.stderr)
        return 77
    except LabError as e:
        if expected_error is not None and str(e).startswith(expected_error):
            print(f'found, as it must be: {e}')
            return 0
        print(f'FAILED: {e}')
        return 1
    if expected_error is not None:
        print(f"FAILED: nobody noticed; expected '{expected_error}'")
        return 1
    return 0
