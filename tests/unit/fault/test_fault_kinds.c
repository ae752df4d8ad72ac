/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Kinds of memory and of faults: regions at any offset of their files, huge pages, minor faults, a
 * thousand regions, and regions added and removed while faults are served.
 */
#include "fault_fixture.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

/* ---- a server whose source is another guest memory ---- */

struct pair {
    struct gw_fault_server *server;
    struct gw_guest_mem *from, *to;
    unsigned n_early; /* atomic */
};

static enum gw_fault_answer copy_from(void *arg, gw_gpa_t gpa, uint64_t len, const void **ret_data)
{
    struct pair *p = arg;

    *ret_data = gw_guest_mem_at(p->from, gpa, len);
    assert_non_null(*ret_data);
    return GW_FAULT_HERE;
}

static void count_early(void *arg, const struct gw_fault_report *report)
{
    struct pair *p = arg;

    if (report->problem == GW_FAULT_EARLY)
        __atomic_fetch_add(&p->n_early, 1, __ATOMIC_RELAXED);
}

static void fill_with_noise(char *p, uint64_t len, unsigned seed)
{
    for (uint64_t i = 0; i < len; i++)
        p[i] = (char)(rand_r(&seed) >> 8);
}

/* Returns: false if this machine lacks such memory. */
static bool pair_begin(struct pair *p, const struct gw_guest_region *regions, unsigned n)
{
    const struct gw_fault_config cfg = {
        .size = sizeof(cfg), .page = copy_from, .report = count_early, .arg = p};

    memset(p, 0, sizeof(*p));
    assert_int_equal(gw_guest_mem_new(&p->from, 0), 0);
    for (unsigned i = 0; i < n; i++) {
        if (gw_guest_mem_add(p->from, &regions[i]) < 0) {
            gw_guest_mem_free(p->from);
            return false;
        }
        fill_with_noise(gw_guest_mem_at(p->from, regions[i].gpa, regions[i].length),
                        regions[i].length, i);
    }
    if (gw_guest_mem_clone(&p->to, p->from, 0) < 0) {
        gw_guest_mem_free(p->from);
        return false;
    }
    assert_int_equal(gw_fault_server_new(&p->server, &cfg), 0);
    assert_int_equal(gw_fault_server_add_mem(p->server, p->to), 0);
    assert_int_equal(gw_fault_server_begin(p->server), 0);
    assert_int_equal(gw_fault_server_start(p->server), 0);
    return true;
}

static void pair_end(struct pair *p)
{
    gw_fault_server_free(p->server);
    gw_guest_mem_free(p->from);
    gw_guest_mem_free(p->to);
}

static void expect_equal(struct pair *p, const struct gw_guest_region *r)
{
    assert_memory_equal(gw_guest_mem_at(p->to, r->gpa, r->length),
                        gw_guest_mem_at(p->from, r->gpa, r->length), r->length);
}

/* ---- tests ---- */

/* Pages of the file also hold bytes of neighbouring regions, or of no region. */
static void test_fault_region_anywhere_in_its_file(void **state)
{
    const struct gw_guest_region regions[] = {
        {.gpa = 0x10000, .length = 0x3100, .offset = 0x1e00},
        {.gpa = 0x20000, .length = 0x80, .offset = 0x1fc0},
        {.gpa = 0x30000, .length = 0x80, .offset = 0x40},
    };
    struct gw_fault_stats st;
    struct pair p;
    gw_gpa_t gpa = 0;
    uint64_t len, total = 0;

    assert_true(pair_begin(&p, regions, 3));
    while (gw_fault_server_next_missing(p.server, &gpa, &len) == 0) {
        const void *data = gw_guest_mem_at(p.from, gpa, len);

        total += len;
        gpa += len; /* pages that are not put are fetched by the comparison */
        if (total % 3)
            continue;
        assert_int_equal(gw_fault_server_put(p.server, gpa - len, len, data), 1);
    }
    assert_int_equal(total, 0x3100 + 2 * 0x80);
    for (unsigned i = 0; i < 3; i++)
        expect_equal(&p, &regions[i]);
    gw_fault_server_stop(p.server);
    gw_fault_server_stats(p.server, &st);
    assert_int_equal(st.pages, 4 + 2 + 1);
    assert_int_equal(st.bytes_requested + st.bytes_streamed, total);
    assert_int_equal(gw_fault_server_finish(p.server), 0);
    pair_end(&p);
}

