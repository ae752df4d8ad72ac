/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A virtio-net back-end that returns each frame to its driver: on the same pair of queues, in
 * order, without losses. Frames wait while the driver has no receive buffer.
 *
 *     loopback SOCKET PAIRS
 *
 * Prints the features of each driver to stdout, and the number of frames at the end.
 */
#include <godwit.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum {
    PAIRS_MAX = 4,
    BATCH = 32,
    HEADER_SIZE = 12, /* struct virtio_net_hdr with VERSION_1 */
    NUM_BUFFERS = 10, /* offset of num_buffers */
    NET_F_MQ = 22,
};

/* The two queues of a pair belong to the same worker. NULL: stopped. */
struct pair {
    struct gw_queue *receive, *send; /* named as by the driver */
    uint64_t n_frames;
};

struct loopback {
    unsigned n_pairs;
    struct pair pairs[PAIRS_MAX];
};

static struct gw_daemon *loopback_daemon;

static uint64_t features(void *dev)
{
    const struct loopback *l = dev;

    return l->n_pairs > 1 ? UINT64_C(1) << NET_F_MQ : 0;
}

static void features_acked(void *dev, uint64_t acked)
{
    printf("features %#" PRIx64 "\n", acked);
    fflush(stdout);
}

/* Copies a frame from the driver's send buffers to its receive buffers; returns the used length. */
static uint32_t copy_frame(struct gw_request *from, struct gw_request *to)
{
    unsigned char bytes[2048] = {0};
    size_t n = gw_request_read(from, bytes, HEADER_SIZE), written;

    memset(bytes, 0, n);
    bytes[NUM_BUFFERS] = 1;
    written = gw_request_write(to, bytes, HEADER_SIZE);
    while ((n = gw_request_read(from, bytes, sizeof(bytes))) > 0)
        written += gw_request_write(to, bytes, n);
    return (uint32_t)written;
}

/* Returns frames while there are frames and receive buffers. */
static void forward(struct pair *p)
{
    struct gw_request *rooms[BATCH], *frames[BATCH];
    unsigned n_rooms, n_frames;

    do {
        n_rooms = gw_queue_pop(p->receive, rooms, BATCH);
        n_frames = gw_queue_pop(p->send, frames, n_rooms);
        for (unsigned i = n_rooms; i-- > n_frames;)
            gw_request_unpop(rooms[i]);
        for (unsigned i = 0; i < n_frames; i++) {
            gw_request_complete(rooms[i], copy_frame(frames[i], rooms[i]));
            gw_request_complete(frames[i], 0);
        }
        p->n_frames += n_frames;
    } while (n_frames == BATCH);
}

static struct pair *pair_of(void *dev, const struct gw_queue *q)
{
    return &((struct loopback *)dev)->pairs[gw_queue_index(q) / 2];
}

static struct gw_queue **place_of(void *dev, const struct gw_queue *q)
{
    struct pair *p = pair_of(dev, q);

    return gw_queue_index(q) % 2 == 0 ? &p->receive : &p->send;
}

static int queue_start(void *dev, struct gw_queue *q)
{
    *place_of(dev, q) = q;
    return 0;
}

static void queue_stop(void *dev, struct gw_queue *q)
{
    *place_of(dev, q) = NULL;
}

static int queue_ready(void *dev, struct gw_queue *q)
{
    struct pair *p = pair_of(dev, q);

    if (p->receive != NULL && p->send != NULL)
        forward(p);
    return 0;
}

static void end(int sig)
{
    gw_daemon_stop(loopback_daemon);
}

static int serve(struct loopback *l, const char *path)
{
    static const struct gw_device_ops ops = {
        .size = sizeof(ops),
        .features = features,
        .features_acked = features_acked,
        .queue_start = queue_start,
        .queue_ready = queue_ready,
        .queue_stop = queue_stop,
    };
    static const uint16_t workers[2 * PAIRS_MAX] = {0, 0, 1, 1, 2, 2, 3, 3};
    const struct gw_daemon_config cfg = {
        .size = sizeof(cfg),
        .name = "loopback",
        .num_queues = 2 * l->n_pairs,
        .num_workers = l->n_pairs,
        .queue_workers = workers,
        .log_level = GW_LOG_WARNING,
    };
    int r = gw_daemon_new(&loopback_daemon, &cfg, &ops, l);

    if (r == 0) {
        signal(SIGTERM, end);
        r = gw_daemon_start_path(loopback_daemon, path);
    }
    if (r < 0)
        fprintf(stderr, "loopback: %s\n", gw_last_error());
    else
        r = gw_daemon_wait(loopback_daemon);
    gw_daemon_free(loopback_daemon);
    return r;
}

int main(int argc, char **argv)
{
    struct loopback l = {.n_pairs = argc == 3 ? (unsigned)atoi(argv[2]) : 0};

    if (l.n_pairs < 1 || l.n_pairs > PAIRS_MAX) {
        fputs("usage: loopback SOCKET PAIRS\n", stderr);
        return EX_USAGE;
    }
    if (serve(&l, argv[1]) < 0)
        return EXIT_FAILURE;
    for (unsigned i = 0; i < l.n_pairs; i++)
        printf("pair %u: %" PRIu64 " frames\n", i, l.pairs[i].n_frames);
    return EXIT_SUCCESS;
}
