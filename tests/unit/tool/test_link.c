/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The link between two hosts, without a migration: invalid frames are refused with cause and
 * remedy; addresses; and connections that are slow, cut in the middle of a frame, or full.
 */
#include "fdcheck.h"
#include "link/link_lobby.h"
#include "link/link_tcp.h"
#include "requires.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- Frames ---- */

static int parse(const struct link_out *out, struct link_frame *ret, char *why)
{
    return link_parse_header(out->data, ret, why);
}

static void test_link_header_of_another_kind_is_refused(void **state)
{
    char why[LINK_TEXT_MAX];
    struct link_out out = {0};
    struct link_frame frame;

    link_begin(&out, LINK_GO);
    link_end(&out);
    assert_int_equal(parse(&out, &frame, why), 0);
    assert_true(frame.type == LINK_GO && frame.length == 0);
    assert_int_equal(link_parse_header((const uint8_t *)"GET / HTTP/1.1\r\n", &frame, why),
                     -EPROTO);
    assert_non_null(strstr(why, "is it the right port?"));
    out.data[4] = 9;
    assert_int_equal(parse(&out, &frame, why), -EPROTO);
    assert_non_null(strstr(why, "version 9"));
    assert_non_null(strstr(why, "use the same godwit"));
    out.data[4] = LINK_VERSION;
    out.data[6] = LINK_N_TYPES;
    assert_int_equal(parse(&out, &frame, why), -EPROTO);
    out.data[6] = 0;
    assert_int_equal(parse(&out, &frame, why), -EPROTO);
    out.data[6] = LINK_GO;
    out.data[8] = 1; /* invalid length */
    assert_int_equal(parse(&out, &frame, why), -EPROTO);
    assert_non_null(strstr(why, "GO of 1 bytes"));
    out.data[8] = 0;
    out.data[13] = 1; /* must be zero */
    assert_int_equal(parse(&out, &frame, why), -EPROTO);
    link_out_done(&out);
}

static void test_link_every_type_has_its_length(void **state)
{
    char why[LINK_TEXT_MAX];
    struct link_frame frame;

    for (unsigned type = 1; type < LINK_N_TYPES; type++) {
        struct link_out out = {0};

        assert_string_not_equal(link_type_name(type), "?");
        link_begin(&out, (enum link_type)type);
        link_end(&out);
        for (unsigned i = 0; i < 4; i++)
            out.data[8 + i] = 0xff;
        assert_int_equal(parse(&out, &frame, why), -EPROTO);
        link_out_done(&out);
    }
    assert_string_equal(link_type_name(LINK_N_TYPES), "?");
    assert_string_equal(link_type_name(0), "?");
}

static void make_hello(struct link_hello *hello)
{
    memset(hello, 0, sizeof(*hello));
    memset(hello->id, 7, sizeof(hello->id));
    hello->seed = UINT64_C(0x123456789abcdef0);
    hello->is_postcopy = true;
    hello->n_options = 2;
    strcpy(hello->options[0].name, "memory");
    hello->options[0].value = 64 << 20;
    strcpy(hello->options[1].name, "queue-size");
    hello->options[1].value = UINT64_MAX;
    hello->n_layout = 3;
    hello->layout[2] = 42;
}

static void test_link_hello_comes_as_it_was(void **state)
{
    static struct link_hello hello, copy;
    struct link_out out = {0};
    struct link_in in;

    make_hello(&hello);
    link_put_hello(&out, &hello);
    in = (struct link_in){.at = out.data + LINK_HEADER_LEN, .left = out.len - LINK_HEADER_LEN};
    assert_true(link_get_hello(&in, &copy));
    assert_memory_equal(&hello, &copy, sizeof(copy));
    for (size_t cut = 0; cut < out.len - LINK_HEADER_LEN; cut++) {
        in = (struct link_in){.at = out.data + LINK_HEADER_LEN, .left = cut};
        assert_false(link_get_hello(&in, &copy));
    }
    link_out_done(&out);
}

static void test_link_hello_too_large_is_refused(void **state)
{
    static struct link_hello hello, copy;
    struct link_out out = {0};
    struct link_in in;

    make_hello(&hello);
    link_put_hello(&out, &hello);
    in = (struct link_in){.at = out.data + LINK_HEADER_LEN, .left = out.len - LINK_HEADER_LEN};
    out.data[LINK_HEADER_LEN + 25] = 0xff; /* number of options */
    assert_false(link_get_hello(&in, &copy));
    out.data[LINK_HEADER_LEN + 25] = 2;
    out.data[LINK_HEADER_LEN + 28] = '%'; /* in a name */
    in = (struct link_in){.at = out.data + LINK_HEADER_LEN, .left = out.len - LINK_HEADER_LEN};
    assert_false(link_get_hello(&in, &copy));
    link_out_done(&out);
}

