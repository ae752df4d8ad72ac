/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Both ends of the back-end channel against each other: devices that share memory, objects and
 * notifiers with a front-end that serves them.
 */
#include "../fixtures/daemon_fixture.h"

#include "base/checked.h"
#include "base/proto.h"
#include "fdcheck.h"
#include "patience.h"

#include <godwit/frontend/channel.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    REGION = 16 * PAGE,
    SHMID = 7
};

static const uint8_t uuid[GW_FRONTEND_UUID_SIZE] = "an object of A.";
static const uint8_t unknown[GW_FRONTEND_UUID_SIZE] = "of nobody at all";

/* ---- a device ---- */

struct dev {
    int object; /* -1: it has none */
};

static void get_shmem(void *arg, uint64_t *ret)
{
    ret[SHMID] = REGION;
}

static int get_shared_object(void *arg, const uint8_t *id)
{
    const struct dev *dev = arg;

    if (dev->object < 0 || memcmp(id, uuid, sizeof(uuid)) != 0)
        return -ENOENT;
    return fcntl(dev->object, F_DUPFD_CLOEXEC, 0);
}

static int get_config(void *arg, uint32_t off, void *buf, uint32_t len)
{
    memset(buf, 0, len);
    return 0;
}

static int queue_ready(void *arg, struct gw_queue *q)
{
    return 0;
}

static const struct gw_device_ops dev_ops = {
    .size = sizeof(dev_ops),
    .get_config = get_config,
    .queue_ready = queue_ready,
    .get_shmem = get_shmem,
    .get_shared_object = get_shared_object,
    .host_notifiers = true,
};

/* ---- a VMM with some of them ---- */

struct vmm_device {
    struct dev dev;
    struct gw_daemon *d;
    struct vm vm;
    struct gw_frontend_shmem *shmem;
    struct vmm_device *owner; /* of the object, in all devices of the VMM */
    struct vmm_device *peer;
    char path[160];
    unsigned n_config_changes;
    unsigned notifier_index;
    uint64_t notifier_size;
};

static int on_config_changed(void *arg)
{
    struct vmm_device *v = arg;

    v->n_config_changes++;
    return 0;
}

static int on_map(void *arg, const struct gw_frontend_shmem_range *range, int fd)
{
    struct vmm_device *v = arg;

    return range->shmid == SHMID ? gw_frontend_shmem_map(v->shmem, range, fd) : -ENOENT;
}

static int on_unmap(void *arg, const struct gw_frontend_shmem_range *range)
{
    struct vmm_device *v = arg;

    return range->shmid == SHMID ? gw_frontend_shmem_unmap(v->shmem, range) : -ENOENT;
}

static int on_add(void *arg, const uint8_t *id)
{
    struct vmm_device *v = arg;

    if (memcmp(id, uuid, sizeof(uuid)) != 0 || v->owner)
        return -EEXIST;
    v->owner = v;
    if (v->peer)
        v->peer->owner = v;
    return 0;
}

static int on_remove(void *arg, const uint8_t *id)
{
    struct vmm_device *v = arg;

    if (v->owner != v)
        return -ENOENT;
    v->owner = NULL;
    if (v->peer)
        v->peer->owner = NULL;
    return 0;
}

static int on_lookup(void *arg, const uint8_t *id)
{
    struct vmm_device *v = arg;
    int fd = -1, r;

    if (!v->owner)
        return -ENOENT;
    r = gw_frontend_get_shared_object(v->owner->vm.fe, id, &fd);
    return r < 0 ? r : fd;
}

static int on_notifier(void *arg, unsigned index, int fd, uint64_t offset, uint64_t size)
{
    struct vmm_device *v = arg;

    v->notifier_index = index;
    v->notifier_size = fd >= 0 ? size : 0;
    return 0;
}

static const struct gw_frontend_channel_ops channel_ops = {
    .size = sizeof(channel_ops),
    .config_changed = on_config_changed,
    .shmem_map = on_map,
    .shmem_unmap = on_unmap,
    .object_add = on_add,
    .object_remove = on_remove,
    .object_lookup = on_lookup,
    .host_notifier = on_notifier,
};

