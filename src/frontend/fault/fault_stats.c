/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Statistics of the fault server. The counters are read while other threads increment them: each
 * value is correct for some moment, but they are consistent only while the server is idle.
 */
#include "fault_i.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

void gw_fault_counts_add(struct gw_fault_counts *to, const struct gw_fault_counts *from)
{
    to->faults += gw_fault_counted(&from->faults);
    to->already += gw_fault_counted(&from->already);
    to->copied += gw_fault_counted(&from->copied);
    to->zeroed += gw_fault_counted(&from->zeroed);
    to->continued += gw_fault_counted(&from->continued);
    to->asked += gw_fault_counted(&from->asked);
    to->wakes += gw_fault_counted(&from->wakes);
    to->bytes_requested += gw_fault_counted(&from->bytes_requested);
    to->bytes_streamed += gw_fault_counted(&from->bytes_streamed);
    to->repeated += gw_fault_counted(&from->repeated);
    to->early += gw_fault_counted(&from->early);
}

static struct gw_fault_latency latency_of(const struct gw_histogram *h)
{
    return (struct gw_fault_latency){
        .count = h->count,
        .p50 = gw_histogram_at(h, 500000),
        .p90 = gw_histogram_at(h, 900000),
        .p99 = gw_histogram_at(h, 990000),
        .p999 = gw_histogram_at(h, 999000),
        .max = h->max,
    };
}

static void tell(struct gw_fault_stats *ret, const struct gw_fault_counts *counts,
                 const struct gw_histogram *latency)
{
    ret->faults = counts->faults;
    ret->already = counts->already;
    ret->copied = counts->copied;
    ret->zeroed = counts->zeroed;
    ret->continued = counts->continued;
    ret->asked = counts->asked;
    ret->wakes = counts->wakes;
    ret->bytes_requested = counts->bytes_requested;
    ret->bytes_streamed = counts->bytes_streamed;
    ret->repeated = counts->repeated;
    ret->early = counts->early;
    ret->latency = latency_of(latency);
}

void gw_fault_server_stats(struct gw_fault_server *s, struct gw_fault_stats *ret)
{
    struct gw_histogram latency;
    struct gw_fault_counts counts;

    *ret = (struct gw_fault_stats){0};
    pthread_rwlock_rdlock(&s->lock);
    counts = s->gone;
    latency = s->gone_latency;
    for (unsigned i = 0; i < s->n_regions; i++) {
        const struct gw_fault_region *g = s->regions[i];

        gw_fault_counts_add(&counts, &g->counts);
        /* With many regions, most have had no faults. */
        if (gw_fault_counted(&g->counts.faults))
            gw_histogram_merge(&latency, &g->latency);
        ret->pages += g->n_pages;
        ret->received += gw_fault_counted(&g->n_received);
    }
    pthread_rwlock_unlock(&s->lock);
    tell(ret, &counts, &latency);
    ret->stray = gw_fault_counted(&s->n_stray);
}

int gw_fault_server_region_stats(struct gw_fault_server *s, gw_gpa_t gpa,
                                 struct gw_fault_stats *ret)
{
    struct gw_histogram latency = {0};
    struct gw_fault_counts counts = {0};
    const struct gw_fault_region *g;

    pthread_rwlock_rdlock(&s->lock);
    g = gw_fault_region_at(s, gpa);
    if (g && g->gpa == gpa) {
        *ret = (struct gw_fault_stats){0};
        gw_fault_counts_add(&counts, &g->counts);
        gw_histogram_merge(&latency, &g->latency);
        ret->pages = g->n_pages;
        ret->received = gw_fault_counted(&g->n_received);
        tell(ret, &counts, &latency);
    } else {
        g = NULL;
    }
    pthread_rwlock_unlock(&s->lock);
    return g ? 0 : gw_frontend_fail(-ENOENT, "no region begins at 0x%" PRIx64, gpa);
}
