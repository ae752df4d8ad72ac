/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Stub for builds without libsystemd: no socket is passed, and notifications are dropped. */
#include "backend.h"

#include <errno.h>

int backend_systemd_listen_fd(void)
{
    return -ENOENT;
}

void backend_systemd_notify(const char *state)
{
}
