/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A front-end passes files that it serves itself and stops serving. For every message with a
 * descriptor, the daemon refuses the file, answers, and serves the next session, with both loops.
 */
#include "../fixtures/daemon_fixture.h"

#include "base/checked.h"
#include "base/proto.h"
#include "fd/peer_fd.h"
#include "fd/sacrificial.h"
#include "fdcheck.h"
#include "held_file.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    FILE_SIZE = 1 << 20,
    PATIENCE_MS = 60000
};

/* ---- a raw front-end ---- */

struct frame {
    struct gw_wire_header header;
    union {
        uint64_t u64;
        struct gw_wire_single_region region;
        struct gw_wire_log log;
        struct gw_wire_inflight inflight;
    } payload;
} __attribute__((packed));

static int connect_raw(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strcpy(addr.sun_path, path);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

static void send_frame(int s, const struct frame *f, int fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS,
                            .cmsg_len = CMSG_LEN(sizeof(int))}};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)f,
                        .iov_len = sizeof(f->header) + f->header.size};
    struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd >= 0) {
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
        hdr.msg_control = &control;
        hdr.msg_controllen = sizeof(control);
    }
    assert_int_equal(sendmsg(s, &hdr, MSG_NOSIGNAL), (ssize_t)iov.iov_len);
}

static void send_u64(int s, unsigned request, uint64_t value, int fd)
{
    const struct frame f = {
        .header = {.request = request, .flags = GW_MSG_VERSION, .size = sizeof(uint64_t)},
        .payload.u64 = value,
    };

    send_frame(s, &f, fd);
}

/* Every message that can carry a descriptor; apart from the held file, most are valid. */
static const struct frame frames[] = {
    {{GW_MSG_SET_VRING_KICK, GW_MSG_VERSION, 8}, .payload.u64 = 0},
    {{GW_MSG_SET_VRING_CALL, GW_MSG_VERSION, 8}, .payload.u64 = 0},
    {{GW_MSG_SET_VRING_ERR, GW_MSG_VERSION, 8}, .payload.u64 = 0},
    {{GW_MSG_SET_LOG_FD, GW_MSG_VERSION, 0}},
    {{GW_MSG_SET_BACKEND_REQ_FD, GW_MSG_VERSION, 0}},
    {{GW_MSG_ADD_MEM_REG, GW_MSG_VERSION, sizeof(struct gw_wire_single_region)},
     .payload.region = {.region = {.guest_addr = 0x100000,
                                   .size = FILE_SIZE,
                                   .user_addr = 0x100000}}},
    {{GW_MSG_SET_LOG_BASE, GW_MSG_VERSION, sizeof(struct gw_wire_log)},
     .payload.log = {.mmap_size = 4096}},
    {{GW_MSG_SET_INFLIGHT_FD, GW_MSG_VERSION, sizeof(struct gw_wire_inflight)},
     .payload.inflight = {.mmap_size = FILE_SIZE, .num_queues = 1, .queue_size = 16}},
    {{GW_MSG_GET_FEATURES, GW_MSG_VERSION, 0}}, /* takes no descriptor */
    /* The payload is refused before the daemon uses the file. */
    {{GW_MSG_ADD_MEM_REG, GW_MSG_VERSION, sizeof(struct gw_wire_single_region)},
     .payload.region = {.region = {.guest_addr = 0x100000, .user_addr = 0x100000}}},
    {{GW_MSG_ADD_MEM_REG, GW_MSG_VERSION, sizeof(struct gw_wire_single_region)},
     .payload.region = {.region = {.guest_addr = UINT64_MAX, .size = FILE_SIZE}}},
    {{GW_MSG_SET_LOG_BASE, GW_MSG_VERSION, sizeof(struct gw_wire_log)}},
    {{GW_MSG_SET_INFLIGHT_FD, GW_MSG_VERSION, sizeof(struct gw_wire_inflight)}},
};

/* Wait until the daemon hangs up or answers the next message: it must not be blocked. */
static void expect_answer(int s)
{
    const struct frame f = {{GW_MSG_GET_FEATURES, GW_MSG_VERSION, 0}};
    struct pollfd p = {.fd = s, .events = POLLIN};

    (void)!send(s, &f, sizeof(f.header), MSG_NOSIGNAL);
    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
}

