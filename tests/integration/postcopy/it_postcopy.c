/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A daemon goes through postcopy under a verified load: the table form and the slots form, regions
 * added and removed during postcopy, missing buffers while other requests continue, several
 * sessions, and several devices that share one memory.
 */
#include "../fixtures/post.h"
#include "fdcheck.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct post post;

/* ---- a migration ---- */

/* All pages arrive while the load runs, and the load continues after POSTCOPY_END. */
static void migrate(const struct post_config *cfg)
{
    struct gw_fault_stats st;

    post_begin(&post, cfg);
    post_switch(&post);
    post_load(&post);
    post_await_fault(&post);
    post_stream(&post);
    for (unsigned i = 0; i < post.cfg.n_devices; i++)
        post_finish(&post, i);
    usleep(20000);
    gw_fault_server_stop(post.server);
    assert_int_equal(gw_fault_server_finish(post.server), 0);
    post_join(&post);
    gw_fault_server_stats(post.server, &st);
    printf("%lu faults, %lu kB of %lu kB asked for\n", (unsigned long)st.faults,
           (unsigned long)st.bytes_requested / 1024,
           (unsigned long)(st.bytes_requested + st.bytes_streamed) / 1024);
    assert_true(st.faults > 0 && st.early == 0 && st.stray == 0);
    assert_int_equal(st.received, st.pages);
    post_end(&post);
}

static void migrate_kinds(enum gw_loop_kind loop)
{
    for (unsigned i = 0; i < 7; i++) {
        const struct post_config cfg = {
            .fixture = {.loop = loop,
                        .kind = i == 6  ? DISK_GPA
                                : i % 2 ? DISK_FILE
                                        : DISK_RAM,
                        .n_workers = i < 2 ? 2 : 1,
                        .shares = i >= 4},
            .form = i == 1 || i == 2 ? GW_FRONTEND_MEM_TABLE : GW_FRONTEND_MEM_SLOTS,
            .n_load_queues = FIXTURE_QUEUES,
        };

        migrate(&cfg);
    }
}

static void test_postcopy_load_epoll(void **state)
{
    migrate_kinds(GW_LOOP_EPOLL);
}

static void test_postcopy_load_uring(void **state)
{
    if (!fixture_has_uring())
        skip();
    migrate_kinds(GW_LOOP_URING);
}

static void test_postcopy_devices_share_a_memory(void **state)
{
    const struct post_config cfg = {.fixture = {.kind = DISK_FILE, .n_workers = 2},
                                    .n_devices = 2,
                                    .n_load_queues = FIXTURE_QUEUES};

    migrate(&cfg);
}

/* Switch back to a memory with missing pages several times, in sessions of the same daemon. */
static void test_postcopy_several_times(void **state)
{
    const struct post_config cfg = {.fixture = {.kind = DISK_RAM, .n_workers = 2},
                                    .form = GW_FRONTEND_MEM_TABLE,
                                    .n_load_queues = FIXTURE_QUEUES};

    post_begin(&post, &cfg);
    for (unsigned i = 0; i < 4; i++) {
        post_switch(&post);
        post_load(&post);
        post_stream(&post);
        if (i % 2) /* otherwise it hangs up without POSTCOPY_END */
            post_finish(&post, 0);
        post_join(&post);
        if (i < 3)
            post_next(&post);
    }
    post_end(&post);
}

/* ---- hotplug ---- */

/* The answer to a removal confirms that no worker uses the region; a table has no such answer. */
static void unplug(struct post *p, gw_gpa_t gpa)
{
    struct gw_frontend *fe = p->devices[0].fe;
    uint64_t features;

    if (p->cfg.form == GW_FRONTEND_MEM_TABLE) {
        struct gw_guest_mem *rest;
        struct gw_guest_region region;

        assert_int_equal(gw_guest_mem_new(&rest, GUEST_UVA), 0);
        for (unsigned i = 0; gw_guest_mem_region(p->to, i, &region) == 0; i++) {
            region.kind = GW_GUEST_FD;
            if (region.gpa != gpa)
                assert_int_equal(gw_guest_mem_add(rest, &region), 0);
        }
        assert_int_equal(gw_frontend_set_mem_table(fe, rest), 0);
        assert_int_equal(gw_frontend_get_features(fe, &features), 0);
        gw_guest_mem_free(rest);
    } else {
        assert_int_equal(gw_frontend_rem_mem_reg(fe, p->to, gpa), 0);
    }
    assert_int_equal(gw_fault_server_remove_region(p->server, gpa), 0);
    assert_int_equal(gw_guest_mem_remove(p->to, gpa), 0);
}

/* Copy from the disk to the new region, and from there to another place on the disk. */
static void use(struct post *p, gw_gpa_t gpa, unsigned n)
{
    struct post_device *d = &p->devices[0];
    const struct gw_driver_buf in = {gpa + POST_HOT_SIZE - 4096, 4096};
    const uint64_t sector = DISK_SIZE / 2 / 512 + 16 * (n % 8);
    uint8_t *page = gw_guest_mem_at(p->to, gpa, 4096);

    memset(page, (int)(n | 1), 4096);
    d->buf[1] = (struct gw_driver_buf){gpa, 4096};
    post_write(p, 1, sector);
    post_wait(p, 1);
    d->buf[1] = in; /* missing: the device touches it first */
    post_read(p, 1, sector);
    post_wait(p, 1);
    assert_memory_equal(gw_guest_mem_at(p->to, in.addr, 4096), page, 4096);
}

