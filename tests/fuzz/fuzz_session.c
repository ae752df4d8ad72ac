/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Whatever a front-end sends, a daemon neither crashes nor hangs, and keeps no fd and no mapping of
 * the session after its end.
 *
 * The input is a list of messages: six bytes (request, flags, fds, kinds of fds, payload length in
 * the input: 2 bytes, little endian), one signed byte to add to the length in the header, and the
 * payload. Bit i of `kinds` makes fd i an eventfd; otherwise it is 1 MiB of shared memory.
 */
#include "domain.h"
#include "fdcheck.h"
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <godwit.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS_MAX    12
#define HEAD       7
#define MEMORY     (1u << 20)
#define N_MESSAGES 64

struct message {
    uint32_t header[3];
    int fds[FDS_MAX];
    unsigned n_fds;
    const uint8_t *payload;
    size_t length;
};

static int queue_ready(void *dev, struct gw_queue *q)
{
    struct gw_request *reqs[8];
    unsigned n = gw_queue_pop(q, reqs, 8);
    (void)dev;
    for (unsigned i = 0; i < n; i++)
        gw_request_complete(reqs[i], 0);
    return 0;
}

static int get_config(void *dev, uint32_t off, void *buf, uint32_t len)
{
    (void)dev;
    (void)off;
    memset(buf, 0x5a, len);
    return 0;
}

static void get_shmem(void *dev, uint64_t *ret)
{
    ret[1] = 1 << 20;
}

static int get_shared_object(void *dev, const uint8_t *uuid)
{
    return uuid[0] == 1 ? eventfd(0, EFD_CLOEXEC) : -ENOENT;
}

static int set_config(void *dev, uint32_t off, const void *buf, uint32_t len, bool migration)
{
    uint8_t copy[GW_CONFIG_SIZE_MAX];
    (void)dev;
    (void)off;
    (void)migration;
    if (len > sizeof(copy))
        abort();
    memcpy(copy, buf, len);
    return 0;
}

static void silent(void *arg, enum gw_log_level level, const char *message)
{
    (void)arg;
    (void)level;
    (void)message;
}

/* Parse one message of the input. Returns: its length in the input; 0 at the end. */
static size_t parse(struct message *m, const uint8_t *data, size_t size)
{
    if (size < HEAD)
        return 0;
    m->n_fds = data[2] > FDS_MAX ? FDS_MAX : data[2];
    m->length = (size_t)(data[4] | data[5] << 8);
    if (m->length > size - HEAD)
        m->length = size - HEAD;
    m->payload = data + HEAD;
    m->header[0] = data[0];
    m->header[1] = data[1];
    m->header[2] = (uint32_t)m->length + (uint32_t)(int8_t)data[6];
    for (unsigned i = 0; i < m->n_fds; i++) {
        if (i < 8 && (data[3] >> i & 1)) {
            m->fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        } else {
            m->fds[i] = memfd_create("fuzz", MFD_CLOEXEC);
            if (m->fds[i] >= 0 && ftruncate(m->fds[i], MEMORY) < 0)
                abort();
        }
        if (m->fds[i] < 0)
            abort();
    }
    return HEAD + m->length;
}

/*
 * Send the message and close its fds. Answers are ignored, and so are a full socket and a hang-up.
 */
static void send_message(int socket, struct message *m)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * FDS_MAX)];
    } control = {0};
    struct iovec iov[2] = {{m->header, sizeof(m->header)}, {(void *)m->payload, m->length}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

    if (m->n_fds) {
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * m->n_fds);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int) * m->n_fds);
        memcpy(CMSG_DATA(&control.header), m->fds, sizeof(int) * m->n_fds);
    }
    (void)sendmsg(socket, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    for (unsigned i = 0; i < m->n_fds; i++)
        close(m->fds[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct gw_device_ops ops = {
        .size = sizeof(ops),
        .queue_ready = queue_ready,
        .get_config = get_config,
        .set_config = set_config,
        .get_shmem = get_shmem,
        .get_shared_object = get_shared_object,
    };
    struct gw_daemon_config cfg = {
        .size = sizeof(cfg),
        .num_queues = 2,
        .loop = GW_LOOP_EPOLL,
        .log = silent,
        .handle_sigbus = true,
    };
    struct gw_daemon *daemon;
    struct message message;
    struct fdcheck *check;
    int ends[2];

    fuzz_domain_begin();
    check = fdcheck_begin();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 ||
        gw_daemon_new(&daemon, &cfg, &ops, NULL) < 0 || gw_daemon_start(daemon, ends[0]) < 0)
        abort();
    for (unsigned i = 0; i < N_MESSAGES; i++) {
        size_t taken = parse(&message, data, size);
        if (taken == 0)
            break;
        send_message(ends[1], &message);
        data += taken;
        size -= taken;
    }
    /* The remaining bytes are the start of an incomplete message. */
    (void)send(ends[1], data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(ends[1], SHUT_WR);
    /* The daemon answers the complete messages and hangs up. */
    for (char answer[4096]; read(ends[1], answer, sizeof(answer)) > 0;)
        ;
    gw_daemon_wait(daemon);
    gw_daemon_free(daemon);
    close(ends[1]);
    if (fdcheck_end(check) != 0)
        abort();
    fuzz_domain_end();
    return 0;
}
