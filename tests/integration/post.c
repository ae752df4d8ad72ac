/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "post.h"
#include "patience.h"

#include "fdcheck.h"
#include "requires.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DEPTH   30
#define PAGE    4096
#define COOKIE  77
#define WAIT_MS patience_ms()

/* The requests succeed, or the test does not. */
static void did(const struct post_device *d, int r)
{
    if (r < 0)
        fail_msg("%s (%d)", gw_frontend_error(d->fe), r);
}

/* ---- before ---- */

/* Small, so that the load is in both; the second begins in the middle of its file. */
static void make_memory(struct post *p)
{
    const struct gw_guest_region regions[] = {
        {.gpa = GUEST_GPA, .length = 0x40000},
        {.gpa = 2 * GUEST_GPA - 0x200000, .length = 0x200000, .offset = 0x3000},
    };

    assert_int_equal(gw_guest_mem_new(&p->from, GUEST_UVA), 0);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(gw_guest_mem_add(p->from, &regions[i]), 0);
}

static void make_load(struct post_device *d, unsigned n_queues, unsigned seed)
{
    struct gw_guest_disk_config disk = {
        .size = sizeof(disk), .length = DISK_SIZE / 2, .seed = seed, .blank = true};
    struct gw_guest_load_config load = {.size = sizeof(load),
                                        .drivers = d->drivers,
                                        .n_drivers = n_queues,
                                        .depth = DEPTH,
                                        .write_percent = 50,
                                        .flush_percent = 2,
                                        .segments = 2,
                                        .sleep = true,
                                        .call_grace_ms = patience_ms()};

    assert_int_equal(gw_guest_disk_new(&d->disk, &disk), 0);
    load.disk = d->disk;
    assert_int_equal(gw_guest_load_new(&d->load, &load), 0);
    if (gw_guest_load_run(d->load, 0, 1000, WAIT_MS) < 0)
        fail_msg("the load, before: %s", gw_guest_load_error(d->load));
}

static void make_device(struct post *p, struct post_device *d, unsigned seed)
{
    const struct gw_frontend_config fe = {
        .size = sizeof(fe), .timeout_ms = WAIT_MS, .no_gates = true};

    for (unsigned i = 0; i < BED_QUEUES; i++) {
        struct gw_driver_config driver = {
            .size = sizeof(driver), .mem = p->from, .index = i, .queue_size = 128};

        assert_int_equal(gw_driver_new(&d->drivers[i], &driver), 0);
        assert_int_equal(gw_driver_blk_init(&d->blk[i], d->drivers[i]), 0);
        assert_int_equal(gw_guest_mem_alloc(p->from, PAGE, PAGE, &d->buf[i].addr), 0);
        d->buf[i].len = PAGE;
    }
    d->opt = (struct gw_frontend_options){.size = sizeof(d->opt),
                                          .mem = p->from,
                                          .drivers = d->drivers,
                                          .n_drivers = BED_QUEUES,
                                          .mem_form = p->cfg.form};
    assert_int_equal(gw_frontend_new(&d->fe, &fe), 0);
    did(d, bed_connect(&d->bed, d->fe));
    did(d, gw_frontend_start(d->fe, &d->opt));
    if (p->cfg.n_load_queues)
        make_load(d, p->cfg.n_load_queues, seed);
}

void post_begin(struct post *p, const struct post_config *cfg)
{
    memset(p, 0, sizeof(*p));
    p->cfg = *cfg;
    p->cfg.n_devices = cfg->n_devices ? cfg->n_devices : 1;
    p->later = UINT64_MAX;
    for (unsigned i = 0; i < p->cfg.n_devices; i++)
        bed_start(&p->devices[i].bed, &cfg->bed);
    /* The first is idle while the second is there. */
    for (unsigned i = 0; i < p->cfg.n_devices; i++) {
        (void)fdcheck_end(p->devices[i].bed.idle);
        p->devices[i].bed.idle = fdcheck_begin();
    }
    make_memory(p);
    for (unsigned i = 0; i < p->cfg.n_devices; i++)
        make_device(p, &p->devices[i], i + 1);
}

/* ---- the switch ---- */

static enum gw_fault_answer give_page(void *arg, gw_gpa_t gpa, uint64_t len, const void **ret_data)
{
    struct post *p = arg;

