/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Protection against lost pages. A process that shares a mapped file may truncate it, and the huge
 * pages or the file system behind it may run out. An access to such a page raises SIGBUS. In ranges
 * registered here, the handler replaces the page by a private page of zeroes, records the loss, and
 * signals an eventfd.
 *
 * The process has one SIGBUS handler. It stays installed; any other SIGBUS is passed to the
 * previously installed handler or its default action.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The receiver of a loss. */
struct gw_loss {
    int wake_fd;   /* an eventfd; non-blocking */
    bool happened; /* atomic; set before the eventfd is written */
};

/* Mapped memory; its owner keeps it in place while it is registered. */
struct gw_sigbus_range {
    uintptr_t base;
    size_t length;
    size_t granule;       /* alignment and size of a replaced piece */
    struct gw_loss *loss; /* atomic; NULL: losses are no longer reported */
    uintptr_t lost_at;    /* atomic: the first lost address, 0: nothing is lost */
    unsigned n_pieces;    /* atomic: pieces replaced one by one */
    bool is_registered;
    struct gw_sigbus_range *next; /* atomic */
};

/* Install the handler of the process. No effect from the second call on. */
void gw_sigbus_install(void);

/* The handler must be installed. The caller sets `base`, `length` and `granule`, and zeroes the
 * rest. */
void gw_sigbus_register(struct gw_sigbus_range *range, struct gw_loss *loss);

/* Call it before unmapping: on return no handler uses the range. No effect if not registered. */
void gw_sigbus_unregister(struct gw_sigbus_range *range);

/* `loss` becomes invalid: its ranges stay protected, but losses are no longer reported. */
void gw_sigbus_forget(const struct gw_loss *loss);

/* For threads that access ranges: a thread that blocks SIGBUS is killed regardless of the handler.
 */
void gw_sigbus_unblock(void);
