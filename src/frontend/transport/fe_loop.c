/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What a front-end waits for. */
#include "fe_op.h"

#include <poll.h>

void gw_frontend_sleep(struct gw_frontend *fe)
{
    bool sends = fe->phase != GW_FRONTEND_RECEIVING;
    uint64_t until = fe->phase == GW_FRONTEND_PREPARING ? fe->retry_at : fe->deadline;
    struct pollfd p = {.fd = fe->fd, .events = sends ? POLLOUT : POLLIN};

    (void)poll(&p, 1, gw_frontend_time_left(until));
}