static void test_link_runs_that_cannot_be_are_refused(void **state)
{
    static struct link_run runs[LINK_RUNS_MAX];
    struct link_run one = {.gpa = UINT64_MAX - 4095, .length = 4095}, back[2];
    struct link_out out = {0};
    struct link_in in;

    link_put_runs(&out, LINK_REQUEST, &one, 1);
    in = (struct link_in){.at = out.data + LINK_HEADER_LEN, .left = 16};
    assert_int_equal(link_get_runs(&in, back), 1);
    assert_true(back[0].gpa == one.gpa && back[0].length == one.length);
    in = (struct link_in){.at = out.data + LINK_HEADER_LEN, .left = 15};
    assert_int_equal(link_get_runs(&in, runs), -EPROTO);
    memcpy(out.data + LINK_HEADER_LEN + 8, "\0\x10", 2); /* 4096: wraps around */
    in = (struct link_in){.at = out.data + LINK_HEADER_LEN, .left = 16};
    assert_int_equal(link_get_runs(&in, runs), -EPROTO);
    memset(out.data + LINK_HEADER_LEN + 8, 0, 8); /* empty */
    in = (struct link_in){.at = out.data + LINK_HEADER_LEN, .left = 16};
    assert_int_equal(link_get_runs(&in, runs), -EPROTO);
    link_out_done(&out);
}

static void test_link_text_shows_nothing_odd(void **state)
{
    struct link_in in = {.at = (const uint8_t *)"a\033[2J\n\xffz", .left = 8};
    char text[6];

    link_get_text(&in, text, sizeof(text));
    assert_string_equal(text, "a?[2J");
    assert_true(link_is_complete(&in));
}

/* ---- Addresses ---- */

static void test_link_addresses(void **state)
{
    static const char *const good[] = {"localhost:1", "127.0.0.1:65535", "[::1]:80", "0.0.0.0:0"};
    static const char *const bad[] = {"",      ":4444",       "localhost", "localhost:",  "h:x",
                                      "h:1x",  "h:65536",     "::1:80",    "[::1:80",     "[]:1",
                                      "[::1]", "h:123456789", "h:-1",      "127.0.0.1:+1"};
    char why[256], longest[400];
    int fd = -1;

    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_int_equal(link_tcp_check(good[i], why, sizeof(why)), 0);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        why[0] = '\0';
        if (link_tcp_check(bad[i], why, sizeof(why)) != -EINVAL || !why[0])
            fail_msg("%s: %s", bad[i], why);
    }
    memset(longest, 'a', sizeof(longest));
    strcpy(longest + sizeof(longest) - 4, ":80");
    assert_int_equal(link_tcp_check("a:65536", why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "port 65536 is out of range"));
    assert_int_equal(link_tcp_check("a:99999999999999999999999", why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "out of range"));
    assert_int_equal(link_tcp_check(longest, why, sizeof(why)), -EINVAL);
    assert_int_equal(link_tcp_connect("127.0.0.1", 100, &fd, why, sizeof(why)), -EINVAL);
    assert_int_equal(fd, -1);
}

/* Listen at port 0 of an address, if it exists. */
static int listen_at(const char *address, char *name)
{
    char why[256];
    int fd = -1, r = link_tcp_listen(address, &fd, name, why, sizeof(why));

    if (r < 0 && r != -EADDRNOTAVAIL && r != -EAFNOSUPPORT)
        fail_msg("%s", why);
    return fd;
}

static void connect_both(int listener, const char *name, struct link_channel c[2])
{
    char why[256], peer[LINK_ADDRESS_MAX];
    int fds[2];

    assert_int_equal(link_tcp_connect(name, 2000, &fds[0], why, sizeof(why)), 0);
    assert_int_equal(link_tcp_accept(listener, 2000, &fds[1]), 0);
    link_tcp_peer(fds[0], peer, sizeof(peer));
    assert_string_equal(peer, name);
    link_channel_init(&c[0], fds[0]);
    link_channel_init(&c[1], fds[1]);
}

/* Skip the test in a network namespace whose loopback device is down. */
static void need_loopback(void)
{
    char name[LINK_ADDRESS_MAX], why[256];
    int listener = listen_at("127.0.0.1:0", name), fd = -1, r;

    if (listener < 0) {
        fprintf(stderr, "skipped: no IPv4 loopback\n");
        skip();
    }
    r = link_tcp_connect(name, 2000, &fd, why, sizeof(why));
    close(listener);
    if (r == 0) {
        close(fd);
        return;
    }
    assert_int_equal(r, -ENETUNREACH);
    fprintf(stderr, "skipped: no loopback in this network namespace: %s\n", why);
    skip();
}

