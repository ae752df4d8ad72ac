/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The destination's end of the link once the guest is there: a thread of its own reads and writes
 * it, and takes a new connection when the old one is lost, while the thread of the migration starts
 * devices, waits for the load, or for a page.
 */
#pragma once

#include "migrate/migrate_remote.h"

struct migration_receiver;

/*
 * Take the link over; nobody else uses it until migration_receiver_free, which hangs up.
 * Returns: 0; told already.
 */
int migration_receiver_new(struct migration *m, struct migration_receiver **ret);
void migration_receiver_free(struct migration_receiver *v);

/* Say it, now and after each time the connection was made again. The verdict is m's as it is now.
 */
void migration_receiver_say(struct migration_receiver *v, enum link_type type);
/*
 * Has the source said it, LINK_GO or LINK_VERDICT? Returns: 1; 0 after waiting for it a little;
 * -ENOLINK it will not, and the link is over.
 */
int migration_receiver_check(struct migration_receiver *v, enum link_type type);
/* Is it not over, or all has been said? */
bool migration_receiver_is_well(struct migration_receiver *v);
/* To be written when there is something for migration_fetch_put_requests. */
int migration_receiver_wake_fd(const struct migration_receiver *v);
/* Pages of m->remote->fetch are taken from now on; or no more, and nobody uses it any more. */
void migration_receiver_take_pages(struct migration_receiver *v);
void migration_receiver_drop_pages(struct migration_receiver *v);
