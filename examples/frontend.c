/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A front-end that shows the features and capacity of a vhost-user disk and its first 16 bytes:
 *
 *     cc -o frontend frontend.c $(pkg-config --cflags --libs godwit-frontend)
 *     godwit-blk --socket-path=disk.sock --ram=64M &
 *     ./frontend disk.sock
 */
#include <endian.h>
#include <godwit/frontend.h>
#include <inttypes.h>
#include <linux/virtio_blk.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

/* One request as it lies in guest memory. */
struct request {
    struct virtio_blk_outhdr header; /* type and sector */
    unsigned char data[512];
    uint8_t status;
};

/* End the program after an error. A longer program would free everything first. */
static void check(int r)
{
    if (r >= 0)
        return;
    fprintf(stderr, "frontend: %s\n", gw_frontend_last_error());
    exit(1);
}

int main(int argc, char **argv)
{
    struct gw_driver_config driver_cfg = {.size = sizeof(driver_cfg)};
    struct gw_frontend_options opt = {.size = sizeof(opt), .n_drivers = 1};
    const struct gw_guest_region ram = {.gpa = 0x100000, .length = 1 << 20};
    struct gw_frontend *fe = NULL;
    struct gw_guest_mem *mem = NULL;
    struct gw_driver *d = NULL;
    struct gw_driver_used used;
    struct request *req;
    uint64_t capacity;
    gw_gpa_t at;

    if (argc != 2) {
        fprintf(stderr, "usage: frontend SOCKET\n");
        return 1;
    }
    check(gw_frontend_new(&fe, NULL));
    check(gw_guest_mem_new(&mem, GW_GUEST_UVA_HOST));
    check(gw_guest_mem_add(mem, &ram));
    driver_cfg.mem = opt.mem = mem;
    check(gw_driver_new(&d, &driver_cfg));
    opt.drivers = &d;

    check(gw_frontend_connect(fe, argv[1]));
    check(gw_frontend_start(fe, &opt)); /* negotiate, share the memory, start queue 0 */
    check(gw_frontend_get_config(fe, 0, &capacity, sizeof(capacity)));
    printf("features %#" PRIx64 ", %" PRIu64 " sectors\n", gw_frontend_features(fe),
           le64toh(capacity));

    check(gw_guest_mem_alloc(mem, sizeof(*req), 16, &at));
    req = gw_guest_mem_at(mem, at, sizeof(*req));
    req->header.type = htole32(VIRTIO_BLK_T_IN);
    req->status = VIRTIO_BLK_S_IOERR;
    const struct gw_driver_buf bufs[] = {{at, sizeof(req->header)},
                                         {at + offsetof(struct request, data), sizeof(req->data)},
                                         {at + offsetof(struct request, status), 1}};
    check(gw_driver_add(d, bufs, 1, 2, 0, 0)); /* the device reads one buffer, writes two */
    gw_driver_kick(d);
    check(gw_driver_wait(d, 60000));
    if (gw_driver_take(d, &used, 1) != 1 || req->status != VIRTIO_BLK_S_OK) {
        fprintf(stderr, "frontend: the disk did not read its first sector\n");
        return 1;
    }
    printf("sector 0:");
    for (int i = 0; i < 16; i++)
        printf(" %02x", req->data[i]);
    printf("\n");

    check(gw_frontend_stop(fe, &d, 1));
    gw_frontend_free(fe);
    gw_driver_free(d);
    gw_guest_mem_free(mem);
    return 0;
}
