/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The destination's end of the link after the switch. A thread of its own reads and writes it, and
 * accepts a new connection when the old one is lost, so that the thread of the migration may start
 * devices, or wait for the load or a page.
 */
#pragma once

#include "migrate/migrate_remote.h"

struct migration_receiver;

/*
 * Take over the link until migration_receiver_free, which closes it. Returns: 0; a negative errno,
 * already reported.
 */
int migration_receiver_new(struct migration *m, struct migration_receiver **ret);
void migration_receiver_free(struct migration_receiver *v);

/* Send a frame now and after each reconnection. LINK_VERDICT has m's present verdict. */
void migration_receiver_say(struct migration_receiver *v, enum link_type type);
/*
 * Has LINK_GO or LINK_VERDICT arrived from the source? Returns: 1; 0 after a short wait; -ENOLINK
 * the link has ended without it.
 */
int migration_receiver_check(struct migration_receiver *v, enum link_type type);
/* Is the link still open, or was everything exchanged? */
bool migration_receiver_is_well(struct migration_receiver *v);
/* Write to it to have migration_fetch_put_requests called. */
int migration_receiver_wake_fd(const struct migration_receiver *v);
/* Start to take pages for m->remote->fetch; stop, and return when the thread does not use it. */
void migration_receiver_take_pages(struct migration_receiver *v);
void migration_receiver_drop_pages(struct migration_receiver *v);