static void plug(struct vmm_device *v, bool serves)
{
    struct gw_guest_region region = {.gpa = 0x100000, .length = UINT64_C(8) << 20};
    struct gw_frontend_options opt = {.size = sizeof(opt), .n_drivers = 1};
    struct gw_driver_config cfg = {.size = sizeof(cfg), .queue_size = 16};
    uint64_t sizes[GW_FRONTEND_SHMEM_REGIONS];
    struct vm *vm = &v->vm;

    *vm = (struct vm){.n = 1};
    assert_int_equal(gw_guest_mem_new(&vm->mem, 0x700000000000), 0);
    assert_int_equal(gw_guest_mem_add(vm->mem, &region), 0);
    cfg.mem = vm->mem;
    assert_int_equal(gw_driver_new(&vm->drivers[0], &cfg), 0);
    assert_int_equal(gw_frontend_new(&vm->fe, NULL), 0);
    assert_int_equal(gw_frontend_connect(vm->fe, v->path), 0);
    if (serves)
        assert_int_equal(gw_frontend_set_channel_ops(vm->fe, &channel_ops, v), 0);
    opt.mem = vm->mem;
    opt.drivers = vm->drivers;
    assert_int_equal(gw_frontend_start(vm->fe, &opt), 0);
    if (!serves) /* the features of the channel are not negotiated by default */
        return;
    assert_int_equal(gw_frontend_get_shmem_config(vm->fe, sizes), 0);
    for (unsigned i = 0; i < GW_FRONTEND_SHMEM_REGIONS; i++)
        assert_int_equal(sizes[i], i == SHMID ? REGION : 0);
    assert_int_equal(gw_frontend_shmem_new(&v->shmem, sizes[SHMID]), 0);
}

static void begin(struct vmm_device *v, struct gw_worker *control, const char *name, bool serves)
{
    struct gw_daemon_config cfg = daemon_fixture_config();

    *v = (struct vmm_device){.dev.object = -1};
    cfg.control = control;
    snprintf(v->path, sizeof(v->path), "%s%s", path, name);
    assert_int_equal(gw_daemon_new(&v->d, &cfg, &dev_ops, &v->dev), 0);
    assert_int_equal(gw_daemon_start_path(v->d, v->path), 0);
    plug(v, serves);
}

static void unplug(struct vmm_device *v)
{
    vm_unplug(&v->vm);
    gw_frontend_shmem_free(v->shmem);
    v->shmem = NULL;
}

static void finish(struct vmm_device *v)
{
    unplug(v);
    gw_daemon_free(v->d);
    if (v->dev.object >= 0)
        close(v->dev.object);
}

/* ---- requests of the device, while the front-end runs ---- */

struct ask {
    struct gw_channel_request req;
    int result;
    bool is_done; /* atomic */
};

static void done(struct gw_channel_request *req, int result)
{
    struct ask *a = (struct ask *)(void *)req;

    a->result = result;
    __atomic_store_n(&a->is_done, true, __ATOMIC_RELEASE);
}

static int await(struct vmm_device *v, const struct ask *a)
{
    for (unsigned i = 0; !__atomic_load_n(&a->is_done, __ATOMIC_ACQUIRE); i++) {
        assert_true(i < patience_ms());
        (void)gw_frontend_run(v->vm.fe, 1);
    }
    return a->result;
}

#define NEW_ASK          \
    {                    \
        .req.done = done \
    }

static int map(struct vmm_device *v, uint64_t at, int fd, uint64_t from, uint64_t n, bool writable)
{
    struct ask a = NEW_ASK;

    assert_int_equal(
        gw_channel_shmem_map(v->d, &a.req, SHMID, at * PAGE, fd, from * PAGE, n * PAGE, writable),
        0);
    return await(v, &a);
}

static int unmap(struct vmm_device *v, uint64_t at, uint64_t n)
{
    struct ask a = NEW_ASK;

    assert_int_equal(gw_channel_shmem_unmap(v->d, &a.req, SHMID, at * PAGE, n * PAGE), 0);
    return await(v, &a);
}

