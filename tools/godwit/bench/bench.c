/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * godwit bench: one session with rings large enough for the greatest depth, and one run after the
 * other. Queues stay started between runs, as with a guest.
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
#define MEM_MIN      (16u << 20)
#define XEN_MEM_MIN  (1u << 20) /* memory that a domain grants is scarce */
#define PAGE         4096

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
};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Load:", 1},
    {"device", OPTION_DEVICE, "TYPE", 0, "device type: blk (default) or rng", 0},
    LOAD_OPTION_BLOCK_SIZE("[,SIZE...]"),
    LOAD_OPTION_DEPTH("[,N...]", "1,32"),
    LOAD_OPTION_QUEUES,
    LOAD_OPTION_WRITES("0"),
    LOAD_OPTION_FLUSHES("0"),
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

/* Checks that need more than one option. */
static void check(struct argp_state *state, struct bench_options *o)
{
    unsigned needed = max_of(&o->depths) * descriptors(o);
    const struct load_options load = load_of(o);

    load_options_check(state, &load);
    if (o->text == NULL)
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

/* ---- The session ---- */

/* For each request its buffers, header, status and indirect table; and the rings. */
static uint64_t memory_length(const struct bench_options *o)
{
    uint64_t block = (max_of(&o->block_sizes) + PAGE - 1) / PAGE * PAGE;
    uint64_t length = o->xen.domid != 0 ? XEN_MEM_MIN : MEM_MIN;

    length +=
        (uint64_t)o->n_queues * max_of(&o->depths) * (block + (uint64_t)o->segments * PAGE + PAGE);
    length += (uint64_t)o->n_queues * o->queue_size * 64;
    return (length + PAGE - 1) / PAGE * PAGE;
}

static int make_guest(struct bench *b)
{
    const struct bench_options *o = b->o;
    struct gw_guest_region region = {.kind = GW_GUEST_MEMFD, .length = memory_length(o)};
    int r = gw_guest_mem_new(&b->mem, GW_GUEST_UVA_HOST);

    if (r == 0)
        r = o->xen.domid != 0 ? bench_xen_memory(b, region.length)
                              : gw_guest_mem_add(b->mem, &region);
    for (unsigned i = 0; r == 0 && i < o->n_queues; i++) {
        struct gw_driver_config cfg = {.size = sizeof(cfg),
                                       .mem = b->mem,
                                       .index = i,
                                       .queue_size = o->queue_size,
                                       .indirect_max = o->is_indirect ? o->segments + 2 : 0,
                                       .packed = o->is_packed};
        r = gw_driver_new(&b->drivers[i], &cfg);
        if (r == 0 && o->xen.domid != 0)
            r = bench_xen_driver(b, &cfg, b->drivers[i]);
    }
    if (r < 0)
        message_print("cannot create %" PRIu64 " MiB of guest memory and %u rings: %s",
                      region.length >> 20, o->n_queues,
                      b->error[0] != '\0' ? b->error : strerror(-r));
    return r;
}

/* The virtio features to request for the rings. */
static uint64_t ring_features(const struct bench_options *o)
{
    uint64_t features = FEATURES_BIT(GW_F_RING_INDIRECT_DESC) | FEATURES_BIT(GW_F_RING_EVENT_IDX) |
                        FEATURES_BIT(GW_F_PROTOCOL_FEATURES) | FEATURES_BIT(GW_F_VERSION_1);

    if (o->is_packed)
        features |= FEATURES_BIT(GW_F_RING_PACKED);
    if (o->is_in_order)
        features |= FEATURES_BIT(GW_F_IN_ORDER);
    return features;
}

/* Whether the disk permits the load; reports why not. */
static bool suits_disk(const struct bench *b, uint64_t features)
{
    const struct bench_options *o = b->o;
    char why[256];

    if (features & FEATURES_BIT(VIRTIO_BLK_F_RO) && (o->write_percent > 0 || o->is_verified)) {
        message_print("the disk is read-only: --writes and --verify are not possible");
        return false;
    }
    if (o->flush_percent > 0 && !(features & FEATURES_BIT(VIRTIO_BLK_F_FLUSH))) {
        message_print("the disk does not offer FLUSH (9): --flushes is not possible");
        return false;
    }
    if (b->disk.n_queues < o->n_queues) {
        message_print("the disk has %u queues; use fewer --queues", b->disk.n_queues);
        return false;
    }
    for (unsigned i = 0; i < o->block_sizes.n; i++) {
        if (!disk_takes(&b->disk, o->block_sizes.values[i], o->segments, why, sizeof(why))) {
            message_print("%s", why);
            return false;
        }
    }
    return true;
}
/* After negotiation: read and check the disk's config space. Returns: an exit status. */
static int ask_disk(struct bench *b, uint64_t features)
{
    int r = disk_config_read(b->fe, features, &b->disk);

    if (r == -EOPNOTSUPP) {
        message_print("the back-end does not offer CONFIG (9), so it is not a disk");
        return COMMAND_COULD_NOT;
    }
    if (r < 0)
        return message_report_failure(b->target, b->fe, r, "reading the config space",
                                      gw_frontend_last_error());
    b->disk_bytes = b->disk.sectors * SECTOR_SIZE;
    return suits_disk(b, features) ? COMMAND_OK : COMMAND_COULD_NOT;
}

/* Connect, negotiate and start the rings. Returns: an exit status. */
static int start_device(struct bench *b)
{
    struct gw_frontend_options opt = {.size = sizeof(opt),
                                      .features = ring_features(b->o),
                                      .mem = b->mem,
                                      .drivers = b->drivers,
                                      .n_drivers = b->o->n_queues};
    uint64_t features = 0;
    int r, status;

    if (b->o->device == BENCH_BLK)
        opt.features |= disk_features;
    if (target_connect(b->target, b->fe) < 0)
        return message_report_unreachable(b->target);
    r = gw_frontend_get_features(b->fe, &features);
    if (r == 0 && b->o->is_in_order && !(features & FEATURES_BIT(GW_F_IN_ORDER))) {
        message_print("the back-end does not offer IN_ORDER (35)");
        return COMMAND_COULD_NOT;
    }
    if (r == 0)
        r = gw_frontend_negotiate(b->fe, &opt);
    if (r == 0 && b->o->device == BENCH_BLK) {
        status = ask_disk(b, features & opt.features);
        if (status != COMMAND_OK)
            return status;
    }
    if (r == 0)
        r = gw_frontend_start(b->fe, &opt);
    if (r == 0)
        backend_record_take(&b->backend, b->target, b->fe);
    if (r == -ERANGE) {
        message_print("%s; use fewer --queues", gw_frontend_last_error());
        return COMMAND_COULD_NOT;
    }
    if (r == -EOPNOTSUPP) {
        message_print("%s; no request was sent", gw_frontend_last_error());
        return COMMAND_COULD_NOT;
    }
    return r < 0 ? message_report_failure(b->target, b->fe, r, "starting the device",
                                          gw_frontend_last_error())
                 : COMMAND_OK;
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
                return message_report_failure(b->target, b->fe, r, what, b->error);
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

static int bench_target(struct bench *b)
{
    int status = make_guest(b) < 0 ? COMMAND_COULD_NOT : start_device(b), r;

    if (status == COMMAND_OK)
        status = run_all(b);
    if (status == COMMAND_OK) {
        r = gw_frontend_stop(b->fe, b->drivers, b->o->n_queues);
        if (r < 0)
            status = message_report_failure(b->target, b->fe, r, "stopping the device",
                                            gw_frontend_last_error());
    }
    b->verdict = status == COMMAND_OK ? judge(b) : verdict_of_status(status);
    status = verdict_status(b->verdict, false);
    evidence_take_messages(&b->evidence, b->fe, message_start_ns());
    evidence_take_output(&b->evidence, b->target);
    /* Show the completed runs even if a later one failed. */
    if (show(b) < 0 && status == COMMAND_OK)
        status = COMMAND_COULD_NOT;
    return status;
}

static int bench_run_command(const struct bench_options *o)
{
    struct bench *b = calloc(1, sizeof(*b));
    int status = COMMAND_COULD_NOT;

    if (b == NULL || (b->drivers = calloc(o->n_queues, sizeof(struct gw_driver *))) == NULL) {
        message_print("%s", strerror(ENOMEM));
        free(b);
        return COMMAND_COULD_NOT;
    }
    b->o = o;
    if ((o->json == NULL || output_try(o->json) == 0) &&
        (o->html == NULL || output_try(o->html) == 0) &&
        options_target(&b->target, &o->target, o->text, "back-end") == 0) {
        if (gw_frontend_new(&b->fe, NULL) == 0)
            status = bench_target(b);
        else
            message_print("%s", strerror(ENOMEM));
    }
    gw_frontend_free(b->fe);
    for (unsigned i = 0; i < o->n_queues; i++)
        gw_driver_free(b->drivers[i]);
    bench_xen_free(b);
    gw_guest_mem_free(b->mem);
    target_free(b->target);
    free(b->drivers);
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
