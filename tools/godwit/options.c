/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The options of every command with a target. */
#include "options.h"

#include "command.h"
#include "target/cmdline.h"
#include "target/tmpdir.h"

#include <errno.h>
#include <inttypes.h>
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
        o->file_size = option_size(state, "file-size", arg, 512, INT64_MAX);
        break;
    case OPTION_START_TIMEOUT:
        o->start_ms = option_time(state, "start-timeout", arg, 1, 3600000);
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
        o->domid = (uint32_t)option_number(state, "xen-domain", arg, 1, XEN_DOMAIN_MAX);
        break;
    case OPTION_XEN_MEMORY:
        o->memory = (unsigned)option_word(state, "xen-memory", arg, memories);
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
