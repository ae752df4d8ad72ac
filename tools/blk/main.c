/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* godwit-blk: the command line of the virtio-blk back-end, and its start-up sequence. */
#include "blk.h"

#include "backend.h"
#include "option_value.h"
#include "streams.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct options {
    struct backend_options backend;
    struct store_file_options file;
    uint64_t ram;
    const char *serial;
    unsigned delay_ms; /* 0: none */
    bool ignores_discard;
};

enum {
    OPTION_BLK_FILE = 'b',
    OPTION_READ_ONLY = 'r',
    OPTION_RAM = 0x2000,
    OPTION_SERIAL,
    OPTION_BLOCK_SIZE,
    OPTION_DIRECT,
    OPTION_LOCKING,
    OPTION_DELAY,
    OPTION_DISCARD,
};

#define BLOCK_SIZE_MAX 4096U /* every guest supports up to a page */
#define DELAY_MS_MAX   10000U
/* ms; the kernel may release the lock of a killed process seconds later, with its io_uring. */
#define LOCK_PATIENCE 8000U

static const char *const features[] = {"read-only", "blk-file", NULL};

static const struct backend program = {
    .name = PROGRAM,
    .type = "block",
    .features = features,
    .reload = blk_reload,
    .report = blk_report,
    .request_bytes_max = UINT32_MAX, /* longer requests fail with a status */
};

static const char *const mode_words[] = {
    [STORE_AUTO] = "auto", [STORE_ON] = "on", [STORE_OFF] = "off", [STORE_OFF + 1] = NULL};

static const char *const discard_words[] = {"unmap", "ignore", NULL};

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
    {"delay", OPTION_DELAY, "MS", 0, "for tests: delay every read and write by MS milliseconds", 0},
    {0},
};

static void check_options(struct argp_state *state, struct options *o)
{
    if ((o->file.path == NULL) == (o->ram == 0))
        argp_error(state, "give one disk: --blk-file=FILE or --ram=SIZE");
    if (o->ram % o->file.block_size != 0)
        argp_error(state, "--ram=%llu is not a multiple of the block size %u",
                   (unsigned long long)o->ram, o->file.block_size);
}

static uint32_t parse_block_size(struct argp_state *state, const char *arg)
{
    unsigned size = (unsigned)option_number(state, "logical-block-size", arg, 512, BLOCK_SIZE_MAX);

    if ((size & (size - 1)) != 0)
        argp_error(state, "--logical-block-size=%u is not a power of two", size);
    return size;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &o->backend;
        break;
    case OPTION_BLK_FILE:
        o->file.path = arg;
        break;
    case OPTION_RAM:
        o->ram = option_size(state, "ram", arg, 1, INT64_MAX);
        break;
    case OPTION_READ_ONLY:
        o->file.is_read_only = true;
        break;
    case OPTION_SERIAL:
        o->serial = arg;
        if (strlen(arg) > VIRTIO_BLK_ID_BYTES)
            argp_error(state, "--serial=%s is longer than %d bytes", arg, VIRTIO_BLK_ID_BYTES);
        break;
    case OPTION_BLOCK_SIZE:
        o->file.block_size = parse_block_size(state, arg);
        break;
    case OPTION_DIRECT:
        o->file.direct = (enum store_mode)option_word(state, "direct", arg, mode_words);
        break;
    case OPTION_LOCKING:
        o->file.locking = (enum store_mode)option_word(state, "locking", arg, mode_words);
        break;
    case OPTION_DISCARD:
        o->ignores_discard = option_word(state, "discard", arg, discard_words) == 1;
        break;
    case OPTION_DELAY:
        o->delay_ms = (unsigned)option_number(state, "delay", arg, 0, DELAY_MS_MAX);
        break;
    case ARGP_KEY_ARG:
        argp_error(state, "%s: unexpected argument; to use it as the disk, give --blk-file=%s", arg,
                   arg);
        break;
    case ARGP_KEY_END:
        check_options(state, o);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static const struct argp_child children[] = {{&backend_argp, 0, NULL, 0}, {0}};

static const struct argp argp = {
    .options = argp_options,
    .parser = parse_option,
    .doc =
        "A virtio-blk disk as a vhost-user back-end.\v"
        "SIGTERM ends the program, SIGHUP reads the size of FILE again, SIGUSR1 prints counters. "
        "See godwit-blk(1).",
    .children = children,
};

/* glibc refers to this symbol, so it must be visible outside this program. */
__attribute__((visibility("default"))) const char *argp_program_version =
    PROGRAM " " GW_VERSION_STRING;

static int open_store(struct store **ret, const struct options *o)
{
    struct store *store = NULL;
    int r = o->ram != 0 ? store_ram_new(&store, o->ram, o->file.block_size, o->file.is_read_only)
                        : store_file_new(&store, &o->file);

    if (r == 0 && o->ignores_discard)
        store->can_unmap = false;
    if (r == 0 && o->delay_ms != 0) {
        struct store *behind = store;

        r = store_delay_new(&store, behind, o->delay_ms);
        if (r < 0)
            behind->ops->free(behind);
    }
    if (r == 0)
        *ret = store;
    return r;
}

int main(int argc, char **argv)
{
    struct options o = {
        .file = {.block_size = BLK_SECTOR, .lock_patience_ms = LOCK_PATIENCE},
    };
    struct store *store = NULL;
    static struct blk blk;
    int status;

    if (streams_begin(EXIT_FAILURE) < 0)
        return EXIT_FAILURE;
    if (backend_capabilities(&program, argc, argv))
        return EXIT_SUCCESS;
    backend_options_init(&o.backend);
    argp_parse(&argp, argc, argv, 0, NULL, &o);
    backend_say_init(program.name, o.backend.verbose);

    if (open_store(&store, &o) < 0)
        return EXIT_FAILURE;
    blk_init(&blk, store,
             &(struct blk_options){
                 .num_queues = o.backend.num_queues,
                 .queue_size = o.backend.queue_size,
                 .serial = o.serial,
             });
    status = backend_run(&program, &o.backend, &blk_ops, &blk, sizeof(struct blk_request));
    if (blk_has_lost_data(&blk))
        status = EXIT_FAILURE;
    store->ops->free(store);
    return status;
}
