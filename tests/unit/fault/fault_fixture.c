/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "fault_fixture.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

uint32_t stamp_of(uint64_t page)
{
    return page % ZERO_EVERY == ZERO_EVERY - 1 ? 0 : 0x5a000000u + (uint32_t)page;
}

uint32_t touch(const char *page)
{
    const volatile uint32_t *p = (const volatile uint32_t *)(const void *)page;
    uint32_t first = p[0];

    for (unsigned i = 1; i < PAGE / sizeof(*p); i++) {
        if (p[i] != first)
            return UINT32_MAX;
    }
    return first;
}

static void make_page(char *page, uint64_t i)
{
    uint32_t stamp = stamp_of(i);

    for (unsigned k = 0; k < PAGE; k += sizeof(stamp))
        memcpy(page + k, &stamp, sizeof(stamp));
}

static enum gw_fault_answer give_page(void *arg, gw_gpa_t gpa, uint64_t len, const void **ret_data)
{
    static _Thread_local char data[PAGE];
    struct fault_fixture *b = arg;
    uint64_t page = (gpa - b->gpa) / PAGE;

    __atomic_store_n(&b->last_asked, gpa, __ATOMIC_RELAXED);
    __atomic_store_n(&b->asked_before[page], __atomic_load_n(&b->n_asked, __ATOMIC_RELAXED),
                     __ATOMIC_RELAXED);
    __atomic_fetch_add(&b->n_asked, 1, __ATOMIC_RELEASE);
    while (__atomic_load_n(&b->held, __ATOMIC_RELAXED) == gpa)
        usleep(1000);
    if (__atomic_load_n(&b->source, __ATOMIC_RELAXED) == SOURCE_LATER)
        return GW_FAULT_LATER;
    if (stamp_of(page)) {
        make_page(data, page);
        *ret_data = data;
    }
    return GW_FAULT_HERE;
}

static void take_report(void *arg, const struct gw_fault_report *report)
{
    struct fault_fixture *b = arg;

    b->last = *report;
    if (report->client)
        strncpy(b->last_client, report->client, sizeof(b->last_client) - 1);
    __atomic_fetch_add(&b->n_reports[report->problem], 1, __ATOMIC_RELEASE);
}

void fault_fixture_prepare(struct fault_fixture *b, enum gw_fault_fill fill,
                           enum fault_source source)
{
    const struct gw_guest_region region = {.gpa = 0x100000, .length = PAGES * PAGE};
    const struct gw_fault_config cfg = {
        .size = sizeof(cfg),
        .fill = fill,
        .page = give_page,
        .report = take_report,
        .arg = b,
    };

    memset(b, 0, sizeof(*b));
    b->gpa = region.gpa;
    b->source = source;
    assert_int_equal(gw_guest_mem_new(&b->mem, 0), 0);
    assert_int_equal(gw_guest_mem_add(b->mem, &region), 0);
    assert_int_equal(gw_guest_mem_region(b->mem, 0, &b->region), 0);
    b->own = gw_guest_mem_at(b->mem, b->gpa, region.length);
    assert_int_equal(gw_fault_server_new(&b->server, &cfg), 0);
    assert_int_equal(gw_fault_server_add_mem(b->server, b->mem), 0);
}

void fault_fixture_serve(struct fault_fixture *b)
{
    assert_int_equal(gw_fault_server_begin(b->server), 0);
    assert_int_equal(gw_fault_server_start(b->server), 0);
}

void fault_fixture_begin(struct fault_fixture *b, enum gw_fault_fill fill, enum fault_source source)
{
    fault_fixture_prepare(b, fill, source);
    fault_fixture_serve(b);
}

void fault_fixture_end(struct fault_fixture *b)
{
    /* Removing a region takes the lock exclusively, so it hangs if an earlier call kept the lock.
     */
    assert_int_equal(gw_fault_server_remove_region(b->server, b->gpa), 0);
    gw_fault_server_free(b->server);
    gw_guest_mem_free(b->mem);
}

int put_page(struct fault_fixture *b, uint64_t page)
{
    char data[PAGE];

    make_page(data, page);
    return gw_fault_server_put(b->server, b->gpa + page * PAGE, PAGE, stamp_of(page) ? data : NULL);
}

