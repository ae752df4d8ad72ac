# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""An unattended machine in QEMU, which runs from its initramfs. Its last line on the console is its
verdict, "LAB: exit N"; then it powers off. A crash reboots it, which ends QEMU because of -no-reboot.
"""

import re
import subprocess
import time

from lab import LabError, die_with_parent

HARDWARE = ['-display', 'none', '-monitor', 'none', '-serial', 'stdio', '-no-reboot', '-nodefaults',
            '-net', 'none']

# Messages of a kernel in serious trouble.
ALARMS = 'BUG:|WARNING: CPU|Oops|general protection|Bad page|Bad rss'


def run(command, alarms=ALARMS):
    """Boots, prints the console with the time since the start; returns the verdict."""
    begin = time.monotonic()
    verdict = None
    found = []
    with subprocess.Popen([*command, *HARDWARE], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, preexec_fn=die_with_parent) as qemu:
        try:
            for raw in qemu.stdout:
                line = raw.decode(errors='replace').replace('\r', '').rstrip()
                print(f'{time.monotonic() - begin:6.1f}  {line}', flush=True)
                if re.search(alarms, line):
                    found.append(line)
                if line.startswith('LAB: exit '):
                    verdict = int(line.removeprefix('LAB: exit '))
        finally:
            qemu.kill()
    if verdict is None:
        raise LabError('the machine went down without a verdict')
    if found:
        raise LabError(f'the kernel complains: {found[0]}')
    return verdict
