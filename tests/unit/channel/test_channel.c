/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The back-end channel of a daemon against a raw front-end: what each request sends, and what
 * becomes of it with every kind of answer, without one, and at a hang-up.
 */
#include "../fixtures/daemon_fixture.h"

#include "base/checked.h"
#include "base/proto.h"
#include "fdcheck.h"
#include "patience.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SHMID = 3,
    SHMEM_SIZE = 1 << 20,
    PAGE = 4096,
    OK = GW_MSG_VERSION | GW_MSG_REPLY
};

#define ALL_FEATURES                                                             \
    (GW_BIT(GW_PROTOCOL_F_REPLY_ACK) | GW_BIT(GW_PROTOCOL_F_BACKEND_REQ) |       \
     GW_BIT(GW_PROTOCOL_F_CONFIG) | GW_BIT(GW_PROTOCOL_F_BACKEND_SEND_FD) |      \
     GW_BIT(GW_PROTOCOL_F_HOST_NOTIFIER) | GW_BIT(GW_PROTOCOL_F_SHARED_OBJECT) | \
     GW_BIT(GW_PROTOCOL_F_SHMEM))

static const uint8_t uuid[GW_UUID_SIZE] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static const uint8_t other_uuid[GW_UUID_SIZE] = {99};

/* ---- a device with everything ---- */

static int object_fd;

static void get_shmem(void *dev, uint64_t *ret)
{
    ret[SHMID] = SHMEM_SIZE;
    ret[255] = PAGE;
}

static int get_shared_object(void *dev, const uint8_t *id)
{
    return memcmp(id, uuid, sizeof(uuid)) == 0 ? fcntl(object_fd, F_DUPFD_CLOEXEC, 0) : -ENOENT;
}

static int get_config(void *dev, uint32_t off, void *buf, uint32_t len)
{
    memset(buf, 0, len);
    return 0;
}

static int queue_ready(void *dev, struct gw_queue *q)
{
    return 0;
}

static const struct gw_device_ops full_ops = {
    .size = sizeof(full_ops),
    .get_config = get_config,
    .queue_ready = queue_ready,
    .get_shmem = get_shmem,
    .get_shared_object = get_shared_object,
    .host_notifiers = true,
};

/* ---- a daemon, a front-end, and requests ---- */

struct ask {
    struct gw_channel_request req; /* first */
    int result;
    unsigned n; /* atomic: calls of done */
    char why[128];
};

struct bed {
    struct gw_daemon *d;
    struct vm vm;
    int fd; /* a memfd */
};

static int done_fd; /* a semaphore that counts requests that have ended */

static void done(struct gw_channel_request *req, int result)
{
    struct ask *a = (struct ask *)(void *)req;

    a->result = result;
    strncpy(a->why, result < 0 ? gw_last_error() : "", sizeof(a->why) - 1);
    __atomic_add_fetch(&a->n, 1, __ATOMIC_RELEASE);
    (void)eventfd_write(done_fd, 1);
}

static struct ask new_ask(void)
{
    return (struct ask){.req.done = done};
}

/* Wait for one more request to end. */
static void await_one(void)
{
    struct pollfd p = {.fd = done_fd, .events = POLLIN};
    eventfd_t value;

    assert_int_equal(poll(&p, 1, (int)patience_ms()), 1);
    assert_int_equal(eventfd_read(done_fd, &value), 0);
}

static int await(const struct ask *a)
{
    await_one();
    assert_int_equal(__atomic_load_n(&a->n, __ATOMIC_ACQUIRE), 1);
    return a->result;
}

static void connect_vm(struct bed *b, uint64_t protocol_features)
{
    struct gw_guest_region region = {.gpa = 0x100000, .length = UINT64_C(8) << 20};
    struct gw_frontend_options opt = {
        .size = sizeof(opt), .n_drivers = 1, .protocol_features = protocol_features};
    struct gw_driver_config cfg = {.size = sizeof(cfg), .queue_size = 16};
    struct vm *vm = &b->vm;

    *vm = (struct vm){.n = 1};
    assert_int_equal(gw_guest_mem_new(&vm->mem, 0x700000000000), 0);
    assert_int_equal(gw_guest_mem_add(vm->mem, &region), 0);
    cfg.mem = vm->mem;
    assert_int_equal(gw_driver_new(&vm->drivers[0], &cfg), 0);
    vm->fe = daemon_fixture_connect();
    opt.mem = vm->mem;
    opt.drivers = vm->drivers;
    assert_int_equal(gw_frontend_start(vm->fe, &opt), 0);
    expect_served(vm->fe); /* without REPLY_ACK, the messages before have only been sent */
}

