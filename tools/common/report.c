/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The queue counters as a table on stderr, printed on SIGUSR1. It works while a worker is stuck:
 * "in flight" and "oldest" show what hangs.
 */
#include "backend.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void print_queue(FILE *out, unsigned index, const struct gw_queue_stats *s)
{
    fprintf(out,
            "%5u %12" PRIu64 " %12" PRIu64 " %14" PRIu64 " %14" PRIu64 " %10" PRIu64 " %10" PRIu64
            " %10" PRIu64 " %7" PRIu64 " %9" PRIu64 " %10.1f\n",
            index, s->requests, s->completed, s->bytes_readable, s->bytes_written, s->kicks,
            s->calls, s->calls_suppressed, s->errors, s->in_flight, (double)s->oldest_ns / 1e6);
}

void backend_report(const struct backend *b, void *dev, struct gw_daemon *d, unsigned num_queues)
{
    struct gw_queue_stats s;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size); /* one write: a message cannot split the table */

    if (out == NULL)
        return;
    fprintf(out, "%5s %12s %12s %14s %14s %10s %10s %10s %7s %9s %10s\n", "queue", "requests",
            "completed", "bytes out", "bytes in", "kicks", "calls", "suppressed", "errors",
            "in flight", "oldest ms");
    for (unsigned i = 0; i < num_queues; i++) {
        gw_queue_stats(gw_daemon_queue(d, i), &s);
        print_queue(out, i, &s);
    }
    if (b->report != NULL)
        b->report(dev, out);
    if (fclose(out) == 0)
        fputs(text, stderr);
    free(text);
}
