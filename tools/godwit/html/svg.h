/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Plots over time as SVG elements of an HTML page: a frame with axes and its contents. Colours are
 * classes of the page's style sheet, so a plot follows its light or dark scheme.
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
    uint64_t end_ns;  /* end of the time axis, which starts at 0 */
    double bottom;    /* y coordinate of the time axis */
    double low, high; /* range of the value axis */
    bool is_log;      /* logarithmic values; requires low > 0 */
};

/* `height`: pixels of the plot; `below`: pixels for contents below the time axis. */
void svg_begin(struct svg *s, const char *title, unsigned height, unsigned below);
void svg_end(struct svg *s);

double svg_x(const struct svg *s, uint64_t ns);
double svg_y(const struct svg *s, double value);

/* Draw the time axis or the value axis with ticks; `label` formats the values. */
void svg_time_axis(const struct svg *s);
typedef void svg_label(double value, char *buf, size_t size);
void svg_value_axis(const struct svg *s, svg_label *label);

/* Shade a time range, from top to bottom. */
void svg_band(const struct svg *s, uint64_t from_ns, uint64_t to_ns, const char *class,
              const char *title);
/* Draw a bar upwards from the axis, at least two pixels wide. */
void svg_bar(const struct svg *s, uint64_t at_ns, uint64_t duration_ns, double value,
             const char *class, const char *title);
/* Draw a line; `value` returns the i-th value and its time. A negative value leaves a gap. */
typedef double svg_value(const void *data, unsigned i, uint64_t *ret_ns);
void svg_line(const struct svg *s, const void *data, unsigned n, svg_value *value,
              const char *class);
/* Draw marks in a lane below the time axis, at most one for each pixel. */
struct svg_lane {
    double y;
    int last; /* last pixel; initially -1 */
};
void svg_mark(const struct svg *s, struct svg_lane *lane, uint64_t at_ns, const char *class);
void svg_text(const struct svg *s, double x, double y, const char *class, const char *text);
