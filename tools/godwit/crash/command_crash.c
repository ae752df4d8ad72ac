/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* godwit crash: its command line, target and report files. crash.c does the work. */
#include "command.h"
#include "crash_report.h"
#include "format.h"
#include "html/page.h"
#include "load_options.h"
#include "output.h"
#include "progress.h"
#include "text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TIME_MAX_MS 86400000u

struct crash_command {
    struct target_options target;
    struct crash_options crash;
    const char *text;                /* command line of the target */
    const char *json, *junit, *html; /* report files; NULL: none */
    char *command_line;              /* repeats the run */
    enum text_color color;
    bool has_seed, is_quiet;
};

enum {
    OPTION_KILLS = 'n',
    OPTION_EXACT = 0x1000,
    OPTION_HANDOVERS,
    OPTION_MAX_RECOVERY,
    OPTION_TIMEOUT,
    OPTION_REQUEST_TIMEOUT,
    OPTION_JSON,
    OPTION_JUNIT,
    OPTION_HTML,
    OPTION_QUIET,
};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Kills:", 1},
    {"kills", OPTION_KILLS, "N", 0, "number of kills (default: 100)", 0},
    {"exact", OPTION_EXACT, "PERCENT", 0,
     "share of the kills under load that single-step to a completion first (default: 30; use 0 if "
     "tracing is not permitted)",
     0},
    {"handovers", OPTION_HANDOVERS, "PERCENT", 0,
     "share of back-ends that are suspended with requests in flight instead of killed, if they "
     "support it (default: 10)",
     0},
    LOAD_OPTION_SEED("random seed (default: a new one); reuse it to reproduce a run"),

    {NULL, 0, NULL, 0, "Load:", 2},
    LOAD_OPTION_QUEUES,
    LOAD_OPTION_PACKED,
    LOAD_OPTION_IN_ORDER,
    LOAD_OPTION_QUEUE_SIZE("a power of two (default: 256, or as the depth requires)"),
    LOAD_OPTION_DEPTH("", "32"),
    LOAD_OPTION_BLOCK_SIZE(""),
    LOAD_OPTION_WRITES("60"),
    LOAD_OPTION_FLUSHES("5"),
    LOAD_OPTION_DISK_SIZE("16M"),

    {NULL, 0, NULL, 0, "Time:", 3},
    {"max-recovery", OPTION_MAX_RECOVERY, "TIME", 0,
     "fail if the first completion takes longer than TIME after a connection", 0},
    {"timeout", OPTION_TIMEOUT, "TIME", 0, "time limit of the whole run (default: 10m)", 0},
    {"request-timeout", OPTION_REQUEST_TIMEOUT, "TIME", 0,
     "time limit of one message or request (default: 10s)", 0},

    {NULL, 0, NULL, 0, "Reports (FILE may be - for stdout):", 4},
    {"json", OPTION_JSON, "FILE", 0, "write the complete results as JSON", 0},
    {"junit", OPTION_JUNIT, "FILE", 0, "write the checks as JUnit test cases", 0},
    {"html", OPTION_HTML, "FILE", 0, "write one HTML page, as godwit report makes it", 0},
    {"quiet", OPTION_QUIET, NULL, 0, "do not show progress", 0},
    {0},
};

static struct load_options load_of(struct crash_command *c)
{
    struct crash_options *o = &c->crash;

    return (struct load_options){
        .n_queues = &o->n_queues,
        .queue_size = &o->queue_size,
        .packed = &o->is_packed,
        .in_order = &o->is_in_order,
        .depth = &o->depth,
        .block_size = &o->block_size,
        .write_percent = &o->write_percent,
        .flush_percent = &o->flush_percent,
        .write_percent_min = 1, /* only writes can be lost */
        .disk_bytes = &o->disk_bytes,
        .seed = &o->seed,
        .has_seed = &c->has_seed,
        .is_power_of_two = true,
    };
}

/* Checks that need more than one option. */
static void check(struct argp_state *state, struct crash_command *c)
{
    const struct crash_options *o = &c->crash;
    const struct load_options load = load_of(c);

    if (c->text == NULL)
        argp_error(state, "no TARGET; give a command line with {socket}");
    options_check_target(state, c->text);
    if (strstr(c->text, "{socket}") == NULL && strstr(c->text, "{fd}") == NULL)
        argp_error(state, "godwit can only kill a back-end that it starts: TARGET must be a "
                          "command line with {socket} or {fd}");
    load_options_check(state, &load);
    if (o->queue_size != 0 && o->depth * 3 > o->queue_size)
        argp_error(state, "--depth=%u needs %u descriptors, but the rings have %u", o->depth,
                   o->depth * 3, o->queue_size);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct crash_command *c = state->input;
    struct crash_options *o = &c->crash;
    const struct load_options load = load_of(c);

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &c->target;
        state->child_inputs[1] = &c->color;
        break;
    case OPTION_KILLS:
        o->kills = (unsigned)option_number(state, "kills", arg, 1, 10000000);
        break;
    case OPTION_EXACT:
        o->exact_percent = (unsigned)option_number(state, "exact", arg, 0, 100);
        break;
    case OPTION_HANDOVERS:
        o->handover_percent = (unsigned)option_number(state, "handovers", arg, 0, 90);
        break;
    case OPTION_MAX_RECOVERY:
        o->max_recovery_ns =
            UINT64_C(1000000) * option_time(state, "max-recovery", arg, 1, TIME_MAX_MS);
        break;
    case OPTION_TIMEOUT:
        o->timeout_ms = option_time(state, "timeout", arg, 100, TIME_MAX_MS);
        break;
    case OPTION_REQUEST_TIMEOUT:
        o->request_ms = option_time(state, "request-timeout", arg, 10, TIME_MAX_MS);
        break;
    case OPTION_JSON:
        c->json = arg;
        break;
    case OPTION_JUNIT:
        c->junit = arg;
        break;
    case OPTION_HTML:
        c->html = arg;
        break;
    case OPTION_QUIET:
        c->is_quiet = true;
        break;
    case ARGP_KEY_ARG:
        if (c->text != NULL)
            argp_error(state, "more than one TARGET; quote a command line: 'PROGRAM ... {socket}'");
        c->text = arg;
        break;
    case ARGP_KEY_END:
        check(state, c);
        break;
    default:
        return load_options_parse(key, arg, state, &load);
    }
    return 0;
}

