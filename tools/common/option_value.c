/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "option_value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Parse the number at the start of `text`; `ret_end` points to the rest. */
static bool parse_u64(const char *text, uint64_t *ret, const char **ret_end)
{
    bool is_hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    unsigned long long value;
    char *end;

    if (text[0] < '0' || text[0] > '9') /* strtoull accepts blanks and signs */
        return false;
    errno = 0;
    value = strtoull(text, &end, is_hex ? 16 : 10);
    *ret = value;
    *ret_end = end;
    return errno == 0;
}

/* Parse a size up to `*ret_end`. */
static bool parse_size(const char *text, uint64_t *ret, const char **ret_end)
{
    static const char suffixes[] = "KMGT";
    const char *suffix;
    unsigned shift;

    if (!parse_u64(text, ret, ret_end))
        return false;
    if (**ret_end == '\0' || (suffix = strchr(suffixes, **ret_end)) == NULL)
        return true;
    shift = 10 * (unsigned)(suffix - suffixes + 1);
    if (*ret > UINT64_MAX >> shift)
        return false;
    *ret <<= shift;
    (*ret_end)++;
    return true;
}

/* Returns: milliseconds; -1 if the text is not a duration. */
static double parse_time(const char *text)
{
    static const struct {
        const char *name;
        double ms;
    } units[] = {{"", 1000},   {"s", 1000},  {"ms", 1},     {"m", 60000},
                 {"us", 1e-3}, {"ns", 1e-6}, {"h", 3600000}};
    char *end;
    double value = strtod(text, &end);

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (text[0] >= '0' && text[0] <= '9' && strcmp(end, units[i].name) == 0)
            return value * units[i].ms;
    }
    return -1;
}

bool value_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
                  struct value_error *why)
{
    uint64_t value = 0;
    const char *end = "";

    if (!parse_u64(text, &value, &end) || *end != '\0' || value < min || value > max) {
        snprintf(why->text, sizeof(why->text), "is not a number from %" PRIu64 " to %" PRIu64, min,
                 max);
        return false;
    }
    *ret = value;
    return true;
}

/* A size as a person would write it. */
static const char *size_text(uint64_t size, char text[32])
{
    static const char *const suffixes[] = {"", "K", "M", "G", "T"};
    unsigned n = 0;

    while (n < sizeof(suffixes) / sizeof(suffixes[0]) - 1 && size > 0 && size % 1024 == 0) {
        size /= 1024;
        n++;
    }
    snprintf(text, 32, "%" PRIu64 "%s", size, suffixes[n]);
    return text;
}

bool value_size(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
                struct value_error *why)
{
    uint64_t value = 0;
    const char *end = "";
    char least[32], most[32];

    if (!parse_size(text, &value, &end) || *end != '\0') {
        snprintf(why->text, sizeof(why->text),
                 "is not a size: a number, then nothing, K, M, G or T");
        return false;
    }
    if (value < min || value > max) {
        snprintf(why->text, sizeof(why->text), "is not a size from %s to %s", size_text(min, least),
                 size_text(max, most));
        return false;
    }
    *ret = value;
    return true;
}

bool value_word(const char *text, const char *const *words, int *ret, struct value_error *why)
{
    size_t used = 0;

    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], text) == 0) {
            *ret = i;
            return true;
        }
        if (used < sizeof(why->text))
            used += (size_t)snprintf(why->text + used, sizeof(why->text) - used, "%s%s",
                                     i == 0 ? "is not one of: " : ", ", words[i]);
    }
    return false;
}

/* ---- on the command line ---- */

uint64_t option_number(struct argp_state *state, const char *option, const char *text, uint64_t min,
                       uint64_t max)
{
    struct value_error why;
    uint64_t value = 0;

    if (!value_number(text, min, max, &value, &why))
        argp_error(state, "--%s=%s %s", option, text, why.text);
    return value;
}

uint64_t option_size(struct argp_state *state, const char *option, const char *text, uint64_t min,
                     uint64_t max)
{
    struct value_error why;
    uint64_t value = 0;

    if (!value_size(text, min, max, &value, &why))
        argp_error(state, "--%s=%s %s", option, text, why.text);
    return value;
}

unsigned option_time(struct argp_state *state, const char *option, const char *text,
                     unsigned min_ms, unsigned max_ms)
{
    double ms = parse_time(text);

    /* Inverted, because a NaN compares false. */
    if (!(ms >= min_ms && ms <= max_ms))
        argp_error(state, "--%s=%s is not a time from %u ms to %u s, such as 10ms, 5s or 2m",
                   option, text, min_ms, max_ms / 1000);
    return (unsigned)(ms + 0.5);
}

uint64_t option_short_time(struct argp_state *state, const char *option, const char *text,
                           uint64_t max_ns)
{
    double ns = parse_time(text) * 1e6;

    if (!(ns >= 0 && ns <= (double)max_ns))
        argp_error(state, "--%s=%s is not a time of up to %" PRIu64 " ms, such as 50us or 2ms",
                   option, text, max_ns / 1000000);
    return (uint64_t)(ns + 0.5);
}

void option_list(struct argp_state *state, const char *option, const char *text, unsigned min,
                 unsigned max, struct option_list *ret)
{
    const char *end = text;
    uint64_t value = 0;

    ret->n = 0;
    do {
        if (!parse_size(end, &value, &end) || (*end != '\0' && *end != ',') || value < min ||
            value > max)
            argp_error(state, "--%s=%s is not a comma-separated list of numbers from %u to %u",
                       option, text, min, max);
        if (ret->n == OPTION_LIST_MAX)
            argp_error(state, "--%s=%s: more than %u numbers", option, text, OPTION_LIST_MAX);
        ret->values[ret->n++] = (unsigned)value;
    } while (*end++ == ',');
}

int option_word(struct argp_state *state, const char *option, const char *text,
                const char *const *words)
{
    struct value_error why;
    int word = 0;

    if (!value_word(text, words, &word, &why))
        argp_error(state, "--%s=%s %s", option, text, why.text);
    return word;
}