static void begin(struct bed *b, uint64_t protocol_features)
{
    struct gw_daemon_config cfg = daemon_fixture_config();

    done_fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
    b->fd = object_fd = memfd_create("object", MFD_CLOEXEC);
    assert_int_equal(ftruncate(b->fd, SHMEM_SIZE), 0);
    assert_int_equal(gw_daemon_new(&b->d, &cfg, &full_ops, NULL), 0);
    assert_int_equal(gw_daemon_start_path(b->d, path), 0);
    connect_vm(b, protocol_features);
}

static void finish(struct bed *b)
{
    if (b->vm.fe)
        vm_unplug(&b->vm);
    gw_daemon_free(b->d);
    close(b->fd);
    close(done_fd);
}

enum what {
    CONFIG_CHANGED,
    MAP,
    UNMAP,
    ADD,
    REMOVE,
    LOOKUP,
    NOTIFIER,
    NO_NOTIFIER,
    N_WHATS
};

static int start(struct bed *b, struct ask *a, enum what what)
{
    struct gw_queue *q = gw_daemon_queue(b->d, 0);

    switch (what) {
    case CONFIG_CHANGED:
        return gw_channel_config_changed(b->d, &a->req);
    case MAP:
        return gw_channel_shmem_map(b->d, &a->req, SHMID, 2 * PAGE, b->fd, PAGE, 3 * PAGE, true);
    case UNMAP:
        return gw_channel_shmem_unmap(b->d, &a->req, SHMID, 2 * PAGE, 3 * PAGE);
    case ADD:
        return gw_channel_object_add(b->d, &a->req, uuid);
    case REMOVE:
        return gw_channel_object_remove(b->d, &a->req, uuid);
    case LOOKUP:
        return gw_channel_object_lookup(b->d, &a->req, uuid);
    case NOTIFIER:
        return gw_channel_host_notifier(q, &a->req, b->fd, PAGE, PAGE);
    default:
        return gw_channel_host_notifier(q, &a->req, -1, 0, 0);
    }
}

static const uint32_t ids[N_WHATS] = {2, 9, 10, 6, 7, 8, 3, 3};

/* What the front-end receives for each. */
static void expect_message(struct bed *b, enum what what, bool acks)
{
    static const uint32_t sizes[N_WHATS] = {0, 40, 40, 16, 16, 16, 24, 24};
    const struct gw_wire_mmap map = {.shmid = SHMID,
                                     .fd_offset = PAGE,
                                     .shm_offset = 2 * PAGE,
                                     .len = 3 * PAGE,
                                     .flags = GW_MMAP_F_WRITABLE};
    const struct gw_wire_mmap unmap = {.shmid = SHMID, .shm_offset = 2 * PAGE, .len = 3 * PAGE};
    const struct gw_wire_vring_area area = {.size = PAGE, .offset = PAGE};
    const struct gw_wire_vring_area no_area = {.index = GW_VRING_FD_NONE};
    const void *payloads[N_WHATS] = {"", &map, &unmap, uuid, uuid, uuid, &area, &no_area};
    struct gw_frontend_message msg;
    struct stat ours, got;

    assert_int_equal(gw_frontend_backend_request(b->vm.fe, &msg, patience_ms()), 0);
    assert_int_equal(msg.request, ids[what]);
    assert_int_equal(msg.flags, GW_MSG_VERSION | (acks ? GW_MSG_NEED_REPLY : 0));
    assert_int_equal(msg.size, sizes[what]);
    assert_memory_equal(msg.payload, payloads[what], sizes[what]);
    assert_int_equal(msg.n_fds, what == MAP || what == NOTIFIER);
    if (msg.n_fds) {
        assert_int_equal(fstat(b->fd, &ours) | fstat(msg.fds[0], &got), 0);
        assert_int_equal(ours.st_ino, got.st_ino);
    }
    gw_frontend_message_done(&msg);
}

