/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Requests of a raw back-end to the front-end: each is checked, served by its callback and
 * answered; what has the wrong form never reaches a callback.
 */
#include "../fixtures/fe_line.h"

#include "base/checked.h"
#include "fdcheck.h"

#include <sys/mman.h>
#include <sys/stat.h>

enum {
    PAGE = 4096
};

struct channel {
    struct line l;
    int fd; /* the back-end's end */
    unsigned n;
    uint32_t last; /* the request that was served */
    struct gw_frontend_shmem_range range;
    uint8_t uuid[GW_FRONTEND_UUID_SIZE];
    unsigned index;
    uint64_t offset, size;
    int got_fd; /* -1: none; otherwise it was open in the callback */
    int result, object;
    bool hangs_up, frees;
};

static int served(struct channel *c, uint32_t request, int fd)
{
    c->n++;
    c->last = request;
    c->got_fd = fd;
    if (fd >= 0)
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    if (c->hangs_up)
        gw_frontend_disconnect(c->l.fe);
    if (c->frees)
        gw_frontend_free(c->l.fe);
    return c->result;
}

static int config_changed(void *arg)
{
    return served(arg, GW_BACKEND_MSG_CONFIG_CHANGE, -1);
}

static int shmem_map(void *arg, const struct gw_frontend_shmem_range *range, int fd)
{
    struct channel *c = arg;

    c->range = *range;
    return served(c, GW_BACKEND_MSG_SHMEM_MAP, fd);
}

static int shmem_unmap(void *arg, const struct gw_frontend_shmem_range *range)
{
    struct channel *c = arg;

    c->range = *range;
    return served(c, GW_BACKEND_MSG_SHMEM_UNMAP, -1);
}

static int object_add(void *arg, const uint8_t *uuid)
{
    memcpy(((struct channel *)arg)->uuid, uuid, GW_FRONTEND_UUID_SIZE);
    return served(arg, GW_BACKEND_MSG_SHARED_OBJECT_ADD, -1);
}

static int object_remove(void *arg, const uint8_t *uuid)
{
    memcpy(((struct channel *)arg)->uuid, uuid, GW_FRONTEND_UUID_SIZE);
    return served(arg, GW_BACKEND_MSG_SHARED_OBJECT_REMOVE, -1);
}

static int object_lookup(void *arg, const uint8_t *uuid)
{
    struct channel *c = arg;
    int r;

    memcpy(c->uuid, uuid, GW_FRONTEND_UUID_SIZE);
    r = served(c, GW_BACKEND_MSG_SHARED_OBJECT_LOOKUP, -1);
    return r < 0 ? r : fcntl(c->object, F_DUPFD_CLOEXEC, 0);
}

static int host_notifier(void *arg, unsigned index, int fd, uint64_t offset, uint64_t size)
{
    struct channel *c = arg;

    c->index = index;
    c->offset = offset;
    c->size = size;
    return served(c, GW_BACKEND_MSG_VRING_HOST_NOTIFIER, fd);
}

static const struct gw_frontend_channel_ops all_ops = {
    .size = sizeof(all_ops),
    .config_changed = config_changed,
    .shmem_map = shmem_map,
    .shmem_unmap = shmem_unmap,
    .object_add = object_add,
    .object_remove = object_remove,
    .object_lookup = object_lookup,
    .host_notifier = host_notifier,
};

/* The protocol features of the session, which the raw back-end accepts. */
static void set_features(struct channel *c, uint64_t features)
{
    struct end e = {0};

    assert_int_equal(gw_frontend_set_protocol_features_async(c->l.fe, features, line_end, &e), 0);
    assert_int_equal(line_loop(&c->l, &e), 0);
    (void)line_expect(&c->l, GW_MSG_SET_PROTOCOL_FEATURES, NULL);
}

#define FEATURES                                                                   \
    (GW_BIT(GW_PROTOCOL_F_BACKEND_REQ) | GW_BIT(GW_PROTOCOL_F_CONFIG) |            \
     GW_BIT(GW_PROTOCOL_F_BACKEND_SEND_FD) | GW_BIT(GW_PROTOCOL_F_HOST_NOTIFIER) | \
     GW_BIT(GW_PROTOCOL_F_SHARED_OBJECT) | GW_BIT(GW_PROTOCOL_F_SHMEM))

