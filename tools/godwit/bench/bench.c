/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * godwit bench: a session with each target, with rings large enough for the greatest depth, and one
 * run after the other. Queues stay started between runs, as with a guest.
 */
#include "bench.h"

#include "base/proto.h"
#include "command.h"
#include "html/page.h"
#include "load_options.h"
#include "output.h"
#include "probe/feature_names.h"
#include "report/json.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR_SIZE  512
#define SEGMENTS_MAX 32

enum {
    OPTION_DEVICE = 'd',
    OPTION_TIME = 't',
    OPTION_SEGMENTS = 0x1000,
    OPTION_INDIRECT,
    OPTION_SLEEP,
    OPTION_VERIFY,
    OPTION_WARM_UP,
    OPTION_STALL,
    OPTION_JSON,
    OPTION_HTML,
    OPTION_TARGETS,
};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Load:", 1},
    {"device", OPTION_DEVICE, "TYPE", 0, "device type: blk (default) or rng", 0},
    LOAD_OPTION_BLOCK_SIZE("[,SIZE...]"),
    LOAD_OPTION_DEPTH("[,N...]", "1,32"),
    LOAD_OPTION_QUEUES,
    LOAD_OPTION_WRITES("0"),
    LOAD_OPTION_FLUSHES("0"),
    {"targets", OPTION_TARGETS, "FILE", 0,
     "instead of TARGET: drive all sockets of FILE (-: stdin) at the same time, one path on a line",
     0},
    {"segments", OPTION_SEGMENTS, "N", 0, "buffers per request (default: 1)", 0},
    LOAD_OPTION_QUEUE_SIZE(
        "a power of two unless --packed (default: 256, or as the depth requires)"),
    LOAD_OPTION_PACKED,
    LOAD_OPTION_IN_ORDER,
    {"indirect", OPTION_INDIRECT, NULL, 0, "use an indirect descriptor table for each request", 0},
    {"sleep", OPTION_SLEEP, NULL, 0, "sleep until calls arrive instead of polling the used rings",
     0},
    {"verify", OPTION_VERIFY, NULL, 0,
     "write and check the contents of every block, which costs time", 0},
    LOAD_OPTION_SEED("random seed for the order of requests (default: 1)"),
    {NULL, 0, NULL, 0, "Measurement:", 2},
    {"time", OPTION_TIME, "TIME", 0, "duration of each run (default: 3s)", 0},
    {"duration", OPTION_TIME, NULL, OPTION_ALIAS, NULL, 0},
    {"warm-up", OPTION_WARM_UP, "TIME", 0, "warm-up before each run (default: 200ms)", 0},
    {"stall-timeout", OPTION_STALL, "TIME", 0,
     "time without a completion after which the back-end counts as hung (default: 10s)", 0},
    {"json", OPTION_JSON, "FILE", OPTION_ARG_OPTIONAL,
     "write JSON to FILE (default: -, stdout) instead of a table", 0},
    {"html", OPTION_HTML, "FILE", 0, "write one HTML page to FILE (-: stdout)", 0},
    {0},
};

static struct load_options load_of(struct bench_options *o)
{
    return (struct load_options){
        .n_queues = &o->n_queues,
        .queue_size = &o->queue_size,
        .packed = &o->is_packed,
        .in_order = &o->is_in_order,
        .depths = &o->depths,
        .block_sizes = &o->block_sizes,
        .write_percent = &o->write_percent,
        .flush_percent = &o->flush_percent,
        .seed = &o->seed,
    };
}

static error_t parse_load(int key, char *arg, struct argp_state *state)
{
    static const char *const devices[] = {"blk", "rng", NULL};
    struct bench_options *o = state->input;
    const struct load_options load = load_of(o);

    switch (key) {
    case OPTION_DEVICE:
        o->device = (enum bench_device)option_word(state, "device", arg, devices);
        break;
    case OPTION_SEGMENTS:
        o->segments = (unsigned)option_number(state, "segments", arg, 1, SEGMENTS_MAX);
        break;
    case OPTION_INDIRECT:
        o->is_indirect = true;
        break;
    case OPTION_SLEEP:
        o->is_sleeping = true;
        break;
    case OPTION_VERIFY:
        o->is_verified = true;
        break;
    default:
        return load_options_parse(key, arg, state, &load);
    }
    return 0;
}

static unsigned max_of(const struct option_list *list)
{
    unsigned max = 0;

    for (unsigned i = 0; i < list->n; i++)
        max = list->values[i] > max ? list->values[i] : max;
    return max;
}

/* The number of ring descriptors that one request uses. */
static unsigned descriptors(const struct bench_options *o)
{
    if (o->device == BENCH_RNG || o->is_indirect)
        return 1;
    return o->segments + 2; /* header and status */
}

static void check_list(struct argp_state *state, const struct bench_options *o)
{
    if (o->text != NULL)
        argp_error(state, "--targets and TARGET exclude each other");
    if (o->device != BENCH_BLK || o->xen.domid != 0 || o->is_sleeping)
        argp_error(state, "--targets supports neither --device=rng nor --xen-domain nor --sleep");
}