/* An answer with these fields and `n_fds` fds. */
static void reply(struct bed *b, uint32_t id, uint32_t flags, uint32_t size, uint64_t value,
                  unsigned n_fds)
{
    struct {
        struct gw_wire_header header;
        uint64_t value[4];
    } __attribute__((packed)) answer = {{id, flags, size}, {value}};
    int fds[16];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(fds))];
    } control = {.header = {.cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS,
                            .cmsg_len = CMSG_LEN(n_fds * sizeof(int))}};
    struct iovec iov = {&answer, sizeof(answer.header) + (size < 32 ? size : 32)};
    struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1};

    for (unsigned i = 0; i < n_fds; i++)
        fds[i] = b->fd;
    if (n_fds) {
        memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(int));
        hdr.msg_control = &control;
        hdr.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
    }
    assert_int_equal(sendmsg(gw_frontend_backend_fd(b->vm.fe), &hdr, MSG_NOSIGNAL),
                     (ssize_t)iov.iov_len);
}

/* A request of its own passes over the channel. */
static void expect_channel(struct bed *b)
{
    struct ask a = new_ask();

    assert_int_equal(start(b, &a, ADD), 0);
    expect_message(b, ADD, true);
    reply(b, ids[ADD], OK, 8, 0, 0);
    assert_int_equal(await(&a), 0);
}

/* The front-end sees that the channel was closed; the session continues, and may have another. */
static void expect_closed(struct bed *b)
{
    struct pollfd p = {.fd = gw_frontend_backend_fd(b->vm.fe), .events = POLLRDHUP};
    struct ask a = new_ask();

    assert_int_equal(poll(&p, 1, (int)patience_ms()), 1);
    assert_int_equal(start(b, &a, ADD), 0);
    assert_int_equal(await(&a), -ENOTCONN);
    expect_served(b->vm.fe);
    assert_int_equal(gw_frontend_set_backend_req_fd(b->vm.fe), 0);
    expect_channel(b);
}

/* ---- requests and their answers ---- */

static void test_channel_each_request_is_sent_and_answered(void **state)
{
    struct bed b;

    begin(&b, ALL_FEATURES);
    for (enum what what = 0; what < N_WHATS; what++) {
        struct ask ok = new_ask(), refused = new_ask();

        assert_int_equal(start(&b, &ok, what), 0);
        expect_message(&b, what, true);
        reply(&b, ids[what], OK, 8, 0, what == LOOKUP);
        assert_int_equal(await(&ok), 0);
        assert_int_equal(ok.req.fd >= 0, what == LOOKUP);
        if (what == LOOKUP)
            close(ok.req.fd);

        assert_int_equal(start(&b, &refused, what), 0);
        expect_message(&b, what, true);
        reply(&b, ids[what], OK, 8, 22, 0);
        assert_int_equal(await(&refused), -EREMOTEIO);
        assert_int_equal(refused.req.fd, -1);
    }
    finish(&b);
}

static void test_channel_without_reply_ack_a_request_ends_when_sent(void **state)
{
    struct bed b;

    begin(&b, ALL_FEATURES & ~GW_BIT(GW_PROTOCOL_F_REPLY_ACK));
    for (enum what what = 0; what < N_WHATS; what++) {
        struct ask a = new_ask();

        assert_int_equal(start(&b, &a, what), 0);
        expect_message(&b, what, false);
        if (what == LOOKUP)
            reply(&b, ids[what], OK, 8, 0, 1);
        assert_int_equal(await(&a), 0);
        if (what == LOOKUP)
            close(a.req.fd);
    }
    finish(&b);
}

static void test_channel_needs_the_feature_of_each_request(void **state)
{
    static const unsigned features[N_WHATS] = {
        GW_PROTOCOL_F_CONFIG,        GW_PROTOCOL_F_SHMEM,         GW_PROTOCOL_F_SHMEM,
        GW_PROTOCOL_F_SHARED_OBJECT, GW_PROTOCOL_F_SHARED_OBJECT, GW_PROTOCOL_F_SHARED_OBJECT,
        GW_PROTOCOL_F_HOST_NOTIFIER, GW_PROTOCOL_F_HOST_NOTIFIER,
    };

    for (enum what what = 0; what < N_WHATS; what++) {
        bool sends_fd = what == MAP || what == NOTIFIER;
        struct bed b;

        for (unsigned i = 0; i < 2; i++) {
            unsigned missing = i ? GW_PROTOCOL_F_BACKEND_SEND_FD : features[what];
            struct ask a = new_ask();

            begin(&b, ALL_FEATURES & ~GW_BIT(missing));
            assert_int_equal(start(&b, &a, what), 0);
            if (i && !sends_fd) {
                expect_message(&b, what, true);
                reply(&b, ids[what], OK, 8, 1, 0);
                assert_int_equal(await(&a), -EREMOTEIO);
            } else {
                assert_int_equal(await(&a), -EOPNOTSUPP);
            }
            finish(&b);
        }
    }
}

