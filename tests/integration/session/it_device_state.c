/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The state of a device, saved and loaded through the messages of our front-end: whole, in pieces,
 * cut, damaged and endless; through descriptors of every kind; and cancelled by either side. The
 * daemon survives each of them and keeps no descriptor.
 */
#include "../fixtures/fixture.h"
#include "base/proto.h"
#include "fdcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <godwit.h>
#include <godwit/frontend/state.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BIT(n)   (UINT64_C(1) << (n))
#define LIMIT    (UINT64_C(8) << 20)
#define NO_LIMIT UINT64_MAX
#define NAME     "test"
#define STATE_ID 1
#define SHORT_NS 50 /* ms: a drain time-out that a test waits for */
#define PROTOCOLS                                                     \
    (BIT(GW_PROTOCOL_F_REPLY_ACK) | BIT(GW_PROTOCOL_F_RESET_DEVICE) | \
     BIT(GW_PROTOCOL_F_DEVICE_STATE))

/* ---- the device ---- */

enum mode {
    MODE_BYTES,     /* any bytes are a state */
    MODE_CONTAINER, /* one section of state.h */
    MODE_ENDLESS,   /* saves without end */
    MODE_OWN_FD,    /* sends a descriptor of its own */
    MODE_FAILS,     /* fails after the first piece */
    MODE_REFUSES,   /* in state_begin */
    MODE_LIES,      /* a callback returns more than it was given */
};

struct device {
    enum mode mode;
    struct gw_daemon *daemon;
    uint8_t *state;  /* saved */
    uint8_t *loaded; /* complete and valid */
    size_t len, loaded_len;
    size_t piece;     /* of one call at most; 0: all */
    unsigned n_calls; /* every third one asks to be called again, with a piece */
    int own_fd;
    unsigned n_begun, n_ended;
    int result; /* of the last state_end */

    /* The transfer. */
    struct gw_state_writer *writer;
    struct gw_state_reader *reader;
    uint8_t *incoming;
    size_t n;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned n_sessions; /* [lock] that have ended */
};

static int queue_ready(void *dev, struct gw_queue *q)
{
    struct gw_request *request;

    while (gw_queue_pop(q, &request, 1))
        gw_request_complete(request, 0);
    return 0;
}

static int take_section(void *arg, const struct gw_state_section *s)
{
    struct device *dev = arg;

    if (s->id != STATE_ID)
        return -ENOENT;
    memcpy(dev->incoming, s->data, s->len);
    dev->n = s->len;
    return 0;
}

static int state_begin(void *arg, enum gw_state_direction direction, int *ret_fd)
{
    struct device *dev = arg;

    if (dev->mode == MODE_REFUSES)
        return -EPERM;
    dev->n_begun++;
    dev->n = 0;
    dev->n_calls = 0;
    if (dev->mode == MODE_OWN_FD)
        *ret_fd = dup(dev->own_fd);
    if (direction == GW_STATE_LOAD)
        dev->incoming = malloc(LIMIT + 1);
    if (dev->mode == MODE_CONTAINER && direction == GW_STATE_LOAD)
        return gw_state_reader_new(&dev->reader, NAME, 1, take_section, dev);
    if (dev->mode == MODE_CONTAINER) {
        (void)gw_state_writer_new(&dev->writer, NAME, 1);
        (void)gw_state_writer_add(dev->writer, STATE_ID, 0, dev->state, dev->len);
        (void)gw_state_writer_end(dev->writer);
    }
    return 0;
}

/* Returns: 0: call again. */
static size_t limit_piece(struct device *dev, size_t len)
{
    if (dev->piece && ++dev->n_calls % 3 == 0) {
        gw_daemon_continue_state(dev->daemon);
        return 0;
    }
    return dev->piece && dev->piece < len ? dev->piece : len;
}

