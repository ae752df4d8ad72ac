/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "bed.h"

#include "fdcheck.h"
#include "requires.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* ---- what the daemon tells ---- */

static void take_diag(void *arg, enum gw_diag_level level, const char *message)
{
    struct bed *b = arg;
    size_t len = strlen(message);

    if (level == GW_DIAG_DEBUG)
        return;
    pthread_mutex_lock(&b->lock);
    if (b->text_len + len + 2 > b->text_room) {
        b->text_room = 2 * b->text_room + len + 4096;
        b->text = realloc(b->text, b->text_room);
    }
    memcpy(b->text + b->text_len, message, len);
    b->text_len += len;
    b->text[b->text_len++] = '\n';
    b->text[b->text_len] = '\0';
    if (strstr(message, "the session is over"))
        b->n_over++;
    pthread_cond_broadcast(&b->told);
    pthread_mutex_unlock(&b->lock);
}

void bed_forget(struct bed *b)
{
    pthread_mutex_lock(&b->lock);
    b->text_len = 0;
    if (b->text)
        b->text[0] = '\0';
    pthread_mutex_unlock(&b->lock);
}

bool bed_said(struct bed *b, const char *text)
{
    pthread_mutex_lock(&b->lock);
    bool said = b->text && strstr(b->text, text);
    pthread_mutex_unlock(&b->lock);
    return said;
}

/* When an event that must come is lost. */
static void get_deadline(struct timespec *ts)
{
    clock_gettime(CLOCK_REALTIME, ts);
    ts->tv_sec += patience_ms() / 1000 + 1;
}

bool bed_says(struct bed *b, const char *text)
{
    struct timespec ts;
    bool said = false;
    int r = 0;

    get_deadline(&ts);
    pthread_mutex_lock(&b->lock);
    while (!(said = b->text && strstr(b->text, text)) && r == 0)
        r = pthread_cond_timedwait(&b->told, &b->lock, &ts);
    if (!said)
        fprintf(stderr, "not \"%s\" was told, but:\n%s", text, b->text ? b->text : "nothing\n");
    pthread_mutex_unlock(&b->lock);
    return said;
}

bool bed_wait_idle(struct bed *b)
{
    struct timespec ts;
    int r = 0;

    get_deadline(&ts);
    pthread_mutex_lock(&b->lock);
    while (b->n_over != b->n_opened && r == 0)
        r = pthread_cond_timedwait(&b->told, &b->lock, &ts);
    if (r != 0)
        fprintf(stderr, "%u of %u sessions are over:\n%s", b->n_over, b->n_opened,
                b->text ? b->text : "");
    pthread_mutex_unlock(&b->lock);
    return r == 0;
}

int bed_connect(struct bed *b, struct gw_frontend *fe)
{
    int r = gw_frontend_connect(fe, b->path);

    b->n_opened += r == 0;
    return r;
}

/* ---- the daemon ---- */

void bed_start(struct bed *b, const struct bed_config *cfg)
{
    struct gw_daemon_config daemon = {
        .size = sizeof(daemon),
        .num_queues = BED_QUEUES,
        .queue_size_max = BED_QUEUE_SIZE,
        .num_workers = cfg->n_workers ? cfg->n_workers : 1,
        .loop = cfg->loop,
        .sync = cfg->sync,
        .request_size = disk_request_size(),
        .drain_timeout_ms = cfg->drain_ms,
        .diag = take_diag,
        .diag_arg = b,
        .diag_level = GW_DIAG_DEBUG, /* so that no message is suppressed */
    };

    memset(b, 0, sizeof(*b));
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->told, NULL);
    strcpy(b->dir, "/tmp/godwit-it-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    snprintf(b->path, sizeof(b->path), "%s/socket", b->dir);
    assert_int_equal(disk_init(&b->disk, cfg->kind, cfg->delay_ms), 0);
    assert_int_equal(gw_daemon_new(&b->daemon, &daemon, &disk_ops, &b->disk), 0);
    assert_int_equal(gw_daemon_start_path(b->daemon, b->path), 0);
    /* The first session makes what stays: stacks, pools, the allocator's arenas. */
    assert_true(bed_check(b, "the first session"));
    b->idle = fdcheck_begin();
    assert_non_null(b->idle);
}

void bed_stop(struct bed *b)
{
    gw_daemon_free(b->daemon);
    disk_done(&b->disk);
    /* Its own fds are gone, too; a group's FDCHECK_TEST compares the whole. */
    struct fdcheck *idle = b->idle;
    b->idle = NULL;
    assert_int_equal(fdcheck_end(idle), 0);
    (void)rmdir(b->dir);
    free(b->text);
    pthread_cond_destroy(&b->told);
    pthread_mutex_destroy(&b->lock);
}

void bed_restart(struct bed *b)
{
    assert_true(bed_wait_idle(b));
    assert_int_equal(fdcheck_end(b->idle), 0);
    assert_int_equal(gw_daemon_start_path(b->daemon, b->path), 0);
    b->idle = fdcheck_begin();
    assert_non_null(b->idle);
}

