/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Many disks in one godwit-blk: they come, change and go while others are under verified load; one
 * that fails is a message and a state; a wrong configuration changes nothing.
 *
 * usage: it_blk_disks PATH_OF_GODWIT_BLK
 */
#include "blk_test.h"
#include "fdcheck.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB     (UINT64_C(1) << 20)
#define N_DISKS 4

static const char *const names[N_DISKS] = {"one", "two", "three", "four"};

/* A program with a configuration, and the disks that it may have. */
struct disks_test {
    struct blk_test disks[N_DISKS];
    char config[128];
    char text[4096]; /* of the configuration */
    struct program program;
};

/* ---- the configuration ---- */

/* Write the collected lines to the file, in one step, and begin again. */
static void config_write(struct disks_test *t)
{
    char temporary[140];
    FILE *out;

    snprintf(temporary, sizeof(temporary), "%s.new", t->config);
    out = fopen(temporary, "we");
    assert_non_null(out);
    fputs(t->text, out);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(rename(temporary, t->config), 0);
    t->text[0] = '\0';
}

__attribute__((format(printf, 2, 3))) static void config_add(struct disks_test *t,
                                                             const char *format, ...)
{
    size_t used = strlen(t->text);
    va_list args;

    va_start(args, format);
    vsnprintf(t->text + used, sizeof(t->text) - used, format, args);
    va_end(args);
}

/* Add a line for one of the disks. */
static void config_disk(struct disks_test *t, unsigned i, const char *more)
{
    config_add(t, "name=%s,socket=%s,file=%s,num-queues=2%s\n", names[i], t->disks[i].socket,
               t->disks[i].file, more);
}

static void reload(struct disks_test *t, const char *says)
{
    config_write(t);
    assert_int_equal(kill(t->program.pid, SIGHUP), 0);
    assert_true(program_says(&t->program, says));
}

static void begin(struct disks_test *t)
{
    memset(t, 0, sizeof(*t));
    for (unsigned i = 0; i < N_DISKS; i++)
        blk_test_begin(&t->disks[i], 4 * MIB);
    snprintf(t->config, sizeof(t->config), "%s.conf", t->disks[0].dir);
}

/* Start the program with the lines that were collected. */
static void start(struct disks_test *t, const char *option)
{
    config_write(t);
    program_start(&t->program, &(struct program_config){
                                   .path = blk_test_path,
                                   .args = {"--verbose", "--config", t->config, option},
                               });
}

static void end(struct disks_test *t, int status)
{
    assert_int_equal(program_end(&t->program, SIGTERM), status);
    for (unsigned i = 0; i < N_DISKS; i++) {
        assert_int_equal(access(t->disks[i].socket, F_OK), -1);
        blk_test_end(&t->disks[i]);
    }
    assert_int_equal(unlink(t->config), 0);
}

/* ---- what the program does ---- */