static void test_channel_answers_that_do_not_fit(void **state)
{
    static const struct {
        enum what what;
        uint32_t id, flags, size;
        uint64_t value;
        unsigned n_fds;
        int result;
        bool closes;
    } cases[] = {
        {MAP, 9, OK | GW_MSG_NEED_REPLY, 8, 0, 0, 0, false}, /* tolerated */
        {MAP, 10, OK, 8, 0, 0, -EPROTO, true},               /* another request */
        {MAP, 0, OK, 8, 0, 0, -EPROTO, true},
        {MAP, 9, GW_MSG_VERSION, 8, 0, 0, -EPROTO, true}, /* no answer */
        {MAP, 9, 2 | GW_MSG_REPLY, 8, 0, 0, -EPROTO, true},
        {MAP, 9, OK | 0x10, 8, 0, 0, -EPROTO, true},
        {MAP, 9, OK, 0, 0, 0, -EPROTO, true},
        {MAP, 9, OK, 7, 0, 0, -EPROTO, true},
        {MAP, 9, OK, 16, 0, 0, -EPROTO, true},
        {MAP, 9, OK, UINT32_MAX, 0, 0, -EPROTO, true},
        {MAP, 9, OK, 8, 0, 1, -EPROTO, true}, /* an fd */
        {MAP, 9, OK, 8, 1, 1, -EPROTO, true},
        {LOOKUP, 8, OK, 8, 0, 2, -EPROTO, true},
        {LOOKUP, 8, OK, 8, 0, 9, -EPROTO, true},
        {LOOKUP, 8, OK, 8, 0, 0, -EPROTO, false},    /* found without an fd, as QEMU answers */
        {LOOKUP, 8, OK, 8, 1, 1, -EREMOTEIO, false}, /* refused with an fd */
    };

    for (unsigned i = 0; i < GW_ARRAY_SIZE(cases); i++) {
        struct ask a = new_ask();
        struct bed b;

        begin(&b, ALL_FEATURES);
        assert_int_equal(start(&b, &a, cases[i].what), 0);
        expect_message(&b, cases[i].what, true);
        reply(&b, cases[i].id, cases[i].flags, cases[i].size, cases[i].value, cases[i].n_fds);
        assert_int_equal(await(&a), cases[i].result);
        assert_int_equal(a.why[0] != '\0', cases[i].result < 0);
        assert_int_equal(a.req.fd, -1);
        if (cases[i].closes)
            expect_closed(&b);
        else
            expect_channel(&b);
        finish(&b);
    }
}

/* QEMU sends the object with its next message, which is then as good as any other, once. */
static void test_channel_object_with_another_message_is_dropped(void **state)
{
    for (unsigned answered = 0; answered < 2; answered++) {
        struct gw_frontend_message msg;
        struct ask a = new_ask();
        struct bed b;

        begin(&b, ALL_FEATURES);
        if (answered) {
            assert_int_equal(start(&b, &a, LOOKUP), 0);
            expect_message(&b, LOOKUP, true);
            reply(&b, ids[LOOKUP], OK, 8, 0, 0);
            assert_int_equal(await(&a), -EPROTO);
            assert_int_equal(gw_frontend_send_raw(b.vm.fe, GW_MSG_GET_FEATURES, GW_MSG_VERSION, 0,
                                                  NULL, 0, &b.fd, 1),
                             0);
            assert_int_equal(gw_frontend_receive(b.vm.fe, &msg, patience_ms()), 0);
            assert_int_equal(msg.request, GW_MSG_GET_FEATURES);
        }
        assert_int_equal(gw_frontend_send_raw(b.vm.fe, GW_MSG_GET_FEATURES, GW_MSG_VERSION, 0, NULL,
                                              0, &b.fd, 1),
                         0);
        assert_int_equal(gw_frontend_receive(b.vm.fe, &msg, patience_ms()), -ECONNRESET);
        finish(&b);
    }
}

