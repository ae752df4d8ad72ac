/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The options of godwit migrate, and the checks of their combinations. */
#include "command_migrate.h"

#include "link/link_tcp.h"
#include "load_options.h"

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
    OPTION_STRICT = 0x1000,
    OPTION_QUIET,
    OPTION_DEVICES,
    OPTION_READ_ONLY,
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
    OPTION_HTML,
};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "Back-ends to migrate between:", 1},
    {"backend", OPTION_BACKEND, "COMMAND", 0,
     "command line with {socket} for both ends, instead of SOURCE and DESTINATION", 0},
    {"device", OPTION_DEVICE, "TYPE", 0,
     "device type: blk (default), rng, or generic, whose queues are started but stay empty", 0},
    {"to", OPTION_TO, "HOST:PORT", 0,
     "run only the source; the destination is the godwit that listens at HOST:PORT, with the same "
     "options and the same disk",
     0},
    {"listen", OPTION_LISTEN, "HOST:PORT", 0,
     "run only the destination and wait for a source with --to; any host that reaches the port can "
     "send a guest",
     0},
    {"hops", OPTION_HOPS, "N", 0, "number of migrations, alternating in direction (default: 1)", 0},
    {"cancel", OPTION_CANCEL, "N", 0,
     "number of migrations to cancel at the source before the first (default: 0)", 0},
    {"keep-backends", OPTION_KEEP_BACKENDS, NULL, 0,
     "reuse the same back-end processes in later hops instead of starting new ones", 0},

    {NULL, 0, NULL, 0, "Guest and load:", 2},
    {"memory", OPTION_MEMORY, "SIZE", 0, "guest memory size (default: 64M)", 0},
    {"memory-top", OPTION_MEMORY_TOP, "SIZE", 0,
     "guest address at which an additional sparse region ends, such as 1T (default: none)", 0},
    {"memory-form", OPTION_MEMORY_FORM, "FORM", 0,
     "how to announce guest memory: table, slots, or auto (default: slots if offered)", 0},
    {"hugetlb", OPTION_HUGETLB, NULL, 0, "use 2 MiB pages for guest memory", 0},
    {"devices", OPTION_DEVICES, "N", 0,
     "number of devices of the guest, each with its own two back-ends (default: 1)", 0},
    LOAD_OPTION_QUEUES,
    LOAD_OPTION_QUEUE_SIZE("a power of two unless --packed (default: chosen by the seed)"),
    LOAD_OPTION_PACKED,
    LOAD_OPTION_IN_ORDER,
    LOAD_OPTION_DEPTH("", "32"),
    LOAD_OPTION_BLOCK_SIZE(""),
    LOAD_OPTION_WRITES("50"),
    LOAD_OPTION_FLUSHES("0"),
    {"read-only", OPTION_READ_ONLY, NULL, 0, "send no writes, so that the disk stays unchanged", 0},
    LOAD_OPTION_DISK_SIZE("64M"),
    {"features", OPTION_FEATURES, "MASK", 0,
     "virtio features to negotiate if offered (default: all that godwit knows)", 0},
    LOAD_OPTION_SEED("random seed (default: a new one); reuse it to reproduce a run"),

    {NULL, 0, NULL, 0, "Events during the migration (0: never):", 3},
    {"order", OPTION_ORDER, "ORDER", 0,
     "order of the messages that enable the dirty log: qemu (default), rings, features, started or "
     "random",
     0},
    {"replace-log-every", OPTION_REPLACE_LOG, "TIME", 0,
     "replace the dirty log every TIME (default: 100ms)", 0},
    {"log-offset", OPTION_LOG_OFFSET, "BYTES", 0,
     "offset of each dirty log in its file, or random (default: 0)", 0},
    {"hotplug", OPTION_HOTPLUG, "TIME", OPTION_ARG_OPTIONAL,
     "add or remove memory every TIME (default: 250ms)", 0},
    {"no-hotplug", OPTION_NO_HOTPLUG, NULL, 0, "do not add or remove memory", 0},
    {"swap-call-fds-every", OPTION_SWAP_CALL_FDS, "TIME", 0,
     "replace the call eventfds every TIME (default: 150ms)", 0},
    {"kill-at", OPTION_KILL_AT, "PHASE", 0,
     "phase of each migration in which a back-end is killed and restarted with its inflight "
     "region: never (default), warm-up, copy, stop, start, settle or random",
     0},

    {NULL, 0, NULL, 0, "Postcopy:", 4},
    {"postcopy", OPTION_POSTCOPY, NULL, 0,
     "start the destination before all memory has arrived; it fetches missing pages on access", 0},
    {"postcopy-at", OPTION_POSTCOPY_AT, "ROUND|TIME", 0,
     "when to switch to postcopy: after ROUND rounds (0: nothing is copied before), or TIME after "
     "the log was enabled, such as 500ms (default: the copy time)",
     0},
    {"link-rate", OPTION_LINK_RATE, "BYTES", 0,
     "bandwidth of pages sent after the switch, in bytes per second (default: unlimited)", 0},
    {"fault-delay", OPTION_FAULT_DELAY, "TIME", 0,
     "added latency of each page request, such as 50us (default: 0)", 0},
    {"page-order", OPTION_PAGE_ORDER, "ORDER", 0,
     "order of pages that no access waits for: address (default) or random", 0},
    {"cut-link-every", OPTION_CUT_LINK, "TIME", 0,
     "interrupt the link at random, on average every TIME (default: 0, never)", 0},
    {"cut-link-for", OPTION_CUT_FOR, "TIME", 0,
     "longest interruption of the link, at random (default: 20ms)", 0},

    {NULL, 0, NULL, 0, "Time:", 5},
    {"warm-up", OPTION_WARM_UP, "TIME", 0,
     "duration of the load before the migration (default: 200ms)", 0},
    {"copy-time", OPTION_COPY_TIME, "TIME", 0, "minimum duration of the copy rounds (default: 1s)",
     0},
    {"round-pause", OPTION_ROUND_PAUSE, "TIME", 0, "pause between copy rounds (default: 10ms)", 0},
    {"settle", OPTION_SETTLE, "TIME", 0, "duration of the load at the destination (default: 300ms)",
     0},
    {"max-downtime", OPTION_MAX_DOWNTIME, "TIME", 0,
     "fail if the downtime is longer than TIME (default: no limit)", 0},
    {"timeout", OPTION_TIMEOUT, "TIME", 0, "time limit of the whole run (default: 60s)", 0},
    {"reconnect-timeout", OPTION_RECONNECT, "TIME", 0,
     "how long to wait for a lost connection between the two halves after the switch (default: "
     "30s)",
     0},
    {"request-timeout", OPTION_REQUEST_TIMEOUT, "TIME", 0,
     "time limit of one message or request (default: 10s)", 0},

    {NULL, 0, NULL, 0, "Reports (FILE may be - for stdout):", 6},
    {"json", OPTION_JSON, "FILE", 0, "write the complete results as JSON", 0},
    {"junit", OPTION_JUNIT, "FILE", 0, "write the checks as JUnit test cases", 0},
    {"html", OPTION_HTML, "FILE", 0, "write one HTML page, as godwit report makes it", 0},
    {"report", OPTION_HTML, NULL, OPTION_ALIAS, NULL, 0},
    {"strict", OPTION_STRICT, NULL, 0,
     "exit with 1 even if the only unmarked words cannot lose data", 0},
    {"quiet", OPTION_QUIET, NULL, 0, "do not show progress", 0},
    {0},
};

