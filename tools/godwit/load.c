/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * godwit-load: random I/O on any vhost-user disk, from where the VMM would be. Whatever is read is
 * compared with what was written last. What is on the disk is lost.
 */
#include <endian.h>
#include <errno.h>
#include <getopt.h>
#include <godwit.h>
#include <godwit/frontend.h>
#include <godwit/load.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUEUES_MAX  16
#define QUEUE_SIZE  256
#define MEM_SIZE    (64u << 20)
#define SECTOR_SIZE 512
#define STALL_MS    10000

struct load {
    const char *path;
    unsigned seconds, n_queues, depth, block_size, write_percent;
    struct gw_guest_mem *mem;
    struct gw_frontend *fe;
    struct gw_driver *drivers[QUEUES_MAX];
    struct gw_guest_disk *disk;
    struct gw_guest_load *engine;
};

static int say(int r, const char *what, const char *why)
{
    fprintf(stderr, "godwit-load: %s: %s\n", what, *why ? why : strerror(-r));
    return r;
}

static int make_guest(struct load *l)
{
    struct gw_guest_region region = {.kind = GW_GUEST_MEMFD, .length = MEM_SIZE};
    int r = gw_guest_mem_new(&l->mem, GW_GUEST_UVA_HOST);

    if (r == 0)
        r = gw_guest_mem_add(l->mem, &region);
    for (unsigned i = 0; r == 0 && i < l->n_queues; i++) {
        struct gw_driver_config cfg = {
            .size = sizeof(cfg), .mem = l->mem, .index = i, .queue_size = QUEUE_SIZE};
        r = gw_driver_new(&l->drivers[i], &cfg);
    }
    if (r == 0)
        r = gw_frontend_new(&l->fe, NULL);
    return r ? say(r, "guest memory and rings", "") : 0;
}

static int start_device(struct load *l)
{
    struct gw_frontend_options opt = {
        .size = sizeof(opt), .mem = l->mem, .drivers = l->drivers, .n_drivers = l->n_queues};
    struct gw_guest_disk_config cfg = {.size = sizeof(cfg), .block_size = l->block_size};
    uint64_t sectors;
    int r = gw_frontend_connect(l->fe, l->path);

    if (r == 0)
        r = gw_frontend_negotiate(l->fe, &opt);
    if (r == 0)
        r = gw_frontend_get_config(l->fe, 0, &sectors, sizeof(sectors));
    if (r == 0)
        r = gw_frontend_start(l->fe, &opt);
    if (r < 0)
        return say(r, l->path, gw_frontend_error(l->fe));

    cfg.length = le64toh(sectors) * SECTOR_SIZE / l->block_size * l->block_size;
    r = gw_guest_disk_new(&l->disk, &cfg);
    return r ? say(r, "the disk is empty or too large", "") : 0;
}

static int run_engine(struct load *l)
{
    struct gw_guest_load_config cfg = {.size = sizeof(cfg),
                                       .disk = l->disk,
                                       .drivers = l->drivers,
                                       .n_drivers = l->n_queues,
                                       .depth = l->depth,
                                       .write_percent = l->write_percent};
    int r = gw_guest_load_new(&l->engine, &cfg);

    if (r < 0)
        return say(r, "this load", "");
    r = gw_guest_load_run(l->engine, l->seconds * 1000, 0, STALL_MS);
    if (r == 0)
        r = gw_guest_load_drain(l->engine, STALL_MS);
    if (r == 0)
        r = gw_frontend_stop(l->fe, l->drivers, l->n_queues);
    return r ? say(r, l->path, gw_guest_load_error(l->engine)) : 0;
}

static void report(const struct load *l)
{
    struct gw_guest_load_stats s;
    gw_guest_load_stats(l->engine, &s);
    double seconds = (double)s.run_ns / 1e9;

    printf("load        %u bytes at random, %u %% writes, %u queues, %u in flight each, %.1f s\n",
           l->block_size, l->write_percent, l->n_queues, l->depth, seconds);
    printf("requests    %" PRIu64 ", %.0f per second, %.0f MB/s\n", s.requests,
           (double)s.requests / seconds, (double)s.bytes / seconds / 1e6);
    printf("latency     p50 %.1f us, p99 %.1f us, p99.9 %.1f us, max %.1f us\n",
           (double)s.p50 / 1e3, (double)s.p99 / 1e3, (double)s.p999 / 1e3, (double)s.max / 1e3);
    printf("verified    %" PRIu64 " blocks read back, all as they were last written\n", s.reads);
}

static void done(struct load *l)
{
    gw_guest_load_free(l->engine);
    gw_guest_disk_free(l->disk);
    gw_frontend_free(l->fe);
    for (unsigned i = 0; i < l->n_queues; i++)
        gw_driver_free(l->drivers[i]);
    gw_guest_mem_free(l->mem);
}

static void usage(FILE *to)
{
    fputs("usage: godwit-load [--seconds=N] [--queues=N] [--depth=N] [--block-size=BYTES]\n"
          "                   [--writes=PERCENT] SOCKET\n"
          "Random I/O on the vhost-user disk behind SOCKET; overwrites it.\n",
          to);
}

static unsigned number(const char *text, unsigned min, unsigned max)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < min || value > max) {
        fprintf(stderr, "godwit-load: %s is no number from %u to %u\n", text, min, max);
        exit(2);
    }
    return (unsigned)value;
}

static void parse(struct load *l, int argc, char **argv)
{
    static const struct option options[] = {{"seconds", required_argument, NULL, 's'},
                                            {"queues", required_argument, NULL, 'q'},
                                            {"depth", required_argument, NULL, 'd'},
                                            {"block-size", required_argument, NULL, 'b'},
                                            {"writes", required_argument, NULL, 'w'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 's') {
            l->seconds = number(optarg, 1, 86400);
        } else if (c == 'q') {
            l->n_queues = number(optarg, 1, QUEUES_MAX);
        } else if (c == 'd') {
            l->depth = number(optarg, 1, QUEUE_SIZE / 3); /* header, data and status each */
        } else if (c == 'b') {
            l->block_size = number(optarg, SECTOR_SIZE, 128 << 10);
        } else if (c == 'w') {
            l->write_percent = number(optarg, 0, 100);
        } else {
            usage(c == 'h' ? stdout : stderr);
            exit(c == 'h' ? 0 : 2);
        }
    }
    if (optind != argc - 1) {
        usage(stderr);
        exit(2);
    }
    l->path = argv[optind];
}

int main(int argc, char **argv)
{
    struct load l = {
        .seconds = 5, .n_queues = 1, .depth = 32, .block_size = 4096, .write_percent = 50};

    parse(&l, argc, argv);
    int r = make_guest(&l);
    if (r == 0)
        r = start_device(&l);
    if (r == 0)
        r = run_engine(&l);
    if (r == 0)
        report(&l);
    done(&l);
    return r ? EXIT_FAILURE : EXIT_SUCCESS;
}
