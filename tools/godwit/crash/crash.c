/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The sequence of a run: a first life that queries the back-end, lives that end by a kill, and a
 * last life in which all requests are drained and the disk is read back. The first fault ends it.
 */
#include "crash_i.h"

#include "base/clock.h"
#include "base/random.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define KILLS      100
#define DEPTH      32
#define BLOCK_SIZE 4096
#define QUEUE_SIZE 256
#define TIMEOUT_MS 600000
#define REQUEST_MS 10000

const char *crash_moment_name(enum crash_moment moment)
{
    static const char *const names[] = {"spawn", "connect", "start", "recover",
                                        "load",  "drain",   "stop"};

    return (unsigned)moment < CRASH_N_MOMENTS ? names[moment] : "?";
}

uint64_t crash_random(struct crash *c, uint64_t n)
{
    return gw_random_below(&c->random, n);
}

/* ---- Faults ---- */

__attribute__((format(printf, 5, 0))) static int tell(struct crash *c, enum crash_verdict verdict,
                                                      enum crash_check check, int r,
                                                      const char *format, va_list args)
{
    struct crash_fault *f = &c->ret->fault;

    if (c->ret->has_fault)
        return r;
    c->ret->has_fault = true;
    c->ret->verdict = verdict;
    *f = (struct crash_fault){
        .check = check,
        .moment = c->moment,
        .is_first = c->ret->n_kills == 0,
        .n_kills = c->ret->n_kills,
        .error = r,
    };
    vsnprintf(f->text, sizeof(f->text), format, args);
    if (c->fe)
        evidence_take_messages(&c->evidence, c->fe, c->start_ns);
    evidence_take_output(&c->evidence, c->target);
    f->evidence = c->evidence;
    return r;
}

void crash_free_frontend(struct crash *c)
{
    if (c->fe)
        evidence_take_messages(&c->evidence, c->fe, c->start_ns);
    gw_frontend_free(c->fe);
    c->fe = NULL;
}

int crash_blame(struct crash *c, enum crash_check check, int r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    tell(c, CRASH_FAILED, check, r, format, args);
    va_end(args);
    return r;
}

int crash_cannot(struct crash *c, int r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    tell(c, CRASH_COULD_NOT, CRASH_CHECK_RESTARTS, r, format, args);
    va_end(args);
    return r;
}

/* ---- The run ---- */

static void or_default(unsigned *value, unsigned def)
{
    if (*value == 0)
        *value = def;
}

static int take_options(struct crash *c, const struct crash_options *o)
{
    c->o = *o;
    or_default(&c->o.kills, KILLS);
    or_default(&c->o.n_queues, 1);
    or_default(&c->o.depth, DEPTH);
    or_default(&c->o.block_size, BLOCK_SIZE);
    or_default(&c->o.timeout_ms, TIMEOUT_MS);
    or_default(&c->o.request_ms, REQUEST_MS);
    /* A request uses at least three descriptors. */
    if (c->o.queue_size == 0) {
        for (c->o.queue_size = QUEUE_SIZE; c->o.queue_size < c->o.depth * 3;)
            c->o.queue_size *= 2;
    }
    c->deadline_ns = c->start_ns + c->o.timeout_ms * GW_NS_PER_MS;
    return target_is_command(c->target) && c->o.depth * 3 <= c->o.queue_size &&
                   c->o.queue_size <= 32768 && c->o.block_size % 512 == 0 &&
                   c->o.write_percent + c->o.flush_percent <= 100 && c->o.handover_percent <= 100 &&
                   c->o.exact_percent <= 100
               ? 0
               : -EINVAL;
}

static int check_time(struct crash *c)
{
    if (gw_clock_ns() < c->deadline_ns)
        return 0;
    return crash_cannot(c, -ETIMEDOUT, "only %u of %u kills within the %u ms of the time limit",
                        c->ret->n_kills, c->o.kills, c->o.timeout_ms);
}

static void tell_progress(const struct crash *c, crash_progress_cb *progress, void *arg)
{
    struct gw_guest_load_stats stats;
    struct crash_progress p = {
        .n_kills = c->ret->n_kills,
        .n_kills_wanted = c->o.kills,
        .elapsed_ns = gw_clock_ns() - c->start_ns,
        .recovery_p50 = gw_histogram_at(&c->recovery, 500000),
    };

    if (!progress)
        return;
    gw_guest_load_stats(c->load, &stats);
    p.requests = stats.requests;
    progress(&p, arg);
}

static int check_recovery(struct crash *c)
{
    if (c->o.max_recovery_ns == 0 || c->recovery.max <= c->o.max_recovery_ns)
        return 0;
    return crash_blame(c, CRASH_CHECK_TIME, -ETIME,
                       "%.2f ms from a connection to the first completion, limit %.2f ms",
                       (double)c->recovery.max / 1e6, (double)c->o.max_recovery_ns / 1e6);
}

static int run(struct crash *c, crash_progress_cb *progress, void *arg)
{
    int r = crash_killer_new(&c->killer, c->target);

    if (r < 0)
        return crash_cannot(c, r, "cannot start the killer thread: %s", strerror(-r));
    r = crash_first_life(c);
    while (r == 0 && c->ret->n_kills < c->o.kills) {
        r = check_time(c);
        if (r == 0)
            r = crash_life(c);
        if (r == 0)
            tell_progress(c, progress, arg);
    }
    if (r == 0)
        r = crash_last_life(c);
    return r ? r : check_recovery(c);
}

static void sum_up(struct crash *c)
{
    struct crash_result *ret = c->ret;
    struct gw_guest_load_stats stats = {0};

    if (c->load)
        gw_guest_load_stats(c->load, &stats);
    ret->requests = stats.requests;
    ret->reads = stats.reads;
    ret->writes = stats.writes;
    ret->flushes = stats.flushes;
    ret->bytes = stats.bytes;
    ret->verified = stats.verified;
    ret->n_recovered = (unsigned)c->recovery.count;
    ret->recovery_p50 = gw_histogram_at(&c->recovery, 500000);
    ret->recovery_p99 = gw_histogram_at(&c->recovery, 990000);
    ret->recovery_max = c->recovery.max;
    ret->duration_ns = gw_clock_ns() - c->start_ns;
}

int crash_run(const struct crash_options *o, struct target *target, crash_progress_cb *progress,
              void *arg, struct crash_result *ret)
{
    struct crash c = {
        .ret = ret,
        .target = target,
        .random = o->seed,
        .start_ns = gw_clock_ns(),
    };
    int r;

    memset(ret, 0, sizeof(*ret));
    r = take_options(&c, o);
    if (r < 0)
        return crash_cannot(&c, r, "invalid combination of options");
    r = run(&c, progress, arg);
    if (r < 0)
        crash_cannot(&c, r, "%s", strerror(-r)); /* ignored if a fault was recorded */
    sum_up(&c);
    crash_free_frontend(&c);
    crash_killer_free(c.killer);
    crash_free_guest(&c);
    return r == -ENOMEM ? r : 0;
}