static int64_t state_save(void *arg, void *buf, size_t size)
{
    struct device *dev = arg;
    size_t len = limit_piece(dev, size);

    if (len == 0)
        return -EAGAIN;
    if (dev->mode == MODE_FAILS && dev->n > 0)
        return -EIO;
    if (dev->mode == MODE_LIES)
        return (int64_t)size + 1;
    if (dev->mode == MODE_CONTAINER)
        return (int64_t)gw_state_writer_read(dev->writer, buf, len);
    if (dev->mode == MODE_ENDLESS) {
        memset(buf, 1, len);
        return (int64_t)len;
    }
    if (len > dev->len - dev->n)
        len = dev->len - dev->n;
    memcpy(buf, dev->state + dev->n, len);
    dev->n += len;
    return (int64_t)len;
}

static int64_t state_load(void *arg, const void *data, size_t size)
{
    struct device *dev = arg;
    size_t len = limit_piece(dev, size);
    int r;

    if (len == 0)
        return -EAGAIN;
    if (dev->mode == MODE_FAILS && dev->n > 0)
        return -EIO;
    if (dev->mode == MODE_LIES)
        return 0;
    if (dev->mode == MODE_CONTAINER) {
        r = gw_state_reader_feed(dev->reader, data, len);
        return r < 0 ? r : (int64_t)len;
    }
    if (len > LIMIT + 1 - dev->n)
        len = LIMIT + 1 - dev->n;
    memcpy(dev->incoming + dev->n, data, len);
    dev->n += len;
    return (int64_t)len;
}

static int state_end(void *arg, enum gw_state_direction direction, int result)
{
    struct device *dev = arg;

    dev->n_ended++;
    if (result == 0 && dev->reader)
        result = gw_state_reader_end(dev->reader);
    if (result == 0 && direction == GW_STATE_LOAD) {
        free(dev->loaded);
        dev->loaded = dev->incoming;
        dev->incoming = NULL;
        dev->loaded_len = dev->n;
    }
    dev->result = result;
    free(dev->incoming);
    dev->incoming = NULL;
    gw_state_reader_free(dev->reader);
    gw_state_writer_free(dev->writer);
    dev->reader = NULL;
    dev->writer = NULL;
    return result;
}

static void session_end(void *arg)
{
    struct device *dev = arg;

    pthread_mutex_lock(&dev->lock);
    dev->n_sessions++;
    pthread_cond_signal(&dev->changed);
    pthread_mutex_unlock(&dev->lock);
}

static const struct gw_device_ops ops_with_state = {
    .size = sizeof(ops_with_state),
    .queue_ready = queue_ready,
    .state_begin = state_begin,
    .state_save = state_save,
    .state_load = state_load,
    .state_end = state_end,
    .session_end = session_end,
};

static const struct gw_device_ops ops_stateless = {
    .size = sizeof(ops_stateless),
    .queue_ready = queue_ready,
    .stateless = true,
    .session_end = session_end,
};

static const struct gw_device_ops ops_without_state = {
    .size = sizeof(ops_without_state),
    .queue_ready = queue_ready,
    .session_end = session_end,
};

/* ---- a daemon and its front-end ---- */

struct bed {
    struct device dev;
    struct external *external;
    struct gw_daemon *daemon;
    struct gw_frontend *fe;
    unsigned n_sessions;
};

static void take_log(void *arg, enum gw_log_level level, const char *message)
{
}

static void connect_to(struct bed *b)
{
    const struct gw_frontend_config cfg = {.size = sizeof(cfg), .timeout_ms = patience_ms()};
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(gw_daemon_start(b->daemon, pair[0]), 0);
    assert_int_equal(gw_frontend_new(&b->fe, &cfg), 0);
    assert_int_equal(gw_frontend_attach(b->fe, pair[1]), 0);
    b->n_sessions++;
}

static void negotiate(struct bed *b)
{
    const struct gw_frontend_options opt = {
        .size = sizeof(opt), .protocol_features = PROTOCOLS, .mem_form = GW_FRONTEND_MEM_TABLE};

    assert_int_equal(gw_frontend_negotiate(b->fe, &opt), 0);
}

