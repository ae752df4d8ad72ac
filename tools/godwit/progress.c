/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The progress of a command on stderr, cut to the width of the terminal. */
#include "progress.h"

#include "format.h"
#include "report/report.h"

#include <inttypes.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PLAIN_INTERVAL_NS 2000000000u /* between lines, without a terminal */
#define LINE_SIZE         256

void progress_init(struct progress *p)
{
    *p = (struct progress){.is_terminal = isatty(STDERR_FILENO) == 1};
}

static void make_line(const struct migration_progress *p, char *line)
{
    char hop[24] = "";
    int n;

    if (p->n_hops > 1)
        snprintf(hop, sizeof(hop), "hop %u of %u  ", p->hop + 1, p->n_hops);
    n = snprintf(line, LINE_SIZE, "%5.1f s  %s%-11s", (double)p->elapsed_ns / 1e9, hop,
                 migration_phase_name(p->phase));
    if (p->phase >= MIGRATION_PHASE_COPY && p->phase <= MIGRATION_PHASE_FINAL)
        n += snprintf(line + n, LINE_SIZE - (size_t)n,
                      "  round %u  %s dirty pages  %s left  copying %s", p->round,
                      format_count(p->dirty_pages).text, format_bytes(p->remaining).text,
                      format_byte_rate(p->copy_rate).text);
    if (p->phase == MIGRATION_PHASE_POSTCOPY)
        n +=
            snprintf(line + n, LINE_SIZE - (size_t)n, "  %s left", format_bytes(p->remaining).text);
    if (p->requests_rate > 0 && n < LINE_SIZE)
        snprintf(line + n, LINE_SIZE - (size_t)n, "  load %s/s (%s)  worst stall %s",
                 format_rate(p->requests_rate).text, format_byte_rate(p->bytes_rate).text,
                 format_time(p->stall_ns).text);
}

static int width(void)
{
    struct winsize size;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col < 20)
        return 80;
    return size.ws_col;
}

void progress_show(struct progress *p, uint64_t elapsed_ns, const char *line)
{
    if (p->is_terminal) {
        fprintf(stderr, "\r\033[K%.*s", width() - 1, line);
        fflush(stderr);
        p->has_line = true;
        return;
    }
    if (elapsed_ns - p->last_ns < PLAIN_INTERVAL_NS)
        return;
    fprintf(stderr, "%s\n", line);
    p->last_ns = elapsed_ns;
}

void progress_tell(const struct migration_progress *p, void *arg)
{
    char line[LINE_SIZE];

    make_line(p, line);
    progress_show(arg, p->elapsed_ns, line);
}

void progress_done(struct progress *p)
{
    if (p->has_line)
        fputs("\r\033[K", stderr);
    fflush(stderr);
    p->has_line = false;
}