static void begin(struct channel *c, const struct gw_frontend_channel_ops *ops)
{
    const struct gw_frontend_config cfg = {
        .size = sizeof(cfg), .timeout_ms = patience_ms(), .ack = GW_FRONTEND_ACK_NEVER};
    char control[CMSG_SPACE(sizeof(int))];
    struct gw_wire_header h;
    struct iovec iov = {.iov_base = &h, .iov_len = sizeof(h)};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control};
    struct end e = {0};

    *c = (struct channel){.fd = -1, .got_fd = -1};
    c->object = memfd_create("object", MFD_CLOEXEC);
    line_begin_with(&c->l, &cfg);
    assert_int_equal(gw_frontend_set_channel_ops(c->l.fe, ops, c), 0);
    set_features(c, FEATURES);
    assert_int_equal(gw_frontend_set_backend_req_fd_async(c->l.fe, line_end, &e), 0);
    assert_int_equal(line_loop(&c->l, &e), 0);
    mh.msg_controllen = sizeof(control);
    assert_int_equal(recvmsg(c->l.peer, &mh, MSG_CMSG_CLOEXEC), sizeof(h));
    memcpy(&c->fd, CMSG_DATA(CMSG_FIRSTHDR(&mh)), sizeof(int));
}

static void finish(struct channel *c)
{
    close(c->fd);
    close(c->object);
    line_finish(&c->l);
}

struct request {
    uint32_t id, flags, size;
    union {
        uint8_t bytes[64];
        struct gw_wire_mmap map;
        struct gw_wire_vring_area area;
    } payload;
    unsigned n_fds;
};

static void ask(struct channel *c, const struct request *q)
{
    struct {
        struct gw_wire_header h;
        uint8_t payload[64];
    } __attribute__((packed)) message = {.h = {q->id, q->flags, q->size}};
    struct line on_channel = {.peer = c->fd};

    memcpy(message.payload, &q->payload, sizeof(message.payload));
    line_send(&on_channel, &message, sizeof(message.h) + q->size, q->n_fds);
    assert_true(line_is_ready(&c->l));
    assert_int_equal(gw_frontend_run(c->l.fe, 0), 0);
}

/* Returns: the number of the answer; UINT64_MAX without one. `n_fds` counts its fds. */
static uint64_t answer(struct channel *c, uint32_t id, unsigned *n_fds)
{
    char control[CMSG_SPACE(sizeof(int) * 4)];
    struct answer a;
    struct iovec iov = {.iov_base = &a, .iov_len = sizeof(a)};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control};
    struct cmsghdr *cm;
    struct stat ours, got;

    mh.msg_controllen = sizeof(control);
    *n_fds = 0;
    if (recvmsg(c->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != sizeof(a))
        return UINT64_MAX;
    cm = CMSG_FIRSTHDR(&mh);
    if (cm) {
        int fd;

        assert_int_equal(cm->cmsg_len, CMSG_LEN(sizeof(int)));
        memcpy(&fd, CMSG_DATA(cm), sizeof(fd));
        assert_int_equal(fstat(c->object, &ours) | fstat(fd, &got), 0);
        assert_int_equal(ours.st_ino, got.st_ino);
        close(fd);
        *n_fds = 1;
    }
    assert_int_equal(a.h.request, id);
    assert_int_equal(a.h.flags, REPLY_OK);
    assert_int_equal(a.h.size, 8);
    return a.value;
}

enum {
    NEED = GW_MSG_VERSION | GW_MSG_NEED_REPLY
};

#define MAP_OF(...)            \
    {                          \
        .map = { __VA_ARGS__ } \
    }
#define AREA(...)               \
    {                           \
        .area = { __VA_ARGS__ } \
    }

static const struct request good[] = {
    {2, NEED, 0, {{0}}, 0},
    {3, NEED, 24, AREA(.index = 255, .size = PAGE, .offset = PAGE), 1},
    {3, NEED, 24, AREA(.index = 7 | GW_VRING_FD_NONE, .size = 9, .offset = 9), 0},
    {6, NEED, 16, {{1, 2, 3}}, 0},
    {7, NEED, 16, {{1, 2, 3}}, 0},
    {8, NEED, 16, {{1, 2, 3}}, 0},
    {9, NEED, 40, MAP_OF(.shmid = 200, .fd_offset = 1, .shm_offset = 2, .len = 3, .flags = 1), 1},
    {10, NEED, 40, MAP_OF(.shmid = 200, .fd_offset = 1, .shm_offset = 2, .len = 3, .flags = 1), 0},
};