static struct load_options load_of(struct migrate_command *c)
{
    struct migration_options *o = &c->migration;

    return (struct load_options){
        .n_queues = &o->n_queues,
        .queue_size = &o->queue_size,
        .packed = &o->packed,
        .in_order = &o->in_order,
        .depth = &o->depth,
        .block_size = &o->block_size,
        .write_percent = &o->write_percent,
        .flush_percent = &o->flush_percent,
        .write_percent_min = 1, /* --read-only is for none */
        .disk_bytes = &o->disk_bytes,
        .seed = &o->seed,
        .has_seed = &c->has_seed,
    };
}

static error_t parse_machine(int key, char *arg, struct argp_state *state)
{
    static const char *const forms[] = {"auto", "table", "slots", NULL};
    struct migrate_command *c = state->input;
    struct migration_options *o = &c->migration;
    const struct load_options load = load_of(c);

    switch (key) {
    case OPTION_MEMORY:
        o->memory = option_size(state, "memory", arg, 1 << 20, UINT64_C(1) << 46);
        break;
    case OPTION_MEMORY_TOP:
        o->memory_top = option_size(state, "memory-top", arg, 1 << 20, UINT64_C(1) << 52);
        break;
    case OPTION_MEMORY_FORM:
        o->mem_form = (enum gw_frontend_mem_form)option_word(state, "memory-form", arg, forms);
        break;
    case OPTION_HUGETLB:
        o->hugetlb = true;
        break;
    case OPTION_DEVICES:
        o->n_devices = (unsigned)option_number(state, "devices", arg, 1, MIGRATION_DEVICES_MAX);
        break;
    case OPTION_READ_ONLY:
        o->read_only = true;
        break;
    case OPTION_FEATURES:
        o->features = option_number(state, "features", arg, 1, UINT64_MAX);
        break;
    default:
        return load_options_parse(key, arg, state, &load);
    }
    return 0;
}