static unsigned count_fds(pid_t pid)
{
    unsigned n = 0;
    char path[64];
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static void await_fds(pid_t pid, unsigned n)
{
    for (unsigned ms = 0; count_fds(pid) != n && ms < patience_ms(); ms++)
        usleep(1000);
    assert_int_equal(count_fds(pid), n);
}

static void await_hang_up(const struct blk_test *t)
{
    struct pollfd p = {.fd = gw_frontend_fd(t->g.fe), .events = POLLIN};

    assert_int_equal(poll(&p, 1, (int)patience_ms()), 1);
}

/* The load completes requests from now on. */
static void await_progress(struct blk_load *l)
{
    struct gw_guest_load_sample sample;

    for (unsigned i = 0; i < 2; i++) {
        sample.requests = 0;
        gw_guest_load_sample(l->load, &sample);
        for (unsigned ms = 0; sample.requests == 0 && ms < patience_ms(); ms++) {
            usleep(1000);
            gw_guest_load_sample(l->load, &sample);
        }
        assert_true(sample.requests > 0);
    }
}

/*
 * Connect to a disk that is being started again. A connection that the socket of the previous one
 * still accepted is closed again, so try until one is served.
 */
static void connect_again(struct blk_test *t)
{
    for (unsigned ms = 0; ms < patience_ms(); ms += 10) {
        guest_init(&t->g, 64);
        if (gw_frontend_connect(t->g.fe, t->socket) == 0 &&
            gw_frontend_start(t->g.fe, &t->g.opt) == 0)
            return;
        guest_done(&t->g);
        usleep(10000);
    }
    fail_msg("the disk is not served again");
}

/* Read and write through a new session of a disk, and end it. */
static void check_disk(struct blk_test *t, uint8_t pattern)
{
    connect_again(t);
    assert_int_equal(guest_io(&t->g, 0, 0, pattern), 0);
    assert_int_equal(guest_io(&t->g, 1, 8, pattern), 0);
    guest_done(&t->g);
}

/* Whether the counters and states on SIGUSR1 have this text, at once or later. */
static bool reports(struct disks_test *t, const char *state)
{
    for (unsigned ms = 0; ms < patience_ms() && !program_has_said(&t->program, state); ms += 50) {
        assert_int_equal(kill(t->program.pid, SIGUSR1), 0);
        usleep(50000);
    }
    return program_says(&t->program, state);
}

/* ---- disks come, change and go ---- */

static void change_fourth_disk(struct disks_test *t)
{
    struct blk_test *fourth = &t->disks[3];
    unsigned n_fds = count_fds(t->program.pid);

    for (unsigned i = 0; i < N_DISKS; i++)
        config_disk(t, i, "");
    reload(t, "disks: 1 added, 0 removed, 0 changed, 3 as before");
    blk_test_connect(fourth);
    assert_int_equal(guest_io(&fourth->g, 0, 0, 0x11), 0);
    assert_true(reports(t, "four  serving"));

    for (unsigned i = 0; i < N_DISKS; i++)
        config_disk(t, i, i == 3 ? ",read-only" : "");
    reload(t, "disks: 0 added, 0 removed, 1 changed, 3 as before");
    await_hang_up(fourth);
    guest_done(&fourth->g);
    connect_again(fourth);
    assert_int_equal(blk_test_request(fourth, GW_DRIVER_BLK_READ, 0, 0), 0);
    assert_int_equal(blk_test_request(fourth, GW_DRIVER_BLK_WRITE, 0, 0), -EIO);

    for (unsigned i = 0; i < 3; i++)
        config_disk(t, i, "");
    reload(t, "disks: 0 added, 1 removed, 0 changed, 3 as before");
    await_hang_up(fourth);
    guest_done(&fourth->g);
    await_fds(t->program.pid, n_fds);
    assert_int_equal(access(fourth->socket, F_OK), -1);
}

static void run_come_and_go(const char *option)
{
    struct blk_load loads[3];
    struct disks_test t;

    begin(&t);
    for (unsigned i = 0; i < 3; i++)
        config_disk(&t, i, "");
    start(&t, option);
    for (unsigned i = 0; i < 3; i++) {
        blk_test_connect(&t.disks[i]);
        blk_load_start(&loads[i], &t.disks[i]);
        await_progress(&loads[i]);
    }
    change_fourth_disk(&t);
    for (unsigned i = 0; i < 3; i++) {
        await_progress(&loads[i]);
        blk_load_end(&loads[i], &t.disks[i]);
    }
    for (unsigned i = 0; i < 3; i++)
        guest_done(&t.disks[i].g);
    end(&t, 0);
}

static void test_disks_come_and_go_under_load(void **state)
{
    (void)state;
    run_come_and_go("--loop=epoll");
    run_come_and_go("--workers=2");
}

/* All disks are served at the end: SIGTERM ends the sessions, and the sockets are removed. */
static void test_sigterm_ends_all(void **state)
{
    struct disks_test t;
    (void)state;

    begin(&t);
    for (unsigned i = 0; i < N_DISKS; i++)
        config_disk(&t, i, "");
    start(&t, NULL);
    for (unsigned i = 0; i < N_DISKS; i++)
        blk_test_connect(&t.disks[i]);
    end(&t, 0);
    for (unsigned i = 0; i < N_DISKS; i++)
        guest_done(&t.disks[i].g);
}

/* A disk that is removed finishes its requests; its successor waits for that, others do not. */
static void test_change_waits_for_requests(void **state)
{
    struct gw_driver_buf data = {.len = 4096};
    struct gw_driver_blk blk[2];
    struct gw_driver_used used;
    struct disks_test t;
    (void)state;

    begin(&t);
    config_disk(&t, 0, ",delay=2000");
    start(&t, NULL);
    blk_test_connect(&t.disks[0]);
    assert_int_equal(gw_guest_mem_alloc(t.disks[0].g.mem, data.len, 4096, &data.addr), 0);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(gw_driver_blk_init(&blk[i], t.disks[0].g.drivers[0]), 0);
    assert_int_equal(gw_driver_blk_add(&blk[0], GW_DRIVER_BLK_READ, 0, &data, 1, 0, 0), 0);
    assert_int_equal(gw_driver_blk_add(&blk[1], GW_DRIVER_BLK_FLUSH, 0, NULL, 0, 1, 0), 0);
    gw_driver_kick_always(t.disks[0].g.drivers[0]);
    while (gw_driver_take(t.disks[0].g.drivers[0], &used, 1) == 0)
        assert_int_equal(gw_driver_wait(t.disks[0].g.drivers[0], patience_ms()), 0);

    /* The same file with another name and socket. */
    config_add(&t, "name=new,num-queues=2,socket=%s,file=%s\n", t.disks[1].socket, t.disks[0].file);
    config_disk(&t, 2, "");
    reload(&t, "disks: 2 added, 1 removed, 0 changed, 0 as before");
    assert_true(reports(&t, "one   stopping: 1 requests in flight"));
    assert_true(reports(&t, "new   waiting for a disk that stops"));
    check_disk(&t.disks[2], 0x21);
    check_disk(&t.disks[1], 0x22);
    for (unsigned i = 0; i < 2; i++)
        gw_driver_blk_done(&blk[i]);
    guest_done(&t.disks[0].g);
    end(&t, 0);
}

/* Two disks exchange their files in one step. */
static void test_disks_exchange_files(void **state)
{
    struct disks_test t;
    (void)state;

    begin(&t);
    config_disk(&t, 0, "");
    config_disk(&t, 1, "");
    start(&t, NULL);
    check_disk(&t.disks[0], 0x31);
    check_disk(&t.disks[1], 0x32);
    for (unsigned i = 0; i < 2; i++)
        config_add(&t, "name=%s,socket=%s,file=%s,num-queues=2\n", names[i], t.disks[i].socket,
                   t.disks[1 - i].file);
    reload(&t, "disks: 0 added, 0 removed, 2 changed, 0 as before");
    for (unsigned i = 0; i < 2; i++) {
        uint8_t first = 0;

        connect_again(&t.disks[i]);
        assert_int_equal(blk_test_request(&t.disks[i], GW_DRIVER_BLK_WRITE, 0, (uint8_t)(0x41 + i)),
                         0);
        guest_done(&t.disks[i].g);
        assert_int_equal(pread(t.disks[1 - i].fd, &first, 1, 0), 1);
        assert_int_equal(first, 0x41 + i);
    }
    end(&t, 0);
}

/* SIGHUP also reads the sizes of the disks that stay. */
static void test_sizes_are_read_again(void **state)
{
    struct disks_test t;
    (void)state;

    begin(&t);
    config_disk(&t, 0, "");
    config_disk(&t, 1, "");
    start(&t, NULL);
    check_disk(&t.disks[0], 0x51);
    check_disk(&t.disks[1], 0x52);
    assert_int_equal(ftruncate(t.disks[1].fd, (off_t)(8 * MIB)), 0);
    config_disk(&t, 0, "");
    config_disk(&t, 1, "");
    reload(&t, "two: disk resized to 8388608 bytes (was 4194304)");
    end(&t, 0);
}

/* ---- a worker never waits for one of the disks ---- */

static void *start_main(void *arg)
{
    struct blk_test *t = arg;

    return gw_frontend_start(t->g.fe, &t->g.opt) == 0 ? t : NULL;
}

/* A disk that waits for the lock of another process delays no other disk of the same worker. */
static void test_lock_delays_no_other_disk(void **state)
{
    /* Every user of the image holds a shared lock on this byte. */
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1};
    struct disks_test t;
    pthread_t thread;
    char waits[300];
    void *started;
    (void)state;

    begin(&t);
    for (unsigned i = 0; i < 3; i++)
        config_disk(&t, i, "");
    start(&t, NULL);
    for (unsigned i = 0; i < 2; i++) {
        lock.l_type = F_WRLCK;
        assert_int_equal(fcntl(t.disks[i].fd, F_OFD_SETLK, &lock), 0);
        guest_init(&t.disks[i].g, 64);
        assert_int_equal(gw_frontend_connect(t.disks[i].g.fe, t.disks[i].socket), 0);
        assert_int_equal(pthread_create(&thread, NULL, start_main, &t.disks[i]), 0);
        snprintf(waits, sizeof(waits), "%s: %s: another process has locked it: waiting", names[i],
                 t.disks[i].file);
        assert_true(program_says(&t.program, waits));
        check_disk(&t.disks[2], (uint8_t)(0xc1 + i));
        if (i == 0) {
            lock.l_type = F_UNLCK;
            assert_int_equal(fcntl(t.disks[i].fd, F_OFD_SETLK, &lock), 0);
            assert_int_equal(pthread_join(thread, &started), 0);
            assert_non_null(started);
            assert_int_equal(guest_io(&t.disks[i].g, 0, 0, 0xc3), 0);
        } else {
            /* It is removed before it gets the lock. */
            config_disk(&t, 0, "");
            config_disk(&t, 2, "");
            reload(&t, "disks: 0 added, 1 removed, 0 changed, 2 as before");
            assert_int_equal(pthread_join(thread, &started), 0);
            assert_null(started);
            while (access(t.disks[i].socket, F_OK) == 0)
                usleep(1000);
        }
    }
    assert_int_equal(guest_io(&t.disks[0].g, 1, 8, 0xc4), 0);
    for (unsigned i = 0; i < 2; i++)
        guest_done(&t.disks[i].g);
    end(&t, 0);
}

