/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The options of godwit migrate, and what of them does not go together. */
#include "command_migrate.h"

#include "link/link_tcp.h"

#include <string.h>

#define TIME_MAX_MS        86400000u
#define LOG_OFFSET_MAX     (UINT64_C(1) << 46)
#define ROUNDS_MAX         100000
#define LINK_RATE_MIN      65536 /* bytes per second */
#define FAULT_DELAY_MAX_NS UINT64_C(1000000000)
#define XEN_MEMORY         (8u << 20)

enum {
    OPTION_BACKEND = 'b',
    OPTION_DEVICE = 'd',
    OPTION_QUEUES = 'q',
    OPTION_STRICT = 0x1000,
    OPTION_QUIET,
    OPTION_DEVICES,
    OPTION_QUEUE_SIZE,
    OPTION_PACKED,
    OPTION_IN_ORDER,
    OPTION_DEPTH,
    OPTION_BLOCK_SIZE,
    OPTION_WRITES,
    OPTION_FLUSHES,
    OPTION_READ_ONLY,
    OPTION_DISK_SIZE,
    OPTION_MEMORY,
    OPTION_MEMORY_TOP,
    OPTION_MEMORY_FORM,
    OPTION_HUGETLB,
    OPTION_FEATURES,
    OPTION_TO,
    OPTION_LISTEN,
    OPTION_RECONNECT,
    OPTION_HOPS,
    OPTION_CANCEL,
    OPTION_KEEP_BACKENDS,
    OPTION_ORDER,
    OPTION_SEED,
    OPTION_WARM_UP,
    OPTION_COPY_TIME,
    OPTION_SETTLE,
    OPTION_ROUND_PAUSE,
    OPTION_REPLACE_LOG,
    OPTION_LOG_OFFSET,
    OPTION_HOTPLUG,
    OPTION_NO_HOTPLUG,
    OPTION_SWAP_CALL_FDS,
    OPTION_KILL_AT,
    OPTION_POSTCOPY,
    OPTION_POSTCOPY_AT,
    OPTION_LINK_RATE,
    OPTION_FAULT_DELAY,
    OPTION_PAGE_ORDER,
    OPTION_CUT_LINK,
    OPTION_CUT_FOR,
    OPTION_MAX_DOWNTIME,
    OPTION_TIMEOUT,
    OPTION_REQUEST_TIMEOUT,
    OPTION_JSON,
    OPTION_JUNIT,
    OPTION_REPORT,
};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Who migrates:", 1},
    {"backend", OPTION_BACKEND, "COMMAND", 0,
     "a command line with {socket} in it for both ends, in place of SOURCE and DESTINATION", 0},
    {"device", OPTION_DEVICE, "TYPE", 0,
     "blk (default), rng, or generic, whose queues are started and left alone", 0},
    {"to", OPTION_TO, "HOST:PORT", 0,
     "only the source is here; the destination is the half that listens there, with the same "
     "options and the same disk",
     0},
    {"listen", OPTION_LISTEN, "HOST:PORT", 0,
     "only the destination is here, for a source with --to; whoever reaches the port can be it", 0},
    {"hops", OPTION_HOPS, "N", 0, "migrations, there and back (default 1)", 0},
    {"cancel", OPTION_CANCEL, "N", 0,
     "migrations that are cancelled at the source before the first (default 0)", 0},
    {"keep-backends", OPTION_KEEP_BACKENDS, NULL, 0,
     "go back to the same processes in later hops, start no new ones", 0},

    {NULL, 0, NULL, 0, "The machine and its load:", 2},
    {"memory", OPTION_MEMORY, "SIZE", 0, "of the guest (default 64M)", 0},
    {"memory-top", OPTION_MEMORY_TOP, "SIZE", 0,
     "address at which a last, sparse region ends, such as 1T", 0},
    {"memory-form", OPTION_MEMORY_FORM, "FORM", 0,
     "how back-ends are told of memory: table, slots, or auto (default: slots where offered)", 0},
    {"hugetlb", OPTION_HUGETLB, NULL, 0, "memory in pages of 2 MiB", 0},
    {"devices", OPTION_DEVICES, "N", 0,
     "devices in one guest memory, each with two back-ends of the same command lines (default 1)",
     0},
    {"queues", OPTION_QUEUES, "N", 0, "queues of each device (default 1)", 0},
    {"queue-size", OPTION_QUEUE_SIZE, "N", 0, "of the rings (default: chosen by the seed)", 0},
    {"packed", OPTION_PACKED, NULL, 0, "packed rings in place of split ones (RING_PACKED)", 0},
    {"in-order", OPTION_IN_ORDER, NULL, 0, "requests are completed in order (IN_ORDER)", 0},
    {"depth", OPTION_DEPTH, "N", 0, "requests in flight per queue (default 32)", 0},
    {"block-size", OPTION_BLOCK_SIZE, "SIZE", 0, "of a request (default 4K)", 0},
    {"writes", OPTION_WRITES, "PERCENT", 0,
     "of the requests (default 50); what is on the disk is lost", 0},
    {"flushes", OPTION_FLUSHES, "PERCENT", 0, "of the requests (default 0)", 0},
    {"read-only", OPTION_READ_ONLY, NULL, 0, "no writes; the disk is left as it is", 0},
    {"disk-size", OPTION_DISK_SIZE, "SIZE", 0, "of the disk that is used (default: up to 64M)", 0},
    {"features", OPTION_FEATURES, "MASK", 0,
     "virtio features wanted of those offered (default: all that are known here)", 0},
    {"seed", OPTION_SEED, "N", 0, "of everything that is random; repeats a run", 0},

    {NULL, 0, NULL, 0, "What happens meanwhile (0 for never):", 3},
    {"order", OPTION_ORDER, "ORDER", 0,
     "of the messages that turn the log on: qemu (default), rings, features, started or random", 0},
    {"replace-log-every", OPTION_REPLACE_LOG, "TIME", 0, "a new dirty log (default 100ms)", 0},
    {"log-offset", OPTION_LOG_OFFSET, "BYTES", 0,
     "where logs begin in their files (default 0), or random for anywhere, each of them", 0},
    {"hotplug", OPTION_HOTPLUG, "TIME", OPTION_ARG_OPTIONAL,
     "memory added or removed every TIME (default 250ms)", 0},
    {"no-hotplug", OPTION_NO_HOTPLUG, NULL, 0, "the memory stays as it is", 0},
    {"swap-call-fds-every", OPTION_SWAP_CALL_FDS, "TIME", 0, "new call fds (default 150ms)", 0},
    {"kill-at", OPTION_KILL_AT, "PHASE", 0,
     "a back-end killed and started again, with its inflight region, in each migration: never "
     "(default), warm-up, copy, stop, start, settle or random",
     0},

    {NULL, 0, NULL, 0, "Postcopy:", 4},
    {"postcopy", OPTION_POSTCOPY, NULL, 0,
     "the destination starts without the memory that is not there yet, and fetches it", 0},
    {"postcopy-at", OPTION_POSTCOPY_AT, "ROUND|TIME", 0,
     "after so many rounds (0: nothing is copied before), or so long after the log is on, such as "
     "500ms (default: the copy time)",
     0},
    {"link-rate", OPTION_LINK_RATE, "BYTES", 0,
     "per second, of pages sent after the switch (default: any)", 0},
    {"fault-delay", OPTION_FAULT_DELAY, "TIME", 0,
     "until a request for a page has come to the source, such as 50us (default 0)", 0},
    {"page-order", OPTION_PAGE_ORDER, "ORDER", 0,
     "of pages that nobody waits for: address (default), or random, by the seed", 0},
    {"cut-link-every", OPTION_CUT_LINK, "TIME", 0,
     "no page comes for a while, so often, at random (default 0: never)", 0},
    {"cut-link-for", OPTION_CUT_FOR, "TIME", 0, "up to so long, at random (default 20ms)", 0},

    {NULL, 0, NULL, 0, "Time:", 5},
    {"warm-up", OPTION_WARM_UP, "TIME", 0, "load before the migration (default 200ms)", 0},
    {"copy-time", OPTION_COPY_TIME, "TIME", 0, "rounds go on for at least (default 1s)", 0},
    {"round-pause", OPTION_ROUND_PAUSE, "TIME", 0, "between rounds (default 10ms)", 0},
    {"settle", OPTION_SETTLE, "TIME", 0, "load at the destination (default 300ms)", 0},
    {"max-downtime", OPTION_MAX_DOWNTIME, "TIME", 0, "a longer downtime is a failure", 0},
    {"timeout", OPTION_TIMEOUT, "TIME", 0, "of the whole run (default 60s)", 0},
    {"reconnect-timeout", OPTION_RECONNECT, "TIME", 0,
     "until a connection between the halves that is lost after the switch is given up (default "
     "30s)",
     0},
    {"request-timeout", OPTION_REQUEST_TIMEOUT, "TIME", 0,
     "of one message or request (default 10s)", 0},

    {NULL, 0, NULL, 0, "Reports (FILE may be - for stdout):", 6},
    {"json", OPTION_JSON, "FILE", 0, "everything", 0},
    {"junit", OPTION_JUNIT, "FILE", 0, "the checks as test cases", 0},
    {"report", OPTION_REPORT, "FILE", 0, "one HTML page with the timeline", 0},
    {"strict", OPTION_STRICT, NULL, 0,
     "exit with 1 also if only words that cannot lose data were not marked", 0},
    {"quiet", OPTION_QUIET, NULL, 0, "no progress", 0},
    {0},
};