/* Checks that need more than one option. */
static void check(struct argp_state *state, struct bench_options *o)
{
    unsigned needed = max_of(&o->depths) * descriptors(o);
    const struct load_options load = load_of(o);

    load_options_check(state, &load);
    if (o->list != NULL)
        check_list(state, o);
    else if (o->text == NULL)
        argp_error(state, "no TARGET; give a socket path, or a command line with {socket}");
    options_check_target(state, o->text);
    if (o->device == BENCH_BLK) {
        for (unsigned i = 0; i < o->block_sizes.n; i++) {
            if (o->block_sizes.values[i] % (SECTOR_SIZE * o->segments) != 0)
                argp_error(state,
                           "--block-size=%u is not a multiple of %u, the sector size times "
                           "--segments",
                           o->block_sizes.values[i], SECTOR_SIZE * o->segments);
        }
    }
    if (o->xen.domid != 0 && o->device != BENCH_BLK)
        argp_error(state, "--xen-domain supports only --device=blk");
    if (o->queue_size == 0) {
        for (o->queue_size = 256; o->queue_size < needed && o->queue_size < 32768;)
            o->queue_size *= 2;
    }
    if (needed > o->queue_size)
        argp_error(state,
                   "--depth=%u needs %u descriptors, but the rings have %u; use --indirect or a "
                   "lower depth",
                   max_of(&o->depths), needed, o->queue_size);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct bench_options *o = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->target;
        state->child_inputs[1] = &o->xen;
        state->child_inputs[2] = &o->color;
        break;
    case OPTION_TIME:
        o->duration_ms = option_time(state, "time", arg, 10, 86400000);
        break;
    case OPTION_WARM_UP:
        o->warm_up_ms = option_time(state, "warm-up", arg, 0, 3600000);
        break;
    case OPTION_STALL:
        o->stall_ms = option_time(state, "stall-timeout", arg, 10, 3600000);
        break;
    case OPTION_HTML:
        o->html = arg;
        break;
    case OPTION_TARGETS:
        o->list = arg;
        break;
    case OPTION_JSON:
        o->json = arg != NULL ? arg : "-";
        break;
    case ARGP_KEY_ARG:
        if (o->text != NULL)
            argp_error(state, "more than one TARGET; quote a command line: 'PROGRAM ... {socket}'");
        o->text = arg;
        break;
    case ARGP_KEY_END:
        check(state, o);
        break;
    default:
        return parse_load(key, arg, state);
    }
    return 0;
}

static bool is_fault(int r)
{
    return r == -EILSEQ || r == -EIO || r == -EPROTO || r == -ETIMEDOUT || r == -ENOMSG;
}

static int run_all(struct bench *b)
{
    const struct bench_options *o = b->o;
    char what[64];

    for (unsigned i = 0; i < o->block_sizes.n; i++) {
        for (unsigned j = 0; j < o->depths.n; j++) {
            struct bench_run *run = &b->runs[b->n_runs];
            int r;

            run->block_size = o->block_sizes.values[i];
            run->depth = o->depths.values[j];
            snprintf(what, sizeof(what), "load of %u bytes at depth %u", run->block_size,
                     run->depth);
            r = b->xen != NULL           ? bench_xen(b, run)
                : o->device == BENCH_BLK ? bench_blk(b, run)
                                         : bench_rng(b, run);
            if (r < 0 && is_fault(r))
                return message_report_failure(b->sessions[b->failed].target,
                                              b->sessions[b->failed].fe, r, what, b->error);
            if (r < 0) {
                message_print("%s: %s", what, b->error[0] != '\0' ? b->error : strerror(-r));
                return COMMAND_COULD_NOT;
            }
            b->n_runs++;
        }
    }
    return COMMAND_OK;
}

/* Begin the printed JSON form. */
static void make_json(const struct bench *b, struct output *out)
{
    struct json_object *json = bench_json(b);

    if (output_begin(out) != NULL)
        json_print(json, out->file);
    json_object_put(json);
}

/* Returns: 0; a negative errno. */
static int show(const struct bench *b)
{
    const struct bench_options *o = b->o;
    struct text_report text;
    struct output out;
    int r = 0, html = 0;

    if (o->json == NULL && b->n_runs > 0) {
        if (text_begin(&text) != NULL)
            bench_text(b, text.file);
        text_end(&text, o->color, o->html != NULL && strcmp(o->html, "-") == 0 ? stderr : stdout);
    }
    if (o->json != NULL) {
        make_json(b, &out);
        r = output_end(&out, o->json);
    }
    if (o->html != NULL) {
        make_json(b, &out);
        html = page_write(&out, NULL, o->html);
    }
    return r < 0 ? r : html;
}

/* All runs have ended: decide whether they exercised what they were meant to. */
static enum verdict judge(const struct bench *b)
{
    uint64_t verified = 0;

