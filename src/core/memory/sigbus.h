/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Surviving a page that is gone. A file that is mapped may be truncated by whoever shares it, and
 * the huge pages or the file system behind it may run out; whoever touches such a page gets
 * SIGBUS. In ranges registered here it becomes a page of zeroes of our own, the loss is remembered,
 * and an eventfd is written.
 *
 * The signal's handler belongs to the process. It comes with the first range and stays; faults
 * anywhere else go to the handler, or the default action, that was there before.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whom a loss concerns. */
struct gw_loss {
    int wake_fd;   /* an eventfd; non-blocking */
    bool happened; /* atomic; set before the eventfd is written */
};

/* Mapped memory; its owner keeps it in place while it is registered. */
struct gw_sigbus_range {
    uintptr_t base;
    size_t length;
    size_t granule;       /* what a replaced piece must be a multiple of */
    struct gw_loss *loss; /* atomic; NULL: nobody cares any more */
    uintptr_t lost_at;    /* atomic: the first lost address, 0: nothing is lost */
    unsigned n_pieces;    /* atomic: lost one by one */
    bool is_registered;
    struct gw_sigbus_range *next; /* atomic */
};

/* `base`, `length` and `granule` are set, the rest is zero. */
void gw_sigbus_register(struct gw_sigbus_range *range, struct gw_loss *loss);

/* Before it is unmapped; no handler is busy with it any more. Nothing if it is not registered. */
void gw_sigbus_unregister(struct gw_sigbus_range *range);

/* `loss` goes away: ranges that are still registered are covered as before, and nobody is told. */
void gw_sigbus_forget(const struct gw_loss *loss);

/* On a thread that touches ranges: who blocks SIGBUS is killed by it, whatever handler there is. */
void gw_sigbus_unblock(void);