/* A client maps whole pages of the file, so the address of its region is inside the first one. */
static void test_fault_client_of_a_region_inside_a_page(void **state)
{
    const uint64_t inside = 0xe00, len = 0x3100, map_len = 4 * PAGE;
    const struct gw_guest_region region = {.gpa = 0x10000, .length = len, .offset = 0x1e00};
    struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
    struct gw_fault_client *c;
    struct gw_guest_region to;
    struct pair p;
    int uffd = fault_uffd(0);
    uintptr_t at;
    char *map;

    assert_true(pair_begin(&p, &region, 1));
    assert_int_equal(gw_guest_mem_region(p.to, 0, &to), 0);
    map = mmap(NULL, map_len, PROT_READ, MAP_SHARED, to.fd, (off_t)(to.offset - inside));
    assert_true(map != MAP_FAILED);
    at = (uintptr_t)map + inside;
    reg.range.start = (uintptr_t)map;
    reg.range.len = map_len;
    assert_int_equal(ioctl(uffd, UFFDIO_REGISTER, &reg), 0);
    assert_int_equal(gw_fault_server_add_client(p.server, &c, uffd, "client", false), 0);
    assert_int_equal(gw_fault_client_add_base(c, region.gpa, len, at + 1), -EINVAL);
    assert_int_equal(gw_fault_client_add_base(c, region.gpa, len, inside - 1), -EINVAL);
    assert_int_equal(gw_fault_client_add_base(c, region.gpa, len, at), 0);
    assert_memory_equal(map + inside, gw_guest_mem_at(p.from, region.gpa, len), len);
    munmap(map, map_len);
    pair_end(&p);
}

static void test_fault_puts_of_parts_are_refused(void **state)
{
    const struct gw_guest_region region = {.gpa = 0x10000, .length = 0x3000};
    char data[0x4000] = {0};
    struct pair p;

    assert_true(pair_begin(&p, &region, 1));
    assert_int_equal(gw_fault_server_put(p.server, 0x10001, 0xfff, data), -EINVAL);
    assert_int_equal(gw_fault_server_put(p.server, 0x10000, 0xfff, data), -EINVAL);
    assert_int_equal(gw_fault_server_put(p.server, 0x10000, 0, data), -EINVAL);
    assert_int_equal(gw_fault_server_put(p.server, 0x10000, 0x4000, data), -EINVAL);
    assert_int_equal(gw_fault_server_put(p.server, 0xf000, 0x1000, data), -EINVAL);
    assert_int_equal(gw_fault_server_put(p.server, 0x10000, UINT64_MAX, data), -EINVAL);
    assert_int_equal(gw_fault_server_put(p.server, 0x10000, 0x3000, data), 3);
    pair_end(&p);
}

static void test_fault_huge_pages_come_whole(void **state)
{
    const uint64_t huge = UINT64_C(2) << 20;
    const struct gw_guest_region region = {
        .kind = GW_GUEST_HUGETLB, .gpa = 2 * huge, .length = 2 * huge - 0x1000, .offset = 0x1000};
    struct gw_fault_stats st;
    struct pair p;
    char *to;

    if (!pair_begin(&p, &region, 1)) {
        fputs("no huge pages (sysctl vm.nr_hugepages): not tested\n", stderr);
        skip();
    }
    to = gw_guest_mem_at(p.to, region.gpa, region.length);
    assert_int_equal(to[0x123456], *(char *)gw_guest_mem_at(p.from, region.gpa + 0x123456, 1));
    expect_equal(&p, &region);
    gw_fault_server_stop(p.server);
    gw_fault_server_stats(p.server, &st);
    assert_int_equal(st.pages, 2);
    assert_int_equal(st.faults, 2);
    assert_int_equal(gw_fault_server_finish(p.server), 0);
    pair_end(&p);
}