    if (gpa == __atomic_load_n(&p->later, __ATOMIC_RELAXED)) {
        __atomic_fetch_add(&p->n_later, 1, __ATOMIC_RELEASE);
        return GW_FAULT_LATER;
    }
    *ret_data = gw_guest_mem_at(p->from, gpa, len); /* NULL, zeros: plugged in later */
    return GW_FAULT_HERE;
}

static void take_problem(void *arg, const struct gw_fault_report *report)
{
    struct post *p = arg;

    snprintf(p->problem, sizeof(p->problem), "%s", report->text);
    __atomic_fetch_add(&p->n_problems, 1, __ATOMIC_RELEASE);
}

void post_leave(struct post *p)
{
    const struct gw_fault_config cfg = {
        .size = sizeof(cfg), .page = give_page, .report = take_problem, .arg = p};

    for (unsigned i = 0; i < p->cfg.n_devices; i++) {
        struct post_device *d = &p->devices[i];

        if (gw_frontend_fd(d->fe) < 0)
            continue;
        did(d, gw_frontend_stop(d->fe, d->drivers, BED_QUEUES));
        gw_frontend_disconnect(d->fe);
        assert_true(bed_wait_idle(&d->bed));
    }
    assert_int_equal(gw_guest_mem_clone(&p->to, p->from, GUEST_UVA), 0);
    assert_int_equal(gw_fault_server_new(&p->server, &cfg), 0);
    assert_int_equal(gw_fault_server_add_mem(p->server, p->to), 0);
    assert_int_equal(gw_fault_server_begin(p->server), 0);
    assert_int_equal(gw_fault_server_start(p->server), 0);
}

void post_listen(struct post *p, unsigned i)
{
    struct post_device *d = &p->devices[i];
    int uffd;

    did(d, bed_connect(&d->bed, d->fe));
    did(d, gw_frontend_negotiate(d->fe, &d->opt));
    did(d, gw_frontend_postcopy_advise(d->fe, &uffd));
    assert_int_equal(gw_fault_server_add_client(p->server, &d->client, uffd, "daemon", false), 0);
    did(d, gw_frontend_postcopy_listen(d->fe, gw_fault_client_add_base, d->client));
}

void post_start(struct post *p, unsigned i)
{
    struct post_device *d = &p->devices[i];

    for (unsigned k = 0; k < BED_QUEUES; k++) {
        assert_int_equal(gw_driver_set_mem(d->drivers[k], p->to), 0);
        assert_int_equal(gw_driver_blk_set_mem(&d->blk[k], p->to), 0);
    }
    if (d->load)
        assert_int_equal(gw_guest_load_set_mem(d->load, p->to), 0);
    d->opt.mem = p->to;
    did(d, gw_frontend_start(d->fe, &d->opt));
}

void post_switch(struct post *p)
{
    post_leave(p);
    for (unsigned i = 0; i < p->cfg.n_devices; i++) {
        post_listen(p, i);
        post_start(p, i);
    }
}

void post_plug(struct post *p, gw_gpa_t gpa)
{
    const struct gw_guest_region region = {
        .gpa = gpa, .length = POST_HOT_SIZE, .offset = 0x1000, .no_alloc = true};
    struct gw_frontend *fe = p->devices[0].fe;
    uint64_t features;

    assert_int_equal(gw_guest_mem_add(p->to, &region), 0);
    assert_int_equal(gw_fault_server_add_region(p->server, p->to, gpa), 0);
    assert_int_equal(p->cfg.form == GW_FRONTEND_MEM_TABLE ? gw_frontend_set_mem_table(fe, p->to)
                                                          : gw_frontend_add_mem_reg(fe, p->to, gpa),
                     0);
    /* Nothing is answered to the acknowledgement: what comes behind it is. */
    assert_int_equal(gw_frontend_get_features(fe, &features), 0);
}

/* ---- after it ---- */

static void *load_main(void *arg)
{
    struct post_device *d = arg;

    d->result = gw_guest_load_run(d->load, 0, 0, WAIT_MS);
    return NULL;
}

