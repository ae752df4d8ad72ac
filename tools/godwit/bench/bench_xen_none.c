/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Replaces bench_xen.c in builds without Xen (-Dmemory=mmap). */
#include "bench.h"

#include <errno.h>

int bench_xen_memory(struct bench *b, struct bench_session *s, uint64_t length)
{
    snprintf(b->error, sizeof(b->error), "this godwit is built without Xen; use godwit-xen");
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