static void begin_with(struct bed *b, enum mode mode, const struct gw_device_ops *ops,
                       unsigned drain_ms)
{
    struct gw_daemon_config cfg = {
        .size = sizeof(cfg),
        .log = take_log,
        .drain_timeout_ms = drain_ms,
        .state_bytes_max = LIMIT,
    };
    struct gw_worker *worker;

    memset(b, 0, sizeof(*b));
    b->dev.mode = mode;
    b->dev.own_fd = -1;
    pthread_mutex_init(&b->dev.lock, NULL);
    pthread_cond_init(&b->dev.changed, NULL);
    if (getenv("TEST_EXTERNAL")) {
        b->external = external_start(GW_LOOP_EPOLL, take_log, NULL);
        worker = external_worker(b->external);
        cfg.workers = &worker;
        cfg.control = worker;
    }
    assert_int_equal(gw_daemon_new(&b->daemon, &cfg, ops, &b->dev), 0);
    b->dev.daemon = b->daemon;
    connect_to(b);
    negotiate(b);
}

static void begin(struct bed *b, enum mode mode)
{
    begin_with(b, mode, &ops_with_state, 0);
}

/* Hang up and wait for the end of the session. */
static void hang_up(struct bed *b)
{
    gw_frontend_free(b->fe);
    b->fe = NULL;
    pthread_mutex_lock(&b->dev.lock);
    while (b->dev.n_sessions < b->n_sessions)
        pthread_cond_wait(&b->dev.changed, &b->dev.lock);
    pthread_mutex_unlock(&b->dev.lock);
    assert_int_equal(gw_daemon_wait(b->daemon), 0);
}

static void reconnect(struct bed *b)
{
    hang_up(b);
    connect_to(b);
    negotiate(b);
}

static void end(struct bed *b)
{
    if (b->fe)
        hang_up(b);
    gw_daemon_free(b->daemon);
    if (b->external)
        external_stop(b->external);
    assert_int_equal(b->dev.n_begun, b->dev.n_ended);
    free(b->dev.state);
    free(b->dev.loaded);
    fds_done();
}

static void set_state(struct bed *b, size_t len)
{
    b->dev.state = realloc(b->dev.state, len + 1);
    b->dev.len = len;
    for (size_t i = 0; i < len; i++)
        b->dev.state[i] = (uint8_t)(i * 7 + i / 251);
}

/* The bytes of the device, through the front-end and back into the device. */
static void check_round_trip(struct bed *b)
{
    void *data;
    size_t len;

    assert_int_equal(gw_frontend_save_state(b->fe, NO_LIMIT, &data, &len), 0);
    assert_int_equal(gw_frontend_load_state(b->fe, data, len), 0);
    assert_int_equal(b->dev.loaded_len, b->dev.len);
    assert_memory_equal(b->dev.loaded, b->dev.state, b->dev.len);
    free(data);
}

/* The session continues, and the next transfer is as good as the first. */
static void check_alive(struct bed *b)
{
    enum mode mode = b->dev.mode;
    size_t piece = b->dev.piece;

    b->dev.mode = MODE_BYTES;
    b->dev.piece = 0;
    set_state(b, 1000);
    check_round_trip(b);
    b->dev.mode = mode;
    b->dev.piece = piece;
}

/* ---- a transfer ---- */

static void test_device_state_of_any_size_in_any_pieces(void **state)
{
    static const size_t sizes[] = {0, 1, 4096, 65535, 65536, (1 << 20) + 7, LIMIT};
    static const size_t pieces[] = {0, 1, 1000, 70000};
    struct bed b;

    begin(&b, MODE_BYTES);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t k = 0; k < sizeof(pieces) / sizeof(pieces[0]); k++) {
            if (pieces[k] && sizes[i] / pieces[k] > 2000)
                continue;
            b.dev.piece = pieces[k];
            set_state(&b, sizes[i]);
            check_round_trip(&b);
        }
    }
    end(&b);
}

