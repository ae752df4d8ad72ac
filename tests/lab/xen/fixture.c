/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "fixture.h"

#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECTOR    512u
#define DISK_USED (8u << 20)

static unsigned n_failures;

__attribute__((format(printf, 2, 0))) static void tell(bool good, const char *format, va_list args)
{
    printf("%s ", good ? "  ok  " : "  FAIL");
    vprintf(format, args);
    putchar('\n');
    fflush(stdout);
    n_failures += !good;
}

void check(bool good, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    tell(good, format, args);
    va_end(args);
}

void must(bool good, const char *format, ...)
{
    va_list args;

    if (good)
        return;
    va_start(args, format);
    tell(good, format, args);
    va_end(args);
    exit(EXIT_FAILURE);
}

unsigned check_failures(void)
{
    return n_failures;
}

/* ---- Opening ---- */

static void make_guest(struct fixture *b)
{
    struct gw_driver_config cfg = {.size = sizeof(cfg), .queue_size = 128};
    int r = gw_guest_mem_new(&b->mem, GW_GUEST_UVA_HOST);

    must(r == 0, "guest memory: %s", strerror(-r));
    r = xen_guest_new(&b->guest, b->domid, b->form);
    must(r == 0, "%s", b->guest ? xen_guest_error(b->guest) : strerror(-r));
    r = xen_guest_fill(b->guest, b->mem, b->memory ? b->memory : FIXTURE_MEMORY, FIXTURE_SPARE);
    must(r == 0, "%s", xen_guest_error(b->guest));
    r = xen_guest_add(b->guest, FIXTURE_SPARE / 2, &b->spare);
    must(r == 0, "%s", xen_guest_error(b->guest));
    cfg.mem = b->mem;
    r = gw_driver_new(&b->driver, &cfg);
    must(r == 0, "a queue: %s", strerror(-r));
    r = xen_guest_driver(b->guest, &cfg, b->driver);
    must(r == 0, "%s", xen_guest_error(b->guest));
}

static int64_t free_bytes(void)
{
    FILE *f = fopen("/proc/meminfo", "re");
    long long kib = -1;
    char line[128];

    must(f != NULL, "/proc/meminfo: %s", strerror(errno));
    while (kib < 0 && fgets(line, sizeof(line), f))
        (void)sscanf(line, "MemFree: %lld kB", &kib);
    fclose(f);
    must(kib >= 0, "free memory in /proc/meminfo");
    return kib * 1024;
}

static uint64_t connect_disk(struct fixture *b)
{
    struct gw_frontend_options opt = {
        .size = sizeof(opt), .mem = b->mem, .drivers = &b->driver, .n_drivers = 1};
    struct gw_frontend_config cfg = {.size = sizeof(cfg), .timeout_ms = FIXTURE_STALL};
    uint64_t sectors = 0;
    int r = gw_frontend_new(&b->fe, &cfg);

    if (r == 0)
        r = gw_frontend_connect(b->fe, b->socket);
    if (r == 0)
        r = gw_frontend_negotiate(b->fe, &opt);
    if (r == 0)
        r = gw_frontend_get_config(b->fe, 0, &sectors, sizeof(sectors));
    if (r == 0)
        r = gw_frontend_start(b->fe, &opt);
    must(r == 0, "starting the disk: %s", gw_frontend_last_error());
    return le64toh(sectors) * SECTOR;
}

void fixture_open(struct fixture *b)
{
    struct xen_load load = {
        .seed = b->form + 1,
        .disk_seed = b->form + 1,
        .block_size = 4096,
        .depth = FIXTURE_DEPTH,
        .write_percent = 50,
        .flush_percent = 2,
        .segments = 4,
        .n_queues = 1,
        .scatter = true,
    };
    int r;

    make_guest(b);
    b->taken = free_bytes();
    load.disk_length = connect_disk(b);
    b->taken -= free_bytes();
    must(load.disk_length > DISK_USED, "a disk of more than 8 MiB");
    b->n_sectors = load.disk_length / SECTOR;
    load.disk_length = DISK_USED;
    r = xen_guest_load(b->guest, &load);
    if (r == 0)
        r = xen_guest_push(b->guest, NULL);
    must(r == 0, "%s", xen_guest_error(b->guest));
}

void fixture_drop(struct fixture *b)
{
    gw_frontend_free(b->fe);
    gw_driver_free(b->driver);
    xen_guest_free(b->guest);
    gw_guest_mem_free(b->mem);
    *b = (struct fixture){.domid = b->domid, .form = b->form, .socket = b->socket};
}

void fixture_close(struct fixture *b)
{
    int r = gw_frontend_stop(b->fe, &b->driver, 1);

    check(r == 0, "the device stops%s%s", r ? ": " : "", r ? gw_frontend_last_error() : "");
    fixture_drop(b);
}

/* ---- Load ---- */

static void settle(struct fixture *b, int r, const char *what)
{
    if (r == 0)
        r = xen_guest_drain(b->guest, FIXTURE_STALL);
    if (r == 0)
        r = xen_guest_pull(b->guest, NULL);
    must(r == 0, "%s: %s", what, xen_guest_error(b->guest));
}

void fixture_exchange(struct fixture *b, uint64_t n_requests)
{
    int r = xen_guest_push(b->guest, NULL);

    if (r == 0)
        r = xen_guest_run(b->guest, 0, n_requests, FIXTURE_STALL);
    settle(b, r, "verified I/O");
}

void fixture_begin(struct fixture *b)
{
    int r = xen_guest_push(b->guest, NULL);

    if (r == 0)
        r = xen_guest_begin(b->guest, 0, 0, FIXTURE_STALL);
    must(r == 0, "starting a load: %s", xen_guest_error(b->guest));
}

void fixture_rest(struct fixture *b)
{
    xen_link_interrupt(xen_guest_link(b->guest));
    settle(b, xen_link_wait(xen_guest_link(b->guest)), "the load");
}

/* Uses the last sector of the disk, which the load leaves alone. */
static uint8_t one_request(struct fixture *b, enum gw_driver_blk_type type, gw_gpa_t gpa)
{
    const struct gw_driver_buf data = {.addr = gpa, .len = SECTOR};
    struct gw_driver_used used;
    struct gw_driver_blk blk;
    uint8_t status;
    int r = gw_driver_blk_init(&blk, b->driver);

    must(r == 0, "a request: %s", strerror(-r));
    r = gw_driver_blk_add(&blk, type, b->n_sectors - 1, &data, 1, 7, 0);
    must(r == 0, "a request: %s", strerror(-r));
    gw_driver_kick_always(b->driver);
    for (unsigned i = 0; i < 2000 && r == 0; i++) {
        const struct timespec pause = {.tv_nsec = 5000000};

        r = (int)gw_driver_take(b->driver, &used, 1);
        if (r == 0)
            nanosleep(&pause, NULL);
    }
    must(r == 1 && used.cookie == 7, "a request is answered");
    status = *blk.status;
    gw_driver_blk_done(&blk);
    return status;
}

uint8_t fixture_write_from(struct fixture *b, gw_gpa_t gpa)
{
    return one_request(b, GW_DRIVER_BLK_WRITE, gpa);
}

uint8_t fixture_read_into(struct fixture *b, gw_gpa_t gpa)
{
    return one_request(b, GW_DRIVER_BLK_READ, gpa);
}
