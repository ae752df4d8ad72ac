/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Plots over time as SVG elements within an HTML page: a frame with axes, and what is drawn into
 * it. Colours are classes of the page's style sheet, so a plot follows its light or dark.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define SVG_WIDTH  960
#define SVG_LEFT   90
#define SVG_RIGHT  945
#define SVG_TOP    10
#define SVG_COLUMN (SVG_RIGHT - SVG_LEFT) /* pixels of the time axis */

struct svg {
    FILE *out;
    uint64_t end_ns;  /* of the time axis, which begins at 0 */
    double bottom;    /* pixel of the time axis */
    double low, high; /* of the other axis */
    bool is_log;      /* then low > 0 */
};

/* `height` pixels of plot, and `below` for what stands under the time axis. */
void svg_begin(struct svg *s, const char *title, unsigned height, unsigned below);
void svg_end(struct svg *s);

double svg_x(const struct svg *s, uint64_t ns);
double svg_y(const struct svg *s, double value);

/* The time axis with its ticks; the other with ticks that `label` makes text of. */
void svg_time_axis(const struct svg *s);
typedef void svg_label(double value, char *buf, size_t size);
void svg_value_axis(const struct svg *s, svg_label *label);

/* A stretch of time, from top to bottom. */
void svg_band(const struct svg *s, uint64_t from_ns, uint64_t to_ns, const char *class,
              const char *title);
/* One bar from the axis up, at least two pixels wide. */
void svg_bar(const struct svg *s, uint64_t at_ns, uint64_t duration_ns, double value,
             const char *class, const char *title);
/* A line through points; `value` gives the i-th, its time in `ret_ns`. Below zero: a gap. */
typedef double svg_value(const void *data, unsigned i, uint64_t *ret_ns);
void svg_line(const struct svg *s, const void *data, unsigned n, svg_value *value,
              const char *class);
/* Marks in a lane under the time axis, one for each pixel at most. */
struct svg_lane {
    double y;
    int last; /* pixel; -1 to begin */
};
void svg_mark(const struct svg *s, struct svg_lane *lane, uint64_t at_ns, const char *class);
void svg_text(const struct svg *s, double x, double y, const char *class, const char *text);