/* Everything is as it was while nobody was connected. */
static bool is_clean(struct bed *b, const char *name)
{
    int n;

    if (!bed_wait_idle(b))
        return false;
    if (!b->idle)
        return true;
    n = fdcheck_end(b->idle);
    b->idle = fdcheck_begin();
    if (n > 0)
        fprintf(stderr, "%s: left %d fds or mappings behind\n", name, n);
    return n == 0 && b->idle;
}

bool bed_check(struct bed *b, const char *name)
{
    struct guest g;
    int r;

    if (!is_clean(b, name))
        return false;
    guest_init(&g, 16);
    r = bed_connect(b, g.fe);
    if (r == 0)
        r = gw_frontend_start(g.fe, &g.opt);
    if (r < 0)
        fprintf(stderr, "%s: then the next session: %s\n", name, gw_frontend_error(g.fe));
    b->n_checks++;
    for (unsigned i = 0; r == 0 && i < BED_QUEUES; i++) {
        /* In the last quarter of the disk. */
        r = guest_io(&g, i, DISK_SIZE / 512 / 4 * 3 + 8 * (b->n_checks % 64 + 64 * i),
                     (uint8_t)(b->n_checks + i));
        if (r < 0)
            fprintf(stderr, "%s: then I/O on queue %u: %s\n", name, i, strerror(-r));
    }
    guest_done(&g);
    return r == 0 && is_clean(b, name);
}

/* ---- guests ---- */

void guest_init(struct guest *g, unsigned queue_size)
{
    /* Not sealed, unlike GW_GUEST_MEMFD: some guests truncate their memory. */
    struct gw_guest_region region = {.kind = GW_GUEST_FD,
                                     .gpa = GUEST_GPA,
                                     .length = GUEST_SIZE,
                                     .fd = memfd_create("guest", MFD_CLOEXEC)};
    struct gw_frontend_config cfg = {
        .size = sizeof(cfg), .timeout_ms = patience_ms(), .no_gates = true};

    memset(g, 0, sizeof(*g));
    assert_true(region.fd >= 0);
    assert_int_equal(ftruncate(region.fd, (off_t)GUEST_SIZE), 0);
    assert_int_equal(gw_guest_mem_new(&g->mem, GUEST_UVA), 0);
    assert_int_equal(gw_guest_mem_add(g->mem, &region), 0);
    close(region.fd);
    for (unsigned i = 0; i < BED_QUEUES; i++) {
        struct gw_driver_config driver = {
            .size = sizeof(driver), .mem = g->mem, .index = i, .queue_size = queue_size};
        assert_int_equal(gw_driver_new(&g->drivers[i], &driver), 0);
    }
    assert_int_equal(gw_frontend_new(&g->fe, &cfg), 0);
    g->opt = (struct gw_frontend_options){
        .size = sizeof(g->opt), .mem = g->mem, .drivers = g->drivers, .n_drivers = BED_QUEUES};
}

void guest_done(struct guest *g)
{
    gw_frontend_free(g->fe);
    for (unsigned i = 0; i < BED_QUEUES; i++) {
        if (g->buf[i].len) {
            gw_guest_mem_release(g->mem, g->buf[i].addr, g->buf[i].len);
            gw_driver_blk_done(&g->blk[i]);
        }
        gw_driver_free(g->drivers[i]);
    }
    gw_guest_mem_free(g->mem);
}

int guest_io(struct guest *g, unsigned queue, uint64_t sector, uint8_t pattern)
{
    struct gw_driver_blk *blk = &g->blk[queue];
    struct gw_driver_buf *buf = &g->buf[queue];
    uint8_t *data;
    int r;

    if (buf->len == 0) {
        assert_int_equal(gw_driver_blk_init(blk, g->drivers[queue]), 0);
        assert_int_equal(gw_guest_mem_alloc(g->mem, 4096, 4096, &buf->addr), 0);
        buf->len = 4096;
    }
    data = gw_guest_mem_at(g->mem, buf->addr, buf->len);
    memset(data, pattern, buf->len);
    r = gw_driver_blk_add(blk, GW_DRIVER_BLK_WRITE, sector, buf, 1, 1, 0);
    if (r == 0)
        r = gw_driver_blk_wait(blk, 1, BED_STALL_MS);
    memset(data, ~pattern, buf->len);
    if (r == 0)
        r = gw_driver_blk_add(blk, GW_DRIVER_BLK_READ, sector, buf, 1, 2, 0);
    if (r == 0)
        r = gw_driver_blk_wait(blk, 2, BED_STALL_MS);
    for (uint32_t i = 0; r == 0 && i < buf->len; i++)
        if (data[i] != pattern)
            r = -EILSEQ;
    return r;
}

bool bed_has_uring(void)
{
    return has_io_uring();
}