    for (unsigned i = 0; i < b->n_runs; i++) {
        const struct bench_run *run = &b->runs[i];

        verified += run->verified;
        if (run->requests != 0)
            continue;
        message_print(
            "load of %u bytes at depth %u: no request was completed while measuring; try a longer "
            "--time",
            run->block_size, run->depth);
        return VERDICT_NOT_TESTED;
    }
    if (!b->o->is_verified || verified != 0)
        return VERDICT_PASSED;
    message_print("no block was read, so none was verified; use fewer --writes");
    return VERDICT_NOT_TESTED;
}

static enum verdict verdict_of_status(int status)
{
    return status == COMMAND_FAULT ? VERDICT_FAILED : VERDICT_INCONCLUSIVE;
}

/* Start all devices. Returns: an exit status. */
static int start_all(struct bench *b)
{
    int status = COMMAND_OK;

    for (unsigned i = 0; status == COMMAND_OK && i < b->n_sessions; i++) {
        b->failed = i;
        status = bench_session_start(b, &b->sessions[i]);
    }
    if (status == COMMAND_OK)
        bench_find_processes(b);
    return status;
}

static int stop_all(struct bench *b)
{
    int status = COMMAND_OK;

    for (unsigned i = 0; status == COMMAND_OK && i < b->n_sessions; i++) {
        b->failed = i;
        status = bench_session_stop(b, &b->sessions[i]);
    }
    return status;
}

static int bench_targets(struct bench *b)
{
    int status = start_all(b);

    if (status == COMMAND_OK)
        status = run_all(b);
    if (status == COMMAND_OK)
        status = stop_all(b);
    b->verdict = status == COMMAND_OK ? judge(b) : verdict_of_status(status);
    status = verdict_status(b->verdict, false);
    evidence_take_messages(&b->evidence, b->sessions[b->failed].fe, message_start_ns());
    evidence_take_output(&b->evidence, b->sessions[b->failed].target);
    /* Show the completed runs even if a later one failed. */
    if (show(b) < 0 && status == COMMAND_OK)
        status = COMMAND_COULD_NOT;
    return status;
}

static int no_memory(void)
{
    message_print("%s", strerror(ENOMEM));
    return -ENOMEM;
}

/* Make a session for each target. Returns: 0; a negative errno, which has been reported. */
static int make_sessions(struct bench *b)
{
    const struct bench_options *o = b->o;
    char error[256];
    int r = 0;

    if (o->list == NULL) {
        b->n_sessions = 1;
        b->sessions = calloc(1, sizeof(*b->sessions));
        return b->sessions == NULL
                   ? no_memory()
                   : options_target(&b->sessions->target, &o->target, o->text, "back-end");
    }
    r = bench_list_read(o->list, &b->sockets);
    b->sessions = r < 0 ? NULL : calloc(b->sockets.n, sizeof(*b->sessions));
    if (r == 0 && b->sessions == NULL)
        return no_memory();
    for (unsigned i = 0; r == 0 && i < b->sockets.n; i++) {
        const struct target_config cfg = {.text = b->sockets.paths[i],
                                          .name = b->sockets.paths[i],
                                          .start_ms = o->target.start_ms,
                                          .is_verbose = o->target.is_verbose};

        r = target_new(&b->sessions[i].target, &cfg, error, sizeof(error));
        if (r < 0)
            message_print("%s: %s", cfg.text, error);
        b->n_sessions++;
    }
    return r;
}

static int bench_run_command(const struct bench_options *o)
{
    struct bench *b = calloc(1, sizeof(*b));
    int status = COMMAND_COULD_NOT;

    if (b == NULL) {
        (void)no_memory();
        return COMMAND_COULD_NOT;
    }
    b->o = o;
    if ((o->json == NULL || output_try(o->json) == 0) &&
        (o->html == NULL || output_try(o->html) == 0) && make_sessions(b) == 0)
        status = bench_targets(b);
    for (unsigned i = 0; i < b->n_sessions; i++)
        bench_session_free(b, &b->sessions[i]);
    free(b->sessions);
    bench_list_free(&b->sockets);
    free(b);
    return status;
}

int command_bench(int argc, char **argv)
{
    static const struct argp_child children[] = {{&options_target_argp, 0, NULL, 0},
                                                 {&options_xen_argp, 0, NULL, 0},
                                                 {&text_color_argp, 0, NULL, 0},
                                                 {0}};
    const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "TARGET",
        .doc = "Drive a vhost-user back-end with random requests and measure throughput, latency "
               "and its CPU time.\vTARGET is the path of a socket, or a command line with {socket} "
               "(or {fd}) that godwit starts and ends. With several block sizes or depths there is "
               "a run for each pair.",
        .children = children,
    };
    struct bench_options o = {
        .depths = {.values = {1, 32}, .n = 2},
        .block_sizes = {.values = {4096}, .n = 1},
        .n_queues = 1,
        .segments = 1,
        .duration_ms = 3000,
        .warm_up_ms = 200,
        .stall_ms = 10000,
        .seed = 1,
    };

    int status;

    if (argp_parse(&argp, argc, argv, 0, NULL, &o) != 0)
        return COMMAND_COULD_NOT;
    o.command_line = options_again(argc, argv, NULL);
    status = bench_run_command(&o);
    free(o.command_line);
    return status;
}
