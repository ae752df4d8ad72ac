/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Human-readable numbers. Rates use powers of 1000, memory sizes powers of 1024. */
#include "format.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Three significant digits or so. */
static struct format scaled(double value, const char *unit)
{
    struct format f;
    int digits = value >= 99.95 || value == 0 ? 0 : value >= 9.995 ? 1 : 2;

    snprintf(f.text, sizeof(f.text), "%.*f %s", digits, value, unit);
    return f;
}

struct format format_time(uint64_t ns)
{
    if (ns < 1000)
        return scaled((double)ns, "ns");
    if (ns < 1000000)
        return scaled((double)ns / 1e3, "us");
    if (ns < 1000000000)
        return scaled((double)ns / 1e6, "ms");
    return scaled((double)ns / 1e9, "s");
}

struct format format_bytes(uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    unsigned i = 0;
    struct format f;

    for (; value >= 1024 && i < 6; i++)
        value /= 1024;
    if (value == (double)(unsigned)value)
        snprintf(f.text, sizeof(f.text), "%.0f %s", value, units[i]);
    else
        f = scaled(value, units[i]);
    return f;
}

struct format format_count(uint64_t n)
{
    char plain[24];
    struct format f;
    size_t len = (size_t)snprintf(plain, sizeof(plain), "%" PRIu64, n), used = 0;

    /* 20 digits with commas would overflow the text; no count here is that large. */
    if (len > 15) {
        memcpy(f.text, plain, len + 1);
        return f;
    }
    for (size_t i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            f.text[used++] = ',';
        f.text[used++] = plain[i];
    }
    f.text[used] = '\0';
    return f;
}

struct format format_rate(double per_second)
{
    struct format f;

    if (per_second >= 1e6)
        return scaled(per_second / 1e6, "M");
    if (per_second >= 1e3)
        return scaled(per_second / 1e3, "k");
    snprintf(f.text, sizeof(f.text), "%.0f", per_second);
    return f;
}

struct format format_byte_rate(double per_second)
{
    if (per_second >= 1e9)
        return scaled(per_second / 1e9, "GB/s");
    if (per_second >= 1e6)
        return scaled(per_second / 1e6, "MB/s");
    return scaled(per_second / 1e3, "kB/s");
}