/* ---- what fails ---- */

static void test_failing_disk_is_a_state(void **state)
{
    struct disks_test t;
    char file[140];
    (void)state;

    begin(&t);
    snprintf(file, sizeof(file), "%s/later", t.disks[1].dir);
    config_disk(&t, 0, "");
    config_add(&t, "name=two,socket=%s,file=%s,num-queues=2\n", t.disks[1].socket, file);
    config_add(&t, "name=three,socket=%s/none/socket,file=%s,num-queues=2\n", t.disks[2].dir,
               t.disks[2].file);
    start(&t, NULL);
    check_disk(&t.disks[0], 0x61);
    assert_true(reports(&t, "one   serving"));
    assert_true(reports(&t, "two   failed: "));
    assert_true(program_says(&t.program, "later: No such file or directory; create it first"));
    assert_true(reports(&t, "three failed: "));

    /* The next SIGHUP tries again. */
    assert_int_equal(rename(t.disks[1].file, file), 0);
    assert_int_equal(kill(t.program.pid, SIGHUP), 0);
    check_disk(&t.disks[1], 0x62);
    check_disk(&t.disks[0], 0x63);
    assert_true(reports(&t, "two   serving"));
    assert_int_equal(unlink(file), 0);
    end(&t, 0);
}

static void start_to_fail(struct disks_test *t, const char *says)
{
    start(t, NULL);
    assert_true(program_says(&t->program, says));
    assert_int_equal(program_wait(&t->program, patience_ms()), EXIT_FAILURE);
    close(t->program.said_fd);
}