static void test_device_state_in_a_container(void **state)
{
    struct bed b;

    begin(&b, MODE_CONTAINER);
    set_state(&b, 100000);
    check_round_trip(&b);
    b.dev.piece = 500;
    check_round_trip(&b);
    end(&b);
}

static void test_device_state_without_state_is_empty(void **state)
{
    void *data;
    struct bed b;
    size_t len;

    begin_with(&b, MODE_BYTES, &ops_stateless, 0);
    assert_true(gw_frontend_protocol_features(b.fe) & BIT(GW_PROTOCOL_F_DEVICE_STATE));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gw_frontend_save_state(b.fe, 0, &data, &len), 0);
        assert_int_equal(len, 0);
        assert_null(data);
        assert_int_equal(gw_frontend_load_state(b.fe, "", 0), 0);
        assert_int_equal(gw_frontend_load_state(b.fe, "x", 1), -EREMOTEIO);
    }
    end(&b);
}

static void test_device_state_is_offered_only_by_devices_with_it(void **state)
{
    struct gw_device_ops bad = ops_with_state;
    struct gw_daemon_config cfg = {.size = sizeof(cfg), .log = take_log};
    struct gw_daemon *d;
    void *data;
    struct bed b;
    size_t len;

    begin_with(&b, MODE_BYTES, &ops_without_state, 0);
    assert_false(gw_frontend_protocol_features(b.fe) & BIT(GW_PROTOCOL_F_DEVICE_STATE));
    assert_int_equal(gw_frontend_save_state(b.fe, NO_LIMIT, &data, &len), -EOPNOTSUPP);
    end(&b);
    bad.stateless = true;
    assert_int_equal(gw_daemon_new(&d, &cfg, &bad, NULL), -EINVAL);
    bad = ops_with_state;
    bad.state_load = NULL;
    assert_int_equal(gw_daemon_new(&d, &cfg, &bad, NULL), -EINVAL);
    bad = ops_without_state;
    bad.state_load = state_load;
    assert_int_equal(gw_daemon_new(&d, &cfg, &bad, NULL), -EINVAL);
}

static void test_device_state_through_a_descriptor_of_the_device(void **state)
{
    static const char text[] = "in a file of the device";
    void *data;
    struct bed b;
    size_t len;
    int fds[2];

    begin(&b, MODE_OWN_FD);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(write(fds[1], text, sizeof(text)), sizeof(text));
    close(fds[1]);
    b.dev.own_fd = fds[0];
    assert_int_equal(gw_frontend_save_state(b.fe, NO_LIMIT, &data, &len), 0);
    assert_int_equal(len, sizeof(text));
    assert_memory_equal(data, text, len);
    assert_int_equal(b.dev.result, 0);
    free(data);
    close(fds[0]);

    b.dev.own_fd = memfd_create("state", MFD_CLOEXEC);
    assert_int_equal(gw_frontend_load_state(b.fe, text, sizeof(text)), 0);
    assert_int_equal(lseek(b.dev.own_fd, 0, SEEK_CUR), sizeof(text));
    close(b.dev.own_fd);
    check_alive(&b);
    end(&b);
}

/* ---- bad states ---- */

static void check_refused(struct bed *b, const void *data, size_t len)
{
    assert_int_equal(gw_frontend_load_state(b->fe, data, len), -EREMOTEIO);
}

