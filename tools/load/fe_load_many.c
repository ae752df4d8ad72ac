/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "load_many.h"

#include "base/clock.h"
#include "fe_load_i.h"

#include <string.h>

#define IDLE_RINGS  4096 /* rings found idle in a row before the thread yields */
#define CLOCK_RINGS 64   /* rings served between two reads of the clock */
/* Interval of checks for loads that stall while others do not. */
#define CHECK_NS UINT64_C(50000000)

/* One turn of each load. Returns: the first failure, and its load; the number of completions. */
static int turn_all(struct gw_guest_load **loads, unsigned n,
                    const struct gw_guest_load_limits *lim, unsigned *ret_n, unsigned *ret_failed)
{
    for (unsigned i = 0; i < n; i++) {
        int r;

        if (lim->drain && loads[i]->n_in_flight == 0)
            continue;
        r = gw_guest_load_turn(loads[i], lim, ret_n);
        if (r < 0) {
            *ret_failed = i;
            return r;
        }
    }
    return 0;
}

static int check_stalls(struct gw_guest_load **loads, unsigned n, uint64_t stall_ns, uint64_t now,
                        unsigned *ret_failed)
{
    for (unsigned i = 0; i < n; i++) {
        int r = gw_guest_load_check_stall(loads[i], stall_ns, now);

        if (r < 0) {
            *ret_failed = i;
            return r;
        }
    }
    return 0;
}

static bool has_drained(struct gw_guest_load **loads, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (loads[i]->n_in_flight > 0)
            return false;
    return true;
}

static int run_all(struct gw_guest_load **loads, unsigned n, const struct gw_guest_load_limits *lim,
                   unsigned *ret_failed)
{
    uint64_t next_check_ns = lim->start_ns + CHECK_NS;
    unsigned n_idle = 0, n_rings = 0;
    int r = 0;

    for (unsigned i = 0; i < n; i++)
        gw_guest_load_begin(loads[i], lim);
    while (r == 0 && !(lim->drain && has_drained(loads, n))) {
        unsigned n_taken = 0;
        uint64_t now;

        r = turn_all(loads, n, lim, &n_taken, ret_failed);
        n_idle = n_taken > 0 ? 0 : n_idle + n;
        if (r == 0 && n_taken == 0)
            gw_guest_load_relax(n_idle > IDLE_RINGS ? UINT32_MAX : 0);
        n_rings += n;
        if (r < 0 || n_rings < CLOCK_RINGS)
            continue;
        n_rings = 0;
        now = gw_clock_ns();
        if (now >= lim->deadline_ns)
            break;
        if (now >= next_check_ns) {
            next_check_ns = now + CHECK_NS;
            r = check_stalls(loads, n, lim->stall_ns, now, ret_failed);
        }
    }
    for (unsigned i = 0; i < n; i++)
        gw_guest_load_end(loads[i], lim);
    return r;
}

int gw_guest_loads_run(struct gw_guest_load **loads, unsigned n, unsigned duration_ms,
                       unsigned stall_ms, unsigned *ret_failed)
{
    struct gw_guest_load_limits lim = {
        .start_ns = gw_clock_ns(),
        .stall_ns = stall_ms ? stall_ms * UINT64_C(1000000) : UINT64_MAX,
        .last_request = UINT64_MAX,
    };

    lim.deadline_ns = lim.start_ns + duration_ms * UINT64_C(1000000);
    return run_all(loads, n, &lim, ret_failed);
}

int gw_guest_loads_drain(struct gw_guest_load **loads, unsigned n, unsigned stall_ms,
                         unsigned *ret_failed)
{
    struct gw_guest_load_limits lim = {
        .start_ns = gw_clock_ns(),
        .deadline_ns = UINT64_MAX,
        .stall_ns = stall_ms ? stall_ms * UINT64_C(1000000) : UINT64_MAX,
        .last_request = UINT64_MAX,
        .drain = true,
    };

    return run_all(loads, n, &lim, ret_failed);
}

static void add(struct gw_guest_load_stats *to, const struct gw_guest_load_stats *from)
{
    to->requests += from->requests;
    to->reads += from->reads;
    to->writes += from->writes;
    to->flushes += from->flushes;
    to->bytes += from->bytes;
    to->held += from->held;
    to->verified += from->verified;
    to->kicks += from->kicks;
    to->sleeps += from->sleeps;
    to->run_ns = from->run_ns > to->run_ns ? from->run_ns : to->run_ns;
    to->stall = from->stall > to->stall ? from->stall : to->stall;
}

void gw_guest_loads_stats(struct gw_guest_load **loads, unsigned n, struct gw_guest_load_stats *ret)
{
    struct gw_histogram latency;

    memset(&latency, 0, sizeof(latency));
    memset(ret, 0, sizeof(*ret));
    for (unsigned i = 0; i < n; i++) {
        add(ret, &loads[i]->stats);
        ret->in_flight += loads[i]->n_in_flight;
        gw_histogram_merge(&latency, &loads[i]->latency);
    }
    ret->p50 = gw_histogram_at(&latency, 500000);
    ret->p90 = gw_histogram_at(&latency, 900000);
    ret->p99 = gw_histogram_at(&latency, 990000);
    ret->p999 = gw_histogram_at(&latency, 999000);
    ret->max = latency.max;
}
