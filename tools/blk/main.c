/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* godwit-blk: the command line of the virtio-blk back-end, and its start-up sequence. */
#include "disks/disks.h"

#include "backend.h"
#include "streams.h"

#include <stdlib.h>
#include <string.h>

struct options {
    struct backend_options backend;
    struct disk_options disk; /* the only one */
    const char *disk_option;  /* one that was given for it; NULL: none */
    struct disk_list disks;   /* of --disk */
    const char *config;       /* NULL: none */
};

static const char *const features[] = {"read-only", "blk-file", NULL};

static const struct backend program = {
    .name = PROGRAM,
    .type = "block",
    .features = features,
};

static const struct argp_option argp_options[] = {
    {NULL, 0, NULL, 0, "Disk:", 1},
    {"blk-file", OPTION_BLK_FILE, "FILE", 0, "disk image: a regular file or block device", 0},
    {"ram", OPTION_RAM, "SIZE", 0,
     "volatile disk in memory, initially zero, instead of FILE; SIZE may end in K, M, G or T", 0},
    {"read-only", OPTION_READ_ONLY, NULL, 0, "offer the disk read-only", 0},
    {"serial", OPTION_SERIAL, "TEXT", 0, "serial number, up to 20 bytes", 0},
    {"logical-block-size", OPTION_BLOCK_SIZE, "BYTES", 0,
     "logical block size: 512 (default), 1024, 2048 or 4096", 0},
    {"direct", OPTION_DIRECT, "MODE", 0, "use O_DIRECT: auto (default: if supported), on or off",
     0},
    {"locking", OPTION_LOCKING, "MODE", 0,
     "lock FILE while queues run: auto (default: if supported), on or off", 0},
    {"discard", OPTION_DISCARD, "MODE", 0,
     "unmap (default): guest discards free space if the file or device supports it; ignore: do not "
     "offer discard, and keep zeroed blocks allocated",
     0},
    {"iommu", OPTION_IOMMU, NULL, 0,
     "offer translated addresses, for guests whose disk is behind an IOMMU", 0},
    {"delay", OPTION_DELAY, "MS", 0, "for tests: delay every read and write by MS milliseconds", 0},
    {NULL, 0, NULL, 0, "Several disks:", 4},
    {"disk", OPTION_DISK, "KEY=VALUE,...", 0,
     "serve this disk; repeat the option for more. Keys: name, socket, file, and the options of a "
     "disk, socket and queue",
     0},
    {"config", OPTION_CONFIG, "FILE", 0,
     "serve the disks of FILE, one on each line, in the syntax of --disk; SIGHUP reads it again",
     0},
    {0},
};

static void check_options(struct argp_state *state, struct options *o)
{
    const char *single = o->disk_option != NULL ? o->disk_option : o->backend.device_option;
    struct value_error why;

    if (o->config != NULL || o->disks.n_disks > 0) {
        if (single != NULL)
            argp_error(state, "--%s is for a program with one disk; with %s, each disk has its own",
                       single, o->config != NULL ? "--config" : "--disk");
        return;
    }
    if (!disk_options_check(&o->disk, "--", &why))
        argp_error(state, "%s", why.text);
    backend_options_check(state, &o->backend);
}

static void add_disk(struct argp_state *state, struct options *o, const char *list)
{
    struct disk_list_error error;
    char place[32];

    snprintf(place, sizeof(place), "--disk %u", o->disks.n_disks + 1);
    if (disk_list_add(&o->disks, list, place, &error) < 0)
        argp_error(state, "%s", error.text);
}

static error_t parse_disk_option(int key, const char *arg, struct argp_state *state)
{
    struct options *o = state->input;
    const struct settings settings = {disk_settings, &o->disk};
    const char *option = settings_parse_option(&settings, key, arg, state);

    if (option == NULL)
        return ARGP_ERR_UNKNOWN;
    o->disk_option = option;
    return 0;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->backend;
        break;
    case OPTION_DISK:
        add_disk(state, o, arg);
        break;
    case OPTION_CONFIG:
        o->config = arg;
        break;
    case ARGP_KEY_ARG:
        argp_error(state, "%s: unexpected argument; to use it as the disk, give --blk-file=%s", arg,
                   arg);
        break;
    case ARGP_KEY_END:
        check_options(state, o);
        break;
    default:
        return parse_disk_option(key, arg, state);
    }
    return 0;
}

static const struct argp_child children[] = {{&backend_argp, 0, NULL, 0}, {0}};

static const struct argp argp = {
    .options = argp_options,
    .parser = parse_option,
    .doc = "A virtio-blk disk as a vhost-user back-end.\v"
           "SIGTERM ends the program, SIGHUP reads the configuration and the sizes of the disks "
           "again, SIGUSR1 prints counters. "
           "See godwit-blk(1).",
    .children = children,
};

/* glibc refers to this symbol, so it must be visible outside this program. */
__attribute__((visibility("default"))) const char *argp_program_version =
    PROGRAM " " GW_VERSION_STRING;

int main(int argc, char **argv)
{
    static struct options o;
    bool is_single;
    int status;

    if (streams_begin(EXIT_FAILURE) < 0)
        return EXIT_FAILURE;
    if (backend_capabilities(&program, argc, argv))
        return EXIT_SUCCESS;
    disk_options_init(&o.disk);
    backend_options_init(&o.backend, &o.disk.device);
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    backend_say_init(program.name, o.backend.verbose);
    is_single = o.config == NULL && o.disks.n_disks == 0;
    status = disks_run(&(struct disks_config){
        .program = program.name,
        .options = &o.backend,
        .single = is_single ? disk_options_share(&o.disk) : NULL,
        .given = &o.disks,
        .path = o.config,
    });
    disk_list_done(&o.disks);
    return status;
}
