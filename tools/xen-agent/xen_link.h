/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Sends requests to the agent of one domain (see control.h). */
#pragma once

#include "control.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct xengntdev_handle;
struct xenevtchn_handle;
struct xs_handle;

struct xen_link {
    uint32_t domid;
    struct xengntdev_handle *grants;
    struct xenevtchn_handle *events;
    struct xs_handle *store;
    struct xen_control *control;
    void *bulk;
    int port;
    unsigned timeout_ms; /* timeout of a request */

    pthread_mutex_t asking;  /* held for a request, or several that belong together; recursive */
    pthread_mutex_t waiting; /* protects the following fields */
    pthread_cond_t looked;
    bool is_looking; /* a thread waits for events */
    char error[320]; /* why the last call failed */
};

/*
 * Find the agent of a domain within `timeout_ms`, and discard the state of a previous tool. Free
 * with xen_link_close, also after a failure. All functions return 0 or a negative errno with a
 * sentence in `error`: -ENODEV not the privileged domain of a Xen host; -ESRCH no such domain;
 * -ETIMEDOUT no agent, or no answer; -EHOSTDOWN the domain has ended; -EPROTO the agent violates
 * the protocol; or the error that the agent returns.
 */
int xen_link_open(struct xen_link *l, uint32_t domid, unsigned timeout_ms);
void xen_link_close(struct xen_link *l);
int xen_link_fail(struct xen_link *l, int r, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Send a request with up to four arguments; `ret` may be NULL. `what` names it in errors. Context:
 * any thread, as xen_link_get and xen_link_put, while no other thread uses the bulk pages.
 */
int xen_link_ask(struct xen_link *l, enum xen_op op, const char *what, const uint64_t arg[4],
                 uint64_t *ret);

/*
 * Transfer a state of any length through the bulk pages: fetch a saved one (the caller frees it),
 * or send one to be restored.
 */
int xen_link_get(struct xen_link *l, uint64_t which, void **ret, size_t *ret_len);
int xen_link_put(struct xen_link *l, uint64_t which, const void *state, size_t len);

/* Wait until the run has ended. Returns: its result, clamped to an errno. */
int xen_link_wait(struct xen_link *l);
/* Interrupt the run. Context: any thread. */
void xen_link_interrupt(struct xen_link *l);
