/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* In place of bench_xen.c where the command is built without Xen (-Dmemory=mmap). */
#include "bench.h"

#include <errno.h>

int bench_xen_memory(struct bench *b, uint64_t length)
{
    snprintf(b->error, sizeof(b->error), "this godwit was built without Xen; godwit-xen has it");
    return -EOPNOTSUPP;
}

int bench_xen_driver(struct bench *b, const struct gw_driver_config *cfg, struct gw_driver *own)
{
    return -EOPNOTSUPP;
}

int bench_xen(struct bench *b, struct bench_run *run)
{
    return -EOPNOTSUPP;
}

void bench_xen_free(struct bench *b)
{
}
