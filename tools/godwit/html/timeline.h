/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The timeline of a migration, read back from its JSON report for the charts. Untrusted: values of
 * another type are 0, times are limited to the duration, and lists to the lengths that godwit
 * writes.
 */
#pragma once

#include "migrate/migrate.h"

#include <json-c/json.h>

struct timeline {
    /* Only the duration, hops, rounds, samples, events and page faults. */
    struct migration_result result;
};

/* Free with timeline_free. Returns: 0, also without any timeline; -ENOMEM. */
int timeline_new(struct timeline **ret, struct json_object *document);
void timeline_free(struct timeline *t);
