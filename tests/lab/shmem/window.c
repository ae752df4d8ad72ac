/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A vhost-user device with a shared memory region, for QEMU's vhost-user-test-device-pci. When its
 * queue starts it maps a memfd into the region. When the guest has read it and has written an
 * answer, the device unmaps it and maps another one, which the guest may only read. Each step is a
 * line on standard output.
 *
 *     window SOCKET
 */
#include <godwit.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "window.h"

enum step {
    BEGINNING,
    MAPPING_FIRST,
    FIRST,
    UNMAPPING,
    MAPPING_SECOND,
    SECOND
};

struct window {
    struct gw_daemon *daemon;
    struct gw_channel_request req;
    int first, second;
    enum step step; /* atomic */
};

static struct window window;

static int new_file(const char *text, char **ret)
{
    int fd = memfd_create("window", MFD_CLOEXEC);
    char *at;

    if (fd < 0 || ftruncate(fd, WINDOW_LENGTH) < 0)
        return -1;
    at = mmap(NULL, WINDOW_LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return -1;
    strcpy(at, text);
    strcpy(at + WINDOW_LENGTH - WINDOW_PAGE, text);
    *ret = at;
    return fd;
}

static char *first_at, *second_at;

static void begin(struct window *w, enum step step)
{
    int r;

    __atomic_store_n(&w->step, step, __ATOMIC_RELEASE);
    if (step == UNMAPPING)
        r = gw_channel_shmem_unmap(w->daemon, &w->req, WINDOW_SHMID, WINDOW_FIRST, WINDOW_LENGTH);
    else if (step == MAPPING_FIRST)
        r = gw_channel_shmem_map(w->daemon, &w->req, WINDOW_SHMID, WINDOW_FIRST, w->first, 0,
                                 WINDOW_LENGTH, true);
    else
        r = gw_channel_shmem_map(w->daemon, &w->req, WINDOW_SHMID, WINDOW_SECOND, w->second, 0,
                                 WINDOW_LENGTH, false);
    if (r < 0)
        printf("step %d: %s\n", (int)step, gw_last_error());
}

/* [control] The front-end has answered. */
static void done(struct gw_channel_request *req, int result)
{
    static const char *const names[] = {
        [MAPPING_FIRST] = "mapped the first file",
        [UNMAPPING] = "unmapped the first file",
        [MAPPING_SECOND] = "mapped the second file",
    };
    struct window *w = &window;

    if (result < 0) {
        printf("%s: failed: %s\n", names[w->step], gw_last_error());
        return;
    }
    printf("%s\n", names[w->step]);
    if (w->step == UNMAPPING)
        begin(w, MAPPING_SECOND);
    else
        __atomic_store_n(&w->step, w->step == MAPPING_FIRST ? FIRST : SECOND, __ATOMIC_RELEASE);
}

static void get_shmem(void *dev, uint64_t *ret)
{
    ret[WINDOW_SHMID] = WINDOW_SIZE;
}

static int queue_start(void *dev, struct gw_queue *q)
{
    struct window *w = dev;

    if (__atomic_load_n(&w->step, __ATOMIC_ACQUIRE) == BEGINNING)
        begin(w, MAPPING_FIRST);
    return 0;
}

/* The guest asks for entropy to notify the device; the bytes do not matter. */
static int queue_ready(void *dev, struct gw_queue *q)
{
    struct window *w = dev;
    struct gw_request *r;
    char byte = 0;

    if (__atomic_load_n(&w->step, __ATOMIC_ACQUIRE) == FIRST &&
        strcmp(first_at + WINDOW_ANSWER, WINDOW_SEEN) == 0) {
        printf("the guest has answered\n");
        begin(w, UNMAPPING);
    }
    while (gw_queue_pop(q, &r, 1) == 1)
        gw_request_complete(r, (uint32_t)gw_request_write(r, &byte, 1));
    return 0;
}

static void on_signal(int number)
{
    gw_daemon_stop(window.daemon);
}

int main(int argc, char **argv)
{
    static const struct gw_device_ops ops = {
        .size = sizeof(ops),
        .queue_start = queue_start,
        .queue_ready = queue_ready,
        .get_shmem = get_shmem,
    };
    const struct gw_daemon_config cfg = {
        .size = sizeof(cfg), .name = "window", .log_level = GW_LOG_DEBUG};
    int r;

    if (argc != 2) {
        fprintf(stderr, "usage: window SOCKET\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    window.req.done = done;
    window.first = new_file(WINDOW_TEXT_FIRST, &first_at);
    window.second = new_file(WINDOW_TEXT_SECOND, &second_at);
    if (window.first < 0 || window.second < 0 ||
        gw_daemon_new(&window.daemon, &cfg, &ops, &window) < 0)
        return 1;
    signal(SIGTERM, on_signal);
    r = gw_daemon_start_path(window.daemon, argv[1]);
    if (r == 0)
        r = gw_daemon_wait(window.daemon);
    if (r < 0)
        fprintf(stderr, "window: %s\n", gw_last_error());
    if (strcmp(second_at, WINDOW_TEXT_SECOND) != 0)
        printf("the guest has changed the second file\n");
    gw_daemon_free(window.daemon);
    return r < 0;
}
