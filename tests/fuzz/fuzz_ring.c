/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Arbitrary rings, descriptors and indirect tables: the queue completes the requests or breaks, and
 * can be stopped.
 *
 * The input is one byte of flags (bit 0: indirect descriptors, 1: event index, 2: packed, 3: in
 * order), the available index (2 bytes, little endian; for a packed ring the start position), and
 * bytes that overwrite guest memory from address 0: 16 descriptors at 0, the available ring or
 * driver event area at 0x100, the used ring or device event area at 0x200, and then arbitrary data.
 */
#include "fuzz.h"

#include <godwit.h>
#include <godwit/frontend/frontend.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD       3
#define MEMORY     (64u << 10)
#define QUEUE_SIZE 16
#define N_TURNS    6 /* of the worker, which pops up to 4 requests per turn */
#define AVAIL      0x100
#define USED       0x200

#define F_INDIRECT  (UINT64_C(1) << 28)
#define F_EVENT_IDX (UINT64_C(1) << 29)
#define F_PACKED    (UINT64_C(1) << 34)
#define F_IN_ORDER  (UINT64_C(1) << 35)
#define F_ALWAYS    (UINT64_C(1) << 30 | UINT64_C(1) << 32)

static void check(int r)
{
    if (r < 0)
        abort();
}

/* Touch every byte of every buffer, and check the total lengths. */
static void use(struct gw_request *r)
{
    uint8_t buf[1000];
    size_t writable_len = 0, readable_len = 0, n;

    for (uint32_t i = 0; i < r->n_writable; i++)
        writable_len += r->writable[i].iov_len;
    for (uint32_t i = 0; i < r->n_readable; i++)
        readable_len += r->readable[i].iov_len;
    if (writable_len != r->writable_len || readable_len != r->readable_len)
        abort();
    while ((n = gw_request_read(r, buf, sizeof(buf))) > 0)
        readable_len -= n;
    memset(buf, 0, sizeof(buf));
    while ((n = gw_request_write(r, buf, sizeof(buf))) > 0)
        writable_len -= n;
    if (writable_len != 0 || readable_len != 0)
        abort();
}

static int queue_ready(void *dev, struct gw_queue *q)
{
    struct gw_request *reqs[4];
    unsigned n = gw_queue_pop(q, reqs, 4);
    (void)dev;
    for (unsigned i = 0; i < n; i++) {
        use(reqs[i]);
        gw_request_complete(reqs[i], (uint32_t)i);
    }
    return 0;
}

static void silent(void *arg, enum gw_log_level level, const char *message)
{
    (void)arg;
    (void)level;
    (void)message;
}

static struct gw_daemon *start_daemon(int fd)
{
    static const struct gw_device_ops ops = {.size = sizeof(ops), .queue_ready = queue_ready};
    struct gw_daemon_config cfg = {.size = sizeof(cfg), .loop = GW_LOOP_EPOLL, .log = silent};
    struct gw_daemon *daemon;

    check(gw_daemon_new(&daemon, &cfg, &ops, NULL));
    check(gw_daemon_start(daemon, fd));
    return daemon;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gw_guest_region region = {.kind = GW_GUEST_MEMFD, .length = MEMORY};
    struct gw_driver_config driver_cfg = {.size = sizeof(driver_cfg),
                                          .queue_size = QUEUE_SIZE,
                                          .place = true,
                                          .avail = AVAIL,
                                          .used = USED};
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    struct gw_frontend *fe;
    uint64_t one = 1;
    int ends[2];

    if (size < HEAD)
        return 0;
    driver_cfg.packed = data[0] & 4;
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    struct gw_daemon *daemon = start_daemon(ends[0]);
    check(gw_guest_mem_new(&mem, GW_GUEST_UVA_HOST));
    check(gw_guest_mem_add(mem, &region));
    driver_cfg.mem = mem;
    check(gw_driver_new(&driver, &driver_cfg));
    check(gw_frontend_new(&fe, NULL));
    check(gw_frontend_attach(fe, ends[1]));

    struct gw_frontend_options opt = {
        .size = sizeof(opt), .mem = mem, .drivers = &driver, .n_drivers = 1};
    opt.features = F_ALWAYS | (data[0] & 1 ? F_INDIRECT : 0) | (data[0] & 2 ? F_EVENT_IDX : 0) |
                   (data[0] & 4 ? F_PACKED : 0) | (data[0] & 8 ? F_IN_ORDER : 0);
    uint16_t idx = (uint16_t)(data[1] | data[2] << 8);
    if (driver_cfg.packed)
        gw_driver_reset(driver, idx);
    check(gw_frontend_start(fe, &opt));

    size_t length = size - HEAD < MEMORY ? size - HEAD : MEMORY;
    memcpy(gw_guest_mem_at(mem, 0, MEMORY), data + HEAD, length);
    gw_driver_write_avail_idx(driver, idx);
    if (write(gw_driver_kick_fd(driver), &one, sizeof(one)) != sizeof(one))
        abort();
    /* Each message takes one turn of the worker. */
    for (unsigned i = 0; i < N_TURNS; i++)
        check(gw_frontend_set_vring_enable(fe, 0, true));
    /* The stop always succeeds: nothing is in flight, so it has nothing to wait for. */
    check(gw_frontend_stop(fe, &driver, 1));

    gw_frontend_free(fe);
    gw_daemon_wait(daemon);
    gw_daemon_free(daemon);
    gw_driver_free(driver);
    gw_guest_mem_free(mem);
    return 0;
}
