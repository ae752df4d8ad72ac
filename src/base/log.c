/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Diagnostic messages, and the text of the last error. Independent of the rest of the library. */
#include "log_i.h"

#include "clock.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

enum {
    DIAG_LINE = 512
};

static _Thread_local char last_error[256];

const char *gw_log_level_name(enum gw_log_level level)
{
    switch (level) {
    case GW_LOG_ERROR:
        return "error";
    case GW_LOG_WARNING:
        return "warning";
    case GW_LOG_INFO:
        return "info";
    case GW_LOG_DEBUG:
        return "debug";
    }
    return "unknown";
}

static void log_to_stderr(void *arg, enum gw_log_level level, const char *message)
{
    const struct gw_log *log = arg;

    fprintf(stderr, "%s: %s: %s\n", log->name, gw_log_level_name(level), message);
}

void gw_log_init(struct gw_log *log, gw_log_cb *cb, void *arg, enum gw_log_level level,
                 const char *name)
{
    *log = (struct gw_log){
        .cb = cb ? cb : log_to_stderr,
        .arg = cb ? arg : log,
        .level = level,
        .name = name,
        .limiter = GW_LOG_LIMITER_INIT,
    };
}

/* GW_LOG_DEBUG traces every message on the socket, so it has no rate limit. */
static bool passes_limit(struct gw_log *log, const char *format, uint64_t *ret_held)
{
    *ret_held = 0;
    return log->level >= GW_LOG_DEBUG ||
           gw_log_limiter_pass(&log->limiter, format, gw_clock_coarse_ns(), ret_held);
}

void gw_log_emit(struct gw_log *log, enum gw_log_level level, const char *format, ...)
{
    char line[DIAG_LINE];
    uint64_t n_held;
    va_list args;
    int used;

    if (!passes_limit(log, format, &n_held))
        return;
    va_start(args, format);
    used = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (n_held > 0 && used > 0 && (size_t)used < sizeof(line))
        snprintf(line + used, sizeof(line) - (size_t)used,
                 " (%" PRIu64 " similar messages suppressed)", n_held);
    log->cb(log->arg, level, line);
}

void gw_log_done(struct gw_log *log)
{
    uint64_t n_held = gw_log_limiter_take_held(&log->limiter);

    if (n_held > 0)
        gw_log(log, GW_LOG_WARNING, "%" PRIu64 " more messages were suppressed", n_held);
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