static void plug_and_unplug(enum gw_frontend_mem_form form)
{
    const struct post_config cfg = {
        .fixture = {.kind = DISK_FILE, .n_workers = 2}, .form = form, .n_load_queues = 1};

    post_begin(&post, &cfg);
    post_switch(&post);
    post_load(&post);
    for (unsigned i = 0; i < 24; i++) {
        gw_gpa_t gpa = POST_HOT_GPA + i % 3 * 2 * POST_HOT_SIZE;

        if (i >= 3)
            unplug(&post, gpa);
        post_plug(&post, gpa);
        use(&post, gpa, i);
        assert_true(gw_fault_server_stream(post.server, 8) >= 0);
    }
    post_stream(&post);
    post_finish(&post, 0);
    post_join(&post);
    post_end(&post);
}

static void test_postcopy_regions_come_and_go_slots(void **state)
{
    plug_and_unplug(GW_FRONTEND_MEM_SLOTS);
}

static void test_postcopy_regions_come_and_go_table(void **state)
{
    plug_and_unplug(GW_FRONTEND_MEM_TABLE);
}

/*
 * Regions that the back-end already has are sent again, because only the answer has their
 * addresses.
 */
static void test_postcopy_listen_with_regions(void **state)
{
    const struct post_config cfg = {.fixture = {.kind = DISK_RAM, .n_workers = 2},
                                    .form = GW_FRONTEND_MEM_TABLE,
                                    .n_load_queues = FIXTURE_QUEUES};
    struct post_device *d = &post.devices[0];
    int uffd;

    post_begin(&post, &cfg);
    post_leave(&post);
    assert_int_equal(fixture_connect(&d->fixture, d->fe), 0);
    assert_int_equal(gw_frontend_negotiate(d->fe, &d->opt), 0);
    assert_int_equal(gw_frontend_set_mem_table(d->fe, post.to), 0);
    assert_int_equal(gw_frontend_postcopy_advise(d->fe, &uffd), 0);
    assert_int_equal(gw_fault_server_add_client(post.server, &d->client, uffd, "daemon", false), 0);
    assert_int_equal(gw_frontend_postcopy_listen(d->fe, gw_fault_client_add_base, d->client), 0);
    assert_int_equal(gw_frontend_set_mem_table(d->fe, post.to), 0);
    post_start(&post, 0);
    post_load(&post);
    post_stream(&post);
    post_finish(&post, 0);
    post_join(&post);
    post_end(&post);
}

/* ---- requests with missing buffers ---- */

/*
 * Queue 1 has a request into a page that is held back. Queue 0 continues: with another worker for
 * every kind of device, with the same worker only if the kernel does the I/O. Then the page
 * arrives.
 */
static void wait_beside(const struct fixture_config *fixture, bool reads)
{
    const struct post_config cfg = {.fixture = *fixture};
    const uint64_t sector = DISK_SIZE / 512 / 2;
    uint8_t *from, *to;
    struct post_device *d = &post.devices[0];

    post_begin(&post, &cfg);
    from = gw_guest_mem_at(post.from, d->buf[1].addr, 4096);
    memset(from, 0x6b, 4096);
    post_write(&post, 1, sector);
    post_wait(&post, 1);
    memset(from, reads ? 0x11 : 0x3c, 4096);
    post.later = d->buf[1].addr;
    post_switch(&post);
    if (reads)
        post_read(&post, 1, sector);
    else
        post_write(&post, 1, sector);
    post_await_waiting(&post);
    for (unsigned i = 0; i < 50; i++) {
        post_write(&post, 0, i * 8);
        post_wait(&post, 0);
    }
    assert_int_equal(gw_driver_n_used(d->drivers[1]), 0);
    post_send(&post);
    post_wait(&post, 1);
    if (!reads) {
        post_read(&post, 0, sector);
        post_wait(&post, 0);
    }
    to = gw_guest_mem_at(post.to, d->buf[reads].addr, 4096);
    for (unsigned i = 0; i < 4096; i++)
        assert_int_equal(to[i], reads ? 0x6b : 0x3c);
    post_stream(&post);
    post_finish(&post, 0);
    assert_int_equal(gw_frontend_stop(d->fe, d->drivers, FIXTURE_QUEUES), 0);
    post_end(&post);
}

static void wait_beside_kinds(enum gw_loop_kind loop)
{
    for (unsigned i = 0; i < 6; i++) {
        const struct fixture_config fixture = {
            .loop = loop, .kind = i < 2 ? DISK_RAM : DISK_FILE, .n_workers = i < 4 ? 2 : 1};

        wait_beside(&fixture, i % 2);
    }
}

static void test_postcopy_missing_buffer_holds_up_itself_epoll(void **state)
{
    wait_beside_kinds(GW_LOOP_EPOLL);
}

static void test_postcopy_missing_buffer_holds_up_itself_uring(void **state)
{
    if (!fixture_has_uring())
        skip();
    wait_beside_kinds(GW_LOOP_URING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_postcopy_load_epoll),
        FDCHECK_TEST(test_postcopy_load_uring),
        FDCHECK_TEST(test_postcopy_devices_share_a_memory),
        FDCHECK_TEST(test_postcopy_several_times),
        FDCHECK_TEST(test_postcopy_regions_come_and_go_slots),
        FDCHECK_TEST(test_postcopy_regions_come_and_go_table),
        FDCHECK_TEST(test_postcopy_listen_with_regions),
        FDCHECK_TEST(test_postcopy_missing_buffer_holds_up_itself_epoll),
        FDCHECK_TEST(test_postcopy_missing_buffer_holds_up_itself_uring),
    };

    post_require_faults();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
