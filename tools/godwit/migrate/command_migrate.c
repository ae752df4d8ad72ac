/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * godwit migrate from its command line to its exit: targets, run, verdict and reports. migrate.c
 * performs the migration.
 */
#include "command_migrate.h"

#include "command.h"
#include "link/link_tcp.h"
#include "output.h"
#include "progress.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TARGETS_MAX (2 * MIGRATION_DEVICES_MAX)

static bool is_half(const struct migrate_command *c)
{
    return c->listen != NULL || c->migration.to != NULL;
}

/* A target that stands for the other half's back-end: never started, known by its name. */
static int make_other_half(struct target **ret, const char *address, const char *name)
{
    const struct target_config cfg = {.text = address, .name = name};
    char error[256];
    int r = target_new(ret, &cfg, error, sizeof(error));

    if (r < 0)
        message_print("%s: %s", name, error);
    return r;
}

/* Source and destination of each device. */
static int make_targets(struct migrate_command *c, struct target *targets[TARGETS_MAX])
{
    /* With several hops the roles change. */
    bool has_roles = c->migration.hops == 1;
    const char *names[] = {has_roles ? "source" : "A", has_roles ? "destination" : "B"};
    char name[32];
    int r = 0;

    for (unsigned i = 0; r == 0 && i < 2 * c->migration.n_devices; i++) {
        if (c->migration.n_devices == 1)
            snprintf(name, sizeof(name), "%s", names[i % 2]);
        else
            snprintf(name, sizeof(name), "%s %u", names[i % 2], i / 2 + 1);
        if (i % 2 == (c->listen != NULL ? 0 : 1) && is_half(c)) {
            r = make_other_half(&targets[i], c->texts[i % 2], name);
            continue;
        }
        c->target.n_file = i / 2;
        r = options_target(&targets[i], &c->target, c->texts[i % 2], name);
    }
    return r;
}

static int write_reports(const struct migrate_command *c, const struct report *report)
{
    const struct {
        const char *path;
        report_form *form;
    } files[] = {{c->json, report_json}, {c->junit, report_junit}};
    int r = 0;

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (files[i].path != NULL && report_write(report, files[i].form, files[i].path) < 0)
            r = -EIO;
    }
    if (c->html != NULL && report_write_html(report, c->html) < 0)
        r = -EIO;
    return r;
}

/* A stream that no report is written to. */
static FILE *verdict_stream(const struct migrate_command *c)
{
    const char *const paths[] = {c->json, c->junit, c->html};

    for (size_t i = 0; i < 3; i++) {
        if (paths[i] != NULL && strcmp(paths[i], "-") == 0)
            return stderr;
    }
    return stdout;
}

static int migrate(struct migrate_command *c, struct target *targets[TARGETS_MAX])
{
    struct migration_result *result = calloc(1, sizeof(*result));
    struct report report = {.options = &c->migration,
                            .result = result,
                            .source = c->texts[0],
                            .destination = c->texts[1],
                            .command_line = c->command_line,
                            .max_downtime_ns = (uint64_t)c->max_downtime_ms * 1000000,
                            .is_strict = c->is_strict,
                            .began = time(NULL)};
    struct progress progress;
    struct text_report text;
    int r, status;

    if (result == NULL) {
        message_print("%s", strerror(ENOMEM));
        return COMMAND_COULD_NOT;
    }
    progress_init(&progress);
    r = migration_run(&c->migration, targets, c->is_quiet ? NULL : progress_tell, &progress,
                      result);
    progress_done(&progress);
    if (r < 0 && result->n_faults == 0)
        message_print("%s", strerror(-r));
    if (r < 0 && result->verdict == MIGRATION_PASSED)
        result->verdict = MIGRATION_COULD_NOT;
    if (text_begin(&text) != NULL)
        report_text(&report, text.file);
    text_end(&text, c->color, verdict_stream(c));
    status = report_status(&report);
    if (write_reports(c, &report) < 0 && status == COMMAND_OK)
        status = COMMAND_COULD_NOT;
    migration_result_done(result);
    free(result);
    return status;
}

/* Report changes of the connection between the halves. */
static void tell(const char *text)
{
    message_print("%s", text);
}

static int start_listening(struct migrate_command *c)
{
    static char name[LINK_ADDRESS_MAX];
    char why[256];
    int r = link_tcp_listen(c->listen, &c->migration.listen_fd, name, why, sizeof(why));

    if (r < 0) {
        message_print("%s", why);
        return r;
    }
    c->migration.listen = name;
    message_print("listening at %s; any host that can connect there can send a guest", name);
    return 0;
}

static int run(struct migrate_command *c)
{
    const char *const paths[] = {c->json, c->junit, c->html};
    struct target *targets[TARGETS_MAX] = {NULL};
    int status = COMMAND_COULD_NOT, r = 0;

    for (size_t i = 0; r == 0 && i < 3; i++)
        r = paths[i] != NULL ? output_try(paths[i]) : 0;
    c->migration.notice = tell;
    c->migration.listen_fd = -1;
    if (r == 0 && c->listen != NULL)
        r = start_listening(c);
    if (r == 0 && make_targets(c, targets) == 0)
        status = migrate(c, targets);
    if (c->migration.listen_fd >= 0)
        close(c->migration.listen_fd);
    for (unsigned i = 0; i < TARGETS_MAX; i++)
        target_free(targets[i]);
    return status;
}

int command_migrate(int argc, char **argv)
{
    struct migrate_command c = {.migration = {.hops = 1,
                                              .n_devices = 1,
                                              .n_queues = 1,
                                              .depth = 32,
                                              .block_size = 4096,
                                              .write_percent = 50,
                                              .replace_log_ms = 100,
                                              .region_ms = 250,
                                              .call_fd_ms = 150}};
    int status;

    if (migrate_parse(&c, argc, argv) != 0)
        return COMMAND_COULD_NOT;
    if (!c.has_seed)
        c.migration.seed = options_seed();
    c.command_line = options_again(argc, argv, c.has_seed ? NULL : &c.migration.seed);
    if (c.command_line == NULL) {
        message_print("%s", strerror(ENOMEM));
        return COMMAND_COULD_NOT;
    }
    status = run(&c);
    free(c.command_line);
    return status;
}