static int new_file(const char *text)
{
    int fd = memfd_create("shared", MFD_CLOEXEC);

    assert_int_equal(ftruncate(fd, 4 * PAGE), 0);
    assert_int_equal(pwrite(fd, text, strlen(text), PAGE), strlen(text));
    return fd;
}

/* ---- tests ---- */

static void test_channel_pair_device_maps_memory(void **state)
{
    struct vmm_device v;
    int fd = new_file("seen by the guest"), read_only, pipes[2];
    char name[64], *region;
    char back[4];

    begin(&v, NULL, "", true);
    region = gw_frontend_shmem_base(v.shmem);
    assert_int_equal(map(&v, 3, fd, 1, 2, true), 0);
    assert_string_equal(region + 3 * PAGE, "seen by the guest");
    memcpy(region + 3 * PAGE, "back", 4);
    assert_int_equal(pread(fd, back, 4, PAGE), 4);
    assert_memory_equal(back, "back", 4);
    assert_int_equal(gw_frontend_shmem_n_maps(v.shmem), 1);

    /* What the front-end refuses: overlaps, files that are too short or no memory, no mapping. */
    assert_int_equal(map(&v, 4, fd, 0, 1, true), -EREMOTEIO);
    assert_int_equal(map(&v, 0, fd, 3, 2, true), -EREMOTEIO);
    assert_int_equal(map(&v, 0, fd, 4, 1, true), -EREMOTEIO);
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_int_equal(map(&v, 0, pipes[0], 0, 1, true), -EREMOTEIO);
    snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
    read_only = open(name, O_RDONLY | O_CLOEXEC);
    assert_int_equal(map(&v, 0, read_only, 0, 1, true), -EREMOTEIO);
    assert_int_equal(unmap(&v, 3, 1), -EREMOTEIO);
    assert_int_equal(unmap(&v, 0, 1), -EREMOTEIO);
    assert_int_equal(gw_frontend_shmem_n_maps(v.shmem), 1);

    assert_int_equal(map(&v, 0, read_only, 0, 1, false), 0);
    assert_int_equal(unmap(&v, 3, 2), 0);
    assert_int_equal(unmap(&v, 3, 2), -EREMOTEIO);
    assert_int_equal(map(&v, 4, fd, 1, 1, true), 0);
    assert_memory_equal(region + 4 * PAGE, "back", 4);

    /* The next session begins with an empty region. */
    unplug(&v);
    plug(&v, true);
    assert_int_equal(map(&v, 4, fd, 1, 1, true), 0);
    close(pipes[0]);
    close(pipes[1]);
    close(read_only);
    close(fd);
    finish(&v);
}

static void test_channel_pair_devices_share_an_object(void **state)
{
    struct ask add = NEW_ASK, again = NEW_ASK, look = NEW_ASK, miss = NEW_ASK, gone = NEW_ASK,
               remove = NEW_ASK, foreign = NEW_ASK;
    struct stat ours, got;
    struct vmm_device a, b;

    begin(&a, NULL, "", true);
    begin(&b, NULL, "-b", true);
    a.peer = &b;
    b.peer = &a;
    a.dev.object = new_file("of A");

    assert_int_equal(gw_channel_object_lookup(b.d, &miss.req, uuid), 0);
    assert_int_equal(await(&b, &miss), -EREMOTEIO);
    assert_int_equal(gw_channel_object_add(a.d, &add.req, uuid), 0);
    assert_int_equal(await(&a, &add), 0);
    assert_int_equal(gw_channel_object_add(b.d, &again.req, uuid), 0);
    assert_int_equal(await(&b, &again), -EREMOTEIO);
    assert_int_equal(gw_channel_object_lookup(b.d, &look.req, uuid), 0);
    assert_int_equal(await(&b, &look), 0);
    assert_int_equal(fstat(a.dev.object, &ours) | fstat(look.req.fd, &got), 0);
    assert_int_equal(ours.st_ino, got.st_ino);
    close(look.req.fd);
    miss.is_done = false;
    assert_int_equal(gw_channel_object_lookup(b.d, &miss.req, unknown), 0);
    assert_int_equal(await(&b, &miss), -EREMOTEIO);
    assert_int_equal(miss.req.fd, -1);
    assert_int_equal(gw_channel_object_remove(b.d, &foreign.req, uuid), 0);
    assert_int_equal(await(&b, &foreign), -EREMOTEIO);
    assert_int_equal(gw_channel_object_remove(a.d, &remove.req, uuid), 0);
    assert_int_equal(await(&a, &remove), 0);
    assert_int_equal(gw_channel_object_lookup(b.d, &gone.req, uuid), 0);
    assert_int_equal(await(&b, &gone), -EREMOTEIO);
    finish(&a);
    finish(&b);
}

