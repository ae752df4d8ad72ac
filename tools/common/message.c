/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Messages to people: one line on stderr each, written in one piece, so that lines of several
 * threads do not mix. Where stderr goes to the journal (JOURNAL_STREAM is set), the priority stands
 * in front as sd-daemon(3) has it.
 */
#include "backend.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LIMIT_NS 1000000000U /* one message of a kind in this time */

static struct {
    const char *name;
    enum gw_diag_level level;
    bool has_journal;
} say = {.name = "godwit", .level = GW_DIAG_WARNING};

void backend_say_init(const char *name, unsigned verbose)
{
    say.name = name;
    say.level = verbose == 0 ? GW_DIAG_WARNING : verbose == 1 ? GW_DIAG_INFO : GW_DIAG_DEBUG;
    say.has_journal = getenv("JOURNAL_STREAM") != NULL;
}

enum gw_diag_level backend_say_level(void)
{
    return say.level;
}

static void write_line(enum gw_diag_level level, const char *text)
{
    static const char *const priorities[] = {
        [GW_DIAG_ERROR] = "<3>",
        [GW_DIAG_WARNING] = "<4>",
        [GW_DIAG_INFO] = "<6>",
        [GW_DIAG_DEBUG] = "<7>",
    };
    const char *priority = say.has_journal && level <= GW_DIAG_DEBUG ? priorities[level] : "";

    if (level > say.level)
        return;
    /* glibc gathers one call on an unbuffered stream and writes it at once. */
    fprintf(stderr, "%s%s: %s: %s\n", priority, say.name, gw_diag_level_name(level), text);
}

void backend_diag(void *arg, enum gw_diag_level level, const char *message)
{
    write_line(level, message);
}

void backend_say(enum gw_diag_level level, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    write_line(level, text);
}

/* Whether a message may pass now; `ret_suppressed` is then how many did not since the last one. */
static bool limit_passes(struct backend_limit *limit, uint64_t *ret_suppressed)
{
    struct timespec ts;
    uint64_t now, last = atomic_load_explicit(&limit->last_ns, memory_order_relaxed);

    clock_gettime(CLOCK_MONOTONIC, &ts);
    now = (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
    if ((last == 0 || now - last >= LIMIT_NS) &&
        atomic_compare_exchange_strong_explicit(&limit->last_ns, &last, now, memory_order_relaxed,
                                                memory_order_relaxed)) {
        *ret_suppressed = atomic_exchange_explicit(&limit->suppressed, 0, memory_order_relaxed);
        return true;
    }
    atomic_fetch_add_explicit(&limit->suppressed, 1, memory_order_relaxed);
    return false;
}

void backend_say_limited(struct backend_limit *limit, enum gw_diag_level level, const char *format,
                         ...)
{
    uint64_t suppressed;
    char text[512];
    va_list args;

    if (level > say.level || !limit_passes(limit, &suppressed))
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (suppressed != 0)
        backend_say(level, "%s (and %llu more like it)", text, (unsigned long long)suppressed);
    else
        backend_say(level, "%s", text);
}
