/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The load of an entropy device during a migration. Each buffer is filled once, hashed, and left
 * alone until its next turn; then its hash is checked before it is reused. Bytes after the length
 * that the device reports must be unchanged.
 */
#include "base/histogram.h"
#include "link/link_wire.h"
#include "migrate/migrate_work.h"

#include "base/random.h"
#include "fd/peer_fd.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_PAGES 3
#define BUFFER_LEN   ((uint64_t)BUFFER_PAGES * MIGRATION_PAGE)
#define DATA_MAX  \
    (BUFFER_LEN - \
     MIGRATION_PAGE) /* leaves a page, because a buffer begins anywhere in its first one */
#define POISON   0xa7
#define WAIT_MS  5
#define TAKE_MAX 32

enum buffer_state {
    ARMED = 0,
    BUSY,
    FILLED,
};

struct buffer {
    gw_gpa_t batch;
    gw_gpa_t gpa;
    uint32_t len, used;
    uint64_t sum;
    uint64_t start_ns;
    enum buffer_state state;
    bool is_retired;
};

struct rng {
    struct migration *m;
    struct gw_driver *driver;
    struct gw_guest_mem *mem;
    struct buffer **buffers;
    unsigned n_buffers, cursor, n_in_flight;
    uint64_t random;
    int interrupted; /* atomic */
    /* atomic */
    uint64_t requests, bytes, since, stall, latency;
    uint64_t sampled_requests, sampled_bytes;
    uint64_t progress_ns;
    uint64_t verified;             /* buffers whose contents were still intact */
    struct gw_histogram latencies; /* used by the load's thread, or by others while it is paused */
    char error[160];
};