static void test_no_disk_can_be_served(void **state)
{
    struct disks_test t;
    (void)state;

    begin(&t);
    config_add(&t, "socket=%s,file=%s.none\n", t.disks[0].socket, t.disks[0].file);
    start_to_fail(&t, "No such file or directory");
    config_add(&t, "socket=%s,file=%s,size=5\n", t.disks[0].socket, t.disks[0].file);
    start_to_fail(&t, ".conf:1: size is not a known key");

    /* A list without disks is no failure: they may come. */
    config_add(&t, "# no disk yet\n");
    start(&t, NULL);
    assert_true(program_says(&t.program, "disks: 0 added"));
    config_disk(&t, 0, "");
    reload(&t, "disks: 1 added");
    check_disk(&t.disks[0], 0x71);
    end(&t, 0);
}

static void test_mistake_changes_nothing(void **state)
{
    static const struct {
        const char *line, *says;
    } mistakes[] = {
        {"", "stay as they are"},
        {"socket", "socket needs a value"},
        {"socket=/tmp/x", "give one disk: file=FILE or ram=SIZE"},
        {"ram=1M", "there is no socket"},
        {"socket=/tmp/x,ram=1M,ram=2M", "ram is given twice"},
        {"socket=/tmp/x,ram=1M,", "a key is missing"},
        {"socket=/tmp/x,ram=1M,read-only=yes", "read-only takes no value"},
        {"socket=/tmp/x,ram=1M,fd=3", "fd is only an option"},
        {"socket=/tmp/x,ram=1M,reconnect", "reconnect needs client"},
        {"socket=/tmp/x,ram=1X", "ram=1X is not a size"},
        {"socket=/tmp/x,ram=1M,direct=maybe", "direct=maybe is not one of: auto, on, off"},
        {"socket=/tmp/x,ram=1M,num-queues=0", "num-queues=0 is not a number from 1 to 256"},
        {"socket=/tmp/a b,ram=1M", "is no name for the disk: give name=NAME"},
        {"socket=/tmp/x,ram=1M,name=one", "name one is already that of the disk at "},
    };
    struct disks_test t;
    struct stat before, after;
    (void)state;

    begin(&t);
    config_disk(&t, 0, "");
    start(&t, NULL);
    blk_test_connect(&t.disks[0]);
    assert_int_equal(stat(t.disks[0].socket, &before), 0);
    for (unsigned i = 1; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        config_add(&t, "# %u\n", i);
        config_disk(&t, 0, i % 2 == 0 ? ",read-only" : "");
        config_add(&t, "  %s\n", mistakes[i].line);
        reload(&t, mistakes[i].says);
        assert_true(program_says(&t.program, mistakes[0].says));
    }
    assert_true(program_says(&t.program, ".conf:3: "));
    config_add(&t, "socket=/tmp/x,ram=1M,name=x\nsocket=%s,ram=1M,name=y\n", "/tmp/x");
    reload(&t, ".conf:2: socket /tmp/x is already that of the disk at ");
    config_disk(&t, 0, "");
    config_add(&t, "name=x,socket=/tmp/x,file=%s\n", t.disks[0].file);
    reload(&t, "is already that of the disk at ");

    /* The session of the first disk was not touched. */
    assert_int_equal(guest_io(&t.disks[0].g, 0, 0, 0x81), 0);
    assert_int_equal(stat(t.disks[0].socket, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_int_equal(unlink(t.config), 0);
    assert_int_equal(kill(t.program.pid, SIGHUP), 0);
    assert_true(program_says(&t.program, "No such file or directory; the disks stay"));
    assert_int_equal(guest_io(&t.disks[0].g, 0, 0, 0x82), 0);
    guest_done(&t.disks[0].g);
    config_disk(&t, 0, "");
    config_write(&t);
    end(&t, 0);
}

/* The same file by another path: one of the disks is refused, unless both only read. */
static void test_file_of_another_disk(void **state)
{
    char link[140];
    struct disks_test t;
    (void)state;

    begin(&t);
    snprintf(link, sizeof(link), "%s/link", t.disks[1].dir);
    assert_int_equal(symlink(t.disks[0].file, link), 0);
    config_disk(&t, 0, "");
    start(&t, NULL);
    check_disk(&t.disks[0], 0x91);
    config_disk(&t, 0, "");
    config_add(&t, "name=two,socket=%s,file=%s\n", t.disks[1].socket, link);
    reload(&t, "is also the file of the disk one");
    check_disk(&t.disks[0], 0x92);
    assert_int_equal(access(t.disks[1].socket, F_OK), -1);
    config_disk(&t, 0, ",read-only");
    config_add(&t, "name=two,socket=%s,file=%s,num-queues=2,read-only\n", t.disks[1].socket, link);
    reload(&t, "disks: 0 added, 0 removed, 2 changed");
    for (unsigned i = 0; i < 2; i++) {
        connect_again(&t.disks[i]);
        assert_int_equal(blk_test_request(&t.disks[i], GW_DRIVER_BLK_READ, 0, 0), 0);
    }
    for (unsigned i = 0; i < 2; i++)
        guest_done(&t.disks[i].g);
    assert_int_equal(unlink(link), 0);
    end(&t, 0);
}

/* A disk for which no descriptor is left is refused; the others are served. */
static void test_too_many_open_files(void **state)
{
    enum {
        N_MANY = 40
    };
    struct disks_test t;
    (void)state;

    begin(&t);
    config_disk(&t, 0, "");
    config_write(&t);
    program_start(&t.program, &(struct program_config){
                                  .path = blk_test_path,
                                  .args = {"--verbose", "--config", t.config},
                                  .n_files_limit = 100,
                              });
    blk_test_connect(&t.disks[0]);
    config_disk(&t, 0, "");
    for (unsigned i = 0; i < N_MANY; i++)
        config_add(&t, "name=m%u,socket=%s/m%u,ram=64K\n", i, t.disks[1].dir, i);
    reload(&t, "too many open files: the limit of this process is 100");
    assert_int_equal(guest_io(&t.disks[0].g, 0, 0, 0xa1), 0);
    assert_true(reports(&t, "failed: too many open files"));

    /* Even now the configuration can be read. */
    config_disk(&t, 0, "");
    config_disk(&t, 2, "");
    reload(&t, "disks: 1 added, 40 removed, 0 changed, 1 as before");
    assert_int_equal(guest_io(&t.disks[0].g, 1, 8, 0xa2), 0);
    check_disk(&t.disks[2], 0xa3);
    guest_done(&t.disks[0].g);
    end(&t, 0);
}

/* ---- without a configuration ---- */

/* Disks of the command line, one of them on a path with a comma. */
static void test_disks_of_the_command_line(void **state)
{
    char lists[2][512];
    struct disks_test t;
    (void)state;

    begin(&t);
    snprintf(lists[0], sizeof(lists[0]), "socket=%s/a,,b,file=%s,num-queues=2", t.disks[0].dir,
             t.disks[0].file);
    snprintf(t.disks[0].socket, sizeof(t.disks[0].socket), "%s/a,b", t.disks[0].dir);
    snprintf(lists[1], sizeof(lists[1]), "name=two, socket=%s, ram=4M, num-queues=2",
             t.disks[1].socket);
    program_start(&t.program, &(struct program_config){
                                  .path = blk_test_path,
                                  .args = {"--verbose", "--disk", lists[0], "--disk", lists[1]},
                              });
    check_disk(&t.disks[0], 0xb1);
    check_disk(&t.disks[1], 0xb2);
    assert_true(reports(&t, "a,b  serving"));
    assert_int_equal(kill(t.program.pid, SIGHUP), 0);
    assert_true(program_says(&t.program, "disks: 0 added, 0 removed, 0 changed, 2 as before"));
    config_write(&t);
    end(&t, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_disks_come_and_go_under_load),
        FDCHECK_TEST(test_sigterm_ends_all),
        FDCHECK_TEST(test_change_waits_for_requests),
        FDCHECK_TEST(test_disks_exchange_files),
        FDCHECK_TEST(test_sizes_are_read_again),
        FDCHECK_TEST(test_lock_delays_no_other_disk),
        FDCHECK_TEST(test_failing_disk_is_a_state),
        FDCHECK_TEST(test_no_disk_can_be_served),
        FDCHECK_TEST(test_mistake_changes_nothing),
        FDCHECK_TEST(test_file_of_another_disk),
        FDCHECK_TEST(test_too_many_open_files),
        FDCHECK_TEST(test_disks_of_the_command_line),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: it_blk_disks PATH_OF_GODWIT_BLK\n");
        return EXIT_FAILURE;
    }
    blk_test_path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
