/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Messages to people, inside the library: one sink per daemon, rate limited on the data path. */
#pragma once

#include <godwit/diag.h>
#include <stdbool.h>
#include <stdint.h>

struct gw_diag {
    gw_diag_cb *cb;
    void *arg;
    enum gw_diag_level level;
    const char *name; /* borrowed */
};

void gw_diag_init(struct gw_diag *diag, gw_diag_cb *cb, void *arg, enum gw_diag_level level,
                  const char *name);

void gw_diag_emit(const struct gw_diag *diag, enum gw_diag_level level, const char *format, ...)
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

/*
 * At most a burst per second for one cause; what was held back is counted and told with the next
 * one let through. The state belongs to one thread (a queue has one), or to a lock of its owner.
 */
struct gw_diag_limit {
    uint64_t window_ns;
    uint32_t n_passed;
    uint32_t n_held;
};

void gw_diag_limited(const struct gw_diag *diag, struct gw_diag_limit *limit,
                     enum gw_diag_level level, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Set what gw_last_error() returns on this thread, and return `r`, a negative errno. */
int gw_fail(int r, const char *format, ...) __attribute__((format(printf, 2, 3)));