void await_asked(struct fault_fixture *b, unsigned n)
{
    for (unsigned i = 0; i < WAIT_MS; i++) {
        if (__atomic_load_n(&b->n_asked, __ATOMIC_ACQUIRE) >= n)
            return;
        usleep(1000);
    }
    fail_msg("%u pages were requested, expected %u", b->n_asked, n);
}

void await_faults(struct fault_fixture *b, uint64_t n)
{
    struct gw_fault_stats st;

    for (unsigned i = 0; i < WAIT_MS; i++) {
        gw_fault_server_stats(b->server, &st);
        if (st.faults >= n)
            return;
        usleep(1000);
    }
    fail_msg("%lu faults, expected %lu", (unsigned long)st.faults, (unsigned long)n);
}

void await_report(struct fault_fixture *b, enum gw_fault_problem problem)
{
    for (unsigned i = 0; i < WAIT_MS; i++) {
        if (__atomic_load_n(&b->n_reports[problem], __ATOMIC_ACQUIRE))
            return;
        usleep(1000);
    }
    fail_msg("no report of problem %d", problem);
}

int fault_uffd_raw(void)
{
    int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd = -1;

    if (dev >= 0) {
        fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
        close(dev);
    }
    return fd >= 0 ? fd : (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
}

int fault_uffd(uint64_t features)
{
    struct uffdio_api api = {.api = UFFD_API, .features = features};
    int fd = fault_uffd_raw();

    if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* ---- touchers ---- */

static void *toucher_main(void *arg)
{
    struct toucher *t = arg;

    t->seen = touch(t->page);
    __atomic_store_n(&t->is_back, true, __ATOMIC_RELEASE);
    return NULL;
}

void toucher_begin(struct toucher *t, const char *page)
{
    t->page = page;
    t->is_back = false;
    assert_int_equal(pthread_create(&t->thread, NULL, toucher_main, t), 0);
}

bool toucher_is_back(struct toucher *t)
{
    return __atomic_load_n(&t->is_back, __ATOMIC_ACQUIRE);
}

uint32_t toucher_end(struct toucher *t)
{
    for (unsigned i = 0; i < WAIT_MS && !toucher_is_back(t); i++)
        usleep(1000);
    assert_true(toucher_is_back(t)); /* false: a wake-up was lost */
    pthread_join(t->thread, NULL);
    return t->seen;
}

/* ---- clients ---- */

static char *map_and_register(int uffd, int fd, uint64_t len, uint64_t mode)
{
    struct uffdio_register reg = {.mode = mode};
    char *map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    reg.range.start = (uintptr_t)map;
    reg.range.len = len;
    if (map == MAP_FAILED || ioctl(uffd, UFFDIO_REGISTER, &reg) < 0)
        return NULL;
    return map;
}

static bool map_with(struct client *c, struct fault_fixture *b, uint64_t features)
{
    bool is_minor = features & UFFD_FEATURE_MINOR_SHMEM;

    c->len = b->region.length;
    c->uffd = fault_uffd(features);
    if (c->uffd < 0)
        return false;
    c->map = map_and_register(c->uffd, b->region.fd, c->len,
                              UFFDIO_REGISTER_MODE_MISSING |
                                  (is_minor ? UFFDIO_REGISTER_MODE_MINOR : 0));
    assert_non_null(c->map);
    assert_int_equal(gw_fault_server_add_client(b->server, &c->client,
                                                fcntl(c->uffd, F_DUPFD_CLOEXEC, 0), "client",
                                                is_minor),
                     0);
    return true;
}

void client_map(struct client *c, struct fault_fixture *b, bool is_minor)
{
    assert_true(map_with(c, b, is_minor ? UFFD_FEATURE_MINOR_SHMEM : 0));
}

bool client_begin_with(struct client *c, struct fault_fixture *b, uint64_t features)
{
    if (!map_with(c, b, features))
        return false;
    assert_int_equal(gw_fault_client_add_base(c->client, b->gpa, c->len, (uintptr_t)c->map), 0);
    return true;
}

void client_begin(struct client *c, struct fault_fixture *b, bool is_minor)
{
    assert_true(client_begin_with(c, b, is_minor ? UFFD_FEATURE_MINOR_SHMEM : 0));
}

void client_wake(struct client *c, uint64_t offset)
{
    struct uffdio_range range = {.start = (uintptr_t)c->map + offset, .len = PAGE};

    assert_int_equal(ioctl(c->uffd, UFFDIO_WAKE, &range), 0);
}

void client_unregister(struct client *c)
{
    struct uffdio_range range = {.start = (uintptr_t)c->map, .len = c->len};

    assert_int_equal(ioctl(c->uffd, UFFDIO_UNREGISTER, &range), 0);
    /* UNREGISTER may miss a thread that is about to sleep. */
    assert_int_equal(ioctl(c->uffd, UFFDIO_WAKE, &range), 0);
}

void client_end(struct client *c, struct fault_fixture *b)
{
    /* If the client asked for unmap events, munmap sleeps until the server has read the event. */
    munmap(c->map, c->len);
    if (c->client)
        gw_fault_server_remove_client(b->server, c->client);
    close(c->uffd);
}

/* ---- children ---- */

static int send_fd(int socket, int fd, uint64_t base)
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {.iov_base = &base, .iov_len = sizeof(base)};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control};
    struct cmsghdr *cm;

    mh.msg_controllen = sizeof(control);
    cm = CMSG_FIRSTHDR(&mh);
    cm->cmsg_level = SOL_SOCKET;
    cm->cmsg_type = SCM_RIGHTS;
    cm->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(cm), &fd, sizeof(int));
    return sendmsg(socket, &mh, MSG_NOSIGNAL) == sizeof(base) ? 0 : -1;
}