static void test_channel_answer_without_a_request_closes_it(void **state)
{
    struct ask a = new_ask();
    struct bed b;

    begin(&b, ALL_FEATURES);
    expect_channel(&b);
    reply(&b, ids[ADD], OK, 8, 0, 0); /* a second answer */
    expect_closed(&b);
    /* No thread reads the channel before the first request, which then gets this answer. */
    assert_int_equal(gw_frontend_set_backend_req_fd(b.vm.fe), 0);
    reply(&b, ids[MAP], OK, 8, 0, 0);
    assert_int_equal(start(&b, &a, ADD), 0);
    assert_int_equal(await(&a), -EPROTO);
    expect_closed(&b);
    finish(&b);
}

/* ---- time ---- */

static void test_channel_late_answer_is_discarded(void **state)
{
    struct ask late = new_ask(), a = new_ask();
    struct bed b;

    begin(&b, ALL_FEATURES);
    late.req.timeout_ms = 1;
    assert_int_equal(start(&b, &late, LOOKUP), 0);
    expect_message(&b, LOOKUP, true);
    assert_int_equal(await(&late), -ETIMEDOUT);
    assert_int_equal(start(&b, &a, LOOKUP), 0);
    expect_message(&b, LOOKUP, true);
    reply(&b, ids[LOOKUP], OK, 8, 0, 1); /* of the first one */
    reply(&b, ids[LOOKUP], OK, 8, 5, 0);
    assert_int_equal(await(&a), -EREMOTEIO);
    assert_int_equal(late.n, 1);
    expect_channel(&b);
    finish(&b);
}

/* Without any answer, requests time out, and their number stays limited. */
static void test_channel_number_of_requests_is_limited(void **state)
{
    static struct ask asks[GW_CHANNEL_REQUESTS_MAX];
    struct ask more = new_ask();
    struct bed b;

    begin(&b, ALL_FEATURES);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < GW_CHANNEL_REQUESTS_MAX; i++) {
            asks[i] = new_ask();
            asks[i].req.timeout_ms = round ? 0 : 1;
            assert_int_equal(start(&b, &asks[i], ADD), 0);
        }
        assert_int_equal(start(&b, &more, ADD), -EBUSY);
        for (unsigned i = 0; i < GW_CHANNEL_REQUESTS_MAX; i++) {
            if (round == 0)
                await_one();
            expect_message(&b, ADD, true);
        }
        assert_int_equal(start(&b, &more, MAP), -EBUSY);
        for (unsigned i = 0; i < GW_CHANNEL_REQUESTS_MAX; i++)
            reply(&b, ids[ADD], OK, 8, i, 0);
        for (unsigned i = 0; i < GW_CHANNEL_REQUESTS_MAX && round == 1; i++)
            await_one();
        for (unsigned i = 0; i < GW_CHANNEL_REQUESTS_MAX; i++) {
            assert_int_equal(asks[i].n, 1);
            assert_int_equal(asks[i].result, round == 0 ? -ETIMEDOUT : i ? -EREMOTEIO : 0);
        }
        /* Late answers are counted until they have come. */
        for (unsigned tries = 0; start(&b, &more, ADD) == -EBUSY; tries++, usleep(1000))
            assert_true(tries < patience_ms());
        expect_message(&b, ADD, true);
        reply(&b, ids[ADD], OK, 8, 0, 0);
        assert_int_equal(await(&more), 0);
        more = new_ask();
    }
    finish(&b);
}

