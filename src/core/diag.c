/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Messages to people, and the reason of the last failure. Knows nothing of what it talks about.
 */
#include "diag_i.h"

#include "clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

enum {
    DIAG_LINE = 512,
    DIAG_BURST = 5
};

static _Thread_local char last_error[256];

const char *gw_diag_level_name(enum gw_diag_level level)
{
    switch (level) {
    case GW_DIAG_ERROR:
        return "error";
    case GW_DIAG_WARNING:
        return "warning";
    case GW_DIAG_INFO:
        return "info";
    case GW_DIAG_DEBUG:
        return "debug";
    }
    return "unknown";
}

static void diag_to_stderr(void *arg, enum gw_diag_level level, const char *message)
{
    const struct gw_diag *diag = arg;

    fprintf(stderr, "%s: %s: %s\n", diag->name, gw_diag_level_name(level), message);
}

void gw_diag_init(struct gw_diag *diag, gw_diag_cb *cb, void *arg, enum gw_diag_level level,
                  const char *name)
{
    *diag = (struct gw_diag){
        .cb = cb ? cb : diag_to_stderr,
        .arg = cb ? arg : diag,
        .level = level,
        .name = name,
    };
}

static void __attribute__((format(printf, 4, 0)))
diag_vemit(const struct gw_diag *diag, enum gw_diag_level level, uint32_t n_held,
           const char *format, va_list args)
{
    char line[DIAG_LINE];
    int used = vsnprintf(line, sizeof(line), format, args);

    if (n_held > 0 && used > 0 && (size_t)used < sizeof(line))
        snprintf(line + used, sizeof(line) - (size_t)used, " (and %u more like it)", n_held);
    diag->cb(diag->arg, level, line);
}

void gw_diag_emit(const struct gw_diag *diag, enum gw_diag_level level, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    diag_vemit(diag, level, 0, format, args);
    va_end(args);
}

void gw_diag_limited(const struct gw_diag *diag, struct gw_diag_limit *limit,
                     enum gw_diag_level level, const char *format, ...)
{
    uint64_t now = gw_clock_coarse_ns();
    uint32_t n_held;
    va_list args;

    if (!gw_diag_wants(diag, level))
        return;
    if (limit->window_ns == 0 || now - limit->window_ns >= UINT64_C(1000000000)) {
        limit->window_ns = now;
        limit->n_passed = 0;
    }
    if (limit->n_passed == DIAG_BURST) {
        limit->n_held++;
        return;
    }
    limit->n_passed++;
    n_held = limit->n_held;
    limit->n_held = 0;
    va_start(args, format);
    diag_vemit(diag, level, n_held, format, args);
    va_end(args);
}

const char *gw_last_error(void)
{
    return last_error;
}

int gw_fail(int r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(last_error, sizeof(last_error), format, args);
    va_end(args);
    return r;
}