static void test_fault_huge_pages_of_zeros(void **state)
{
    const uint64_t huge = UINT64_C(2) << 20;
    const struct gw_guest_region region = {.kind = GW_GUEST_HUGETLB, .gpa = 0, .length = 2 * huge};
    struct pair p;
    char *to;

    if (!pair_begin(&p, &region, 1))
        skip();
    assert_int_equal(gw_fault_server_put(p.server, 0, 2 * huge, NULL), 2);
    to = gw_guest_mem_at(p.to, 0, 2 * huge);
    for (uint64_t i = 0; i < 2 * huge; i += 4096)
        assert_int_equal(to[i], 0);
    pair_end(&p);
}

/* Pages are written through another mapping, and then mapped for the waiting thread. */
static void test_fault_minor_faults_are_continued(void **state)
{
    struct gw_fault_stats st;
    struct fault_fixture b;
    struct client c;
    int probe = fault_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MINOR_HUGETLBFS);

    if (probe < 0) {
        fputs("the kernel has no minor faults of shared memory: not tested\n", stderr);
        skip();
    }
    close(probe);
    fault_fixture_begin(&b, GW_FAULT_CONTINUE, SOURCE_HERE);
    client_begin(&c, &b, true);
    for (uint64_t i = 0; i < PAGES; i++) {
        assert_int_equal(touch(i % 2 ? b.own + i * PAGE : c.map + i * PAGE), stamp_of(i));
        assert_int_equal(touch(i % 2 ? c.map + i * PAGE : b.own + i * PAGE), stamp_of(i));
    }
    gw_fault_server_stop(b.server);
    gw_fault_server_stats(b.server, &st);
    assert_int_equal(st.continued, PAGES);
    assert_int_equal(st.copied + st.zeroed, 0);
    assert_int_equal(st.early, 0);
    assert_int_equal(gw_fault_server_finish(b.server), 0);
    client_end(&c, &b);
    fault_fixture_end(&b);
}

static void test_fault_minor_faults_of_what_precopy_brought(void **state)
{
    struct fault_fixture b;
    struct client c;
    char *precopy;
    int probe = fault_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MINOR_HUGETLBFS);

    if (probe < 0)
        skip();
    close(probe);
    fault_fixture_prepare(&b, GW_FAULT_CONTINUE, SOURCE_HERE);
    precopy = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, b.region.fd, 0);
    memset(precopy, 0x11, PAGES * PAGE);
    munmap(precopy, PAGES * PAGE);
    assert_int_equal(gw_fault_server_set_received(b.server, b.gpa, 0), 0);
    assert_int_equal(gw_fault_server_discard(b.server, b.gpa + 2 * PAGE, PAGE), 0);
    fault_fixture_serve(&b);
    client_begin(&c, &b, true);
    for (uint64_t i = 0; i < PAGES; i++) {
        assert_int_equal(touch(c.map + i * PAGE), i == 2 ? stamp_of(2) : 0x11111111);
        assert_int_equal(touch(b.own + i * PAGE), i == 2 ? stamp_of(2) : 0x11111111);
    }
    client_end(&c, &b);
    fault_fixture_end(&b);
}

static void test_fault_minor_page_read_before_it_came_is_told(void **state)
{
    struct fault_fixture b;
    char *unregistered;
    int probe = fault_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MINOR_HUGETLBFS);

    if (probe < 0)
        skip();
    close(probe);
    fault_fixture_begin(&b, GW_FAULT_CONTINUE, SOURCE_LATER);
    unregistered = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED, b.region.fd, 0);
    assert_int_equal(touch(unregistered + 4 * PAGE), 0);
    assert_int_equal(put_page(&b, 4), -EEXIST);
    assert_int_equal(put_page(&b, 5), 1);
    assert_int_equal(b.n_reports[GW_FAULT_EARLY], 1);
    assert_int_equal(touch(b.own + 5 * PAGE), stamp_of(5));
    munmap(unregistered, PAGES * PAGE);
    fault_fixture_end(&b);
}

