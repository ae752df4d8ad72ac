/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The tool's end of what is in control.h: requests to the agent of one domain. */
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
    unsigned timeout_ms; /* of a request */

    pthread_mutex_t asking;  /* of a request, or of several that belong together; recursive */
    pthread_mutex_t waiting; /* of what follows */
    pthread_cond_t looked;
    bool is_looking; /* somebody waits for events */
    char error[320]; /* why the last call failed */
};

/*
 * Find the agent of a domain, for which `timeout_ms` is given, and have it forget what another tool
 * left. Free with xen_link_close, also after a failure. All functions return 0 or a negative errno
 * with a sentence in `error`: -ENODEV this is no privileged domain of Xen; -ESRCH no such domain;
 * -ETIMEDOUT no agent there, or no answer; -EHOSTDOWN the domain is gone; -EPROTO the agent does
 * not do as agreed; what the agent itself answers.
 */
int xen_link_open(struct xen_link *l, uint32_t domid, unsigned timeout_ms);
void xen_link_close(struct xen_link *l);
int xen_link_fail(struct xen_link *l, int r, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Ask with up to four arguments; `ret` may be NULL. `what` is for people. Context: any thread, as
 * xen_link_get and xen_link_put, while no other has something in bulk.
 */
int xen_link_ask(struct xen_link *l, enum xen_op op, const char *what, const uint64_t arg[4],
                 uint64_t *ret);

/* Bytes of any number, through bulk: what was saved comes (free it), or goes to be restored. */
int xen_link_get(struct xen_link *l, uint64_t which, void **ret, size_t *ret_len);
int xen_link_put(struct xen_link *l, uint64_t which, const void *state, size_t len);

/* Wait until the run that was begun has ended. Returns: its result, clamped to an errno. */
int xen_link_wait(struct xen_link *l);
/* Have it end soon. Context: any thread. */
void xen_link_interrupt(struct xen_link *l);
