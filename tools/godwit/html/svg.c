/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * SVG written by hand. A plot library would need scripts, which viewers of build results and mail
 * forbid; gnuplot's pictures would neither contain text nor follow a dark style.
 */
#include "svg.h"

#include "utf8.h"

#include <math.h>

void svg_begin(struct svg *s, const char *title, unsigned height, unsigned below)
{
    s->bottom = SVG_TOP + height;
    fprintf(s->out, "<svg viewBox=\"0 0 %d %u\" role=\"img\" aria-label=\"", SVG_WIDTH,
            SVG_TOP + height + 24 + below);
    utf8_print_xml(s->out, title);
    fputs("\">\n", s->out);
}

void svg_end(struct svg *s)
{
    fputs("</svg>\n", s->out);
}

double svg_x(const struct svg *s, uint64_t ns)
{
    double part = s->end_ns != 0 ? (double)ns / (double)s->end_ns : 0;

    return SVG_LEFT + (part > 1 ? 1 : part) * SVG_COLUMN;
}

double svg_y(const struct svg *s, double value)
{
    double part;

    if (s->is_log)
        part = value <= s->low ? 0 : log(value / s->low) / log(s->high / s->low);
    else
        part = s->high > s->low ? (value - s->low) / (s->high - s->low) : 0;
    part = part < 0 ? 0 : part > 1 ? 1 : part;
    return s->bottom - part * (s->bottom - SVG_TOP);
}

void svg_text(const struct svg *s, double x, double y, const char *class, const char *text)
{
    fprintf(s->out, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, class);
    utf8_print_xml(s->out, text);
    fputs("</text>\n", s->out);
}

static void line(const struct svg *s, double x1, double y1, double x2, double y2, const char *class)
{
    fprintf(s->out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>\n", x1,
            y1, x2, y2, class);
}

/* A step of 1, 2 or 5 times a power of ten, such that about `n` steps cover `range`. */
static double nice_step(double range, unsigned n)
{
    double raw = range / n, power = pow(10, floor(log10(raw))), part = raw / power;

    return power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
}

void svg_time_axis(const struct svg *s)
{
    double end = (double)s->end_ns / 1e9, step;
    char text[32];

    line(s, SVG_LEFT, s->bottom, SVG_RIGHT, s->bottom, "axis");
    if (s->end_ns == 0)
        return;
    step = nice_step(end, 10);
    for (unsigned i = 0; i * step <= end * 1.0001; i++) {
        double x = svg_x(s, (uint64_t)(i * step * 1e9));

        line(s, x, s->bottom, x, s->bottom + 4, "axis");
        snprintf(text, sizeof(text), "%.*f s", step < 0.0999 ? 2 : step < 0.999 ? 1 : 0, i * step);
        svg_text(s, x, s->bottom + 17, "tick middle", text);
    }
}

static void value_tick(const struct svg *s, double value, svg_label *label)
{
    double y = svg_y(s, value);
    char text[32];

    line(s, SVG_LEFT, y, SVG_RIGHT, y, "grid");
    label(value, text, sizeof(text));
    svg_text(s, SVG_LEFT - 6, y + 4, "tick end", text);
}

void svg_value_axis(const struct svg *s, svg_label *label)
{
    double step;

    if (s->is_log) {
        for (double value = pow(10, ceil(log10(s->low))); value <= s->high * 1.0001; value *= 10)
            value_tick(s, value, label);
    } else if (s->high > s->low) {
        step = nice_step(s->high - s->low, 4);
        for (unsigned i = 0; s->low + i * step <= s->high * 1.0001; i++)
            value_tick(s, s->low + i * step, label);
    }
}

static void title(const struct svg *s, const char *text)
{
    if (text == NULL) {
        fputs("/>\n", s->out);
        return;
    }
    fputs("><title>", s->out);
    utf8_print_xml(s->out, text);
    fputs("</title></rect>\n", s->out);
}

void svg_band(const struct svg *s, uint64_t from_ns, uint64_t to_ns, const char *class,
              const char *text)
{
    double x = svg_x(s, from_ns), width = svg_x(s, to_ns) - x;

    fprintf(s->out, "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%.1f\" class=\"%s\"", x,
            SVG_TOP, width < 1 ? 1 : width, s->bottom - SVG_TOP, class);
    title(s, text);
}

void svg_bar(const struct svg *s, uint64_t at_ns, uint64_t duration_ns, double value,
             const char *class, const char *text)
{
    double x = svg_x(s, at_ns), width = svg_x(s, at_ns + duration_ns) - x, y = svg_y(s, value);

    fprintf(s->out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" class=\"%s\"", x, y,
            width < 2 ? 2 : width, s->bottom - y, class);
    title(s, text);
}

void svg_line(const struct svg *s, const void *data, unsigned n, svg_value *value,
              const char *class)
{
    bool is_open = false;

    for (unsigned i = 0; i < n; i++) {
        uint64_t at = 0;
        double v = value(data, i, &at);

        if (v >= 0 && !is_open)
            fprintf(s->out, "<polyline class=\"%s\" points=\"", class);
        if (v >= 0)
            fprintf(s->out, "%.1f,%.1f ", svg_x(s, at), svg_y(s, v));
        else if (is_open)
            fputs("\"/>\n", s->out);
        is_open = v >= 0;
    }
    if (is_open)
        fputs("\"/>\n", s->out);
}

void svg_mark(const struct svg *s, struct svg_lane *lane, uint64_t at_ns, const char *class)
{
    int x = (int)svg_x(s, at_ns);

    if (x == lane->last)
        return;
    lane->last = x;
    line(s, x + 0.5, lane->y - 9, x + 0.5, lane->y, class);
}
