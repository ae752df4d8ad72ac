/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Selects the event loop of a worker. */
#include "loop.h"

#include <errno.h>
#include <string.h>

int gw_loop_new(struct gw_loop **ret, enum gw_loop_kind kind, struct gw_log *log, bool is_external)
{
    int r = 0;

    if (kind != GW_LOOP_EPOLL) {
        r = gw_loop_uring_new(ret, log, is_external);
        if (r == 0) {
            gw_log(log, GW_LOG_DEBUG, "the event loop is io_uring");
            return 0;
        }
        if (kind == GW_LOOP_URING)
            return gw_fail(r, "io_uring is unavailable: %s", strerror(-r));
        if (r == -ENOMEM)
            gw_log(log, GW_LOG_WARNING,
                   "no memory for io_uring, the event loop is epoll; raise the limit of locked "
                   "memory (ulimit -l) or the memory limit of the control group");
        else
            gw_log(log, GW_LOG_INFO, "no io_uring (%s), the event loop is epoll", strerror(-r));
    }
    r = gw_loop_epoll_new(ret, log);
    return r < 0 ? gw_fail(r, "cannot create an event loop: %s", strerror(-r)) : 0;
}