static void test_fe_channel_requests_reach_their_callbacks(void **state)
{
    for (unsigned i = 0; i < 2 * GW_ARRAY_SIZE(good); i++) {
        struct request q = good[i / 2];
        bool looks_up = q.id == 8, maps = q.id == 9, refuses = i % 2;
        struct channel c;
        unsigned n_fds;

        begin(&c, &all_ops);
        c.result = refuses ? -EXDEV : 0;
        ask(&c, &q);
        assert_true(c.n == 1 && c.last == q.id);
        assert_int_equal(c.got_fd >= 0, q.n_fds);
        assert_int_equal(answer(&c, q.id, &n_fds), refuses ? EXDEV : 0);
        assert_int_equal(n_fds, looks_up && !refuses);
        if (q.id >= 9) {
            assert_true(c.range.shmid == 200 && c.range.shm_offset == 2 && c.range.len == 3);
            assert_true(c.range.fd_offset == (maps ? 1 : 0) && c.range.writable == maps);
        } else if (q.id == 3) {
            assert_true(c.index == (q.n_fds ? 255 : 7) && c.size == (q.n_fds ? PAGE : 0) &&
                        c.offset == c.size);
        } else if (q.id >= 6) {
            assert_memory_equal(c.uuid, q.payload.bytes, sizeof(c.uuid));
        }
        /* Unasked, only a lookup is answered. */
        q.flags = GW_MSG_VERSION;
        ask(&c, &q);
        assert_int_equal(c.n, 2);
        assert_int_equal(answer(&c, q.id, &n_fds), !looks_up ? UINT64_MAX : refuses ? EXDEV : 0);
        finish(&c);
    }
}

static void test_fe_channel_bad_requests_are_refused(void **state)
{
    static const struct request bad[] = {
        {2, NEED, 1, {{0}}, 0},
        {2, NEED, 0, {{0}}, 1},
        {2, NEED | GW_MSG_REPLY, 0, {{0}}, 0},
        {2, 2 | GW_MSG_NEED_REPLY, 0, {{0}}, 0},
        {2, NEED | 0x10, 0, {{0}}, 0},
        {3, NEED, 8, AREA(.index = 0), 0},
        {3, NEED, 24, AREA(.index = 0, .size = PAGE), 0}, /* an fd is missing */
        {3, NEED, 24, AREA(.index = GW_VRING_FD_NONE), 1},
        {3, NEED, 24, AREA(.index = 0, .size = PAGE), 2},
        {3, NEED, 24, AREA(.index = 0x200, .size = PAGE), 1},
        {3, NEED, 24, AREA(.index = UINT64_C(1) << 40, .size = PAGE), 1},
        {3, NEED, 24, AREA(.index = 0, .size = 0), 1},
        {3, NEED, 24, AREA(.index = 0, .size = PAGE - 1), 1},
        {3, NEED, 24, AREA(.index = 0, .size = PAGE, .offset = 1), 1},
        {3, NEED, 24, AREA(.index = 0, .size = 2 * PAGE, .offset = UINT64_MAX - PAGE + 1), 1},
        {6, NEED, 15, {{0}}, 0},
        {6, NEED, 17, {{0}}, 0},
        {6, NEED, 16, {{0}}, 1},
        {7, NEED, 0, {{0}}, 0},
        {7, NEED, 16, {{0}}, 1},
        {8, NEED, 0, {{0}}, 0},
        {8, GW_MSG_VERSION, 16, {{0}}, 1}, /* the crate vhost sends one; answered also unasked */
        {9, NEED, 39, MAP_OF(.len = 1), 1},
        {9, NEED, 48, MAP_OF(.len = 1), 1},
        {9, NEED, 40, MAP_OF(.len = 1), 0},
        {9, NEED, 40, MAP_OF(.len = 1), 2},
        {9, NEED, 40, MAP_OF(.len = 0), 1},
        {9, NEED, 40, MAP_OF(.len = 1, .flags = 2), 1},
        {9, NEED, 40, MAP_OF(.len = 1, .flags = UINT64_C(1) << 63), 1},
        {9, NEED, 40, MAP_OF(.len = UINT64_MAX, .shm_offset = 1), 1},
        {9, NEED, 40, MAP_OF(.len = 1, .fd_offset = UINT64_MAX), 1},
        {10, NEED, 40, MAP_OF(.len = 1), 1},
        {10, NEED, 40, MAP_OF(.len = 0), 0},
        {10, NEED, 40, MAP_OF(.len = 2, .shm_offset = UINT64_MAX - 1), 0},
        {0, NEED, 0, {{0}}, 0}, /* unknown, or not served here */
        {1, NEED, 32, {{0}}, 0},
        {11, NEED, 0, {{0}}, 0},
        {UINT32_MAX, NEED, 0, {{0}}, 1},
    };

    for (unsigned i = 0; i < GW_ARRAY_SIZE(bad); i++) {
        struct channel c;
        unsigned n_fds;
        uint64_t value;

        begin(&c, &all_ops);
        ask(&c, &bad[i]);
        assert_int_equal(c.n, 0);
        value = answer(&c, bad[i].id, &n_fds);
        assert_true(value != 0 && value != UINT64_MAX && n_fds == 0);
        ask(&c, &good[0]); /* the channel continues */
        assert_int_equal(c.n, 1);
        finish(&c);
    }
}

