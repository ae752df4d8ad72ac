/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The functions of systemd.c for a build without libsystemd: nothing is handed over or told. */
#include "backend.h"

#include <errno.h>

int backend_systemd_listen_fd(void)
{
    return -ENOENT;
}

void backend_systemd_notify(const char *state)
{
}
