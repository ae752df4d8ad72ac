/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Diagnostic messages inside the library: one sink and one rate limiter per daemon. */
#pragma once

#include "diag_limit.h"

#include <godwit/diag.h>
#include <stdbool.h>
#include <stdint.h>

struct gw_diag {
    gw_diag_cb *cb;
    void *arg;
    enum gw_diag_level level;
    const char *name; /* borrowed */
    struct gw_diag_limiter limiter;
};

void gw_diag_init(struct gw_diag *diag, gw_diag_cb *cb, void *arg, enum gw_diag_level level,
                  const char *name);
/* Logs the number of suppressed messages that no earlier message has reported. */
void gw_diag_done(struct gw_diag *diag);

/* Context: any thread. */
void gw_diag_emit(struct gw_diag *diag, enum gw_diag_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static inline bool gw_diag_wants(const struct gw_diag *diag, enum gw_diag_level level)
{
    return level <= diag->level;
}

#define gw_diag(diag, lvl, ...)                       \
    do {                                              \
        if (gw_diag_wants((diag), (lvl)))             \
            gw_diag_emit((diag), (lvl), __VA_ARGS__); \
    } while (0)

/* Set what gw_last_error() returns on this thread, and return `r`, a negative errno. */
int gw_fail(int r, const char *format, ...) __attribute__((format(printf, 2, 3)));
