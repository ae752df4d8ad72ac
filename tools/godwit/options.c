/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Parsing of option values, and the options of every command with a target. */
#include "options.h"

#include "command.h"
#include "target/cmdline.h"
#include "target/tmpdir.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define FILE_SIZE (UINT64_C(256) << 20)

enum {
    OPTION_FILE = 0x2000,
    OPTION_FILE_SIZE,
    OPTION_START_TIMEOUT,
    OPTION_XEN_DOMAIN,
    OPTION_XEN_MEMORY,
    OPTION_XEN_EVENTS,
};

/* The highest domain id that is not reserved (DOMID_FIRST_RESERVED - 1). */
#define XEN_DOMAIN_MAX 0x7fef

static const struct argp_option target_options[] = {
    {NULL, 0, NULL, 0, "Back-ends:", 50},
    {"shared-file", OPTION_FILE, "FILE", 0,
     "disk file for {file}, created sparse if missing (default: a temporary file); further devices "
     "use FILE.2, FILE.3 and so on",
     0},
    {"file", OPTION_FILE, NULL, OPTION_ALIAS, NULL, 0},
    {"file-size", OPTION_FILE_SIZE, "SIZE", 0, "size of a created file (default: 256M)", 0},
    {"start-timeout", OPTION_START_TIMEOUT, "TIME", 0,
     "how long to wait for a back-end to listen (default: 10s; 2s for a socket path)", 0},
    {"verbose", 'v', NULL, 0, "pass on the output of the back-ends", 0},
    {0},
};

