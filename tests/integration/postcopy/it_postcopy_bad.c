/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Failures in postcopy: no pages arrive; the front-end disconnects, is killed or the daemon is
 * stopped while workers wait for pages; messages come in the wrong order; tables are malformed;
 * memory is of the wrong kind; userfaultfd is not permitted. In all cases the daemon serves the
 * next front-end.
 *
 * usage: it_postcopy_bad GODWIT_BLK
 */
#include "../fixtures/crash_target.h"
#include "../fixtures/post.h"
#include "fdcheck.h"

#include "base/clock.h"
#include "base/proto.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BACK_MS  patience_ms() /* limit of the wait until a worker wakes */
#define DRAIN_MS 600000

#define GET_VRING_BASE 11

static struct fixture fixture;
static struct post post;
static const char *godwit_blk;

/* ---- no pages arrive ---- */

static const struct fixture_config starved[] = {
    {.loop = GW_LOOP_EPOLL, .kind = DISK_RAM, .drain_ms = DRAIN_MS, .n_workers = 1},
    {.loop = GW_LOOP_EPOLL, .kind = DISK_RAM, .drain_ms = DRAIN_MS, .n_workers = 2},
    {.loop = GW_LOOP_EPOLL, .kind = DISK_FILE, .drain_ms = DRAIN_MS, .n_workers = 2},
    {.loop = GW_LOOP_URING, .kind = DISK_RAM, .drain_ms = DRAIN_MS, .n_workers = 2},
    {.loop = GW_LOOP_URING, .kind = DISK_FILE, .drain_ms = DRAIN_MS, .n_workers = 1},
    {.loop = GW_LOOP_EPOLL, .kind = DISK_RAM, .drain_ms = DRAIN_MS, .n_workers = 1, .shares = true},
    {.loop = GW_LOOP_URING,
     .kind = DISK_FILE,
     .drain_ms = DRAIN_MS,
     .n_workers = 2,
     .shares = true},
};
#define N_STARVED (sizeof(starved) / sizeof(starved[0]))

static bool can_run(const struct fixture_config *cfg)
{
    return cfg->loop != GW_LOOP_URING || fixture_has_uring();
}

static void starve(struct guest *g, int *uffd)
{
    guest_init(g, 64);
    assert_int_equal(fixture_connect(&fixture, g->fe), 0);
    if (post_starve(g, uffd) < 0)
        fail_msg("%s", gw_frontend_last_error());
}

/* The front-end hangs up, with its userfaultfd open or closed. */
static void test_postcopy_frontend_goes_while_workers_wait(void **state)
{
    for (unsigned i = 0; i < 2 * N_STARVED; i++) {
        uint64_t begin;
        struct guest g;
        int uffd;

        if (!can_run(&starved[i / 2]))
            continue;
        fixture_start(&fixture, &starved[i / 2]);
        starve(&g, &uffd);
        if (i % 2)
            close(uffd);
        begin = gw_clock_ms();
        gw_frontend_disconnect(g.fe);
        assert_true(fixture_wait_idle(&fixture));
        assert_true(gw_clock_ms() - begin < BACK_MS);
        guest_done(&g);
        if (i % 2 == 0)
            close(uffd);
        assert_true(fixture_check(&fixture, "a front-end that went away"));
        fixture_stop(&fixture);
    }
}

/*
 * The front-end asks for the base of a ring, and then closes only its sending side. It can send no
 * more pages by messages, and the answer must not wait for them.
 */
static void test_postcopy_frontend_half_closes_while_workers_wait(void **state)
{
    const uint32_t ring[2] = {0, 0};

    for (unsigned i = 0; i < N_STARVED; i++) {
        struct gw_frontend_message msg;
        struct guest g;
        int uffd;

        if (!can_run(&starved[i]))
            continue;
        fixture_start(&fixture, &starved[i]);
        starve(&g, &uffd);
        assert_int_equal(gw_frontend_send_raw(g.fe, GET_VRING_BASE, 1, sizeof(ring), ring,
                                              sizeof(ring), NULL, 0),
                         0);
        assert_int_equal(shutdown(gw_frontend_fd(g.fe), SHUT_WR), 0);
        assert_int_equal(gw_frontend_receive(g.fe, &msg, BACK_MS), 0);
        assert_int_equal(msg.request, GET_VRING_BASE);
        gw_frontend_message_done(&msg);
        gw_frontend_disconnect(g.fe);
        assert_true(fixture_wait_idle(&fixture));
        guest_done(&g);
        close(uffd);
        assert_true(fixture_check(&fixture, "a front-end that closed one direction"));
        fixture_stop(&fixture);
    }
}