static void test_fe_channel_features_and_callbacks_decide(void **state)
{
    static const unsigned features[] = {
        GW_PROTOCOL_F_CONFIG,        GW_PROTOCOL_F_HOST_NOTIFIER, GW_PROTOCOL_F_HOST_NOTIFIER,
        GW_PROTOCOL_F_SHARED_OBJECT, GW_PROTOCOL_F_SHARED_OBJECT, GW_PROTOCOL_F_SHARED_OBJECT,
        GW_PROTOCOL_F_SHMEM,         GW_PROTOCOL_F_SHMEM,
    };
    static const struct gw_frontend_channel_ops no_ops = {.size = sizeof(no_ops)};
    struct gw_frontend_channel_ops late = {.size = sizeof(late) - 1};

    for (unsigned i = 0; i < GW_ARRAY_SIZE(good); i++) {
        struct channel c;
        unsigned n_fds;

        begin(&c, &all_ops);
        set_features(&c, FEATURES & ~GW_BIT(features[i]));
        ask(&c, &good[i]);
        assert_int_equal(c.n, 0);
        assert_int_equal(answer(&c, good[i].id, &n_fds), EPERM);
        set_features(&c, FEATURES & ~GW_BIT(GW_PROTOCOL_F_BACKEND_SEND_FD));
        ask(&c, &good[i]);
        assert_int_equal(c.n, !good[i].n_fds);
        assert_int_equal(answer(&c, good[i].id, &n_fds), good[i].n_fds ? EPERM : 0);

        set_features(&c, FEATURES);
        assert_int_equal(gw_frontend_set_channel_ops(c.l.fe, &no_ops, &c), 0);
        c.n = 0;
        ask(&c, &good[i]);
        assert_int_equal(c.n, 0);
        assert_int_equal(answer(&c, good[i].id, &n_fds), ENOSYS);
        assert_int_equal(gw_frontend_set_channel_ops(c.l.fe, &late, &c), -EINVAL);
        assert_int_equal(gw_frontend_set_channel_ops(c.l.fe, NULL, NULL), 0);
        assert_false(line_is_ready(&c.l));
        finish(&c);
    }
}

static void test_fe_channel_callback_ends_the_session(void **state)
{
    for (unsigned i = 0; i < 2 * GW_ARRAY_SIZE(good); i++) {
        const struct request *q = &good[i / 2];
        struct channel c;
        struct line on_channel;
        struct {
            struct gw_wire_header h;
            uint8_t payload[64];
        } __attribute__((packed)) message = {.h = {q->id, q->flags, q->size}};
        char byte;

        begin(&c, &all_ops);
        c.hangs_up = true;
        c.frees = i % 2;
        memcpy(message.payload, &q->payload, sizeof(message.payload));
        on_channel.peer = c.fd;
        line_send(&on_channel, &message, sizeof(message.h) + q->size, q->n_fds);
        assert_int_equal(gw_frontend_run(c.l.fe, 0), c.frees ? -ECANCELED : 0);
        assert_int_equal(c.n, 1);
        assert_int_equal(recv(c.fd, &byte, 1, 0), 0); /* no answer */
        close(c.fd);
        close(c.object);
        if (c.frees)
            close(c.l.peer);
        else
            line_finish(&c.l);
    }
}

