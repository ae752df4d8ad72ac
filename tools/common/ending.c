/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Wakes retry loops that sleep (backend_pause) when the program is asked to end. */
#include "backend.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>

static int ending_fd = -1; /* readable once the program has been asked to end */

int backend_ending_init(void)
{
    ending_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return ending_fd < 0 ? -errno : 0;
}

void backend_ending_begin(void)
{
    (void)eventfd_write(ending_fd, 1);
}

bool backend_pause(unsigned ms)
{
    struct pollfd p = {.fd = ending_fd, .events = POLLIN};

    return poll(&p, 1, (int)ms) <= 0;
}