static void test_postcopy_frontend_is_killed_while_workers_wait(void **state)
{
    for (unsigned i = 0; i < N_STARVED; i++) {
        struct program crash_target;
        uint64_t begin;

        if (!can_run(&starved[i]))
            continue;
        fixture_start(&fixture, &starved[i]);
        crash_target_start(&crash_target, fixture.path, CRASH_TARGET_SENDS_NO_PAGES);
        fixture.n_opened++;
        begin = gw_clock_ms();
        assert_int_equal(program_end(&crash_target, SIGKILL), -SIGKILL);
        assert_true(fixture_wait_idle(&fixture));
        assert_true(gw_clock_ms() - begin < BACK_MS);
        assert_true(fixture_check(&fixture, "a front-end that was killed"));
        fixture_stop(&fixture);
    }
}

static void test_postcopy_daemon_is_stopped_while_workers_wait(void **state)
{
    for (unsigned i = 0; i < N_STARVED; i++) {
        uint64_t begin;
        struct guest g;
        int uffd;

        if (!can_run(&starved[i]))
            continue;
        fixture_start(&fixture, &starved[i]);
        starve(&g, &uffd);
        begin = gw_clock_ms();
        gw_daemon_stop(fixture.daemon);
        assert_int_equal(gw_daemon_wait(fixture.daemon), 0);
        assert_true(gw_clock_ms() - begin < BACK_MS);
        guest_done(&g);
        close(uffd);
        fixture_restart(&fixture);
        assert_true(fixture_check(&fixture, "a stop"));
        fixture_stop(&fixture);
    }
}

/*
 * A thread that does not wait answers POSTCOPY_END; the workers return and their queues can stop.
 */
static void test_postcopy_end_while_workers_wait(void **state)
{
    for (unsigned i = 0; i < N_STARVED; i++) {
        uint64_t begin;
        struct guest g;
        int uffd;

        if (!can_run(&starved[i]))
            continue;
        fixture_start(&fixture, &starved[i]);
        starve(&g, &uffd);
        begin = gw_clock_ms();
        assert_int_equal(gw_frontend_postcopy_end(g.fe), 0);
        assert_true(gw_clock_ms() - begin < BACK_MS);
        assert_int_equal(gw_frontend_postcopy_end(g.fe), -EREMOTEIO);
        assert_int_equal(gw_frontend_stop(g.fe, g.drivers, FIXTURE_QUEUES), 0);
        guest_done(&g);
        close(uffd);
        assert_true(fixture_check(&fixture, "an early end"));
        fixture_stop(&fixture);
    }
}

/* ---- the program ---- */

static void program_begin(struct program *p, char *dir, char *socket, const char *option)
{
    struct program_config cfg = {.path = godwit_blk};

    assert_non_null(mkdtemp(strcpy(dir, "/tmp/godwit-it-XXXXXX")));
    sprintf(socket, "--socket-path=%s/socket", dir);
    cfg.args[0] = socket;
    cfg.args[1] = "--ram=16M";
    cfg.args[2] = "--num-queues=2";
    cfg.args[3] = option;
    program_start(p, &cfg);
}

static void test_postcopy_program_ends_while_workers_wait(void **state)
{
    char dir[64], socket[128];
    struct program p;
    struct guest g;
    uint64_t begin;
    int uffd;

    program_begin(&p, dir, socket, NULL);
    guest_init(&g, 64);
    assert_int_equal(gw_frontend_connect(g.fe, strchr(socket, '/')), 0);
    assert_int_equal(post_starve(&g, &uffd), 0);
    /* Post calls to the blocked workers, too. */
    for (unsigned i = 0; i < FIXTURE_QUEUES; i++)
        assert_int_equal(gw_frontend_set_vring_call(g.fe, i, gw_driver_call_fd(g.drivers[i])), 0);
    begin = gw_clock_ms();
    assert_int_equal(program_end(&p, SIGTERM), 0);
    assert_true(gw_clock_ms() - begin < BACK_MS);
    guest_done(&g);
    close(uffd);
    assert_int_equal(rmdir(dir), 0);
}