/* ---- GET_SHMEM_CONFIG and GET_SHARED_OBJECT ---- */

static void test_fe_channel_shmem_config_is_read_and_checked(void **state)
{
    static const struct {
        uint32_t n, size;
        int result;
    } cases[] = {
        {2, sizeof(struct gw_wire_shmem_config), 0},
        {1, sizeof(struct gw_wire_shmem_config), -EPROTO},
        {UINT32_MAX, sizeof(struct gw_wire_shmem_config), -EPROTO},
        {2, 0, -EREMOTEIO},
        {2, 24, -EPROTO},
        {2, sizeof(struct gw_wire_shmem_config) + 8, -EPROTO},
    };

    for (unsigned i = 0; i < GW_ARRAY_SIZE(cases); i++) {
        struct {
            struct gw_wire_header h;
            struct gw_wire_shmem_config config;
            uint64_t more;
        } __attribute__((packed))
        reply = {{GW_MSG_GET_SHMEM_CONFIG, REPLY_OK, cases[i].size},
                 {.num_regions = cases[i].n, .sizes = {[0] = PAGE, [255] = 7 * PAGE}},
                 0};
        uint64_t sizes[GW_FRONTEND_SHMEM_REGIONS] = {[1] = 1};
        struct end e = {0};
        struct channel c;

        begin(&c, &all_ops);
        assert_int_equal(gw_frontend_get_shmem_config_async(c.l.fe, sizes, line_end, &e), 0);
        assert_int_equal(gw_frontend_run(c.l.fe, 0), 0);
        assert_int_equal(line_expect(&c.l, GW_MSG_GET_SHMEM_CONFIG, NULL).size, 0);
        line_send(&c.l, &reply, sizeof(reply.h) + cases[i].size, 0);
        assert_int_equal(line_loop(&c.l, &e), cases[i].result);
        assert_true(cases[i].result ? sizes[1] == 1
                                    : sizes[0] == PAGE && sizes[1] == 0 && sizes[255] == 7 * PAGE);
        finish(&c);
    }
}

static void test_fe_channel_shared_object_is_taken(void **state)
{
    static const struct {
        uint32_t size;
        unsigned n_fds;
        int result;
    } cases[] = {
        {16, 1, 0},      {0, 1, 0},        {8, 1, 0},        {16, 0, -ENOENT},
        {0, 0, -ENOENT}, {17, 1, -EPROTO}, {16, 2, -EPROTO},
    };
    const uint8_t uuid[GW_FRONTEND_UUID_SIZE] = {5, 6, 7};

    for (unsigned i = 0; i < GW_ARRAY_SIZE(cases); i++) {
        struct {
            struct gw_wire_header h;
            uint8_t uuid[24];
        } __attribute__((packed))
        reply = {{GW_MSG_GET_SHARED_OBJECT, REPLY_OK, cases[i].size}, {5, 6, 7}};
        uint8_t sent[GW_FRONTEND_UUID_SIZE];
        struct end e = {0};
        struct channel c;
        int fd = -1;

        begin(&c, &all_ops);
        assert_int_equal(gw_frontend_get_shared_object_async(c.l.fe, uuid, &fd, line_end, &e), 0);
        assert_int_equal(gw_frontend_run(c.l.fe, 0), 0);
        assert_int_equal(line_expect(&c.l, GW_MSG_GET_SHARED_OBJECT, sent).size, sizeof(sent));
        assert_memory_equal(sent, uuid, sizeof(sent));
        line_send(&c.l, &reply, sizeof(reply.h) + cases[i].size, cases[i].n_fds);
        assert_int_equal(line_loop(&c.l, &e), cases[i].result);
        assert_int_equal(fd >= 0, cases[i].result == 0);
        if (fd >= 0)
            close(fd);
        finish(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_fe_channel_requests_reach_their_callbacks),
        FDCHECK_TEST(test_fe_channel_bad_requests_are_refused),
        FDCHECK_TEST(test_fe_channel_features_and_callbacks_decide),
        FDCHECK_TEST(test_fe_channel_callback_ends_the_session),
        FDCHECK_TEST(test_fe_channel_shmem_config_is_read_and_checked),
        FDCHECK_TEST(test_fe_channel_shared_object_is_taken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