static void test_device_state_cut_or_damaged_at_any_byte_is_refused(void **state)
{
    static const uint8_t good[] = "what the device has";
    uint8_t *copy;
    void *data;
    struct bed b;
    size_t len;

    begin(&b, MODE_CONTAINER);
    set_state(&b, 40);
    assert_int_equal(gw_frontend_save_state(b.fe, NO_LIMIT, &data, &len), 0);
    copy = malloc(len + 1);
    assert_int_equal(gw_frontend_load_state(b.fe, data, len), 0);
    for (size_t i = 0; i < len; i++) {
        check_refused(&b, data, i);
        memcpy(copy, data, len);
        copy[i] ^= 0x10;
        check_refused(&b, copy, len);
    }
    memcpy(copy, data, len);
    copy[len] = 0;
    check_refused(&b, copy, len + 1);
    check_refused(&b, good, sizeof(good));
    assert_int_equal(b.dev.loaded_len, b.dev.len); /* as before */
    assert_memory_equal(b.dev.loaded, b.dev.state, b.dev.len);
    free(copy);
    free(data);
    check_alive(&b);
    end(&b);
}

static void test_device_state_beyond_its_limit_is_refused(void **state)
{
    uint8_t *long_state = calloc(1, LIMIT * 2);
    void *data;
    struct bed b;
    size_t len;

    begin(&b, MODE_BYTES);
    assert_int_equal(gw_frontend_load_state(b.fe, long_state, LIMIT), 0);
    check_refused(&b, long_state, LIMIT + 1);
    assert_int_equal(b.dev.result, -EFBIG);
    check_refused(&b, long_state, LIMIT * 2);
    b.dev.mode = MODE_ENDLESS;
    assert_int_equal(gw_frontend_save_state(b.fe, NO_LIMIT, &data, &len), -EREMOTEIO);
    assert_int_equal(b.dev.result, -EFBIG);
    /* The limit of the front-end. */
    assert_int_equal(gw_frontend_save_state(b.fe, 100000, &data, &len), -EFBIG);
    check_alive(&b);
    free(long_state);
    end(&b);
}

static void test_device_state_that_the_device_fails(void **state)
{
    static const enum mode modes[] = {MODE_FAILS, MODE_REFUSES, MODE_LIES};
    uint8_t *bytes = calloc(1, LIMIT);
    void *data;
    struct bed b;
    size_t len;

    begin(&b, MODE_BYTES);
    for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        b.dev.mode = modes[i];
        set_state(&b, LIMIT);
        assert_int_equal(gw_frontend_save_state(b.fe, NO_LIMIT, &data, &len), -EREMOTEIO);
        assert_int_equal(gw_frontend_load_state(b.fe, bytes, LIMIT), -EREMOTEIO);
        check_alive(&b);
    }
    free(bytes);
    end(&b);
}

/* ---- bad messages ---- */

/* SET_DEVICE_STATE_FD with `n_fds` copies of `fd`. Returns: the u64 of the answer. */
static uint64_t send_state_fd(struct bed *b, uint32_t direction, uint32_t phase, int fd,
                              unsigned n_fds)
{
    const uint32_t payload[] = {direction, phase};
    const int fds[] = {fd, fd};
    struct gw_frontend_message answer;
    uint64_t value;

    assert_int_equal(
        gw_frontend_send_raw(b->fe, GW_MSG_SET_DEVICE_STATE_FD, 1, 8, payload, 8, fds, n_fds), 0);
    assert_int_equal(gw_frontend_receive(b->fe, &answer, patience_ms()), 0);
    assert_int_equal(answer.request, GW_MSG_SET_DEVICE_STATE_FD);
    assert_int_equal(answer.size, 8);
    assert_int_equal(answer.n_fds, 0);
    memcpy(&value, answer.payload, 8);
    assert_true(value & GW_STATE_FD_NONE);
    return value & ~(uint64_t)GW_STATE_FD_NONE;
}

static void make_pipe(int fds[2])
{
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
}

