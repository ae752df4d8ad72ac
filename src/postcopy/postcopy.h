/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Postcopy: guest memory that is still to arrive. Whoever touches a missing page of a registered
 * range sleeps in the kernel until the front-end, which reads the faults from the userfaultfd it
 * was given, has put the page there and woken him.
 *
 * Everything here runs on the control thread, which itself never touches such memory. While it
 * listens, a thread of its own watches for a front-end that goes away: the control thread may wait
 * for the end of requests then (GET_VRING_BASE), and those for pages that nobody will send any
 * more.
 */
#pragma once

#include "base/list.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum gw_postcopy_state {
    GW_POSTCOPY_OFF = 0,
    GW_POSTCOPY_ADVISED,   /* there is a userfaultfd; memory is as ever */
    GW_POSTCOPY_LISTENING, /* memory may be missing */
};

/* One session's. */
struct gw_postcopy {
    enum gw_postcopy_state state;
    int uffd;
    pthread_mutex_t lock;
    struct gw_list ranges; /* [lock] registered ones */
    bool is_abandoned;     /* [lock] nobody sends pages any more */
    pthread_t watcher;     /* while listening */
    int watch_fd;          /* an epoll of what it waits for */
    int quit_fd;           /* an eventfd that ends it */
    const bool *stopping;  /* atomic */
};

/* Mapped memory; its owner keeps it in place while it is registered. */
struct gw_postcopy_range {
    uintptr_t base;
    size_t length;
    struct gw_postcopy *owner; /* NULL: it is not registered */
    struct gw_list link;       /* [lock] owner.ranges */
};

/* Who may go away. */
struct gw_postcopy_peer {
    int socket_fd;        /* of the front-end */
    int control_fd;       /* an eventfd that is written to when `stopping` is set */
    const bool *stopping; /* atomic: the daemon ends */
};

/*
 * Does it work here? The kernel, its settings and our privileges decide.
 * Returns: 0; -EOPNOTSUPP, -EPERM or another errno, and gw_last_error says what is missing.
 */
int gw_postcopy_probe(void);

void gw_postcopy_init(struct gw_postcopy *p);

/*
 * POSTCOPY_ADVISE: make a userfaultfd. Once more before LISTEN, it is another one.
 * Returns: 0, and a duplicate for the front-end, which the caller closes; -EBUSY while listening;
 * as gw_postcopy_probe; -EMFILE.
 */
int gw_postcopy_advise(struct gw_postcopy *p, int *ret_fd);

/* POSTCOPY_LISTEN. Returns: 0; -EINVAL when not advised, or listening; what epoll(7) returns. */
int gw_postcopy_listen(struct gw_postcopy *p, const struct gw_postcopy_peer *peer);

static inline bool gw_postcopy_is_listening(const struct gw_postcopy *p)
{
    return p->state == GW_POSTCOPY_LISTENING;
}

/*
 * While listening, before anybody touches it: its missing pages are faults from now on. `what` is
 * what messages call it; `base` and `length` are set, the rest of `range` is zero.
 * Returns: 0; -EINVAL for memory that is not shared (memfd, tmpfs, hugetlbfs); -ENOTCONN when the
 * front-end has gone; the errno of UFFDIO_REGISTER.
 */
int gw_postcopy_register(struct gw_postcopy *p, struct gw_postcopy_range *range, const char *what);

/* Before it is unmapped. Nothing if it is not registered. */
void gw_postcopy_unregister(struct gw_postcopy_range *range);

/* Pages may be missing, and there is still somebody who sends them. */
bool gw_postcopy_has_missing(struct gw_postcopy *p);

/*
 * POSTCOPY_END: whoever still waits comes back, and pages that are missing are zeroes. At once, as
 * it waits for nobody. Returns: 0; -EINVAL when there is nothing to end.
 */
int gw_postcopy_end(struct gw_postcopy *p);

/* The session is over. Fine on what was only initialized. */
void gw_postcopy_done(struct gw_postcopy *p);