void post_load(struct post *p)
{
    for (unsigned i = 0; i < p->cfg.n_devices; i++) {
        struct post_device *d = &p->devices[i];

        gw_guest_load_restart_stats(d->load);
        assert_int_equal(pthread_create(&d->thread, NULL, load_main, d), 0);
    }
}

static void check_disk(struct post_device *d)
{
    if (d->bed.disk.kind == DISK_FILE) {
        if (gw_guest_disk_check_fd(d->disk, d->bed.disk.fd) < 0)
            fail_msg("%s", gw_guest_disk_error(d->disk));
        return;
    }
    for (uint64_t i = 0; i < DISK_SIZE / 2 / PAGE; i++)
        if (gw_guest_disk_check(d->disk, i, d->bed.disk.ram + i * PAGE) < 0)
            fail_msg("%s", gw_guest_disk_error(d->disk));
}

void post_join(struct post *p)
{
    for (unsigned i = 0; i < p->cfg.n_devices; i++) {
        struct post_device *d = &p->devices[i];
        struct gw_guest_load_stats stats;

        gw_guest_load_interrupt(d->load);
        pthread_join(d->thread, NULL);
        /* However little it did until now. */
        if (d->result >= 0)
            d->result = gw_guest_load_run(d->load, 0, 1000, WAIT_MS);
        if (d->result < 0 || gw_guest_load_drain(d->load, WAIT_MS) < 0)
            fail_msg("the load: %s", gw_guest_load_error(d->load));
        gw_guest_load_stats(d->load, &stats);
        assert_true(stats.verified > 0);
        did(d, gw_frontend_stop(d->fe, d->drivers, BED_QUEUES));
        check_disk(d);
    }
}

void post_stream(struct post *p)
{
    int n;

    while ((n = gw_fault_server_stream(p->server, 1)) > 0)
        usleep(50);
    assert_int_equal(n, 0);
    assert_int_equal(gw_fault_server_missing(p->server), 0);
}

void post_send(struct post *p)
{
    gw_gpa_t gpa = __atomic_exchange_n(&p->later, UINT64_MAX, __ATOMIC_RELAXED);

    assert_int_equal(gw_fault_server_put(p->server, gpa, PAGE, gw_guest_mem_at(p->from, gpa, PAGE)),
                     1);
}

void post_finish(struct post *p, unsigned i)
{
    did(&p->devices[i], gw_frontend_postcopy_end(p->devices[i].fe));
    gw_fault_server_remove_client(p->server, p->devices[i].client);
    p->devices[i].client = NULL;
}

static void add(struct post *p, unsigned queue, uint32_t type, uint64_t sector)
{
    struct post_device *d = &p->devices[0];

    assert_int_equal(gw_driver_blk_add(&d->blk[queue], type, sector, &d->buf[queue], 1, COOKIE, 0),
                     0);
    gw_driver_kick_always(d->drivers[queue]);
}

void post_write(struct post *p, unsigned queue, uint64_t sector)
{
    add(p, queue, GW_DRIVER_BLK_WRITE, sector);
}

void post_read(struct post *p, unsigned queue, uint64_t sector)
{
    add(p, queue, GW_DRIVER_BLK_READ, sector);
}

void post_wait(struct post *p, unsigned queue)
{
    assert_int_equal(gw_driver_blk_wait(&p->devices[0].blk[queue], COOKIE, WAIT_MS), 0);
}

void post_await_waiting(struct post *p)
{
    for (unsigned i = 0; i < WAIT_MS; i++) {
        if (__atomic_load_n(&p->n_later, __ATOMIC_ACQUIRE))
            return;
        usleep(1000);
    }
    fail_msg("nobody waits for the page at %#lx", (unsigned long)p->later);
}

void post_await_fault(struct post *p)
{
    struct gw_fault_stats st;

    for (unsigned i = 0; i < WAIT_MS; i++) {
        gw_fault_server_stats(p->server, &st);
        if (st.faults > 0)
            return;
        usleep(1000);
    }
    fail_msg("no page was requested");
}

/* ---- nobody serves ---- */

