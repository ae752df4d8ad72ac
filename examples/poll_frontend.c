/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The same as frontend.c in a loop of poll(2), where no call blocks. A VMM would watch more
 * descriptors in it, for example those of a hundred other front-ends:
 *
 *     cc -o poll_frontend poll_frontend.c $(pkg-config --cflags --libs godwit-frontend)
 *     godwit-blk --socket-path=disk.sock --ram=64M &
 *     ./poll_frontend disk.sock
 */
#include <endian.h>
#include <errno.h>
#include <godwit/frontend.h>
#include <inttypes.h>
#include <linux/virtio_blk.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

/* One request as it lies in guest memory. */
struct request {
    struct virtio_blk_outhdr header; /* type and sector */
    unsigned char data[512];
    uint8_t status;
};

struct vmm {
    struct gw_frontend *fe;
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    struct request *req;
    uint64_t capacity;
    bool is_stopped;
};

/* End the program after an error. A longer program would free everything first. */
static void check(int r)
{
    if (r >= 0)
        return;
    fprintf(stderr, "poll_frontend: %s\n", gw_frontend_last_error());
    exit(1);
}

static void on_step(void *arg, int r)
{
    check(r);
}

static void on_stopped(void *arg, int r)
{
    check(r);
    *(bool *)arg = true;
}

/* The queue runs, and config space was read: add a request. */
static void on_config(void *arg, int r)
{
    struct vmm *v = arg;
    gw_gpa_t at;

    check(r);
    printf("features %#" PRIx64 ", %" PRIu64 " sectors\n", gw_frontend_features(v->fe),
           le64toh(v->capacity));
    check(gw_guest_mem_alloc(v->mem, sizeof(*v->req), 16, &at));
    v->req = gw_guest_mem_at(v->mem, at, sizeof(*v->req));
    v->req->header.type = htole32(VIRTIO_BLK_T_IN);
    v->req->status = VIRTIO_BLK_S_IOERR;
    const struct gw_driver_buf bufs[] = {{at, sizeof(v->req->header)},
                                         {at + offsetof(struct request, data), 512},
                                         {at + offsetof(struct request, status), 1}};
    check(gw_driver_add(v->driver, bufs, 1, 2, 0, 0)); /* the device reads one, writes two */
    gw_driver_want_calls(v->driver);
    gw_driver_kick(v->driver);
}

/* The device signals the call fd after it has used a request. */
static void on_call(struct vmm *v)
{
    struct gw_driver_used used;

    gw_driver_take_call(v->driver);
    if (gw_driver_take(v->driver, &used, 1) == 0)
        return;
    if (v->req->status != VIRTIO_BLK_S_OK)
        exit(1);
    printf("sector 0:");
    for (int i = 0; i < 16; i++)
        printf(" %02x", v->req->data[i]);
    printf("\n");
    check(gw_frontend_stop_async(v->fe, &v->driver, 1, on_stopped, &v->is_stopped));
}

int main(int argc, char **argv)
{
    struct gw_driver_config driver_cfg = {.size = sizeof(driver_cfg)};
    struct gw_frontend_options opt = {.size = sizeof(opt), .n_drivers = 1};
    const struct gw_guest_region ram = {.gpa = 0x100000, .length = 1 << 20};
    struct vmm v = {0};

    if (argc != 2) {
        fprintf(stderr, "usage: poll_frontend SOCKET\n");
        return 1;
    }
    check(gw_frontend_new(&v.fe, NULL));
    check(gw_guest_mem_new(&v.mem, GW_GUEST_UVA_HOST));
    check(gw_guest_mem_add(v.mem, &ram));
    driver_cfg.mem = opt.mem = v.mem;
    check(gw_driver_new(&v.driver, &driver_cfg));
    opt.drivers = &v.driver;

    /* Operations form a queue: these need not wait for each other. */
    check(gw_frontend_connect_async(v.fe, argv[1], on_step, NULL));
    check(gw_frontend_start_async(v.fe, &opt, on_step, NULL));
    check(gw_frontend_get_config_async(v.fe, 0, &v.capacity, sizeof(v.capacity), on_config, &v));

    struct pollfd fds[] = {{.fd = gw_frontend_poll_fd(v.fe), .events = POLLIN},
                           {.fd = gw_driver_call_fd(v.driver), .events = POLLIN}};
    check(fds[0].fd);
    while (!v.is_stopped) {
        poll(fds, 2, -1);
        if (fds[1].revents)
            on_call(&v);
        check(gw_frontend_run(v.fe, 0));
    }
    gw_frontend_free(v.fe);
    gw_driver_free(v.driver);
    gw_guest_mem_free(v.mem);
    return 0;
}