/* A front-end that does not read: what its socket has no room for waits. */
static void test_channel_full_socket_delays_requests(void **state)
{
    enum {
        WHOLE = sizeof(struct gw_wire_header) + sizeof(struct gw_wire_mmap)
    };
    const int small = 1;
    static struct ask asks[GW_CHANNEL_REQUESTS_MAX];
    char message[WHOLE];
    struct bed b;
    int pair[2];

    begin(&b, ALL_FEATURES & ~GW_BIT(GW_PROTOCOL_F_REPLY_ACK));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    assert_int_equal(gw_frontend_send_raw(b.vm.fe, GW_MSG_SET_BACKEND_REQ_FD, GW_MSG_VERSION, 0,
                                          NULL, 0, &pair[1], 1),
                     0);
    expect_served(b.vm.fe);
    close(pair[1]);
    for (unsigned i = 0; i < GW_CHANNEL_REQUESTS_MAX; i++) {
        asks[i] = new_ask();
        assert_int_equal(start(&b, &asks[i], MAP), 0);
    }
    expect_served(b.vm.fe);
    assert_int_equal(__atomic_load_n(&asks[GW_CHANNEL_REQUESTS_MAX - 1].n, __ATOMIC_ACQUIRE), 0);
    for (unsigned i = 0; i < GW_CHANNEL_REQUESTS_MAX; i++)
        assert_int_equal(recv(pair[0], message, WHOLE, MSG_WAITALL), WHOLE);
    for (unsigned i = 0; i < GW_CHANNEL_REQUESTS_MAX; i++)
        await_one();
    for (unsigned i = 0; i < GW_CHANNEL_REQUESTS_MAX; i++)
        assert_true(asks[i].n == 1 && asks[i].result == 0);
    close(pair[0]);
    finish(&b);
}

/* ---- sessions ---- */

static void test_channel_suspended_device_sends_nothing(void **state)
{
    struct ask a = new_ask(), expired = new_ask();
    struct gw_frontend_message msg;
    struct bed b;

    begin(&b, ALL_FEATURES);
    assert_int_equal(gw_frontend_stop(b.vm.fe, b.vm.drivers, 1), 0);
    assert_int_equal(start(&b, &a, MAP), 0);
    expired.req.timeout_ms = 1;
    assert_int_equal(start(&b, &expired, ADD), 0);
    assert_int_equal(await(&expired), -ETIMEDOUT);
    assert_int_equal(gw_frontend_backend_request(b.vm.fe, &msg, 0), -ETIMEDOUT);
    assert_int_equal(a.n, 0);
    assert_int_equal(gw_frontend_start_queue(b.vm.fe, b.vm.drivers[0]), 0);
    expect_message(&b, MAP, true);
    reply(&b, ids[MAP], OK, 8, 0, 0);
    assert_int_equal(await(&a), 0);
    finish(&b);
}

enum hang_up_at {
    WAITING,  /* suspended */
    SENT,     /* not yet received */
    RECEIVED, /* not yet answered */
    IN_ANSWER,
    N_HANG_UPS
};

static void test_channel_hang_up_ends_requests(void **state)
{
    for (unsigned at = 0; at < 2 * N_HANG_UPS; at++) {
        const uint32_t half[] = {ids[MAP], OK};
        struct ask a = new_ask(), after = new_ask();
        bool only_channel = at >= N_HANG_UPS;
        struct bed b;
        int r;

        begin(&b, ALL_FEATURES);
        if (at % N_HANG_UPS == WAITING)
            assert_int_equal(gw_frontend_stop(b.vm.fe, b.vm.drivers, 1), 0);
        assert_int_equal(start(&b, &a, MAP), 0);
        if (at % N_HANG_UPS >= RECEIVED)
            expect_message(&b, MAP, true);
        if (at % N_HANG_UPS == IN_ANSWER)
            assert_int_equal(send(gw_frontend_backend_fd(b.vm.fe), half, sizeof(half), 0),
                             sizeof(half));
        if (only_channel)
            assert_int_equal(shutdown(gw_frontend_backend_fd(b.vm.fe), SHUT_RDWR), 0);
        else
            gw_frontend_disconnect(b.vm.fe);
        r = await(&a);
        /* The channel or the session may be gone before the request is handled at all. */
        assert_true(r == -ECONNRESET || (r == -ENOTCONN && at % N_HANG_UPS < RECEIVED));
        if (only_channel && at % N_HANG_UPS != WAITING) {
            expect_closed(&b);
        } else if (!only_channel) {
            vm_unplug(&b.vm);
            connect_vm(&b, ALL_FEATURES);
            expect_channel(&b);
        }
        assert_int_equal(a.n + after.n, 1);
        finish(&b);
    }
}