/* A request to read into a page that is not in the file. */
static int read_into_nothing(struct guest *g, unsigned queue, int mem_fd)
{
    struct gw_driver_buf *buf = &g->buf[queue];
    int r = gw_driver_blk_init(&g->blk[queue], g->drivers[queue]);

    if (r == 0)
        r = gw_guest_mem_alloc(g->mem, PAGE, PAGE, &buf->addr);
    if (r < 0)
        return r;
    buf->len = PAGE;
    if (fallocate(mem_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  (off_t)(buf->addr - GUEST_GPA), PAGE) < 0)
        return -errno;
    r = gw_driver_blk_add(&g->blk[queue], GW_DRIVER_BLK_READ, 8 * queue, buf, 1, COOKIE, 0);
    if (r == 0)
        gw_driver_kick_always(g->drivers[queue]);
    return r;
}

int post_starve(struct guest *g, int *ret_uffd)
{
    struct gw_guest_region region;
    struct pollfd pfd = {.events = POLLIN};
    char event[32]; /* struct uffd_msg */
    int r = gw_frontend_negotiate(g->fe, &g->opt);

    if (r == 0)
        r = gw_frontend_postcopy_advise(g->fe, ret_uffd);
    if (r < 0)
        return r;
    r = gw_frontend_postcopy_listen(g->fe, NULL, NULL);
    if (r == 0)
        r = gw_frontend_start(g->fe, &g->opt);
    if (r == 0)
        r = gw_guest_mem_region(g->mem, 0, &region);
    for (unsigned i = 0; r == 0 && i < BED_QUEUES; i++)
        r = read_into_nothing(g, i, region.fd);
    pfd.fd = *ret_uffd;
    if (r == 0 && poll(&pfd, 1, (int)WAIT_MS) != 1)
        r = -ETIMEDOUT;
    if (r == 0 && read(*ret_uffd, event, sizeof(event)) != sizeof(event))
        r = -EIO;
    if (r < 0)
        close(*ret_uffd);
    return r;
}

/* ---- the end ---- */

static void device_done(struct post_device *d)
{
    gw_guest_load_free(d->load);
    gw_guest_disk_free(d->disk);
    for (unsigned i = 0; i < BED_QUEUES; i++) {
        gw_driver_blk_done(&d->blk[i]);
        gw_driver_free(d->drivers[i]);
    }
    gw_frontend_free(d->fe);
}

/* First those who wait for pages, then who serves them. */
static void serve_no_more(struct post *p)
{
    if (__atomic_load_n(&p->n_problems, __ATOMIC_ACQUIRE))
        fail_msg("%u problems, the last: %s", p->n_problems, p->problem);
    for (unsigned i = 0; i < p->cfg.n_devices; i++)
        gw_frontend_disconnect(p->devices[i].fe);
    for (unsigned i = 0; i < p->cfg.n_devices; i++) {
        assert_true(bed_wait_idle(&p->devices[i].bed));
        p->devices[i].client = NULL;
    }
    gw_fault_server_free(p->server);
    p->server = NULL;
}

void post_next(struct post *p)
{
    serve_no_more(p);
    gw_guest_mem_free(p->from);
    p->from = p->to;
    p->to = NULL;
}

void post_require_faults(void)
{
    const struct gw_fault_config cfg = {.size = sizeof(cfg)};
    struct gw_fault_server *s;

    if (gw_fault_server_new(&s, &cfg) < 0)
        skip_test("%s", gw_fault_error());
    gw_fault_server_free(s);
}

void post_stop(struct post *p)
{
    for (unsigned i = 0; i < p->cfg.n_devices; i++) {
        assert_int_equal(gw_daemon_stop(p->devices[i].bed.daemon), 0);
        assert_int_equal(gw_daemon_wait(p->devices[i].bed.daemon), 0);
    }
    p->is_stopped = true;
}

void post_end(struct post *p)
{
    serve_no_more(p);
    for (unsigned i = 0; i < p->cfg.n_devices; i++)
        device_done(&p->devices[i]);
    gw_guest_mem_free(p->to);
    gw_guest_mem_free(p->from);
    for (unsigned i = 0; i < p->cfg.n_devices && p->is_stopped; i++)
        bed_restart(&p->devices[i].bed);
    for (unsigned i = 0; i < p->cfg.n_devices; i++)
        assert_true(bed_check(&p->devices[i].bed, "postcopy"));
    for (unsigned i = 0; i < p->cfg.n_devices; i++)
        bed_stop(&p->devices[i].bed);
}