static void test_postcopy_program_serves_the_next(void **state)
{
    char dir[64], socket[128];
    struct program p;
    struct guest g;
    int uffd;

    program_begin(&p, dir, socket, NULL);
    for (unsigned i = 0; i < 3; i++) {
        struct program crash_target;

        if (i % 2) {
            crash_target_start(&crash_target, strchr(socket, '/'), CRASH_TARGET_SENDS_NO_PAGES);
            assert_int_equal(program_end(&crash_target, SIGKILL), -SIGKILL);
            continue;
        }
        guest_init(&g, 64);
        assert_int_equal(gw_frontend_connect(g.fe, strchr(socket, '/')), 0);
        assert_int_equal(post_starve(&g, &uffd), 0);
        gw_frontend_disconnect(g.fe);
        guest_done(&g);
        close(uffd);
    }
    guest_init(&g, 64);
    assert_int_equal(gw_frontend_connect(g.fe, strchr(socket, '/')), 0);
    assert_int_equal(gw_frontend_start(g.fe, &g.opt), 0);
    for (unsigned i = 0; i < FIXTURE_QUEUES; i++)
        assert_int_equal(guest_io(&g, i, 64 * i, 0x5a), 0);
    guest_done(&g);
    assert_int_equal(program_end(&p, SIGTERM), 0);
    assert_int_equal(rmdir(dir), 0);
}

/* ---- the userfaultfd is closed at any moment, messages arrive in any order ---- */

static void test_postcopy_uffd_is_closed_at_any_moment(void **state)
{
    const struct fixture_config cfg = {.kind = DISK_RAM, .n_workers = 2};

    fixture_start(&fixture, &cfg);
    for (unsigned i = 0; i < 3; i++) {
        struct guest g;
        int uffd;

        guest_init(&g, 64);
        assert_int_equal(fixture_connect(&fixture, g.fe), 0);
        assert_int_equal(gw_frontend_negotiate(g.fe, &g.opt), 0);
        assert_int_equal(gw_frontend_postcopy_advise(g.fe, &uffd), 0);
        if (i == 0)
            close(uffd);
        assert_int_equal(gw_frontend_postcopy_listen(g.fe, NULL, NULL), 0);
        if (i == 1)
            close(uffd);
        assert_int_equal(gw_frontend_start(g.fe, &g.opt), 0);
        if (i == 2)
            close(uffd);
        /* All of the guest's memory is present, so no worker waits. */
        for (unsigned k = 0; k < FIXTURE_QUEUES; k++)
            assert_int_equal(guest_io(&g, k, 64 * k, 0x5a), 0);
        assert_int_equal(gw_frontend_postcopy_end(g.fe), 0);
        for (unsigned k = 0; k < FIXTURE_QUEUES; k++)
            assert_int_equal(guest_io(&g, k, 64 * k, 0xa5), 0);
        guest_done(&g);
        assert_true(fixture_check(&fixture, "a closed userfaultfd"));
    }
    fixture_stop(&fixture);
}

static void test_postcopy_wrong_order_is_refused(void **state)
{
    const struct fixture_config cfg = {.kind = DISK_RAM, .n_workers = 2};
    struct guest g;
    int uffd, again;

    fixture_start(&fixture, &cfg);
    guest_init(&g, 64);
    assert_int_equal(fixture_connect(&fixture, g.fe), 0);
    assert_int_equal(gw_frontend_start(g.fe, &g.opt), 0);
    assert_int_equal(gw_frontend_postcopy_listen(g.fe, NULL, NULL), -EREMOTEIO);
    assert_int_equal(gw_frontend_postcopy_end(g.fe), -EREMOTEIO);
    assert_int_equal(gw_frontend_postcopy_advise(g.fe, &uffd), 0);
    close(uffd);
    assert_int_equal(gw_frontend_postcopy_listen(g.fe, NULL, NULL), -EREMOTEIO); /* a queue runs */
    assert_int_equal(guest_io(&g, 0, 0, 0x5a), 0);
    assert_int_equal(gw_frontend_stop(g.fe, g.drivers, FIXTURE_QUEUES), 0);
    assert_int_equal(gw_frontend_postcopy_advise(g.fe, &uffd), 0);
    assert_int_equal(gw_frontend_postcopy_listen(g.fe, NULL, NULL), 0);
    assert_int_equal(gw_frontend_postcopy_listen(g.fe, NULL, NULL), -EREMOTEIO);
    assert_int_equal(gw_frontend_postcopy_advise(g.fe, &again), -EREMOTEIO);
    assert_int_equal(gw_frontend_postcopy_end(g.fe), 0);
    assert_int_equal(gw_frontend_postcopy_end(g.fe), -EREMOTEIO);
    close(uffd);
    guest_done(&g);
    assert_true(fixture_check(&fixture, "messages in the wrong order"));
    fixture_stop(&fixture);
}