/* Without minor faults the client would read a page while it is written. */
static void test_fault_minor_needs_clients_that_register_for_it(void **state)
{
    struct gw_fault_client *c;
    struct fault_fixture b;
    int probe = fault_uffd(UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MINOR_HUGETLBFS);

    if (probe < 0)
        skip();
    close(probe);
    fault_fixture_begin(&b, GW_FAULT_CONTINUE, SOURCE_HERE);
    assert_int_equal(gw_fault_server_add_client(b.server, &c, fault_uffd(0), "missing only", false),
                     -EOPNOTSUPP);
    assert_non_null(strstr(gw_frontend_last_error(), "missing only"));
    fault_fixture_end(&b);
}

/* ---- a client with events ---- */

struct change {
    uint64_t event; /* UFFD_FEATURE_EVENT_* */
    char *page;
    pthread_t thread;
};

/* Change the client's mappings; sleeps until the server has read the event. */
static void *change_main(void *arg)
{
    struct change *c = arg;
    void *moved;
    pid_t pid;

    switch (c->event) {
    case UFFD_FEATURE_EVENT_REMOVE:
        return madvise(c->page, PAGE, MADV_DONTNEED) == 0 ? NULL : c;
    case UFFD_FEATURE_EVENT_UNMAP:
        return munmap(c->page, PAGE) == 0 ? NULL : c;
    case UFFD_FEATURE_EVENT_REMAP:
        moved = mremap(c->page, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
        return moved != MAP_FAILED && munmap(moved, 2 * PAGE) == 0 ? NULL : c;
    default:
        pid = fork();
        if (pid == 0)
            _exit(0);
        return pid > 0 && waitpid(pid, NULL, 0) == pid ? NULL : c;
    }
}

/*
 * The kernel refuses to map pages while such an event is unread. The server must read it rather
 * than wait.
 */
static void expect_page_despite(uint64_t event)
{
    struct change change = {.event = event};
    struct pollfd pfd = {.events = POLLIN};
    struct fault_fixture b;
    struct toucher t;
    struct client c;
    void *wrong;

    fault_fixture_begin(&b, GW_FAULT_COPY, SOURCE_LATER);
    if (!client_begin_with(&c, &b, UFFD_FEATURE_MINOR_SHMEM | event)) {
        fault_fixture_end(&b);
        return;
    }
    toucher_begin(&t, c.map + 2 * PAGE);
    await_asked(&b, 1);
    gw_fault_server_stop(b.server);
    change.page = c.map + (PAGES - 1) * PAGE;
    pfd.fd = c.uffd;
    assert_int_equal(pthread_create(&change.thread, NULL, change_main, &change), 0);
    assert_int_equal(poll(&pfd, 1, WAIT_MS), 1);
    assert_int_equal(put_page(&b, 2), 1);
    assert_int_equal(gw_fault_server_start(b.server), 0);
    assert_int_equal(toucher_end(&t), stamp_of(2));
    assert_int_equal(pthread_join(change.thread, &wrong), 0);
    assert_null(wrong);
    client_end(&c, &b);
    fault_fixture_end(&b);
}

static void test_fault_page_comes_while_an_event_is_unread(void **state)
{
    if (is_under_tsan())
        skip(); /* it holds a lock in calls that wait until their event is read */
    expect_page_despite(UFFD_FEATURE_EVENT_REMOVE);
    expect_page_despite(UFFD_FEATURE_EVENT_UNMAP);
    expect_page_despite(UFFD_FEATURE_EVENT_REMAP);
    expect_page_despite(UFFD_FEATURE_EVENT_FORK);
}

/* The fd of a region is 0 if that is the first free one. */
static void test_fault_region_may_have_fd_0(void **state)
{
    const struct gw_guest_region region = {.length = 4 * PAGE};
    struct pair p = {0};
    const struct gw_fault_config cfg = {.size = sizeof(cfg), .page = copy_from, .arg = &p};
    int first = open("/dev/null", O_RDONLY | O_CLOEXEC);

    assert_int_equal(first, 0);
    assert_int_equal(gw_guest_mem_new(&p.from, 0), 0);
    assert_int_equal(gw_guest_mem_add(p.from, &region), 0);
    fill_with_noise(gw_guest_mem_at(p.from, 0, region.length), region.length, 1);
    assert_int_equal(gw_guest_mem_clone(&p.to, p.from, 0), 0);
    assert_int_equal(gw_fault_server_new(&p.server, &cfg), 0);
    close(first);
    assert_int_equal(gw_fault_server_add_mem(p.server, p.to), 0);
    assert_true(fcntl(0, F_GETFD) >= 0);
    assert_int_equal(gw_fault_server_begin(p.server), 0);
    assert_int_equal(gw_fault_server_start(p.server), 0);
    expect_equal(&p, &region);
    pair_end(&p);
    assert_int_equal(fcntl(0, F_GETFD), -1);
}

#define MANY 1000u

static void test_fault_thousand_regions(void **state)
{
    static struct gw_guest_region regions[MANY];
    struct gw_fault_stats st;
    struct pair p;

    /* Gaps between all regions. */
    for (unsigned i = 0; i < MANY; i++)
        regions[i] = (struct gw_guest_region){.gpa = i * 2 * PAGE, .length = PAGE};
    assert_true(pair_begin(&p, regions, MANY));
    for (unsigned i = 0; i < MANY; i++)
        expect_equal(&p, &regions[i * 7 % MANY]);
    gw_fault_server_stop(p.server);
    gw_fault_server_stats(p.server, &st);
    assert_int_equal(st.faults, MANY);
    assert_int_equal(st.latency.count, MANY);
    assert_int_equal(gw_fault_server_region_stats(p.server, 14 * PAGE, &st), 0);
    assert_int_equal(st.faults, 1);
    assert_int_equal(gw_fault_server_region_stats(p.server, PAGE, &st), -ENOENT);
    assert_int_equal(gw_fault_server_finish(p.server), 0);
    pair_end(&p);
}

/* Reads one region all the time, while others are added and removed. */
static void *read_one(void *arg)
{
    struct pair *p = arg;
    char *to = gw_guest_mem_at(p->to, 0, PAGES * PAGE);

    for (uint64_t i = 0; i < PAGES; i++) {
        usleep(200);
        if (memcmp(to + i * PAGE, gw_guest_mem_at(p->from, i * PAGE, PAGE), PAGE) != 0)
            return p;
    }
    return NULL;
}

static void test_fault_regions_come_and_go(void **state)
{
    const struct gw_guest_region first = {.gpa = 0, .length = PAGES * PAGE};
    const struct gw_guest_region second = {.gpa = 0x1000000, .length = 4 * PAGE};
    struct gw_guest_mem *other_to, *other_from;
    struct gw_fault_stats st;
    struct pair p;
    pthread_t reader;
    void *wrong;

    assert_true(pair_begin(&p, &first, 1));
    assert_int_equal(gw_fault_server_add_region(p.server, p.to, 0), -EEXIST);
    assert_int_equal(gw_fault_server_add_region(p.server, p.to, PAGE), -ENOENT);
    assert_int_equal(gw_fault_server_remove_region(p.server, PAGE), -ENOENT);
    assert_int_equal(pthread_create(&reader, NULL, read_one, &p), 0);
    assert_int_equal(gw_guest_mem_new(&other_from, 0), 0);
    assert_int_equal(gw_guest_mem_add(other_from, &second), 0);
    for (unsigned i = 0; i < 50; i++) {
        char *to;

        assert_int_equal(gw_guest_mem_clone(&other_to, other_from, 0), 0);
        assert_int_equal(gw_fault_server_add_region(p.server, other_to, second.gpa), 0);
        to = gw_guest_mem_at(other_to, second.gpa, second.length);
        assert_int_equal(gw_fault_server_put(p.server, second.gpa, 2 * PAGE, NULL), 2);
        assert_int_equal(touch(to) | touch(to + PAGE), 0);
        assert_int_equal(gw_fault_server_remove_region(p.server, second.gpa), 0);
        assert_int_equal(touch(to + 2 * PAGE), 0); /* no longer served, so it reads zeros */
        gw_guest_mem_free(other_to);
    }
    pthread_join(reader, &wrong);
    assert_null(wrong);
    gw_fault_server_stop(p.server);
    gw_fault_server_stats(p.server, &st);
    assert_int_equal(st.zeroed, 100); /* of removed regions */
    assert_int_equal(st.received, PAGES);
    gw_guest_mem_free(other_from);
    pair_end(&p);
}

static uint64_t address_space(void)
{
    FILE *statm = fopen("/proc/self/statm", "re");
    unsigned long n_pages = 0;

    assert_non_null(statm);
    assert_int_equal(fscanf(statm, "%lu", &n_pages), 1);
    fclose(statm);
    return n_pages * PAGE;
}

/* The states of the pages take a byte for each. */
static void test_fault_removed_regions_leave_no_mapping(void **state)
{
    const uint64_t states = UINT64_C(64) << 20;
    const struct gw_guest_region region = {.gpa = PAGE, .length = states * PAGE};
    const struct gw_fault_config cfg = {.size = sizeof(cfg)};
    struct gw_fault_server *server;
    struct gw_guest_mem *m;
    uint64_t before;

    assert_int_equal(gw_guest_mem_new(&m, 0), 0);
    assert_int_equal(gw_guest_mem_add(m, &region), 0);
    assert_int_equal(gw_fault_server_new(&server, &cfg), 0);
    before = address_space();
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(gw_fault_server_add_region(server, m, PAGE), 0);
        assert_int_equal(gw_fault_server_add_region(server, m, PAGE), -EEXIST);
        assert_int_equal(gw_fault_server_remove_region(server, PAGE), 0);
    }
    assert_in_range(address_space(), 0, before + 8 * states);
    gw_fault_server_free(server);
    gw_guest_mem_free(m);
}