static void tell_progress(const struct crash_progress *p, void *arg)
{
    char line[160];

    snprintf(line, sizeof(line), "%5.1f s  %s of %s kills  %s requests  recovery %s",
             (double)p->elapsed_ns / 1e9, format_count(p->n_kills).text,
             format_count(p->n_kills_wanted).text, format_count(p->requests).text,
             format_time(p->recovery_p50).text);
    progress_show(arg, p->elapsed_ns, line);
}

static int write_report(const struct crash_report *r, crash_report_form *form, const char *path)
{
    struct output o;

    if (path == NULL)
        return 0;
    if (output_begin(&o) != NULL)
        form(r, o.file);
    return output_end(&o, path);
}

static int write_html(const struct crash_report *r, const char *path)
{
    struct output json;

    if (path == NULL)
        return 0;
    if (output_begin(&json) != NULL)
        crash_report_json(r, json.file);
    return page_write(&json, NULL, path);
}

/* Returns: 0; a negative errno if one of the files could not be written. */
static int write_reports(const struct crash_command *c, const struct crash_report *r)
{
    int json = write_report(r, crash_report_json, c->json);
    int junit = write_report(r, crash_report_junit, c->junit);
    int html = write_html(r, c->html);

    return json < 0 ? json : junit < 0 ? junit : html;
}

static bool is_stdout(const char *path)
{
    return path != NULL && strcmp(path, "-") == 0;
}

/* The text goes where no other form goes. */
static void show_text(const struct crash_command *c, const struct crash_report *r)
{
    bool has_stdout = is_stdout(c->json) || is_stdout(c->junit) || is_stdout(c->html);
    struct text_report text;

    if (text_begin(&text) != NULL)
        crash_report_text(r, text.file);
    text_end(&text, c->color, has_stdout ? stderr : stdout);
}

static int crash(struct crash_command *c, struct target *target)
{
    struct crash_result result;
    struct crash_report report = {.options = &c->crash,
                                  .result = &result,
                                  .target = c->text,
                                  .command_line = c->command_line,
                                  .began = time(NULL)};
    struct progress progress;
    int status;

    progress_init(&progress);
    crash_run(&c->crash, target, c->is_quiet ? NULL : tell_progress, &progress, &result);
    progress_done(&progress);
    show_text(c, &report);
    status = verdict_status(crash_report_verdict(&report), false);
    if (write_reports(c, &report) < 0 && status == COMMAND_OK)
        status = COMMAND_COULD_NOT;
    return status;
}

static int run(struct crash_command *c)
{
    struct target *target = NULL;
    int status = COMMAND_COULD_NOT;

    if ((c->json != NULL && output_try(c->json) < 0) ||
        (c->junit != NULL && output_try(c->junit) < 0) ||
        (c->html != NULL && output_try(c->html) < 0))
        return COMMAND_COULD_NOT;
    if (options_target(&target, &c->target, c->text, "back-end") < 0)
        return COMMAND_COULD_NOT;
    status = crash(c, target);
    target_free(target);
    return status;
}

int command_crash(int argc, char **argv)
{
    static const struct argp_child children[] = {
        {&options_target_argp, 0, NULL, 0}, {&text_color_argp, 0, NULL, 0}, {0}};
    const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "TARGET",
        .doc = "Kill a disk back-end with SIGKILL at random moments under a verified load, restart "
               "it with its inflight region, and verify that no request is lost or completed twice "
               "and no acknowledged write is missing.\vTARGET is a command line that contains "
               "{socket} (or {fd}); {file} is the disk, which must outlive the back-end.",
        .children = children,
    };
    struct crash_command c = {.crash = {.kills = 100,
                                        .n_queues = 1,
                                        .depth = 32,
                                        .block_size = 4096,
                                        .write_percent = 60,
                                        .flush_percent = 5,
                                        .exact_percent = 30,
                                        .handover_percent = 10,
                                        .timeout_ms = 600000,
                                        .request_ms = 10000}};
    int status;

    if (argp_parse(&argp, argc, argv, 0, NULL, &c) != 0)
        return COMMAND_COULD_NOT;
    if (!c.has_seed)
        c.crash.seed = options_seed();
    c.command_line = options_again(argc, argv, c.has_seed ? NULL : &c.crash.seed);
    if (c.command_line == NULL) {
        message_print("%s", strerror(ENOMEM));
        return COMMAND_COULD_NOT;
    }
    status = run(&c);
    free(c.command_line);
    return status;
}
