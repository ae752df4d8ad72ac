/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Stub of migrate_xen.c for builds without Xen (-Dmemory=mmap). */
#include "migrate_xen.h"

#include <errno.h>

int migration_xen_memory(struct migration *m)
{
    return migration_cannot(m, MIGRATION_SIDE_TOOL, -EOPNOTSUPP,
                            "this godwit was built without Xen; godwit-xen has it");
}

int migration_xen_alloc(struct migration *m, uint64_t len, uint64_t align, gw_gpa_t *ret)
{
    return -EOPNOTSUPP;
}

int migration_xen_driver(struct migration *m, const struct gw_driver_config *cfg,
                         struct gw_driver *own)
{
    return -EOPNOTSUPP;
}

void migration_xen_take_written(struct migration *m)
{
}

void migration_xen_free(struct migration *m)
{
}

void migration_xen_put_back(struct migration *m)
{
}

static int none_new(struct migration_unit *u, void **ret)
{
    return -EOPNOTSUPP;
}

/* Never created, because migration_xen_memory fails first. */
const struct migration_work migration_work_xen = {.new = none_new};