/* Returns: false if nothing can listen at `address`. */
static bool connects_at(const char *address)
{
    char name[LINK_ADDRESS_MAX], why[256];
    struct link_channel c[2];
    int fd = listen_at(address, name), other = -1;

    if (fd < 0)
        return false;
    connect_both(fd, name, c);
    assert_int_equal(link_tcp_accept(fd, 10, &other), -EAGAIN);
    close(fd);
    link_channel_done(&c[0]);
    link_channel_done(&c[1]);
    assert_int_equal(link_tcp_connect(name, 2000, &other, why, sizeof(why)), -ECONNREFUSED);
    assert_non_null(strstr(why, "refused"));
    return true;
}

static void test_link_tcp(void **state)
{
    need_loopback();
    assert_true(connects_at("127.0.0.1:0"));
    assert_true(connects_at("localhost:0"));
}

static void test_link_tcp_of_ipv6(void **state)
{
    if (!connects_at("[::1]:0")) {
        fprintf(stderr, "skipped: no IPv6 loopback\n");
        skip();
    }
}

/* ---- A connection ---- */

static void make_pair(struct link_channel c[2])
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    link_channel_init(&c[0], fds[0]);
    link_channel_init(&c[1], fds[1]);
}

static void end_pair(struct link_channel c[2])
{
    for (unsigned i = 0; i < 2; i++) {
        link_channel_done(&c[i]);
        link_channel_done(&c[i]);
    }
}

static void put_data(struct link_channel *c, uint64_t gpa, size_t len)
{
    static uint8_t bytes[LINK_DATA_MAX];

    memset(bytes, (int)(gpa + len) & 0xff, len);
    link_begin(&c->out, LINK_DATA);
    link_put(&c->out, gpa, 8);
    link_put_bytes(&c->out, bytes, len);
    link_end(&c->out);
}

static void test_link_channel_frames_of_all_sizes(void **state)
{
    char why[LINK_TEXT_MAX];
    struct link_channel c[2];
    struct link_frame frame;
    struct link_in in;
    unsigned n = 0;
    int r;

    make_pair(c);
    for (unsigned i = 0; i < 60; i++)
        put_data(&c[0], i, 1 + (i % 7 == 6 ? LINK_DATA_MAX - 1 : (size_t)i * 977));
    while (n < 60) {
        assert_int_equal(link_channel_flush(&c[0]), 0); /* as much as the socket accepts */
        while ((r = link_channel_next(&c[1], &frame, &in, why)) == 0) {
            size_t len = 1 + (n % 7 == 6 ? LINK_DATA_MAX - 1 : (size_t)n * 977);

            assert_true(frame.type == LINK_DATA && frame.length == len + 8);
            assert_int_equal(link_get(&in, 8), n);
            assert_int_equal(in.left, len);
            assert_true(in.at[0] == ((n + len) & 0xff) && in.at[len - 1] == ((n + len) & 0xff));
            n++;
        }
        assert_int_equal(r, -EAGAIN);
    }
    assert_int_equal(link_channel_pending(&c[0]), 0);
    assert_true(c[0].n_sent == c[1].n_received);
    end_pair(c);
}

static void test_link_channel_by_single_bytes(void **state)
{
    char why[LINK_TEXT_MAX];
    struct link_channel c[2];
    struct link_frame frame;
    struct link_out out;
    struct link_in in;

    make_pair(c);
    put_data(&c[0], 5, 300);
    out = c[0].out;
    for (size_t i = 0; i < out.len; i++) {
        assert_int_equal(link_channel_next(&c[1], &frame, &in, why), -EAGAIN);
        assert_int_equal(write(c[0].fd, out.data + i, 1), 1);
    }
    assert_int_equal(link_channel_next(&c[1], &frame, &in, why), 0);
    assert_int_equal(link_get(&in, 8), 5);
    end_pair(c);
}

