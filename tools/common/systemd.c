/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * systemd through libsystemd: the socket of a .socket unit, and READY and STOPPING for services of
 * Type=notify. Both do nothing if systemd did not start the program.
 */
#include "backend.h"

#include <errno.h>
#include <systemd/sd-daemon.h>

int backend_systemd_listen_fd(void)
{
    int n = sd_listen_fds(1);

    if (n < 0)
        return n;
    if (n == 0)
        return -ENOENT;
    return n == 1 ? SD_LISTEN_FDS_START : -E2BIG;
}

void backend_systemd_notify(const char *state)
{
    sd_notify(0, state); /* without a notify socket this does nothing */
}