static void test_device_state_wrong_messages_are_refused(void **state)
{
    struct bed b;
    int fds[2];

    begin(&b, MODE_BYTES);
    assert_int_equal(gw_frontend_check_device_state(b.fe), -EREMOTEIO); /* no transfer */
    make_pipe(fds);
    assert_int_equal(send_state_fd(&b, 2, 0, fds[1], 1), EINVAL);
    assert_int_equal(send_state_fd(&b, 0, 1, fds[1], 1), EOPNOTSUPP);
    assert_int_equal(send_state_fd(&b, UINT32_MAX, UINT32_MAX, fds[1], 1), EINVAL);
    assert_int_equal(send_state_fd(&b, 0, 0, fds[1], 0), EBADMSG);
    assert_int_equal(send_state_fd(&b, 0, 0, fds[1], 2), EBADMSG);
    assert_int_equal(send_state_fd(&b, 0, 0, fds[0], 1), EBADF); /* the wrong end */
    assert_int_equal(send_state_fd(&b, 1, 0, fds[1], 1), EBADF);
    assert_int_equal(gw_frontend_check_device_state(b.fe), -EREMOTEIO);
    assert_int_equal(b.dev.result, -EBADF); /* of state_end after a state_begin */
    close(fds[0]);
    close(fds[1]);
    check_alive(&b);
    end(&b);
}

/* Every kind of descriptor in both directions: accepted or refused, never a crash or a leak. */
static void test_device_state_descriptors_of_every_kind(void **state)
{
    struct bed b;

    begin(&b, MODE_BYTES);
    for (unsigned kind = 0; kind < N_FD_KINDS; kind++) {
        for (uint32_t direction = 0; direction < 2; direction++) {
            int fd = fd_make((enum fd_kind)kind);

            set_state(&b, 100);
            (void)send_state_fd(&b, direction, 0, fd, 1);
            close(fd);
            reconnect(&b); /* which also cancels */
            check_alive(&b);
        }
    }
    end(&b);
}

static void test_device_state_is_not_transferred_twice_at_once(void **state)
{
    char bytes[100];
    struct bed b;
    int first[2], second[2];

    begin(&b, MODE_BYTES);
    make_pipe(first);
    make_pipe(second);
    assert_int_equal(send_state_fd(&b, 1, 0, first[0], 1), 0);
    assert_int_equal(send_state_fd(&b, 1, 0, second[0], 1), EBUSY);
    assert_int_equal(send_state_fd(&b, 0, 0, second[1], 1), EBUSY);
    memset(bytes, 3, sizeof(bytes));
    assert_int_equal(write(first[1], bytes, sizeof(bytes)), sizeof(bytes));
    close(first[1]);
    assert_int_equal(gw_frontend_check_device_state(b.fe), 0);
    assert_int_equal(b.dev.loaded_len, sizeof(bytes));
    assert_memory_equal(b.dev.loaded, bytes, sizeof(bytes));
    assert_int_equal(gw_frontend_check_device_state(b.fe), 0); /* the same result again */
    close(first[0]);
    close(second[0]);
    close(second[1]);
    check_alive(&b);
    end(&b);
}

/* ---- rings ---- */

static void test_device_state_only_while_all_rings_are_stopped(void **state)
{
    struct gw_frontend_options opt = {
        .size = sizeof(opt), .protocol_features = PROTOCOLS, .mem_form = GW_FRONTEND_MEM_TABLE};
    struct guest g;
    struct bed b;
    void *data;
    size_t len;
    int fds[2];

    begin(&b, MODE_BYTES);
    set_state(&b, 10);
    guest_init(&g, 16);
    opt.mem = g.mem;
    opt.drivers = g.drivers;
    opt.n_drivers = 1;
    assert_int_equal(gw_frontend_start(b.fe, &opt), 0);
    assert_int_equal(gw_frontend_save_state(b.fe, NO_LIMIT, &data, &len), -EREMOTEIO);
    assert_int_equal(gw_frontend_load_state(b.fe, "x", 1), -EREMOTEIO);
    assert_int_equal(b.dev.n_begun, 0);
    assert_int_equal(gw_frontend_stop(b.fe, g.drivers, 1), 0);
    check_round_trip(&b);
    /* No ring starts during a transfer. */
    make_pipe(fds);
    assert_int_equal(send_state_fd(&b, 1, 0, fds[0], 1), 0);
    assert_int_equal(gw_frontend_start(b.fe, &opt), -EREMOTEIO);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(gw_frontend_check_device_state(b.fe), 0);
    assert_int_equal(gw_frontend_start(b.fe, &opt), 0);
    assert_int_equal(gw_frontend_stop(b.fe, g.drivers, 1), 0);
    guest_done(&g);
    end(&b);
}