static void test_channel_daemon_that_stops_ends_requests(void **state)
{
    struct ask a[3] = {new_ask(), new_ask(), new_ask()};
    struct bed b;

    begin(&b, ALL_FEATURES);
    assert_int_equal(start(&b, &a[0], MAP), 0);
    assert_int_equal(start(&b, &a[1], LOOKUP), 0);
    gw_daemon_stop(b.d);
    assert_int_equal(gw_daemon_wait(b.d), 0);
    await_one();
    await_one();
    assert_true(a[0].result == -ECONNRESET && a[1].result == -ECONNRESET);
    assert_int_equal(start(&b, &a[2], ADD), 0);
    assert_int_equal(await(&a[2]), -ENOTCONN);
    finish(&b);
}

static void test_channel_without_a_channel_requests_fail(void **state)
{
    struct ask a = new_ask();
    struct bed b;

    begin(&b, ALL_FEATURES & ~GW_BIT(GW_PROTOCOL_F_BACKEND_REQ));
    assert_int_equal(start(&b, &a, MAP), 0);
    assert_int_equal(await(&a), -ENOTCONN);
    finish(&b);
}

static void test_channel_bad_arguments_are_refused(void **state)
{
    static const struct {
        uint8_t shmid;
        uint64_t shm_offset, fd_offset, len;
    } cases[] = {
        {SHMID, 0, 0, 0},
        {SHMID, 0, 0, SHMEM_SIZE + PAGE},
        {SHMID, SHMEM_SIZE, 0, PAGE},
        {SHMID, SHMEM_SIZE + PAGE, 0, PAGE},
        {SHMID, UINT64_MAX - PAGE + 1, 0, 2 * PAGE},
        {SHMID, PAGE, 0, UINT64_MAX},
        {SHMID, 1, 0, PAGE},
        {SHMID, 0, 1, PAGE},
        {SHMID, 0, 0, PAGE - 1},
        {0, 0, 0, PAGE},
        {255, PAGE, 0, PAGE},
    };
    struct ask a = new_ask();
    struct gw_channel_request none = {.done = NULL};
    struct bed b;

    begin(&b, ALL_FEATURES);
    for (unsigned i = 0; i < GW_ARRAY_SIZE(cases); i++) {
        assert_int_equal(gw_channel_shmem_map(b.d, &a.req, cases[i].shmid, cases[i].shm_offset,
                                              b.fd, cases[i].fd_offset, cases[i].len, true),
                         -EINVAL);
        if (cases[i].fd_offset == 0)
            assert_int_equal(gw_channel_shmem_unmap(b.d, &a.req, cases[i].shmid,
                                                    cases[i].shm_offset, cases[i].len),
                             -EINVAL);
    }
    assert_int_equal(gw_channel_shmem_map(b.d, &a.req, SHMID, 0, -1, 0, PAGE, true), -EBADF);
    assert_int_equal(gw_channel_shmem_map(b.d, &a.req, SHMID, 0, 9999, 0, PAGE, true), -EBADF);
    assert_int_equal(gw_channel_host_notifier(gw_daemon_queue(b.d, 0), &a.req, b.fd, 0, 0),
                     -EINVAL);
    assert_int_equal(gw_channel_config_changed(b.d, &none), -EINVAL);
    assert_int_equal(gw_channel_shmem_map(b.d, &none, SHMID, 0, b.fd, 0, PAGE, true), -EINVAL);
    expect_channel(&b);
    finish(&b);
}

/* ---- what the front-end asks ---- */