static void test_channel_pair_notifier_and_config_change(void **state)
{
    struct ask set = NEW_ASK, clear = NEW_ASK, change = NEW_ASK, odd = NEW_ASK;
    struct vmm_device v;
    struct gw_queue *q;
    int fd = new_file("doorbell");

    begin(&v, NULL, "", true);
    q = gw_daemon_queue(v.d, 0);
    v.notifier_index = 99;
    assert_int_equal(gw_channel_host_notifier(q, &set.req, fd, PAGE, PAGE), 0);
    assert_int_equal(await(&v, &set), 0);
    assert_true(v.notifier_index == 0 && v.notifier_size == PAGE);
    assert_int_equal(gw_channel_host_notifier(q, &odd.req, fd, 1, PAGE), 0);
    assert_int_equal(await(&v, &odd), -EREMOTEIO);
    assert_int_equal(gw_channel_host_notifier(q, &clear.req, -1, 0, 0), 0);
    assert_int_equal(await(&v, &clear), 0);
    assert_int_equal(v.notifier_size, 0);
    assert_int_equal(gw_channel_config_changed(v.d, &change.req), 0);
    assert_int_equal(await(&v, &change), 0);
    assert_int_equal(v.n_config_changes, 1);
    close(fd);
    finish(&v);
}

/* While one front-end leaves requests unanswered, another on the same control worker is served. */
static void test_channel_pair_silent_front_end_delays_no_other(void **state)
{
    const struct gw_workers_config cfg = {.size = sizeof(cfg), .log_level = GW_LOG_ERROR};
    static struct ask asks[GW_CHANNEL_REQUESTS_MAX];
    struct vmm_device silent, other;
    struct gw_workers *control;
    int fd = new_file("other");

    assert_int_equal(gw_workers_new(&control, &cfg), 0);
    begin(&silent, gw_workers_get(control, 0), "", false);
    begin(&other, gw_workers_get(control, 0), "-other", true);
    for (unsigned i = 0; i < GW_CHANNEL_REQUESTS_MAX; i++) {
        asks[i] = (struct ask)NEW_ASK;
        asks[i].req.timeout_ms = 3600 * 1000;
        assert_int_equal(gw_channel_config_changed(silent.d, &asks[i].req), 0);
    }
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(map(&other, i % 16, fd, 0, 1, true), 0);
        assert_int_equal(unmap(&other, i % 16, 1), 0);
        expect_served(silent.vm.fe);
    }
    for (unsigned i = 0; i < GW_CHANNEL_REQUESTS_MAX; i++)
        assert_false(asks[i].is_done);
    close(fd);
    finish(&silent);
    for (unsigned i = 0; i < GW_CHANNEL_REQUESTS_MAX; i++)
        assert_true(asks[i].is_done && asks[i].result == -ECONNRESET);
    finish(&other);
    assert_int_equal(gw_workers_free(control), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_channel_pair_device_maps_memory),
        DAEMON_TEST(test_channel_pair_devices_share_an_object),
        DAEMON_TEST(test_channel_pair_notifier_and_config_change),
        DAEMON_TEST(test_channel_pair_silent_front_end_delays_no_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