/* ---- the end of a transfer ---- */

static void test_device_state_check_waits_for_the_last_byte(void **state)
{
    const uint32_t check = GW_MSG_CHECK_DEVICE_STATE;
    struct gw_frontend_message answer;
    struct bed b;
    int fds[2];

    begin(&b, MODE_BYTES);
    make_pipe(fds);
    assert_int_equal(send_state_fd(&b, 1, 0, fds[0], 1), 0);
    close(fds[0]);
    assert_int_equal(gw_frontend_send_raw(b.fe, check, 1, 0, NULL, 0, NULL, 0), 0);
    assert_int_equal(write(fds[1], "abc", 3), 3);
    assert_int_equal(gw_frontend_receive(b.fe, &answer, 20), -ETIMEDOUT);
    close(fds[1]);
    assert_int_equal(gw_frontend_receive(b.fe, &answer, patience_ms()), 0);
    assert_int_equal(answer.request, check);
    assert_int_equal(answer.payload[0], 0);
    assert_int_equal(b.dev.loaded_len, 3);
    check_alive(&b);
    end(&b);
}

static void test_device_state_that_never_ends_times_out(void **state)
{
    struct bed b;
    int fds[2];

    for (uint32_t direction = 0; direction < 2; direction++) {
        begin_with(&b, MODE_ENDLESS, &ops_with_state, SHORT_NS);
        make_pipe(fds);
        assert_int_equal(send_state_fd(&b, direction, 0, fds[1 - direction], 1), 0);
        assert_int_equal(gw_frontend_check_device_state(b.fe), -EREMOTEIO);
        assert_int_equal(b.dev.result, -ETIMEDOUT);
        close(fds[0]);
        close(fds[1]);
        check_alive(&b);
        end(&b);
    }
}

/* The front-end, or a reset, ends a transfer whose descriptor stays open elsewhere. */
static void test_device_state_is_cancelled(void **state)
{
    struct bed b;

    for (unsigned how = 0; how < 4; how++) {
        for (uint32_t direction = 0; direction < 2; direction++) {
            int fds[2];

            begin(&b, MODE_ENDLESS);
            make_pipe(fds);
            assert_int_equal(send_state_fd(&b, direction, 0, fds[1 - direction], 1), 0);
            if (how == 1) /* while CHECK_DEVICE_STATE waits */
                assert_int_equal(
                    gw_frontend_send_raw(b.fe, GW_MSG_CHECK_DEVICE_STATE, 1, 0, NULL, 0, NULL, 0),
                    0);
            if (how < 2)
                hang_up(&b);
            else if (how == 2)
                assert_int_equal(gw_frontend_reset_device(b.fe), 0);
            else
                gw_daemon_stop(b.daemon);
            if (how == 2) {
                assert_int_equal(b.dev.result, -ECANCELED);
                check_alive(&b);
                end(&b);
                close(fds[0]);
                close(fds[1]);
                continue;
            }
            end(&b);
            assert_int_equal(b.dev.result, -ECANCELED);
            close(fds[0]);
            close(fds[1]);
        }
    }
}

/* A reader that closes its end, and a writer that dies in the middle. */
static void test_device_state_whose_other_end_goes_away(void **state)
{
    struct bed b;
    int fds[2];

    begin(&b, MODE_ENDLESS);
    make_pipe(fds);
    assert_int_equal(send_state_fd(&b, 0, 0, fds[1], 1), 0);
    close(fds[1]);
    close(fds[0]);
    assert_int_equal(gw_frontend_check_device_state(b.fe), -EREMOTEIO);
    assert_int_equal(b.dev.result, -EPIPE);
    check_alive(&b);
    end(&b);
}