static void test_channel_shmem_config_and_objects(void **state)
{
    const struct gw_wire_header ask_config = {.request = GW_MSG_GET_SHMEM_CONFIG,
                                              .flags = GW_MSG_VERSION};
    struct gw_wire_shmem_config config;
    struct gw_frontend_message msg;
    struct bed b;

    begin(&b, ALL_FEATURES);
    assert_int_equal(gw_frontend_send_raw(b.vm.fe, ask_config.request, 1, 0, NULL, 0, NULL, 0), 0);
    assert_int_equal(gw_frontend_receive(b.vm.fe, &msg, patience_ms()), 0);
    assert_int_equal(msg.size, sizeof(config));
    memcpy(&config, msg.payload, sizeof(config));
    assert_int_equal(config.num_regions, 2);
    for (unsigned i = 0; i < GW_SHMEM_REGIONS; i++)
        assert_int_equal(config.sizes[i], i == SHMID ? SHMEM_SIZE : i == 255 ? PAGE : 0);

    for (unsigned i = 0; i < 3; i++) { /* ours, an unknown one, none (QEMU 10) */
        uint32_t size = i == 2 ? 0 : GW_UUID_SIZE;

        assert_int_equal(gw_frontend_send_raw(b.vm.fe, GW_MSG_GET_SHARED_OBJECT, 1, size,
                                              i == 0 ? uuid : other_uuid, size, NULL, 0),
                         0);
        assert_int_equal(gw_frontend_receive(b.vm.fe, &msg, patience_ms()), 0);
        assert_int_equal(msg.size, size);
        assert_int_equal(msg.n_fds, i == 0);
        gw_frontend_message_done(&msg);
    }
    finish(&b);
}

static void get_odd_shmem(void *dev, uint64_t *ret)
{
    ret[0] = PAGE + 1;
}

static void get_no_shmem(void *dev, uint64_t *ret)
{
}

static void test_channel_features_are_offered_with_their_ops_only(void **state)
{
    const uint64_t shmem = GW_BIT(GW_PROTOCOL_F_SHMEM),
                   objects = GW_BIT(GW_PROTOCOL_F_SHARED_OBJECT),
                   notifiers = GW_BIT(GW_PROTOCOL_F_HOST_NOTIFIER),
                   fds = GW_BIT(GW_PROTOCOL_F_BACKEND_SEND_FD);
    const struct {
        struct gw_device_ops ops;
        uint64_t offered;
    } cases[] = {
        {{.size = sizeof(full_ops), .queue_ready = queue_ready}, 0},
        {{.size = sizeof(full_ops), .queue_ready = queue_ready, .get_shmem = get_no_shmem}, 0},
        {{.size = sizeof(full_ops), .queue_ready = queue_ready, .get_shmem = get_shmem},
         shmem | fds},
        {{.size = sizeof(full_ops),
          .queue_ready = queue_ready,
          .get_shared_object = get_shared_object},
         objects},
        {{.size = sizeof(full_ops), .queue_ready = queue_ready, .host_notifiers = true},
         notifiers | fds},
    };
    struct gw_device_ops odd = cases[1].ops;
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct gw_daemon *d;

    for (unsigned i = 0; i < GW_ARRAY_SIZE(cases); i++) {
        struct gw_frontend *fe;
        uint64_t offered;

        assert_int_equal(gw_daemon_new(&d, &cfg, &cases[i].ops, NULL), 0);
        assert_int_equal(gw_daemon_start_path(d, path), 0);
        fe = daemon_fixture_connect();
        assert_int_equal(gw_frontend_get_protocol_features(fe, &offered), 0);
        assert_int_equal(offered & (shmem | objects | notifiers | fds), cases[i].offered);
        gw_frontend_free(fe);
        gw_daemon_free(d);
    }
    odd.get_shmem = get_odd_shmem;
    assert_int_equal(gw_daemon_new(&d, &cfg, &odd, NULL), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAEMON_TEST(test_channel_each_request_is_sent_and_answered),
        DAEMON_TEST(test_channel_without_reply_ack_a_request_ends_when_sent),
        DAEMON_TEST(test_channel_needs_the_feature_of_each_request),
        DAEMON_TEST(test_channel_answers_that_do_not_fit),
        DAEMON_TEST(test_channel_object_with_another_message_is_dropped),
        DAEMON_TEST(test_channel_answer_without_a_request_closes_it),
        DAEMON_TEST(test_channel_late_answer_is_discarded),
        DAEMON_TEST(test_channel_number_of_requests_is_limited),
        DAEMON_TEST(test_channel_full_socket_delays_requests),
        DAEMON_TEST(test_channel_suspended_device_sends_nothing),
        DAEMON_TEST(test_channel_hang_up_ends_requests),
        DAEMON_TEST(test_channel_daemon_that_stops_ends_requests),
        DAEMON_TEST(test_channel_without_a_channel_requests_fail),
        DAEMON_TEST(test_channel_bad_arguments_are_refused),
        DAEMON_TEST(test_channel_shmem_config_and_objects),
        DAEMON_TEST(test_channel_features_are_offered_with_their_ops_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