/* A number of rounds, or a time with its unit. */
static void parse_switch(struct argp_state *state, const char *arg,
                         struct migration_postcopy_options *p)
{
    p->has_round = arg[0] != '\0' && strspn(arg, "0123456789") == strlen(arg);
    if (p->has_round)
        p->round = (unsigned)option_number(state, "postcopy-at", arg, 0, ROUNDS_MAX);
    else
        p->at_ms = option_time(state, "postcopy-at", arg, 1, TIME_MAX_MS);
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
        p->link_rate = option_size(state, "link-rate", arg, LINK_RATE_MIN, UINT64_C(1) << 50);
        break;
    case OPTION_FAULT_DELAY:
        p->fault_delay_ns = option_short_time(state, "fault-delay", arg, FAULT_DELAY_MAX_NS);
        break;
    case OPTION_PAGE_ORDER:
        p->is_random = option_word(state, "page-order", arg, orders) == 1;
        break;
    case OPTION_CUT_LINK:
        p->cut_ms = option_time(state, "cut-link-every", arg, 0, TIME_MAX_MS);
        break;
    case OPTION_CUT_FOR:
        p->cut_for_ms = option_time(state, "cut-link-for", arg, 1, TIME_MAX_MS);
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
        o->warm_up_ms = option_time(state, "warm-up", arg, 1, TIME_MAX_MS);
        break;
    case OPTION_COPY_TIME:
        o->copy_ms = option_time(state, "copy-time", arg, 1, TIME_MAX_MS);
        break;
    case OPTION_ROUND_PAUSE:
        o->round_ms = option_time(state, "round-pause", arg, 1, TIME_MAX_MS);
        break;
    case OPTION_SETTLE:
        o->settle_ms = option_time(state, "settle", arg, 1, TIME_MAX_MS);
        break;
    case OPTION_REPLACE_LOG:
        o->replace_log_ms = option_time(state, "replace-log-every", arg, 0, TIME_MAX_MS);
        break;
    case OPTION_HOTPLUG:
        if (arg != NULL)
            o->region_ms = option_time(state, "hotplug", arg, 0, TIME_MAX_MS);
        break;
    case OPTION_NO_HOTPLUG:
        o->region_ms = 0;
        break;
    case OPTION_SWAP_CALL_FDS:
        o->call_fd_ms = option_time(state, "swap-call-fds-every", arg, 0, TIME_MAX_MS);
        break;
    case OPTION_MAX_DOWNTIME:
        c->max_downtime_ms = option_time(state, "max-downtime", arg, 1, TIME_MAX_MS);
        break;
    case OPTION_TIMEOUT:
        o->timeout_ms = option_time(state, "timeout", arg, 100, TIME_MAX_MS);
        break;
    case OPTION_RECONNECT:
        o->reconnect_ms = option_time(state, "reconnect-timeout", arg, 1, TIME_MAX_MS);
        break;
    case OPTION_REQUEST_TIMEOUT:
        o->request_ms = option_time(state, "request-timeout", arg, 10, TIME_MAX_MS);
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

static bool is_command(const char *text)
{
    return strstr(text, "{socket}") != NULL || strstr(text, "{fd}") != NULL;
}

/* Memory of a Xen domain cannot be moved or replaced, and the domain pays for what it grants. */
static void check_xen(struct argp_state *state, struct migrate_command *c)
{
    struct migration_options *o = &c->migration;

    if (o->device != MIGRATION_DEVICE_BLK || o->n_devices > 1 || o->packed)
        argp_error(state, "--xen-domain supports only one disk with split rings");
    if (o->kill != MIGRATION_KILL_NEVER || o->hugetlb || o->memory_top != 0)
        argp_error(state, "--xen-domain excludes --kill-at, --hugetlb and --memory-top");
    if (c->listen != NULL || o->to != NULL || o->postcopy.is_on)
        argp_error(
            state,
            "--xen-domain excludes --to, --listen and --postcopy: the domain itself stays on this "
            "host");
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
        argp_error(state, "--to and --listen exclude each other");
    if (link_tcp_check(address, why, sizeof(why)) < 0)
        argp_error(state, "%s", why);
    if (c->backend != NULL)
        c->texts[0] = c->backend;
    if (c->texts[0] == NULL || (c->backend == NULL && c->texts[1] != NULL))
        argp_error(state, "--to and --listen take exactly one back-end");
    if (c->migration.hops != 1 || c->migration.cancels != 0 || c->migration.keep_backends)
        argp_error(state, "--hops, --cancel and --keep-backends exclude --to and --listen");
    if (c->migration.postcopy.is_on && c->listen != NULL)
        argp_error(
            state,
            "--postcopy belongs to the source (--to), which announces it to the destination");
    if (strstr(c->texts[0], "{file}") != NULL && c->target.file == NULL)
        argp_error(
            state,
            "--to and --listen need a disk that both can open: give its file with --shared-file");
    c->texts[1] = c->listen != NULL ? c->texts[0] : address;
    c->texts[0] = c->listen != NULL ? address : c->texts[0];
}

static void check_both(struct argp_state *state, struct migrate_command *c)
{
    if (c->backend != NULL && c->texts[0] != NULL)
        argp_error(state, "--backend and SOURCE exclude each other");
    if (c->backend != NULL)
        c->texts[0] = c->texts[1] = c->backend;
    if (c->texts[0] == NULL)
        argp_error(state, "no back-ends: give SOURCE and DESTINATION, or --backend=COMMAND");
    if (c->texts[1] == NULL)
        argp_error(state, "no DESTINATION: a migration needs two back-ends");
    if (strcmp(c->texts[0], c->texts[1]) == 0 && !is_command(c->texts[0]))
        argp_error(state,
                   "SOURCE and DESTINATION are the same socket %s; a command line needs {socket}",
                   c->texts[0]);
}

/* Whether this process starts all back-ends that it talks to. */
static bool are_commands(const struct migrate_command *c)
{
    return (c->listen != NULL || is_command(c->texts[0])) &&
           (c->migration.to != NULL || is_command(c->texts[1]));
}

static void check(struct argp_state *state, struct migrate_command *c)
{
    const struct migration_options *o = &c->migration;
    const struct load_options load = load_of(c);

    options_check_target(state, c->backend);
    options_check_target(state, c->texts[0]);
    options_check_target(state, c->texts[1]);
    if (c->listen != NULL || o->to != NULL)
        check_halves(state, c);
    else
        check_both(state, c);
    if (o->kill != MIGRATION_KILL_NEVER && !are_commands(c))
        argp_error(state,
                   "--kill-at needs back-ends that godwit starts: command lines with {socket}");
    if (o->n_devices > 1 && !are_commands(c))
        argp_error(state,
                   "--devices needs back-ends that godwit starts: command lines with {socket}");
    if (c->has_postcopy_option && !o->postcopy.is_on)
        argp_error(state,
                   "--postcopy-at, --link-rate, --fault-delay, --page-order and --cut-link-* need "
                   "--postcopy");
    if (o->postcopy.is_on && o->kill == MIGRATION_KILL_START)
        argp_error(
            state,
            "--kill-at=start excludes --postcopy: a back-end cannot restart before its memory "
            "has arrived");
    if (c->xen.domid != 0)
        check_xen(state, c);
    load_options_check(state, &load);
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
        state->child_inputs[2] = &c->color;
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
        o->device = (enum migration_device)option_word(state, "device", arg, devices);
        break;
    case OPTION_ORDER:
        o->order = (enum migration_order)option_word(state, "order", arg, orders);
        break;
    case OPTION_KILL_AT:
        o->kill = (enum migration_kill)option_word(state, "kill-at", arg, kills);
        break;
    case OPTION_LOG_OFFSET:
        o->log_offset_random = strcmp(arg, "random") == 0;
        if (!o->log_offset_random)
            o->log_offset = option_size(state, "log-offset", arg, 0, LOG_OFFSET_MAX);
        break;
    case OPTION_HOPS:
        o->hops = (unsigned)option_number(state, "hops", arg, 1, 100000);
        break;
    case OPTION_CANCEL:
        o->cancels = (unsigned)option_number(state, "cancel", arg, 0, 1000);
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
    case OPTION_HTML:
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
    static const struct argp_child children[] = {{&options_target_argp, 0, NULL, 0},
                                                 {&options_xen_argp, 0, NULL, 0},
                                                 {&text_color_argp, 0, NULL, 0},
                                                 {0}};
    const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "SOURCE DESTINATION\n--backend=COMMAND\n--to=HOST:PORT SOURCE\n"
                    "--listen=HOST:PORT DESTINATION",
        .doc =
            "Migrate a device between two vhost-user back-ends without a VM, under load, and "
            "compare the two memories byte by byte. A page that differs is a page whose mark was "
            "lost.\vSOURCE and DESTINATION are socket paths, or command lines with {socket} (or "
            "{fd}) that godwit starts and ends. Both must have the same disk: {file} is the path "
            "of "
            "a disk file.\n\nExit status: 0 passed, 1 a back-end is at fault, 2 inconclusive: "
            "the test could not be run, or a report could not be written, 64 invalid command line.",
        .children = children,
    };

    return argp_parse(&argp, argc, argv, 0, NULL, c);
}