static error_t parse_target(int key, char *arg, struct argp_state *state)
{
    struct target_options *o = state->input;

    switch (key) {
    case OPTION_FILE:
        o->file = arg;
        break;
    case OPTION_FILE_SIZE:
        o->file_size = options_size(state, "file-size", arg, 512, INT64_MAX);
        break;
    case OPTION_START_TIMEOUT:
        o->start_ms = options_time(state, "start-timeout", arg, 1, 3600000);
        break;
    case 'v':
        o->is_verbose = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

const struct argp options_target_argp = {.options = target_options, .parser = parse_target};

static const struct argp_option xen_options[] = {
    {NULL, 0, NULL, 0, "Xen:", 45},
    {"xen-domain", OPTION_XEN_DOMAIN, "ID", 0,
     "use the memory of domain ID as guest memory; godwit-xen-agent drives the rings there", 0},
    {"xen-memory", OPTION_XEN_MEMORY, "KIND", 0,
     "how the back-end maps the domain's memory: foreign (default; by frame number), grant (by "
     "grant reference) or no-advance (grants, mapped only while in use)",
     0},
    {"xen-events", OPTION_XEN_EVENTS, NULL, 0,
     "let the back-end bind the domain's event channels, an extension of godwit's back-ends "
     "(default: godwit relays events to eventfds)",
     0},
    {0},
};

static error_t parse_xen(int key, char *arg, struct argp_state *state)
{
    static const char *const memories[] = {"foreign", "grant", "no-advance", NULL};
    struct options_xen *o = state->input;

    switch (key) {
    case OPTION_XEN_DOMAIN:
        o->domid = (uint32_t)options_number(state, "xen-domain", arg, 1, XEN_DOMAIN_MAX);
        break;
    case OPTION_XEN_MEMORY:
        o->memory = (unsigned)options_word(state, "xen-memory", arg, memories);
        break;
    case OPTION_XEN_EVENTS:
        o->has_events = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

const struct argp options_xen_argp = {.options = xen_options, .parser = parse_xen};

const char *options_file(struct target_options *o)
{
    static char *paths[OPTIONS_FILES_MAX]; /* files of this process */
    char **path = &paths[o->n_file], *name = NULL;
    int r = 0;

    if (o->file != NULL && o->n_file > 0 && asprintf(&name, "%s.%u", o->file, o->n_file + 1) < 0)
        r = -ENOMEM;
    if (r == 0 && *path == NULL)
        r = tmpdir_disk(path, name != NULL ? name : o->file,
                        o->file_size != 0 ? o->file_size : FILE_SIZE);
    free(name);
    if (r == 0)
        return *path;
    message_print("%s: %s", o->file != NULL ? o->file : "cannot create a file", strerror(-r));
    return NULL;
}

void options_check_target(struct argp_state *state, const char *text)
{
    static const char *const known[] = {"socket", "fd", "file", NULL};
    char unknown[32];

    /* An existing socket may have any name. */
    if (text != NULL && cmdline_unknown(text, known, unknown) && access(text, F_OK) != 0)
        argp_error(state, "unknown placeholder {%s}; use {socket}, {fd} or {file}", unknown);
}

int options_target(struct target **ret, const struct target_options *o, const char *text,
                   const char *name)
{
    struct target_options copy = *o;
    struct target_config cfg = {
        .text = text, .name = name, .start_ms = o->start_ms, .is_verbose = o->is_verbose};
    char error[256];
    int r;

    if (cmdline_has(text, "file") || o->file != NULL) {
        cfg.file = options_file(&copy);
        if (cfg.file == NULL)
            return -EIO;
    }
    r = target_new(ret, &cfg, error, sizeof(error));
    if (r < 0)
        message_print("%s: %s", name, error);
    return r;
}

/* Parse the number at the start of `text`; `ret_end` points to the rest. */
static bool parse_u64(const char *text, uint64_t *ret, const char **ret_end)
{
    unsigned long long value;
    char *end;

    if (text[0] < '0' || text[0] > '9') /* strtoull accepts blanks and signs */
        return false;
    errno = 0;
    value = strtoull(text, &end, 0);
    *ret = value;
    *ret_end = end;
    return errno == 0;
}

uint64_t options_number(struct argp_state *state, const char *option, const char *text,
                        uint64_t min, uint64_t max)
{
    uint64_t value = 0;
    const char *end = "";

    if (!parse_u64(text, &value, &end) || *end != '\0' || value < min || value > max)
        argp_error(state, "--%s=%s is not a number from %" PRIu64 " to %" PRIu64, option, text, min,
                   max);
    return value;
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

uint64_t options_size(struct argp_state *state, const char *option, const char *text, uint64_t min,
                      uint64_t max)
{
    uint64_t value = 0;
    const char *end = "";

    if (!parse_size(text, &value, &end) || *end != '\0')
        argp_error(state, "--%s=%s is not a size: a number, then nothing, K, M, G or T", option,
                   text);
    if (value < min || value > max)
        argp_error(state, "--%s=%s is not from %" PRIu64 " to %" PRIu64, option, text, min, max);
    return value;
}

unsigned options_block_size(struct argp_state *state, const char *text)
{
    unsigned size = (unsigned)options_size(state, "block-size", text, 512, 1U << 20);

    if (size % 512 != 0)
        argp_error(state, "--block-size=%s is not a multiple of 512", text);
    return size;
}

/* Returns: milliseconds; NaN if the text is not a time. */
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
    return NAN;
}

uint64_t options_short_time(struct argp_state *state, const char *option, const char *text,
                            uint64_t max_ns)
{
    double ns = parse_time(text) * 1e6;

    if (isnan(ns) || ns > (double)max_ns)
        argp_error(state, "--%s=%s is not a time of up to %" PRIu64 " ms, such as 50us or 2ms",
                   option, text, max_ns / 1000000);
    return (uint64_t)llround(ns);
}

unsigned options_time(struct argp_state *state, const char *option, const char *text,
                      unsigned min_ms, unsigned max_ms)
{
    double ms = parse_time(text);

    if (isnan(ms) || ms < min_ms || ms > max_ms)
        argp_error(state, "--%s=%s is not a time from %u ms to %u s, such as 10ms, 5s or 2m",
                   option, text, min_ms, max_ms / 1000);
    return (unsigned)lround(ms);
}

void options_list(struct argp_state *state, const char *option, const char *text, unsigned min,
                  unsigned max, struct options_list *ret)
{
    const char *end = text;
    uint64_t value = 0;

    ret->n = 0;
    do {
        if (!parse_size(end, &value, &end) || (*end != '\0' && *end != ',') || value < min ||
            value > max)
            argp_error(state, "--%s=%s is not a comma-separated list of numbers from %u to %u",
                       option, text, min, max);
        if (ret->n == OPTIONS_LIST_MAX)
            argp_error(state, "--%s=%s: more than %u numbers", option, text, OPTIONS_LIST_MAX);
        ret->values[ret->n++] = (unsigned)value;
    } while (*end++ == ',');
}

int options_word(struct argp_state *state, const char *option, const char *text,
                 const char *const *words)
{
    char known[128] = "";
    size_t used = 0;

    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], text) == 0)
            return i;
        if (used < sizeof(known))
            used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", i == 0 ? "" : ", ",
                                     words[i]);
    }
    argp_error(state, "--%s=%s is not one of: %s", option, text, known);
    return 0;
}

uint64_t options_seed(void)
{
    uint32_t random = 1;

    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        random = (uint32_t)time(NULL);
    return random;
}

/* Print one argument, quoted for a shell. */
static void quote(FILE *out, const char *arg)
{
    if (arg[0] != '\0' && strspn(arg, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                      "0123456789-_=./,:+@%") == strlen(arg)) {
        fprintf(out, " %s", arg);
        return;
    }
    fputs(" '", out);
    for (; *arg != '\0'; arg++) {
        if (*arg == '\'')
            fputs("'\\''", out);
        else
            fputc(*arg, out);
    }
    fputc('\'', out);
}

char *options_again(int argc, char **argv, const uint64_t *seed)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (out == NULL)
        return NULL;
    fputs(argv[0], out); /* "godwit COMMAND" */
    if (seed != NULL)
        fprintf(out, " --seed=%" PRIu64, *seed);
    for (int i = 1; i < argc; i++)
        quote(out, argv[i]);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}