/* ---- tables ---- */

/*
 * Send a table that the front-end library would not send. `client`, if not NULL, gets the addresses
 * of the answer. Returns: the size of the answer.
 */
static uint32_t send_table(struct gw_frontend *fe, const struct gw_wire_region *regions,
                           const int *fds, unsigned n, struct gw_fault_client *client)
{
    const struct gw_wire_mem_table *told;
    struct gw_wire_mem_table table = {.num_regions = n};
    const uint32_t size = 8 + n * (uint32_t)sizeof(table.regions[0]);
    struct gw_frontend_message answer;

    memcpy(table.regions, regions, n * sizeof(*regions));
    assert_int_equal(
        gw_frontend_send_raw(fe, GW_MSG_SET_MEM_TABLE, GW_MSG_VERSION, size, &table, size, fds, n),
        0);
    assert_int_equal(gw_frontend_receive(fe, &answer, BACK_MS), 0);
    gw_frontend_message_done(&answer);
    assert_int_equal(answer.request, GW_MSG_SET_MEM_TABLE);
    told = (const void *)answer.payload;
    for (unsigned i = 0; client && i < n; i++)
        assert_int_equal(gw_fault_client_add_base(client, regions[i].guest_addr, regions[i].size,
                                                  told->regions[i].user_addr),
                         0);
    return answer.size;
}

static unsigned regions_of(const struct gw_guest_mem *m, struct gw_wire_region *regions, int *fds)
{
    struct gw_guest_region r;
    unsigned n = 0;

    for (; gw_guest_mem_region(m, n, &r) == 0; n++) {
        regions[n] = (struct gw_wire_region){
            .guest_addr = r.gpa, .size = r.length, .user_addr = r.uva, .mmap_offset = r.offset};
        fds[n] = r.fd;
    }
    return n;
}

static void begin_with_load(void)
{
    const struct post_config cfg = {.fixture = {.kind = DISK_FILE, .n_workers = 2},
                                    .form = GW_FRONTEND_MEM_TABLE,
                                    .n_load_queues = FIXTURE_QUEUES};

    post_begin(&post, &cfg);
    post_switch(&post);
    post_load(&post);
}

static void end_with_load(void)
{
    post_stream(&post);
    post_finish(&post, 0);
    post_join(&post);
    post_end(&post);
}

/* Under the load: a refused or unacknowledged table changes nothing. */
static void test_postcopy_tables_that_repeat_and_overlap(void **state)
{
    struct gw_wire_region regions[GW_MSG_TABLE_REGIONS_MAX];
    int fds[GW_MSG_TABLE_REGIONS_MAX], uffd;
    struct gw_frontend *fe;
    uint64_t value = 0;
    unsigned n;

    begin_with_load();
    fe = post.devices[0].fe;
    n = regions_of(post.to, regions, fds);
    for (unsigned i = 0; i < 10; i++) {
        /* The fault server does not know these addresses, so they must not be used. */
        assert_int_equal(send_table(fe, regions, fds, n, NULL), 8 + n * sizeof(regions[0]));
        regions[n] = regions[0];
        fds[n] = fds[0];
        assert_int_equal(send_table(fe, regions, fds, n + 1, NULL), 0);
        regions[n].guest_addr = UINT64_MAX - 0xfff;
        assert_int_equal(send_table(fe, regions, fds, n + 1, NULL), 0);
        assert_int_equal(gw_frontend_set_mem_table(fe, post.to), 0);
        /* No table is left to acknowledge. */
        assert_int_equal(gw_frontend_send_raw(fe, GW_MSG_SET_MEM_TABLE, GW_MSG_VERSION,
                                              sizeof(value), &value, sizeof(value), NULL, 0),
                         0);
        assert_int_equal(gw_frontend_get_features(fe, &value), 0);
        value = 0;
        (void)gw_fault_server_stream(post.server, 16);
    }
    assert_int_equal(gw_frontend_postcopy_advise(fe, &uffd), -EREMOTEIO);
    end_with_load();
}

