/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Diagnostic messages inside the library: one sink and one rate limiter per daemon. */
#pragma once

#include "log_limit.h"

#include <godwit/log.h>
#include <stdbool.h>
#include <stdint.h>

struct gw_log {
    gw_log_cb *cb;
    void *arg;
    enum gw_log_level level;
    const char *name; /* borrowed */
    struct gw_log_limiter limiter;
};

void gw_log_init(struct gw_log *log, gw_log_cb *cb, void *arg, enum gw_log_level level,
                 const char *name);
/* Logs the number of suppressed messages that no earlier message has reported. */
void gw_log_done(struct gw_log *log);

/* Context: any thread. */
void gw_log_emit(struct gw_log *log, enum gw_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static inline bool gw_log_wants(const struct gw_log *log, enum gw_log_level level)
{
    return level <= log->level;
}

#define gw_log(log, lvl, ...)                       \
    do {                                            \
        if (gw_log_wants((log), (lvl)))             \
            gw_log_emit((log), (lvl), __VA_ARGS__); \
    } while (0)

/* Set what gw_last_error() returns on this thread, and return `r`, a negative errno. */
int gw_fail(int r, const char *format, ...) __attribute__((format(printf, 2, 3)));