static void test_link_channel_cut_is_lost(void **state)
{
    char why[LINK_TEXT_MAX];
    struct link_channel c[2];
    struct link_frame frame;
    struct link_in in;

    make_pair(c);
    put_data(&c[0], 5, 300);
    assert_int_equal(write(c[0].fd, c[0].out.data, 100), 100);
    close(c[0].fd);
    c[0].fd = -1;
    assert_int_equal(link_channel_next(&c[1], &frame, &in, why), -ECONNRESET);
    assert_true(link_is_lost(-ECONNRESET) && link_is_lost(-ETIMEDOUT) && link_is_lost(-EPIPE));
    assert_false(link_is_lost(-EAGAIN) || link_is_lost(-EPROTO) || link_is_lost(0));
    put_data(&c[1], 0, 1);
    assert_true(link_is_lost(link_channel_flush(&c[1])));
    assert_true(link_is_lost(link_channel_flush(&c[0])));
    assert_true(link_is_lost(link_channel_next(&c[0], &frame, &in, why)));
    end_pair(c);
}

static void test_link_channel_garbage_is_told(void **state)
{
    char why[LINK_TEXT_MAX] = "";
    struct link_channel c[2];
    struct link_frame frame;
    struct link_in in;

    make_pair(c);
    assert_int_equal(write(c[0].fd, "0123456789abcdef0123", 20), 20);
    assert_int_equal(link_channel_next(&c[1], &frame, &in, why), -EPROTO);
    assert_non_null(strstr(why, "not from a godwit migrate"));
    end_pair(c);
}

static void test_link_channel_waits_for_others_too(void **state)
{
    struct link_channel c[2];
    int fds[2];

    make_pair(c);
    assert_int_equal(pipe(fds), 0);
    assert_false(link_channel_wait(&c[0], -1, -1, 1));
    assert_false(link_channel_wait(&c[0], fds[0], -1, 1));
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_true(link_channel_wait(&c[0], fds[0], -1, 5000));
    assert_false(link_channel_wait(&c[0], -1, fds[0], 5000)); /* the wait ends, without `fd` */
    close(fds[0]);
    close(fds[1]);
    end_pair(c);
}

/* ---- Callers ---- */

static int dial(const char *name)
{
    char why[256];
    int fd;

    assert_int_equal(link_tcp_connect(name, 2000, &fd, why, sizeof(why)), 0);
    return fd;
}

static void say(int fd, enum link_type type, size_t len)
{
    static const uint8_t zeros[LINK_HELLO_MAX + 1];
    struct link_out out = {0};

    link_begin(&out, type);
    link_put_bytes(&out, zeros, len);
    link_end(&out);
    assert_int_equal(write(fd, out.data, out.len), out.len);
    link_out_done(&out);
}

/* The next caller at that time. Returns: as link_lobby_next; checks the frame or the reason. */
static int next(struct link_lobby *l, uint64_t now_ns, struct link_frame *frame, char *why)
{
    const struct link_channel nobody = {.fd = -1};
    struct link_channel caller;
    struct link_in in;
    int r = link_lobby_next(l, now_ns, &caller, frame, &in, why);

    for (unsigned i = 0; r == -EAGAIN && i < 100; i++) {
        if (!link_channel_wait(&nobody, l->epoll_fd, -1, 10))
            break;
        r = link_lobby_next(l, now_ns, &caller, frame, &in, why);
    }
    if (r == 0 || r == -EPROTO)
        link_refuse(&caller, "test");
    return r;
}

static void open_lobby(struct link_lobby *l, char *name)
{
    int fd;

    need_loopback();
    fd = listen_at("127.0.0.1:0", name);
    assert_true(fd >= 0);
    link_lobby_init(l);
    assert_int_equal(link_lobby_open(l, fd), 0);
}

/* Silent callers, even more than the lobby holds, do not block one that sends its frame. */
static void test_link_lobby_hears_who_speaks(void **state)
{
    char name[LINK_ADDRESS_MAX], why[LINK_TEXT_MAX];
    int silent[LINK_LOBBY_MAX + 1], speaker;
    struct link_frame frame;
    struct link_lobby l;

    open_lobby(&l, name);
    for (unsigned i = 0; i < LINK_LOBBY_MAX + 1; i++)
        silent[i] = dial(name);
    speaker = dial(name);
    say(speaker, LINK_RESUME, LINK_ID_LEN);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(next(&l, 0, &frame, why), -EPROTO);
        assert_string_equal(why, "it sent nothing, and other connections are waiting");
    }
    assert_int_equal(next(&l, 0, &frame, why), 0);
    assert_true(frame.type == LINK_RESUME);
    assert_int_equal(l.n_callers, LINK_LOBBY_MAX - 1);
    assert_int_equal(next(&l, 0, &frame, why), -EAGAIN);
    for (unsigned i = 1; i < LINK_LOBBY_MAX; i++)
        assert_int_equal(next(&l, LINK_LOBBY_MS * UINT64_C(1000000), &frame, why), -EPROTO);
    assert_string_equal(why, "it sent nothing");
    assert_int_equal(l.n_callers, 0);
    for (unsigned i = 0; i < LINK_LOBBY_MAX + 1; i++)
        close(silent[i]);
    close(speaker);
    link_lobby_done(&l);
}

