/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The queue counters as a table, for SIGUSR1. It works while a worker is stuck: "in flight" and
 * "oldest" show what hangs.
 */
#include "backend.h"

#include <inttypes.h>
#include <stdio.h>

void backend_report_heading(FILE *out, int width)
{
    if (width > 0)
        fprintf(out, "%-*s ", width, "disk");
    fprintf(out, "%5s %12s %12s %14s %14s %10s %10s %10s %7s %9s %10s\n", "queue", "requests",
            "completed", "bytes out", "bytes in", "kicks", "calls", "suppressed", "errors",
            "in flight", "oldest ms");
}

static void print_queue(FILE *out, unsigned index, const struct gw_queue_stats *s)
{
    fprintf(out,
            "%5u %12" PRIu64 " %12" PRIu64 " %14" PRIu64 " %14" PRIu64 " %10" PRIu64 " %10" PRIu64
            " %10" PRIu64 " %7" PRIu64 " %9" PRIu64 " %10.1f\n",
            index, s->requests, s->completed, s->bytes_readable, s->bytes_written, s->kicks,
            s->calls, s->calls_suppressed, s->errors, s->in_flight, (double)s->oldest_ns / 1e6);
}

void backend_report_queues(FILE *out, int width, const char *device, struct gw_daemon *d,
                           unsigned num_queues)
{
    struct gw_queue_stats stats;

    for (unsigned i = 0; i < num_queues; i++) {
        gw_queue_stats(gw_daemon_queue(d, i), &stats);
        if (width > 0)
            fprintf(out, "%-*s ", width, device);
        print_queue(out, i, &stats);
    }
}
