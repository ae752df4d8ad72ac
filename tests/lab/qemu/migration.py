# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A guest that can migrate, and one migration of it by QMP."""

import time

from lab import Guest, LabError

MACHINE = 'pc-q35-7.2'  # the newest that QEMU 7.2 and 10 have in common
WINDOW = '16M'
CAPABILITIES = ('events', 'return-path')
# One for the first round, which copies all memory; then one at which a busy guest writes more than is sent,
# so that the migration never converges. (With a downtime of 0, QEMU 7.2 ends after the first round without
# synchronizing the dirty log again.)
FIRST_BANDWIDTH = 100 << 20
BUSY_BANDWIDTH = 24 << 20
BUSY_DOWNTIME = 1
STOP_BANDWIDTH = 2 << 20  # rounds are long with this
FINAL_BANDWIDTH = 4 << 30
FINAL_DOWNTIME = 2000


class MigratingGuest(Guest):
    MACHINE = MACHINE
    CPU = 'qemu64'      # the same in all versions, unlike 'max'
    MEMORY_MIB = 256
    MEMORY = f'{MEMORY_MIB}M'
    # QEMU before 10 loses writes of a guest's CPUs, because it does not reset its software TLB after it
    # has read the dirty bitmap. With pti=on every system call flushes the TLB, so the gap is microseconds
    # long if no CPU is idle (the guest's "spin"). The gap only matters if the guest is stopped right after
    # such a reading, as QEMU does; see is_stopped_first.
    APPEND = Guest.APPEND + ' pti=on'

    def __init__(self, lab, qemu, kernel, initramfs, backend, name, hardware, is_incoming=False,
                 is_held=False):
        self.is_incoming = is_incoming
        self.is_held = is_held
        self.backend = backend
        self.qmp = None
        super().__init__(lab, qemu, kernel, initramfs, backend.socket, name, hardware)

    def arguments(self, name, kernel, initramfs, backend_socket):
        arguments = super().arguments(name, kernel, initramfs, backend_socket)
        arguments += ['-object', f'memory-backend-memfd,id=window,size={WINDOW},share=on',
                      '-device', 'ivshmem-plain,id=window0,memdev=window,master=on']
        if self.is_incoming:
            arguments += ['-incoming', 'defer']
        if self.is_held:
            arguments += ['-S']
        return arguments

    def check(self):
        """If postcopy is interrupted, threads that wait for missing pages hang."""
        super().check()
        if self.qmp is not None and self.qmp.has_migrated('postcopy-paused'):
            raise LabError(f'postcopy was interrupted, says {self.name}')

    def set_capabilities(self, names):
        self.qmp.command('migrate-set-capabilities',
                         capabilities=[{'capability': name, 'state': True} for name in names])

    def set_limits(self, bandwidth, downtime_ms):
        self.qmp.command('migrate-set-parameters',
                         **{'max-bandwidth': bandwidth, 'downtime-limit': downtime_ms})

    def wait_status(self, status, seconds):
        self.lab.wait_until(lambda: self.qmp.command('query-status')['status'] == status,
                            f"{self.name}'s status {status}", seconds)

    def quit(self):
        self.is_expected_to_end = True
        self.qmp.command('quit')
        self.wait(20)


def migration_state(guest):
    state = guest.qmp.command('query-migrate')
    if state.get('status') in ('failed', 'cancelled'):
        raise LabError(f"the migration {state['status']}: {state.get('error-desc', 'no reason')}")
    return state


def wait_migration(source, condition, what, seconds=60):
    """Reads the state of the migration until it meets the condition; returns it."""
    end = time.monotonic() + seconds
    while True:
        state = migration_state(source)
        if condition(state):
            return state
        if time.monotonic() > end:
            raise LabError(f'{what} did not happen within {seconds} s: {state}')
        source.lab.check()
        time.sleep(0.03)


def incoming_socket(destination):
    return f'{destination.lab.path(destination.name)}.migration.sock'


def connect(source, destination, capabilities=(), wire=None):
    """Starts a migration, to the socket of a wire if it is given, and waits until it is active."""
    path = incoming_socket(destination)
    for guest in (destination, source):
        guest.set_capabilities((*CAPABILITIES, *capabilities))
    destination.qmp.command('migrate-incoming', uri=f'unix:{path}')
    source.qmp.command('migrate', uri=f'unix:{wire or path}')
    wait_migration(source, lambda state: state.get('status') == 'active', 'the migration')


def begin(source, destination):
    """Starts a migration and waits for its first round; it cannot end before finish."""
    source.set_limits(FIRST_BANDWIDTH, BUSY_DOWNTIME)
    connect(source, destination)
    wait_rounds(source, 2)
    source.set_limits(BUSY_BANDWIDTH, BUSY_DOWNTIME)


def wait_rounds(source, n):
    """Waits until the dirty log was synchronized n times."""
    state = wait_migration(
        source, lambda state: state['status'] != 'active' or state['ram']['dirty-sync-count'] >= n,
        f'{n} rounds of the migration')
    if state['status'] != 'active':
        raise LabError(f'the migration was over before it should: {state}')


def finish(source, destination, is_stopped_first=False):
    """Lets the migration end; returns QEMU's description of it.

    If is_stopped_first, the guest is stopped in the middle of a round, instead of right after one by
    QEMU, which loses a page now and then in versions before 10.
    """
    if is_stopped_first:
        source.set_limits(STOP_BANDWIDTH, BUSY_DOWNTIME)
        time.sleep(0.15)
        source.qmp.command('stop')
    source.set_limits(FINAL_BANDWIDTH, FINAL_DOWNTIME)
    # The times appear a moment after the status.
    state = wait_migration(
        source, lambda state: state.get('status') == 'completed' and 'downtime' in state,
        'the end of the migration')
    if destination.is_held or is_stopped_first:
        # The status is 'paused', after a moment of 'inmigrate'.
        destination.wait_status('paused', 20)
    else:
        destination.wait_status('running', 20)
    return state