/* The lobby allocates no memory for a frame that cannot be the first. */
static void test_link_lobby_refuses_other_first_frames(void **state)
{
    char name[LINK_ADDRESS_MAX], why[LINK_TEXT_MAX];
    struct link_frame frame;
    struct link_lobby l;
    int fds[3];

    open_lobby(&l, name);
    for (unsigned i = 0; i < 3; i++)
        fds[i] = dial(name);
    say(fds[0], LINK_GO, 0);
    assert_int_equal(next(&l, 0, &frame, why), -EPROTO);
    assert_non_null(strstr(why, "it sent an unexpected GO"));
    say(fds[1], LINK_DATA, LINK_HELLO_MAX + 1);
    assert_int_equal(next(&l, 0, &frame, why), -EPROTO);
    assert_non_null(strstr(why, "it sent an unexpected DATA"));
    close(fds[2]);
    assert_int_equal(next(&l, 0, &frame, why), -EPROTO);
    assert_string_equal(why, "it hung up");
    close(fds[0]);
    close(fds[1]);
    link_lobby_done(&l);
}

static void limit_files(rlim_t most)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = most < limit.rlim_max ? most : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/*
 * Without file descriptors, connections that cannot be accepted use no CPU time, and accepted ones
 * are still served.
 */
static void test_link_lobby_without_descriptors_pauses(void **state)
{
    const uint64_t pause_ns = LINK_LOBBY_PAUSE_MS * UINT64_C(1000000);
    const struct link_channel nobody = {.fd = -1};
    char name[LINK_ADDRESS_MAX], why[LINK_TEXT_MAX];
    struct link_frame frame;
    struct link_lobby l;
    struct rlimit old;
    int early, late;

    if (is_under_valgrind()) {
        fprintf(stderr, "skipped: valgrind keeps the limit of open files to itself\n");
        skip();
    }
    open_lobby(&l, name);
    early = dial(name);
    assert_int_equal(next(&l, 0, &frame, why), -EAGAIN);
    late = dial(name);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    limit_files((rlim_t)late + 1);
    assert_int_equal(next(&l, 0, &frame, why), -EMFILE);
    assert_int_equal(next(&l, 0, &frame, why), -EAGAIN);
    assert_false(link_channel_wait(&nobody, l.epoll_fd, -1, 0));
    assert_int_equal(next(&l, pause_ns, &frame, why), -EAGAIN); /* the failure is reported once */
    assert_false(link_channel_wait(&nobody, l.epoll_fd, -1, 0));
    say(early, LINK_RESUME, LINK_ID_LEN);
    assert_int_equal(next(&l, pause_ns, &frame, why), 0);
    limit_files(old.rlim_cur);
    say(late, LINK_RESUME, LINK_ID_LEN);
    assert_int_equal(next(&l, 2 * pause_ns, &frame, why), 0);
    assert_true(frame.type == LINK_RESUME);
    close(late);
    late = dial(name);
    limit_files((rlim_t)late + 1);
    assert_int_equal(next(&l, 3 * pause_ns, &frame, why),
                     -EMFILE); /* reported again after a success */
    limit_files(old.rlim_cur);
    close(early);
    close(late);
    link_lobby_done(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_link_header_of_another_kind_is_refused),
        FDCHECK_TEST(test_link_every_type_has_its_length),
        FDCHECK_TEST(test_link_hello_comes_as_it_was),
        FDCHECK_TEST(test_link_hello_too_large_is_refused),
        FDCHECK_TEST(test_link_runs_that_cannot_be_are_refused),
        FDCHECK_TEST(test_link_text_shows_nothing_odd),
        FDCHECK_TEST(test_link_addresses),
        FDCHECK_TEST(test_link_tcp),
        FDCHECK_TEST(test_link_tcp_of_ipv6),
        FDCHECK_TEST(test_link_channel_frames_of_all_sizes),
        FDCHECK_TEST(test_link_channel_by_single_bytes),
        FDCHECK_TEST(test_link_channel_cut_is_lost),
        FDCHECK_TEST(test_link_channel_garbage_is_told),
        FDCHECK_TEST(test_link_channel_waits_for_others_too),
        FDCHECK_TEST(test_link_lobby_hears_who_speaks),
        FDCHECK_TEST(test_link_lobby_refuses_other_first_frames),
        FDCHECK_TEST(test_link_lobby_without_descriptors_pauses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
