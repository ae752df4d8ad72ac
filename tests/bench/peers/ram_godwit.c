/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The RAM disk on libgodwit.
 *
 *     ram_godwit SOCKET [POLL_US]
 */
#include "ram_disk.h"

#include <errno.h>
#include <godwit.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define BATCH 64

static struct gw_daemon *ram_daemon;

static uint64_t features(void *dev)
{
    return UINT64_C(1) << VIRTIO_BLK_F_FLUSH;
}

static int get_config(void *dev, uint32_t off, void *buf, uint32_t len)
{
    return ram_disk_config(off, buf, len) == 0 ? 0 : -EINVAL;
}

static void answer(struct gw_request *req)
{
    struct virtio_blk_outhdr header;
    uint8_t status = VIRTIO_BLK_S_IOERR;

    if (gw_request_take_status(req) &&
        gw_request_read(req, &header, sizeof(header)) == sizeof(header))
        status = ram_disk_request(&header, req->readable, req->n_readable, req->writable,
                                  req->n_writable);
    gw_request_complete_status(req, status);
}

static int queue_ready(void *dev, struct gw_queue *q)
{
    struct gw_request *reqs[BATCH];
    unsigned n = gw_queue_pop(q, reqs, BATCH);

    for (unsigned i = 0; i < n; i++)
        answer(reqs[i]);
    return 0;
}

static void end(int sig)
{
    gw_daemon_stop(ram_daemon);
}

int main(int argc, char **argv)
{
    static const struct gw_device_ops ops = {
        .size = sizeof(ops),
        .features = features,
        .get_config = get_config,
        .queue_ready = queue_ready,
    };
    struct gw_daemon_config cfg = {.size = sizeof(cfg), .name = "ram_godwit"};
    int r;

    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: %s SOCKET [POLL_US]\n", argv[0]);
        return 64;
    }
    cfg.poll_us = argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    ram_disk_make();
    r = gw_daemon_new(&ram_daemon, &cfg, &ops, NULL);
    if (r == 0) {
        signal(SIGTERM, end);
        r = gw_daemon_start_path(ram_daemon, argv[1]);
    }
    if (r == 0)
        r = gw_daemon_wait(ram_daemon);
    if (r < 0)
        fprintf(stderr, "ram_godwit: %s\n", gw_last_error());
    gw_daemon_free(ram_daemon);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
