/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The RAM disk on libvhost-user: one thread with poll(2) pops requests until the ring is empty. It
 * publishes used elements BATCH at a time (default: 64): larger batches cost less; with a batch of
 * 1 the driver continues while the other requests are served. See compare.py, which builds it.
 *
 *     ram_libvhost_user SOCKET [BATCH]
 */
#include "ram_disk.h"

#include <libvhost-user.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define N_WATCHES 8

static struct {
    struct pollfd fds[N_WATCHES];
    vu_watch_cb cb[N_WATCHES];
    void *data[N_WATCHES];
    unsigned n;
} watches;

static unsigned batch = 64;
static bool is_broken;

static void die(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

/* --- the device ------------------------------------------------------------------------------- */

static uint32_t answer(const VuVirtqElement *elem)
{
    const struct iovec *status = &elem->in_sg[elem->in_num - 1];
    struct virtio_blk_outhdr header;
    size_t length = 0;

    if (elem->out_num < 1 || elem->in_num < 1 || elem->out_sg[0].iov_len != sizeof(header) ||
        status->iov_len != 1)
        return 0;
    memcpy(&header, elem->out_sg[0].iov_base, sizeof(header));
    for (unsigned i = 0; i < elem->in_num; i++)
        length += elem->in_sg[i].iov_len;
    *(uint8_t *)status->iov_base = ram_disk_request(&header, elem->out_sg + 1, elem->out_num - 1,
                                                    elem->in_sg, elem->in_num - 1);
    return (uint32_t)length;
}

static void serve_queue(VuDev *dev, int index)
{
    VuVirtq *vq = vu_get_queue(dev, index);
    VuVirtqElement *elem;
    unsigned n = 0;
    bool any = false;

    while ((elem = vu_queue_pop(dev, vq, sizeof(*elem))) != NULL) {
        vu_queue_fill(dev, vq, elem, answer(elem), n++);
        free(elem);
        any = true;
        if (n == batch) {
            vu_queue_flush(dev, vq, n);
            n = 0;
        }
    }
    if (n > 0)
        vu_queue_flush(dev, vq, n);
    if (any)
        vu_queue_notify(dev, vq);
}

static void queue_set_started(VuDev *dev, int index, bool started)
{
    vu_set_queue_handler(dev, vu_get_queue(dev, index), started ? serve_queue : NULL);
}

static uint64_t get_features(VuDev *dev)
{
    return UINT64_C(1) << VIRTIO_BLK_F_FLUSH;
}

static void set_features(VuDev *dev, uint64_t features)
{
}

static uint64_t get_protocol_features(VuDev *dev)
{
    return UINT64_C(1) << VHOST_USER_PROTOCOL_F_CONFIG;
}

static int get_config(VuDev *dev, uint8_t *config, uint32_t len)
{
    return ram_disk_config(0, config, len);
}

static const VuDevIface iface = {
    .get_features = get_features,
    .set_features = set_features,
    .get_protocol_features = get_protocol_features,
    .queue_set_started = queue_set_started,
    .get_config = get_config,
};

/* --- the loop --------------------------------------------------------------------------------- */

static void panic(VuDev *dev, const char *why)
{
    fprintf(stderr, "ram_libvhost_user: %s\n", why);
    is_broken = true;
}

static void remove_watch(VuDev *dev, int fd)
{
    for (unsigned i = 1; i < watches.n; i++) {
        if (watches.fds[i].fd != fd)
            continue;
        watches.n--;
        watches.fds[i] = watches.fds[watches.n];
        watches.cb[i] = watches.cb[watches.n];
        watches.data[i] = watches.data[watches.n];
        return;
    }
}

static void set_watch(VuDev *dev, int fd, int condition, vu_watch_cb cb, void *data)
{
    remove_watch(dev, fd);
    if (watches.n == N_WATCHES) {
        panic(dev, "too many fds");
        return;
    }
    watches.fds[watches.n] = (struct pollfd){.fd = fd, .events = (short)condition};
    watches.cb[watches.n] = cb;
    watches.data[watches.n++] = data;
}

static void serve_session(int fd)
{
    VuDev dev;

    /* The session's socket is the first watch. */
    watches.fds[0] = (struct pollfd){.fd = fd, .events = POLLIN};
    watches.n = 1;
    is_broken = false;
    if (!vu_init(&dev, 1, fd, panic, NULL, set_watch, remove_watch, &iface))
        die("vu_init");
    while (!is_broken) {
        if (poll(watches.fds, watches.n, -1) < 0)
            die("poll");
        for (unsigned i = 1; i < watches.n; i++)
            if (watches.fds[i].revents != 0)
                watches.cb[i](&dev, watches.fds[i].revents, watches.data[i]);
        /* vu_dispatch would exit the process at the end of the stream. */
        if ((watches.fds[0].revents & POLLHUP) != 0)
            break;
        if (watches.fds[0].revents != 0 && !vu_dispatch(&dev))
            break;
    }
    vu_deinit(&dev);
}

int main(int argc, char **argv)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int listener, fd;

    if (argc < 2 || argc > 3 || strlen(argv[1]) >= sizeof(sa.sun_path)) {
        fprintf(stderr, "usage: %s SOCKET [BATCH]\n", argv[0]);
        return 64;
    }
    if (argc == 3)
        batch = (unsigned)strtoul(argv[2], NULL, 10);
    signal(SIGPIPE, SIG_IGN);
    ram_disk_make();
    strcpy(sa.sun_path, argv[1]);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
        listen(listener, 1) < 0)
        die(argv[1]);
    for (;;) {
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            die("accept");
        serve_session(fd); /* vu_deinit closes it */
    }
}
