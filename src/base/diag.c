/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Diagnostic messages, and the text of the last error. Independent of the rest of the library. */
#include "diag_i.h"

#include "clock.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

enum {
    DIAG_LINE = 512
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
        .limiter = GW_DIAG_LIMITER_INIT,
    };
}

/* GW_DIAG_DEBUG traces every message on the socket, so it has no rate limit. */
static bool passes_limit(struct gw_diag *diag, const char *format, uint64_t *ret_held)
{
    *ret_held = 0;
    return diag->level >= GW_DIAG_DEBUG ||
           gw_diag_limiter_pass(&diag->limiter, format, gw_clock_coarse_ns(), ret_held);
}

void gw_diag_emit(struct gw_diag *diag, enum gw_diag_level level, const char *format, ...)
{
    char line[DIAG_LINE];
    uint64_t n_held;
    va_list args;
    int used;

    if (!passes_limit(diag, format, &n_held))
        return;
    va_start(args, format);
    used = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (n_held > 0 && used > 0 && (size_t)used < sizeof(line))
        snprintf(line + used, sizeof(line) - (size_t)used,
                 " (%" PRIu64 " similar messages suppressed)", n_held);
    diag->cb(diag->arg, level, line);
}

void gw_diag_done(struct gw_diag *diag)
{
    uint64_t n_held = gw_diag_limiter_take_held(&diag->limiter);

    if (n_held > 0)
        gw_diag(diag, GW_DIAG_WARNING, "%" PRIu64 " more messages were suppressed", n_held);
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