/* ---- a front-end that keeps the lock of the pipe ---- */

struct keeper {
    int fd;
    uint8_t *page; /* missing */
    pthread_t thread;
};

static void *keep_lock(void *arg)
{
    const struct keeper *k = arg;

    (void)!write(k->fd, k->page, 4096); /* sleeps in the page fault, with the lock of the pipe */
    return NULL;
}

/* Returns: a userfaultfd; -1 if it is unavailable. */
static int make_missing_page(struct keeper *k)
{
    struct uffdio_api api = {.api = UFFD_API};
    struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
    int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

    k->page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    reg.range.start = (uintptr_t)k->page;
    reg.range.len = 4096;
    if (uffd >= 0 &&
        (ioctl(uffd, UFFDIO_API, &api) < 0 || ioctl(uffd, UFFDIO_REGISTER, &reg) < 0)) {
        close(uffd);
        uffd = -1;
    }
    return uffd;
}

static void release_page(struct keeper *k, int uffd)
{
    struct uffdio_zeropage zero = {.range = {.start = (uintptr_t)k->page, .len = 4096}};

    assert_int_equal(ioctl(uffd, UFFDIO_ZEROPAGE, &zero), 0);
}

/*
 * Every call on such a pipe sleeps. Messages are answered all the same, a hang-up ends the session,
 * and the daemon is freed while the thread of the stream still sleeps.
 */
static void test_device_state_through_a_pipe_whose_lock_is_held(void **state)
{
    struct pollfd p;
    struct keeper k;
    uint64_t features;
    struct bed b;
    int fds[2], uffd;

    uffd = make_missing_page(&k);
    if (uffd < 0) {
        munmap(k.page, 4096);
        skip();
    }
    make_pipe(fds);
    k.fd = fds[1];
    assert_int_equal(pthread_create(&k.thread, NULL, keep_lock, &k), 0);
    p = (struct pollfd){.fd = uffd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, (int)patience_ms()), 1);

    begin(&b, MODE_BYTES);
    assert_int_equal(send_state_fd(&b, 1, 0, fds[0], 1), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(gw_frontend_get_features(b.fe, &features), 0);
    end(&b);
    assert_int_equal(b.dev.result, -ECANCELED);

    release_page(&k, uffd);
    pthread_join(k.thread, NULL);
    munmap(k.page, 4096);
    close(uffd);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_device_state_of_any_size_in_any_pieces),
        FDCHECK_TEST(test_device_state_in_a_container),
        FDCHECK_TEST(test_device_state_without_state_is_empty),
        FDCHECK_TEST(test_device_state_is_offered_only_by_devices_with_it),
        FDCHECK_TEST(test_device_state_through_a_descriptor_of_the_device),
        FDCHECK_TEST(test_device_state_cut_or_damaged_at_any_byte_is_refused),
        FDCHECK_TEST(test_device_state_beyond_its_limit_is_refused),
        FDCHECK_TEST(test_device_state_that_the_device_fails),
        FDCHECK_TEST(test_device_state_wrong_messages_are_refused),
        FDCHECK_TEST(test_device_state_descriptors_of_every_kind),
        FDCHECK_TEST(test_device_state_is_not_transferred_twice_at_once),
        FDCHECK_TEST(test_device_state_only_while_all_rings_are_stopped),
        FDCHECK_TEST(test_device_state_check_waits_for_the_last_byte),
        FDCHECK_TEST(test_device_state_that_never_ends_times_out),
        FDCHECK_TEST(test_device_state_is_cancelled),
        FDCHECK_TEST(test_device_state_whose_other_end_goes_away),
        FDCHECK_TEST(test_device_state_through_a_pipe_whose_lock_is_held),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