/* The memory of the rings is removed: those queues break, everything else continues. */
static void test_postcopy_tables_that_shrink(void **state)
{
    const struct post_config cfg = {.fixture = {.kind = DISK_RAM, .n_workers = 2},
                                    .form = GW_FRONTEND_MEM_TABLE};
    struct gw_wire_region regions[GW_MSG_TABLE_REGIONS_MAX];
    int fds[GW_MSG_TABLE_REGIONS_MAX];
    struct post_device *d = &post.devices[0];
    uint64_t value = 0;

    post_begin(&post, &cfg);
    post_switch(&post);
    assert_int_equal(regions_of(post.to, regions, fds), 2);
    /*
     * The region with the rings goes first. By its length, an empty table would be an
     * acknowledgement.
     */
    for (unsigned n = 2; n-- > 0;) {
        assert_int_equal(send_table(d->fe, &regions[n], &fds[n], 1, d->client),
                         8 + sizeof(regions[0]));
        assert_int_equal(gw_frontend_send_raw(d->fe, GW_MSG_SET_MEM_TABLE, GW_MSG_VERSION,
                                              sizeof(value), &value, sizeof(value), NULL, 0),
                         0);
        for (unsigned i = 0; i < FIXTURE_QUEUES; i++)
            gw_driver_kick_always(d->drivers[i]);
    }
    assert_int_equal(gw_frontend_get_features(d->fe, &value), 0);
    assert_true(fixture_says(&d->fixture, "broken"));
    /* Before that, a worker may have started on its ring and be waiting for the page. */
    post_stream(&post);
    post_finish(&post, 0);
    assert_int_equal(gw_frontend_set_mem_table(d->fe, post.to), 0);
    assert_int_equal(gw_frontend_stop(d->fe, d->drivers, FIXTURE_QUEUES), 0);
    post_end(&post);
}

/* The front-end rejects the addresses in the answer. */
static void test_postcopy_table_that_is_turned_down(void **state)
{
    struct gw_wire_region regions[GW_MSG_TABLE_REGIONS_MAX];
    int fds[GW_MSG_TABLE_REGIONS_MAX], uffd;
    const struct fixture_config cfg = {.kind = DISK_RAM, .n_workers = 2};
    const uint64_t no = 1;
    struct guest g;
    unsigned n;

    fixture_start(&fixture, &cfg);
    guest_init(&g, 64);
    g.opt.mem_form = GW_FRONTEND_MEM_TABLE;
    assert_int_equal(fixture_connect(&fixture, g.fe), 0);
    assert_int_equal(gw_frontend_negotiate(g.fe, &g.opt), 0);
    assert_int_equal(gw_frontend_postcopy_advise(g.fe, &uffd), 0);
    assert_int_equal(gw_frontend_postcopy_listen(g.fe, NULL, NULL), 0);
    n = regions_of(g.mem, regions, fds);
    assert_int_equal(send_table(g.fe, regions, fds, n, NULL), 8 + n * sizeof(regions[0]));
    assert_int_equal(gw_frontend_send_raw(g.fe, GW_MSG_SET_MEM_TABLE, GW_MSG_VERSION, sizeof(no),
                                          &no, sizeof(no), NULL, 0),
                     0);
    guest_done(&g);
    close(uffd);
    assert_true(fixture_check(&fixture, "a table that was turned down"));
    fixture_stop(&fixture);
}

/* Under the load: memory that cannot have missing pages is refused, and the session continues. */
static void test_postcopy_memory_that_is_not_shared(void **state)
{
    const enum fd_kind kinds[] = {FD_REGULAR, FD_PIPE_READ, FD_DEV_NULL,       FD_EVENTFD,
                                  FD_SOCKET,  FD_DIRECTORY, FD_MEMFD_READ_ONLY};
    struct gw_wire_region regions[GW_MSG_TABLE_REGIONS_MAX];
    int fds[GW_MSG_TABLE_REGIONS_MAX];
    unsigned n;

    begin_with_load();
    n = regions_of(post.to, regions, fds);
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        regions[n] = (struct gw_wire_region){
            .guest_addr = POST_HOT_GPA, .size = 0x2000, .user_addr = GUEST_UVA + POST_HOT_GPA};
        fds[n] = fd_make(kinds[i]);
        if (send_table(post.devices[0].fe, regions, fds, n + 1, NULL) != 0)
            fail_msg("memory of %s was taken", fd_kind_name(kinds[i]));
        close(fds[n]);
    }
    fds_done();
    end_with_load();
}

/* ---- no permission ---- */

/*
 * unprivileged() runs as user nobody, with neither the capability nor access to the device, and
 * returns the exit status of the process. A failing check exits it.
 */
