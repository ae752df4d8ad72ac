/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* godwit report: makes an HTML page from a JSON report, which may come from any host. */
#include "command.h"
#include "output.h"
#include "page.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct report_options {
    const char *file;   /* "-": stdin */
    const char *output; /* "-": stdout */
};

static const struct argp_option options[] = {
    {"output", 'o', "FILE", 0, "write the page to FILE (default: -, stdout)", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct report_options *o = state->input;

    switch (key) {
    case 'o':
        o->output = arg;
        break;
    case ARGP_KEY_ARG:
        if (o->file != NULL)
            argp_error(state, "more than one FILE; each report is a page of its own");
        o->file = arg;
        break;
    case ARGP_KEY_END:
        if (o->file == NULL)
            argp_error(state, "no FILE; give a file that --json has written, or - for stdin");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* Read up to the end, or a byte more than a report may have. Returns: 0; a negative errno. */
static int read_all(int fd, struct output *o)
{
    static char buf[1 << 16];
    ssize_t n = 1;

    if (output_begin(o) == NULL)
        return -ENOMEM;
    for (size_t total = 0; n > 0 && total <= PAGE_INPUT_MAX;) {
        n = read(fd, buf, sizeof(buf));
        if (n < 0 && errno == EINTR) {
            n = 1;
            continue;
        }
        if (n < 0)
            return -errno;
        if (fwrite(buf, 1, (size_t)n, o->file) != (size_t)n)
            return -ENOMEM;
        total += (size_t)n;
    }
    return 0;
}

static int read_report(const char *path, struct output *o)
{
    int fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    int r = fd < 0 ? -errno : read_all(fd, o);

    if (fd >= 0)
        close(fd);
    if (r < 0)
        message_print("%s cannot be read: %s%s", path, strerror(-r),
                      r == -ENOENT ? "; give a file that --json has written" : "");
    return r;
}

static int make(const struct report_options *o)
{
    struct output json = {.text = NULL};

    if (read_report(o->file, &json) < 0) {
        if (json.file != NULL)
            fclose(json.file);
        free(json.text);
        return COMMAND_COULD_NOT;
    }
    return page_write(&json, o->file, o->output) < 0 ? COMMAND_COULD_NOT : COMMAND_OK;
}

int command_report(int argc, char **argv)
{
    const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "FILE",
        .doc = "Make one HTML page from the JSON report of migrate, crash, bench or probe, also "
               "later and on another host. The page needs no scripts, files or network.\v"
               "FILE is what --json has written (-: stdin). The page is the same, byte for byte, "
               "as that of --html.",
    };
    struct report_options o = {.output = "-"};

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return COMMAND_COULD_NOT;
    return make(&o);
}
