/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Postcopy: guest memory that has yet to arrive. A thread that touches a missing page of a
 * registered range sleeps in the kernel. The front-end reads the fault from the userfaultfd that
 * we sent it, provides the page and wakes the thread.
 *
 * All functions here run on the control worker, which itself never touches such memory.
 */
#pragma once

#include "base/list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum gw_postcopy_state {
    GW_POSTCOPY_OFF = 0,
    GW_POSTCOPY_ADVISED,   /* the userfaultfd exists; no memory is missing yet */
    GW_POSTCOPY_LISTENING, /* memory may be missing */
};

/* The postcopy state of one session. */
struct gw_postcopy {
    enum gw_postcopy_state state;
    int uffd;
    struct gw_list ranges; /* the registered ranges */
    bool is_abandoned;     /* no more pages will arrive */
};

/* Mapped memory; its owner keeps it in place while it is registered. */
struct gw_postcopy_range {
    uintptr_t base;
    size_t length;
    struct gw_postcopy *owner; /* NULL: not registered */
    struct gw_list link;       /* owner.ranges */
};

/*
 * Is postcopy available? This depends on the kernel, its settings and our privileges.
 * Returns: 0; -EOPNOTSUPP, -EPERM or another errno; gw_last_error names what is missing.
 */
int gw_postcopy_probe(void);

void gw_postcopy_init(struct gw_postcopy *p);

/*
 * POSTCOPY_ADVISE: open a userfaultfd. A second call before LISTEN replaces it.
 * Returns: 0, with a duplicate for the front-end in `ret_fd`, which the caller closes; -EBUSY while
 * listening; as gw_postcopy_probe; -EMFILE.
 */
int gw_postcopy_advise(struct gw_postcopy *p, int *ret_fd);

/* POSTCOPY_LISTEN. Returns: 0; -EINVAL if not advised or already listening. */
int gw_postcopy_listen(struct gw_postcopy *p);

static inline bool gw_postcopy_is_listening(const struct gw_postcopy *p)
{
    return p->state == GW_POSTCOPY_LISTENING;
}

/*
 * Register a range: from now on, accesses to its missing pages fault to the front-end. Call it
 * while listening, before any thread touches the range. Error messages name it as `what`; the
 * caller sets `base` and `length`, and zeroes the rest of `range`.
 * Returns: 0; -EINVAL for memory that is not shared (memfd, tmpfs, hugetlbfs); -ENOTCONN if the
 * front-end has disconnected; the errno of UFFDIO_REGISTER.
 */
int gw_postcopy_register(struct gw_postcopy *p, struct gw_postcopy_range *range, const char *what);

/* Call it before the range is unmapped. No effect if it is not registered. */
void gw_postcopy_unregister(struct gw_postcopy_range *range);

/*
 * The front-end has disconnected: wakes all threads that wait for a page. Missing pages read as
 * zeroes from now on. No effect unless listening.
 */
void gw_postcopy_abandon(struct gw_postcopy *p);

/* Can pages be missing, and does the front-end still send them? */
bool gw_postcopy_has_missing(const struct gw_postcopy *p);

/*
 * POSTCOPY_END: wakes all threads that wait for a page; missing pages read as zeroes from now on.
 * Does not wait. Returns: 0; -EINVAL before POSTCOPY_ADVISE.
 */
int gw_postcopy_end(struct gw_postcopy *p);

/* End of the session. Allowed right after gw_postcopy_init. */
void gw_postcopy_done(struct gw_postcopy *p);