static error_t parse_machine(int key, char *arg, struct argp_state *state)
{
    static const char *const forms[] = {"auto", "table", "slots", NULL};
    struct migrate_command *c = state->input;
    struct migration_options *o = &c->migration;

    switch (key) {
    case OPTION_MEMORY:
        o->memory = options_size(state, "memory", arg, 1 << 20, UINT64_C(1) << 46);
        break;
    case OPTION_MEMORY_TOP:
        o->memory_top = options_size(state, "memory-top", arg, 1 << 20, UINT64_C(1) << 52);
        break;
    case OPTION_MEMORY_FORM:
        o->mem_form = (enum gw_frontend_mem_form)options_word(state, "memory-form", arg, forms);
        break;
    case OPTION_HUGETLB:
        o->hugetlb = true;
        break;
    case OPTION_DEVICES:
        o->n_devices = (unsigned)options_number(state, "devices", arg, 1, MIGRATION_DEVICES_MAX);
        break;
    case OPTION_QUEUES:
        o->n_queues = (unsigned)options_number(state, "queues", arg, 1, 64);
        break;
    case OPTION_QUEUE_SIZE:
        o->queue_size = (unsigned)options_number(state, "queue-size", arg, 2, 32768);
        break;
    case OPTION_PACKED:
        o->packed = true;
        break;
    case OPTION_IN_ORDER:
        o->in_order = true;
        break;
    case OPTION_DEPTH:
        o->depth = (unsigned)options_number(state, "depth", arg, 1, 8192);
        break;
    case OPTION_BLOCK_SIZE:
        o->block_size = options_block_size(state, arg);
        break;
    case OPTION_WRITES:
        o->write_percent = (unsigned)options_number(state, "writes", arg, 1, 100);
        break;
    case OPTION_FLUSHES:
        o->flush_percent = (unsigned)options_number(state, "flushes", arg, 0, 100);
        break;
    case OPTION_READ_ONLY:
        o->read_only = true;
        break;
    case OPTION_DISK_SIZE:
        o->disk_bytes = options_size(state, "disk-size", arg, 512, INT64_MAX);
        break;
    case OPTION_FEATURES:
        o->features = options_number(state, "features", arg, 1, UINT64_MAX);
        break;
    case OPTION_SEED:
        o->seed = options_number(state, "seed", arg, 0, UINT64_MAX);
        c->has_seed = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* A number of rounds, or a time with its unit. */
static void parse_switch(struct argp_state *state, const char *arg,
                         struct migration_postcopy_options *p)
{
    p->has_round = arg[0] != '\0' && strspn(arg, "0123456789") == strlen(arg);
    if (p->has_round)
        p->round = (unsigned)options_number(state, "postcopy-at", arg, 0, ROUNDS_MAX);
    else
        p->at_ms = options_time(state, "postcopy-at", arg, 1, TIME_MAX_MS);
}

static error_t parse_postcopy(int key, char *arg, struct argp_state *state)
{
    static const char *const orders[] = {"address", "random", NULL};
    struct migrate_command *c = state->input;
    struct migration_postcopy_options *p = &c->migration.postcopy;

    switch (key) {
    case OPTION_POSTCOPY:
        p->is_on = true;
        break;
    case OPTION_POSTCOPY_AT:
        parse_switch(state, arg, p);
        break;
    case OPTION_LINK_RATE:
        p->link_rate = options_size(state, "link-rate", arg, LINK_RATE_MIN, UINT64_C(1) << 50);
        break;
    case OPTION_FAULT_DELAY:
        p->fault_delay_ns = options_short_time(state, "fault-delay", arg, FAULT_DELAY_MAX_NS);
        break;
    case OPTION_PAGE_ORDER:
        p->is_random = options_word(state, "page-order", arg, orders) == 1;
        break;
    case OPTION_CUT_LINK:
        p->cut_ms = options_time(state, "cut-link-every", arg, 0, TIME_MAX_MS);
        break;
    case OPTION_CUT_FOR:
        p->cut_for_ms = options_time(state, "cut-link-for", arg, 1, TIME_MAX_MS);
        break;
    default:
        return parse_machine(key, arg, state);
    }
    c->has_postcopy_option |= key != OPTION_POSTCOPY;
    return 0;
}

static error_t parse_time(int key, char *arg, struct argp_state *state)
{
    struct migrate_command *c = state->input;
    struct migration_options *o = &c->migration;

    switch (key) {
    case OPTION_WARM_UP:
        o->warm_up_ms = options_time(state, "warm-up", arg, 1, TIME_MAX_MS);
        break;
    case OPTION_COPY_TIME:
        o->copy_ms = options_time(state, "copy-time", arg, 1, TIME_MAX_MS);
        break;
    case OPTION_ROUND_PAUSE:
        o->round_ms = options_time(state, "round-pause", arg, 1, TIME_MAX_MS);
        break;
    case OPTION_SETTLE:
        o->settle_ms = options_time(state, "settle", arg, 1, TIME_MAX_MS);
        break;
    case OPTION_REPLACE_LOG:
        o->replace_log_ms = options_time(state, "replace-log-every", arg, 0, TIME_MAX_MS);
        break;
    case OPTION_HOTPLUG:
        if (arg != NULL)
            o->region_ms = options_time(state, "hotplug", arg, 0, TIME_MAX_MS);
        break;
    case OPTION_NO_HOTPLUG:
        o->region_ms = 0;
        break;
    case OPTION_SWAP_CALL_FDS:
        o->call_fd_ms = options_time(state, "swap-call-fds-every", arg, 0, TIME_MAX_MS);
        break;
    case OPTION_MAX_DOWNTIME:
        c->max_downtime_ms = options_time(state, "max-downtime", arg, 1, TIME_MAX_MS);
        break;
    case OPTION_TIMEOUT:
        o->timeout_ms = options_time(state, "timeout", arg, 100, TIME_MAX_MS);
        break;
    case OPTION_RECONNECT:
        o->reconnect_ms = options_time(state, "reconnect-timeout", arg, 1, TIME_MAX_MS);
        break;
    case OPTION_REQUEST_TIMEOUT:
        o->request_ms = options_time(state, "request-timeout", arg, 10, TIME_MAX_MS);
        break;
    default:
        return parse_postcopy(key, arg, state);
    }
    return 0;
}

static void add_text(struct argp_state *state, struct migrate_command *c, const char *text)
{
    if (c->texts[1] != NULL)
        argp_error(state, "more than SOURCE and DESTINATION; quote each command line");
    c->texts[c->texts[0] != NULL] = text;
}

/* What no single option can tell. */
static bool is_command(const char *text)
{
    return strstr(text, "{socket}") != NULL || strstr(text, "{fd}") != NULL;
}

/* Memory of a domain: fewer things can be done to it, and what is lent costs it. */
static void check_xen(struct argp_state *state, struct migrate_command *c)
{
    struct migration_options *o = &c->migration;

    if (o->device != MIGRATION_DEVICE_BLK || o->n_devices > 1 || o->packed)
        argp_error(state, "--xen-domain: its agent drives one disk, with split rings");
    if (o->kill != MIGRATION_KILL_NEVER || o->hugetlb || o->memory_top != 0)
        argp_error(state, "--xen-domain: neither --kill-at nor --hugetlb nor --memory-top");
    if (c->listen != NULL || o->to != NULL || o->postcopy.is_on)
        argp_error(state, "--xen-domain: the domain stays where it is, without --to, --listen and "
                          "--postcopy");
    o->xen_domid = c->xen.domid;
    o->xen_memory = c->xen.memory;
    o->xen_events = c->xen.has_events;
    o->region_ms = o->call_fd_ms = 0;
    if (o->memory == 0)
        o->memory = XEN_MEMORY;
}

static void check_halves(struct argp_state *state, struct migrate_command *c)
{
    const char *address = c->listen != NULL ? c->listen : c->migration.to;
    char why[256];

    if (c->listen != NULL && c->migration.to != NULL)
        argp_error(state, "--to and --listen are the two halves: this is one of them");
    if (link_tcp_check(address, why, sizeof(why)) < 0)
        argp_error(state, "%s", why);
    if (c->backend != NULL)
        c->texts[0] = c->backend;
    if (c->texts[0] == NULL || (c->backend == NULL && c->texts[1] != NULL))
        argp_error(state, "with --to or --listen there is one back-end: that of this half");
    if (c->migration.hops != 1 || c->migration.cancels != 0 || c->migration.keep_backends)
        argp_error(state, "--hops, --cancel and --keep-backends are for both ends in one process");
    if (c->migration.postcopy.is_on && c->listen != NULL)
        argp_error(state, "--postcopy is told to the half with --to, which tells the other");
    if (strstr(c->texts[0], "{file}") != NULL && c->target.file == NULL)
        argp_error(state, "the halves need one disk: name its file with --shared-file");
    c->texts[1] = c->listen != NULL ? c->texts[0] : address;
    c->texts[0] = c->listen != NULL ? address : c->texts[0];
}

static void check_both(struct argp_state *state, struct migrate_command *c)
{
    if (c->backend != NULL && c->texts[0] != NULL)
        argp_error(state, "--backend is in place of SOURCE and DESTINATION");
    if (c->backend != NULL)
        c->texts[0] = c->texts[1] = c->backend;
    if (c->texts[0] == NULL)
        argp_error(state, "no SOURCE and DESTINATION, and no --backend");
    if (c->texts[1] == NULL)
        argp_error(state, "no DESTINATION: a migration needs two back-ends");
    if (strcmp(c->texts[0], c->texts[1]) == 0 && !is_command(c->texts[0]))
        argp_error(state,
                   "both ends at %s: a command line has {socket} in it, and two sockets "
                   "have two paths",
                   c->texts[0]);
}

/* Those that are here. */
static bool are_commands(const struct migrate_command *c)
{
    return (c->listen != NULL || is_command(c->texts[0])) &&
           (c->migration.to != NULL || is_command(c->texts[1]));
}

static void check(struct argp_state *state, struct migrate_command *c)
{
    const struct migration_options *o = &c->migration;

    options_check_target(state, c->backend);
    options_check_target(state, c->texts[0]);
    options_check_target(state, c->texts[1]);
    if (c->listen != NULL || o->to != NULL)
        check_halves(state, c);
    else
        check_both(state, c);
    if (o->kill != MIGRATION_KILL_NEVER && !are_commands(c))
        argp_error(state, "--kill-at: only a back-end that is a command line can be started again");
    if (o->n_devices > 1 && !are_commands(c))
        argp_error(state, "--devices: only a back-end that is a command line can be started often");
    if (c->has_postcopy_option && !o->postcopy.is_on)
        argp_error(state, "--postcopy-at, --link-rate, --fault-delay, --page-order and "
                          "--cut-link-... are about --postcopy");
    if (o->postcopy.is_on && o->kill == MIGRATION_KILL_START)
        argp_error(state, "--kill-at=start: with --postcopy a back-end cannot come back before "
                          "its memory is there");
    if (c->xen.domid != 0)
        check_xen(state, c);
    if (!o->packed && (o->queue_size & (o->queue_size - 1)) != 0)
        argp_error(state, "--queue-size=%u is not a power of two", o->queue_size);
    if (o->write_percent + o->flush_percent > 100)
        argp_error(state, "--writes and --flushes together are more than 100 %%");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    static const char *const devices[] = {"blk", "rng", "generic", NULL};
    static const char *const kills[] = {"never", "warm-up", "copy",   "stop",
                                        "start", "settle",  "random", NULL};
    static const char *const orders[] = {"qemu", "rings", "features", "started", "random", NULL};
    struct migrate_command *c = state->input;
    struct migration_options *o = &c->migration;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &c->target;
        state->child_inputs[1] = &c->xen;
        break;
    case OPTION_BACKEND:
        c->backend = arg;
        break;
    case OPTION_TO:
        c->migration.to = arg;
        break;
    case OPTION_LISTEN:
        c->listen = arg;
        break;
    case OPTION_DEVICE:
        o->device = (enum migration_device)options_word(state, "device", arg, devices);
        break;
    case OPTION_ORDER:
        o->order = (enum migration_order)options_word(state, "order", arg, orders);
        break;
    case OPTION_KILL_AT:
        o->kill = (enum migration_kill)options_word(state, "kill-at", arg, kills);
        break;
    case OPTION_LOG_OFFSET:
        o->log_offset_random = strcmp(arg, "random") == 0;
        if (!o->log_offset_random)
            o->log_offset = options_size(state, "log-offset", arg, 0, LOG_OFFSET_MAX);
        break;
    case OPTION_HOPS:
        o->hops = (unsigned)options_number(state, "hops", arg, 1, 100000);
        break;
    case OPTION_CANCEL:
        o->cancels = (unsigned)options_number(state, "cancel", arg, 0, 1000);
        break;
    case OPTION_KEEP_BACKENDS:
        o->keep_backends = true;
        break;
    case OPTION_JSON:
        c->json = arg;
        break;
    case OPTION_JUNIT:
        c->junit = arg;
        break;
    case OPTION_REPORT:
        c->html = arg;
        break;
    case OPTION_STRICT:
        c->is_strict = true;
        break;
    case OPTION_QUIET:
        c->is_quiet = true;
        break;
    case ARGP_KEY_ARG:
        add_text(state, c, arg);
        break;
    case ARGP_KEY_END:
        check(state, c);
        break;
    default:
        return parse_time(key, arg, state);
    }
    return 0;
}

int migrate_parse(struct migrate_command *c, int argc, char **argv)
{
    static const struct argp_child children[] = {
        {&options_target_argp, 0, NULL, 0}, {&options_xen_argp, 0, NULL, 0}, {0}};
    const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "SOURCE DESTINATION\n--backend=COMMAND\n--to=HOST:PORT SOURCE\n"
                    "--listen=HOST:PORT DESTINATION",
        .doc =
            "Migrate a device between two vhost-user back-ends without a VM, under load, and "
            "compare the two memories byte by byte: a page that differs is a page whose mark was "
            "lost.\vSOURCE and DESTINATION are paths of sockets, or command lines with {socket} "
            "(or {fd}) in them that are started and ended. Both must have the same disk: {file} "
            "is the path of one.\n\nExit status: 0 passed, 1 a back-end is at fault, 2 nothing "
            "was tested, the test could not be run or a report could not be written, 64 wrong "
            "usage.",
        .children = children,
    };

    return argp_parse(&argp, argc, argv, 0, NULL, c);
}