/* The caller's thread serves faults, and may wait for other events. */
static void test_fault_served_by_the_caller(void **state)
{
    struct toucher t;
    struct fault_fixture b;
    struct pollfd pfd;

    fault_fixture_prepare(&b, GW_FAULT_COPY, SOURCE_HERE);
    assert_int_equal(gw_fault_server_begin(b.server), 0);
    pfd = (struct pollfd){.fd = gw_fault_server_fd(b.server), .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, 0), 0);
    toucher_begin(&t, b.own + PAGE);
    assert_int_equal(poll(&pfd, 1, (int)WAIT_MS), 1);
    assert_int_equal(gw_fault_server_run(b.server, 0), 0);
    assert_int_equal(toucher_end(&t), stamp_of(1));
    assert_int_equal(gw_fault_server_start(b.server), 0);
    assert_int_equal(gw_fault_server_run(b.server, 0), -EBUSY);
    assert_int_equal(gw_fault_server_start(b.server), -EBUSY);
    assert_int_equal(touch(b.own), stamp_of(0));
    fault_fixture_end(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_fault_region_anywhere_in_its_file),
        FDCHECK_TEST(test_fault_client_of_a_region_inside_a_page),
        FDCHECK_TEST(test_fault_puts_of_parts_are_refused),
        FDCHECK_TEST(test_fault_huge_pages_come_whole),
        FDCHECK_TEST(test_fault_huge_pages_of_zeros),
        FDCHECK_TEST(test_fault_minor_faults_are_continued),
        FDCHECK_TEST(test_fault_minor_faults_of_what_precopy_brought),
        FDCHECK_TEST(test_fault_minor_page_read_before_it_came_is_told),
        FDCHECK_TEST(test_fault_minor_needs_clients_that_register_for_it),
        FDCHECK_TEST(test_fault_page_comes_while_an_event_is_unread),
        FDCHECK_TEST(test_fault_region_may_have_fd_0),
        FDCHECK_TEST(test_fault_thousand_regions),
        FDCHECK_TEST(test_fault_regions_come_and_go),
        FDCHECK_TEST(test_fault_removed_regions_leave_no_mapping),
        FDCHECK_TEST(test_fault_served_by_the_caller),
    };

    requires_userfaultfd();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