static void check(bool is_fine, const char *what)
{
    if (is_fine)
        return;
    fprintf(stderr, "not permitted: %s\n", what);
    _exit(1);
}

static int unprivileged(void)
{
    const struct gw_fault_config cfg = {.size = sizeof(cfg)};
    const struct fixture_config fixture_cfg = {.kind = DISK_RAM, .n_workers = 2};
    struct gw_fault_server *s;
    uint64_t features;
    struct guest g;
    int uffd;

    check(setgroups(0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0 &&
              setresuid(65534, 65534, 65534) == 0,
          "privileges cannot be dropped");
    check(gw_fault_server_new(&s, &cfg) == -EPERM, "the fault server has a userfaultfd");
    check(strstr(gw_frontend_last_error(), "vm.unprivileged_userfaultfd") != NULL,
          gw_frontend_last_error());
    fixture_start(&fixture, &fixture_cfg);
    guest_init(&g, 64);
    check(fixture_connect(&fixture, g.fe) == 0 && gw_frontend_start(g.fe, &g.opt) == 0,
          gw_frontend_last_error());
    check(gw_frontend_get_protocol_features(g.fe, &features) == 0, "no protocol features");
    check(!(features >> GW_PROTOCOL_F_PAGEFAULT & 1), "PAGEFAULT is offered");
    check(fixture_said(&fixture, "vm.unprivileged_userfaultfd") &&
              fixture_said(&fixture, "CAP_SYS_PTRACE") &&
              fixture_said(&fixture, "/dev/userfaultfd"),
          fixture.text);
    /* The front-end sends the messages anyway. */
    check(gw_frontend_postcopy_advise(g.fe, &uffd) == -EREMOTEIO, "ADVISE is answered with an fd");
    check(gw_frontend_postcopy_listen(g.fe, NULL, NULL) == -EREMOTEIO, "LISTEN is accepted");
    check(guest_io(&g, 0, 0, 0x5a) == 0, "I/O, after it was refused");
    guest_done(&g);
    check(fixture_check(&fixture, "no permission"), "the next session");
    fixture_stop(&fixture);
    return 0;
}

static void test_postcopy_is_not_permitted(void **state)
{
    const struct program_config cfg = {.path = "/proc/self/exe", .args = {"unprivileged"}};
    struct program p;
    char sysctl = '0';
    int fd = open("/proc/sys/vm/unprivileged_userfaultfd", O_RDONLY | O_CLOEXEC);

    if (fd >= 0 && read(fd, &sysctl, 1) == 1 && sysctl != '0')
        sysctl = '1';
    if (fd >= 0)
        close(fd);
    if (geteuid() != 0 || sysctl != '0') {
        fputs("needs root and vm.unprivileged_userfaultfd=0: not tested\n", stderr);
        skip();
    }
    program_start(&p, &cfg);
    if (program_wait(&p, 60000) != 0)
        assert_true(program_says(&p, "what went wrong"));
    close(p.said_fd);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_postcopy_frontend_goes_while_workers_wait),
        FDCHECK_TEST(test_postcopy_frontend_half_closes_while_workers_wait),
        FDCHECK_TEST(test_postcopy_frontend_is_killed_while_workers_wait),
        FDCHECK_TEST(test_postcopy_daemon_is_stopped_while_workers_wait),
        FDCHECK_TEST(test_postcopy_end_while_workers_wait),
        FDCHECK_TEST(test_postcopy_program_ends_while_workers_wait),
        FDCHECK_TEST(test_postcopy_program_serves_the_next),
        FDCHECK_TEST(test_postcopy_uffd_is_closed_at_any_moment),
        FDCHECK_TEST(test_postcopy_wrong_order_is_refused),
        FDCHECK_TEST(test_postcopy_tables_that_repeat_and_overlap),
        FDCHECK_TEST(test_postcopy_tables_that_shrink),
        FDCHECK_TEST(test_postcopy_table_that_is_turned_down),
        FDCHECK_TEST(test_postcopy_memory_that_is_not_shared),
        FDCHECK_TEST(test_postcopy_is_not_permitted),
    };
    int r = crash_target_main(argc, argv);

    if (r >= 0)
        return r;
    if (argc == 2 && strcmp(argv[1], "unprivileged") == 0)
        return unprivileged();
    if (argc != 2)
        return 1;
    godwit_blk = argv[1];
    post_require_faults();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