static int receive_fd(int socket, uint64_t *base)
{
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {.iov_base = base, .iov_len = sizeof(*base)};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control};
    int fd;

    mh.msg_controllen = sizeof(control);
    assert_int_equal(recvmsg(socket, &mh, MSG_CMSG_CLOEXEC), sizeof(*base));
    assert_non_null(CMSG_FIRSTHDR(&mh));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&mh)), sizeof(int));
    return fd;
}

__attribute__((noreturn)) static void child_main(int socket, int fd)
{
    int uffd = fault_uffd(0);
    char *map;
    uint64_t page;
    uint32_t seen;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGTERM, SIG_DFL);
    map = uffd < 0 ? NULL : map_and_register(uffd, fd, PAGES * PAGE, UFFDIO_REGISTER_MODE_MISSING);
    if (!map || send_fd(socket, uffd, (uintptr_t)map) < 0)
        _exit(1);
    while (read(socket, &page, sizeof(page)) == sizeof(page)) {
        seen = touch(map + page * PAGE);
        if (write(socket, &seen, sizeof(seen)) != sizeof(seen))
            _exit(1);
    }
    _exit(0);
}

void child_begin(struct child *c, struct fault_fixture *b)
{
    int pair[2], uffd;
    uint64_t base;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    c->pid = fork();
    assert_true(c->pid >= 0);
    if (c->pid == 0) {
        close(pair[0]);
        child_main(pair[1], b->region.fd);
    }
    close(pair[1]);
    c->socket = pair[0];
    uffd = receive_fd(c->socket, &base);
    assert_int_equal(gw_fault_server_add_client(b->server, &c->client, uffd, "child", false), 0);
    assert_int_equal(gw_fault_client_add_base(c->client, b->gpa, PAGES * PAGE, base), 0);
}

void child_touch(struct child *c, uint64_t page)
{
    assert_int_equal(write(c->socket, &page, sizeof(page)), sizeof(page));
}

uint32_t child_result(struct child *c)
{
    struct pollfd pfd = {.fd = c->socket, .events = POLLIN};
    uint32_t seen;

    assert_int_equal(poll(&pfd, 1, (int)WAIT_MS), 1);
    assert_int_equal(read(c->socket, &seen, sizeof(seen)), sizeof(seen));
    return seen;
}

void child_kill(struct child *c, int signal)
{
    assert_int_equal(kill(c->pid, signal), 0);
    assert_int_equal(waitpid(c->pid, NULL, 0), c->pid);
    close(c->socket);
}

void child_end(struct child *c, struct fault_fixture *b, int signal)
{
    child_kill(c, signal);
    gw_fault_server_remove_client(b->server, c->client);
}

void requires_userfaultfd(void)
{
    const struct gw_fault_config cfg = {.size = sizeof(cfg)};
    struct gw_fault_server *s;

    if (gw_fault_server_new(&s, &cfg) < 0)
        skip_test("%s", gw_frontend_last_error());
    gw_fault_server_free(s);
}