static void negotiate(int s)
{
    const uint64_t protocol = GW_BIT(GW_PROTOCOL_F_MQ) | GW_BIT(GW_PROTOCOL_F_LOG_SHMFD) |
                              GW_BIT(GW_PROTOCOL_F_BACKEND_REQ) |
                              GW_BIT(GW_PROTOCOL_F_INFLIGHT_SHMFD) |
                              GW_BIT(GW_PROTOCOL_F_CONFIGURE_MEM_SLOTS);

    send_u64(s, GW_MSG_SET_FEATURES,
             GW_BIT(GW_F_VERSION_1) | GW_BIT(GW_F_PROTOCOL_FEATURES) | GW_BIT(GW_F_LOG_ALL), -1);
    send_u64(s, GW_MSG_SET_PROTOCOL_FEATURES, protocol, -1);
}

static void run_with(enum gw_loop_kind loop)
{
    struct gw_daemon_config cfg = daemon_fixture_config();
    struct held_file *f = held_file_new(FILE_SIZE);
    struct gw_daemon *d;
    struct gw_frontend *fe;
    int ours[sizeof(frames) / sizeof(frames[0])];

    cfg.loop = loop;
    assert_int_equal(gw_daemon_new(&d, &cfg, &device_ops, &device), 0);
    assert_int_equal(gw_daemon_start_path(d, path), 0);
    held_file_hold(f);
    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        int s = connect_raw(), fd = held_file_dup(f);

        negotiate(s);
        send_frame(s, &frames[i], fd);
        expect_answer(s);
        close(s);
        ours[i] = fd; /* a close would sleep */
    }
    fe = daemon_fixture_connect();
    expect_served(fe);
    gw_frontend_free(fe);
    gw_daemon_free(d);
    assert_false(gw_sacrifice_flush(1)); /* otherwise nothing was held */
    held_file_free(f);
    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++)
        close(ours[i]);
    assert_true(gw_sacrifice_flush(PATIENCE_MS));
}

static void test_held_file_in_place_of_any_descriptor_is_refused(void **state)
{
    run_with(GW_LOOP_AUTO);
    run_with(GW_LOOP_EPOLL);
}

/* ---- the functions themselves ---- */

/* A process that has tried to close held files can exit, with or without the server. */
static void test_held_files_do_not_keep_the_process(void **state)
{
    struct held_file *f = held_file_new(FILE_SIZE);
    int status;
    pid_t pid;

    held_file_hold(f);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        for (int i = 0; i < 20; i++) { /* more than the sacrificial threads */
            int fd = held_file_dup(f);

            gw_peer_fd_close(&fd);
        }
        kill(getpid(), SIGTERM);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    held_file_free(f);
    assert_true(gw_sacrifice_flush(PATIENCE_MS));
}

static void test_check_of_a_held_file_returns(void **state)
{
    struct held_file *f = held_file_new(FILE_SIZE);
    char why[160];
    int fd = held_file_dup(f);

    held_file_hold(f);
    assert_int_equal(gw_peer_fd_check_memory(fd, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "use memfd"));
    gw_eventfd_signal(fd);
    assert_int_equal(held_file_n_waiting(f), 0);
    held_file_free(f);
    close(fd);
}

static void test_files_of_local_disks_are_memory(void **state)
{
    char name[] = "/var/tmp/godwit-XXXXXX", shm[] = "/dev/shm/godwit-XXXXXX", why[160];
    int disk = mkstemp(name), tmpfs = mkstemp(shm), memfd = memfd_create("x", MFD_CLOEXEC);

    if (disk >= 0) {
        assert_int_equal(gw_peer_fd_check_memory(disk, why, sizeof(why)), 0);
        unlink(name);
        close(disk);
    }
    if (tmpfs >= 0) {
        assert_int_equal(gw_peer_fd_check_memory(tmpfs, why, sizeof(why)), 0);
        unlink(shm);
        close(tmpfs);
    }
    assert_int_equal(gw_peer_fd_check_memory(memfd, why, sizeof(why)), 0);
    close(memfd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_files_of_local_disks_are_memory),
        FDCHECK_TEST(test_check_of_a_held_file_returns),
        FDCHECK_TEST(test_held_files_do_not_keep_the_process),
        DAEMON_TEST(test_held_file_in_place_of_any_descriptor_is_refused),
    };

    requires_held_file();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
