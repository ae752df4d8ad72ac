/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "daemon_bed.h"

#include "fdcheck.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct daemon_bed device;
char path[128];

static int queue_start(void *dev, struct gw_queue *q)
{
    struct daemon_bed *d = dev;

    d->worker_of[gw_queue_index(q)] = gw_worker_index(gw_queue_worker(q)) + 1;
    return 0;
}

static int queue_ready(void *dev, struct gw_queue *q)
{
    struct daemon_bed *d = dev;
    struct gw_request *reqs[16];
    int n = gw_queue_pop(q, reqs, 16);

    for (int i = 0; i < n; i++) {
        if (d->hold) {
            d->held[d->n_held] = reqs[i];
            __atomic_store_n(&d->n_held, d->n_held + 1, __ATOMIC_RELEASE);
        } else {
            gw_request_complete(reqs[i], 0);
        }
    }
    return 0;
}

static int worker_start(void *dev, struct gw_worker *w)
{
    struct daemon_bed *d = dev;
    unsigned n = __atomic_add_fetch(&d->n_worker_starts, 1, __ATOMIC_ACQ_REL);

    return n == 3 ? d->worker_start_result : 0;
}

static void worker_stop(void *dev, struct gw_worker *w)
{
    struct daemon_bed *d = dev;

    __atomic_add_fetch(&d->n_worker_stops, 1, __ATOMIC_ACQ_REL);
}

static int get_config(void *dev, uint32_t off, void *buf, uint32_t len)
{
    memset(buf, 0, len);
    return 0;
}

static void silent(void *arg, enum gw_diag_level level, const char *message)
{
}

const struct gw_device_ops device_ops = {
    .size = sizeof(device_ops),
    .get_config = get_config,
    .queue_start = queue_start,
    .queue_ready = queue_ready,
    .worker_start = worker_start,
    .worker_stop = worker_stop,
};

struct gw_daemon_config daemon_bed_config(void)
{
    return (struct gw_daemon_config){.size = sizeof(struct gw_daemon_config), .diag = silent};
}

struct gw_daemon *daemon_bed_new(void)
{
    struct gw_daemon_config cfg = daemon_bed_config();
    struct gw_daemon *d;

    memset(&device, 0, sizeof(device));
    assert_int_equal(gw_daemon_new(&d, &cfg, &device_ops, &device), 0);
    return d;
}

int daemon_bed_setup(void **state)
{
    char dir[] = "/tmp/godwit-test-XXXXXX";

    if (fdcheck_setup(state) < 0 || !mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/socket", dir);
    return 0;
}

int daemon_bed_teardown(void **state)
{
    *strrchr(path, '/') = '\0';
    return rmdir(path) < 0 ? -1 : fdcheck_teardown(state);
}

struct gw_frontend *daemon_bed_connect(void)
{
    struct gw_frontend *fe;

    assert_int_equal(gw_frontend_new(&fe, NULL), 0);
    assert_int_equal(gw_frontend_connect(fe, path), 0);
    return fe;
}

void expect_served(struct gw_frontend *fe)
{
    uint64_t features;

    assert_int_equal(gw_frontend_get_features(fe, &features), 0);
    assert_true(features & UINT64_C(1) << 32);
}

void expect_no_path(void)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), -1);
    assert_int_equal(errno, ENOENT);
}

void vm_boot(struct vm *vm, unsigned n)
{
    struct gw_guest_region region = {.gpa = 0x100000, .length = UINT64_C(8) << 20};
    struct gw_frontend_options opt = {.size = sizeof(opt), .n_drivers = n};

    vm->n = n;
    assert_int_equal(gw_guest_mem_new(&vm->mem, 0x700000000000), 0);
    assert_int_equal(gw_guest_mem_add(vm->mem, &region), 0);
    for (unsigned i = 0; i < n; i++) {
        struct gw_driver_config cfg = {
            .size = sizeof(cfg), .mem = vm->mem, .index = i, .queue_size = 16};

        assert_int_equal(gw_driver_new(&vm->drivers[i], &cfg), 0);
    }
    vm->fe = daemon_bed_connect();
    opt.mem = vm->mem;
    opt.drivers = vm->drivers;
    assert_int_equal(gw_frontend_start(vm->fe, &opt), 0);
}

void vm_unplug(struct vm *vm)
{
    gw_frontend_free(vm->fe);
    for (unsigned i = 0; i < vm->n; i++)
        gw_driver_free(vm->drivers[i]);
    gw_guest_mem_free(vm->mem);
}

void vm_add(struct vm *vm, unsigned queue)
{
    struct gw_driver_buf buf = {.addr = 0x100000, .len = 16};

    assert_int_equal(gw_driver_add(vm->drivers[queue], &buf, 0, 1, queue, 0), 0);
    gw_driver_kick(vm->drivers[queue]);
}