static int fail(struct rng *g, int r, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(struct rng *g, int r, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    vsnprintf(g->error, sizeof(g->error), format, ap);
    va_end(ap);
    return r;
}

/* Translated on each use: translating all buffers at the switch would prolong the downtime. */
static uint8_t *host_of(const struct rng *g, const struct buffer *b)
{
    return gw_guest_mem_at(g->mem, b->gpa, b->len);
}

static uint64_t sum_of(const struct rng *g, const struct buffer *b)
{
    const uint8_t *host = host_of(g, b);
    uint64_t sum = 0;

    for (uint32_t i = 0; i < b->len; i++)
        sum = (sum ^ host[i]) * UINT64_C(0x100000001b3);
    return sum;
}

static void arm(struct rng *g, struct buffer *b)
{
    memset(host_of(g, b), POISON, b->len);
    gw_guest_track_mark(g->m->track, b->gpa, b->len);
    b->state = ARMED;
}

static int check(struct rng *g, const struct buffer *b)
{
    if (b->state != FILLED)
        return 0;
    g->verified++;
    if (sum_of(g, b) != b->sum)
        return fail(g, -EILSEQ, "a buffer at 0x%llx has changed since it was filled",
                    (unsigned long long)b->gpa);
    return 0;
}

static void drop_buffers(struct rng *g)
{
    for (unsigned i = 0; i < g->n_buffers; i++)
        free(g->buffers[i]);
    free(g->buffers);
    g->buffers = NULL;
    g->n_buffers = 0;
}

static int rng_new(struct migration_unit *u, void **ret)
{
    struct migration *m = u->m;
    struct rng *g = calloc(1, sizeof(*g));

    if (!g)
        return -ENOMEM;
    g->m = m;
    g->driver = u->drivers[0];
    g->mem = m->mem;
    g->random = m->o.seed + u->number;
    *ret = g;
    return 0;
}

static void rng_free(void *w)
{
    drop_buffers(w);
    free(w);
}

static int rng_add(void *w, gw_gpa_t gpa, uint64_t len)
{
    struct rng *g = w;
    uint64_t n = len / BUFFER_LEN;
    struct buffer **grown = realloc(g->buffers, (g->n_buffers + n) * sizeof(*grown));

    if (!grown)
        return -ENOMEM;
    g->buffers = grown;
    for (uint64_t i = 0; i < n; i++) {
        struct buffer *b = calloc(1, sizeof(*b));

        if (!b)
            return -ENOMEM;
        b->batch = gpa;
        b->gpa = gpa + i * BUFFER_LEN + gw_random_next(&g->random) % MIGRATION_PAGE;
        b->len = (uint32_t)(gw_random_next(&g->random) % DATA_MAX + 1);
        grown[g->n_buffers++] = b;
        arm(g, b);
    }
    return 0;
}

static int rng_retire(void *w, gw_gpa_t gpa)
{
    struct rng *g = w;
    unsigned n_busy = 0;

    for (unsigned i = 0; i < g->n_buffers; i++) {
        if (g->buffers[i]->batch == gpa) {
            g->buffers[i]->is_retired = true;
            n_busy += g->buffers[i]->state == BUSY;
        }
    }
    return n_busy ? -EBUSY : 0;
}

static int rng_remove(void *w, gw_gpa_t gpa)
{
    struct rng *g = w;
    unsigned n = 0;
    int r = 0;

    if (rng_retire(w, gpa) < 0)
        return -EBUSY;
    for (unsigned i = 0; i < g->n_buffers; i++) {
        if (g->buffers[i]->batch != gpa) {
            g->buffers[n++] = g->buffers[i];
            continue;
        }
        if (r == 0)
            r = check(g, g->buffers[i]);
        free(g->buffers[i]);
    }
    g->n_buffers = n;
    g->cursor = 0;
    return r;
}

/* Submit buffers up to the depth, in their order; prepare up to half a ring of them. */
static int submit(struct rng *g)
{
    for (unsigned i = 0; g->n_in_flight < g->m->o.depth && i < g->n_buffers; i++) {
        struct buffer *b = g->buffers[g->cursor];
        struct buffer *ahead = g->buffers[(g->cursor + g->n_buffers / 2) % g->n_buffers];
        struct gw_driver_buf buf = {.addr = b->gpa, .len = b->len};
        int r = check(g, ahead);

        if (r < 0)
            return r;
        if (ahead->state == FILLED && !ahead->is_retired)
            arm(g, ahead);
        g->cursor = (g->cursor + 1) % g->n_buffers;
        if (b->state != ARMED || b->is_retired)
            continue;
        if (gw_driver_add(g->driver, &buf, 0, 1, b->gpa, 0) < 0)
            break;
        b->state = BUSY;
        b->start_ns = migration_now(g->m);
        g->n_in_flight++;
    }
    gw_driver_kick(g->driver);
    return 0;
}

static void raise_to(uint64_t *max, uint64_t value)
{
    if (value > __atomic_load_n(max, __ATOMIC_RELAXED))
        __atomic_store_n(max, value, __ATOMIC_RELAXED);
}

static int complete(struct rng *g, struct buffer *b, uint32_t len, uint64_t now)
{
    const uint8_t *host = host_of(g, b);

    g->n_in_flight--;
    b->used = len;
    b->state = FILLED;
    b->sum = sum_of(g, b);
    if (len == 0 || len > b->len)
        return fail(g, -EPROTO, "the device used %u bytes of a buffer of %u", len, b->len);
    for (uint32_t i = len; i < b->len; i++) {
        if (host[i] != POISON)
            return fail(g, -EPROTO, "it wrote to byte %u of a buffer and reported a length of %u",
                        i, len);
    }
    raise_to(&g->latency, now - b->start_ns);
    gw_histogram_add(&g->latencies, now - b->start_ns);
    __atomic_fetch_add(&g->requests, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&g->bytes, len, __ATOMIC_RELAXED);
    return 0;
}

/* Find the buffer at `gpa` among the most recently submitted ones. NULL: not in flight. */
static struct buffer *in_flight_at(const struct rng *g, gw_gpa_t gpa)
{
    for (unsigned i = 1; i <= g->n_buffers; i++) {
        struct buffer *b = g->buffers[(g->cursor + g->n_buffers - i) % g->n_buffers];

        if (b->gpa == gpa)
            return b->state == BUSY ? b : NULL;
    }
    return NULL;
}

static int take(struct rng *g)
{
    struct gw_driver_used used[TAKE_MAX];
    unsigned n = gw_driver_take(g->driver, used, TAKE_MAX);
    uint64_t now = migration_now(g->m);
    int r = gw_driver_check(g->driver);

    if (r < 0)
        return fail(g, r, "%s", gw_frontend_last_error());
    if (n) {
        raise_to(&g->stall, now - g->progress_ns);
        g->progress_ns = now;
    }
    for (unsigned i = 0; i < n; i++) {
        struct buffer *b = in_flight_at(g, used[i].cookie);
        int e = b ? complete(g, b, used[i].len, now)
                  : fail(g, -EPROTO, "it completed a request that was not in flight");

        r = r ? r : e;
    }
    __atomic_store_n(&g->since, g->n_in_flight ? g->progress_ns : 0, __ATOMIC_RELAXED);
    return r;
}

/*
 * Wait for a call for a short time. After an interruption calls may arrive at another fd, so a
 * missing one is no error then.
 */
static int await_call(struct rng *g)
{
    struct pollfd p = {.fd = gw_driver_call_fd(g->driver), .events = POLLIN};
    unsigned ms = 0;

    if (!gw_driver_want_calls(g->driver)) {
        gw_driver_suppress_calls(g->driver);
        return 0;
    }
    while (poll(&p, 1, WAIT_MS) == 0 && ms < GW_DRIVER_CALL_GRACE_MS &&
           !__atomic_load_n(&g->interrupted, __ATOMIC_ACQUIRE)) {
        ms += WAIT_MS;
        /* No request is completed, or one just now and its call will follow. */
        if (gw_driver_want_calls(g->driver))
            break;
    }
    (void)gw_eventfd_take(p.fd);
    gw_driver_suppress_calls(g->driver);
    return ms < GW_DRIVER_CALL_GRACE_MS
               ? 0
               : fail(g, -ENOMSG, "requests are completed, and the call is missing");
}

static int rng_turns(struct rng *g, unsigned stall_ms, bool drain)
{
    int r = 0;

    g->progress_ns = migration_now(g->m);
    while (r == 0 && (drain ? g->n_in_flight > 0
                            : !__atomic_exchange_n(&g->interrupted, 0, __ATOMIC_ACQ_REL))) {
        if (!drain)
            r = submit(g);
        if (r == 0)
            r = await_call(g);
        if (r == 0)
            r = take(g);
        if (r == 0 && g->n_in_flight &&
            migration_now(g->m) - g->progress_ns > stall_ms * UINT64_C(1000000))
            r = fail(g, -ETIMEDOUT, "%u requests in flight, none completed within %u ms",
                     g->n_in_flight, stall_ms);
    }
    __atomic_store_n(&g->since, 0, __ATOMIC_RELAXED);
    return r;
}

static int rng_run(void *w, unsigned stall_ms)
{
    return rng_turns(w, stall_ms, false);
}

static int rng_drain(void *w, unsigned stall_ms)
{
    return rng_turns(w, stall_ms, true);
}

static void rng_interrupt(void *w)
{
    __atomic_store_n(&((struct rng *)w)->interrupted, 1, __ATOMIC_RELEASE);
}

static const char *rng_error(void *w)
{
    return ((struct rng *)w)->error;
}

static int rng_set_mem(void *w, struct gw_guest_mem *mem)
{
    ((struct rng *)w)->mem = mem; /* a clone, so all buffers in use are in it */
    return 0;
}

static int rng_check_held(void *w)
{
    struct rng *g = w;
    int r = 0;

    for (unsigned i = 0; r == 0 && i < g->n_buffers; i++)
        r = check(g, g->buffers[i]);
    return r;
}

static void rng_sample(void *w, struct gw_guest_load_sample *ret)
{
    struct rng *g = w;
    uint64_t requests = __atomic_load_n(&g->requests, __ATOMIC_RELAXED);
    uint64_t bytes = __atomic_load_n(&g->bytes, __ATOMIC_RELAXED);
    uint64_t since = __atomic_load_n(&g->since, __ATOMIC_RELAXED);
    uint64_t now = migration_now(g->m);

    ret->requests = requests - g->sampled_requests;
    ret->bytes = bytes - g->sampled_bytes;
    ret->stall = __atomic_exchange_n(&g->stall, 0, __ATOMIC_RELAXED);
    ret->latency = __atomic_exchange_n(&g->latency, 0, __ATOMIC_RELAXED);
    if (since && now > since && now - since > ret->stall)
        ret->stall = now - since;
    g->sampled_requests = requests;
    g->sampled_bytes = bytes;
}

static bool rng_find(void *w, gw_gpa_t gpa, struct gw_guest_load_place *ret)
{
    struct rng *g = w;

    for (unsigned i = 0; i < g->n_buffers; i++) {
        const struct buffer *b = g->buffers[i];

        if (gpa < b->gpa || gpa - b->gpa >= b->len)
            continue;
        *ret = (struct gw_guest_load_place){
            .part = GW_GUEST_LOAD_PART_DATA,
            .offset = gpa - b->gpa,
            .left = b->len - (gpa - b->gpa),
            .queue = gw_driver_index(g->driver),
            .type = GW_DRIVER_BLK_READ,
            .in_flight = b->state == BUSY,
            .is_held = true,
            .is_used = b->start_ns != 0,
        };
        return true;
    }
    return false;
}

static void rng_stats(void *w, struct migration_result *ret)
{
    struct rng *g = w;

    ret->requests += g->requests;
    ret->reads += g->requests;
    ret->held += g->requests;
    ret->verified += g->verified;
    ret->bytes += g->bytes;
    migration_slowest(ret, gw_histogram_at(&g->latencies, 500000),
                      gw_histogram_at(&g->latencies, 990000), g->latencies.max);
}

/* ---- State for another host ---- */

static int rng_save(void *w, void **ret, size_t *ret_len)
{
    const struct rng *g = w;
    uint64_t now = migration_now(g->m);
    struct link_out out = {0};

    link_put(&out, g->random, 8);
    link_put(&out, g->cursor, 4);
    link_put(&out, g->n_buffers, 4);
    for (unsigned i = 0; i < g->n_buffers; i++) {
        const struct buffer *b = g->buffers[i];

        link_put(&out, b->batch, 8);
        link_put(&out, b->gpa, 8);
        link_put(&out, b->len, 4);
        link_put(&out, b->used, 4);
        link_put(&out, b->sum, 8);
        link_put(&out, b->start_ns ? now - b->start_ns : 0, 8);
        link_put(&out, b->state, 1);
        link_put(&out, b->is_retired, 1);
    }
    if (out.failed) {
        link_out_done(&out);
        return -ENOMEM;
    }
    *ret = out.data;
    *ret_len = out.len;
    return 0;
}

static bool get_buffer(struct link_in *in, const struct rng *g, struct buffer *b)
{
    uint64_t now = migration_now(g->m), age;

    b->batch = link_get(in, 8);
    b->gpa = link_get(in, 8);
    b->len = (uint32_t)link_get(in, 4);
    b->used = (uint32_t)link_get(in, 4);
    b->sum = link_get(in, 8);
    age = link_get(in, 8);
    b->start_ns = age ? (age < now ? now - age : 1) : 0;
    b->state = (enum buffer_state)link_get(in, 1);
    b->is_retired = link_get(in, 1) != 0;
    return !in->failed && b->state <= FILLED && b->len > 0 && host_of(g, b);
}

static int rng_restore(void *w, const void *state, size_t len)
{
    struct link_in in = {.at = state, .left = len};
    struct rng *g = w;
    unsigned n;

    drop_buffers(g);
    g->random = link_get(&in, 8);
    g->cursor = (unsigned)link_get(&in, 4);
    g->n_in_flight = 0;
    n = (unsigned)link_get(&in, 4);
    if (n == 0 || n > in.left || g->cursor >= n) /* a buffer takes more than one byte */
        return -EINVAL;
    g->buffers = calloc(n, sizeof(*g->buffers));
    if (!g->buffers)
        return -ENOMEM;
    for (unsigned i = 0; i < n; i++) {
        struct buffer *b = g->buffers[i] = calloc(1, sizeof(*b));

        if (!b)
            return -ENOMEM;
        g->n_buffers++;
        if (!get_buffer(&in, g, b))
            return -EINVAL;
        g->n_in_flight += b->state == BUSY;
    }
    return link_is_complete(&in) && g->n_in_flight == gw_driver_in_flight(g->driver) ? 0 : -EINVAL;
}

const struct migration_work migration_work_rng = {
    .new = rng_new,
    .free = rng_free,
    .run = rng_run,
    .interrupt = rng_interrupt,
    .drain = rng_drain,
    .error = rng_error,
    .set_mem = rng_set_mem,
    .add = rng_add,
    .retire = rng_retire,
    .remove = rng_remove,
    .check_held = rng_check_held,
    .sample = rng_sample,
    .find = rng_find,
    .stats = rng_stats,
    .save = rng_save,
    .restore = rng_restore,
};
