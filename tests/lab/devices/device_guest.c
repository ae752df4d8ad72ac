/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The guest of a disk of godwit-blk: one session, one queue, one request at a time. It keeps the
 * expected contents of each sector in a file, so that the next session can check them.
 *
 *     device_guest SOCKET STATE STEP...
 *     device_guest --used DEVICE       print the bytes in sectors that are not all zero
 *
 * Steps, with ranges as BEGIN+LENGTH in KiB:
 *
 *     offers=[discard][,zeroes][,ro]   exactly these features
 *     block=BYTES, align=BYTES         logical block size, discard alignment
 *     may-unmap=0|1                    write_zeroes_may_unmap
 *     fill[=RANGE]                     write new contents (default: the whole disk)
 *     discard=RANGE                    the contents are undefined afterwards
 *     zeroes=RANGE, unmap=RANGE        WRITE_ZEROES without and with the flag UNMAP
 *     pieces                           all of these, on short unaligned ranges
 *     flush
 *     refuse=write|discard|zeroes|unmap   the request fails
 *     full=RANGE                       a write fails; the contents are undefined afterwards
 *     check                            read the whole disk and compare
 *
 * Exit status 1 at the first failure, with the step and the reason on stderr.
 */
#include "load/load.h"
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTOR     512u
#define KIB        1024u
#define MEMORY     (UINT64_C(2) << 20)
#define MEMORY_GPA UINT64_C(0x40000000)
#define BUFFER     65536u
#define PATIENCE   120000u /* ms: an emulated machine may be slow */
/* Sectors that `pieces` uses, and the distance between pieces. */
#define PIECES_BEGIN 2048u
#define PIECES       5120u
#define PIECE        640u
#define BIT(n)       (UINT64_C(1) << (n))

/* Contents of a sector; other values are the generation of the last write. */
enum {
    ZERO = 0,
    UNDEFINED = 255,
};

struct device_guest {
    struct gw_guest_mem *mem;
    struct gw_driver *driver;
    struct gw_frontend *fe;
    struct gw_driver_blk blk;
    struct gw_driver_buf buf;
    struct virtio_blk_config disk;
    uint64_t offered;
    uint64_t n_sectors;
    uint8_t *state; /* one for each sector */
};

struct range {
    uint64_t sector;
    uint64_t n;
};

static const char *step; /* the present step */

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fprintf(stderr, "device_guest: %s: ", step);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(EXIT_FAILURE);
}

static void must(int r, const char *what)
{
    if (r < 0)
        fail("%s: %s", what, strerror(-r));
}

/* ---- Contents ---- */

/* Depends on sector and generation; no byte is 0. */
static void fill_sector(uint8_t *data, uint64_t sector, uint8_t generation)
{
    uint64_t word = (sector << 8 | generation) * UINT64_C(0x9e3779b97f4a7c15);

    word = (word ^ word >> 29) | UINT64_C(0x0101010101010101);
    for (unsigned i = 0; i < SECTOR; i += sizeof(word))
        memcpy(data + i, &word, sizeof(word));
}

static void check_sector(const uint8_t *data, uint64_t sector, uint8_t state)
{
    uint8_t expected[SECTOR] = {0};

    if (state == UNDEFINED)
        return;
    if (state != ZERO)
        fill_sector(expected, sector, state);
    if (memcmp(data, expected, SECTOR) != 0)
        fail("sector %llu begins with %02x%02x%02x%02x, not %02x%02x%02x%02x (generation %u)",
             (unsigned long long)sector, data[0], data[1], data[2], data[3], expected[0],
             expected[1], expected[2], expected[3], state);
}

/* A new disk has undefined contents. */
static void load_state(struct device_guest *g, const char *path)
{
    FILE *in = fopen(path, "re");

    g->state = malloc(g->n_sectors);
    if (g->state == NULL)
        fail("no memory");
    memset(g->state, UNDEFINED, g->n_sectors);
    if (in == NULL)
        return;
    if (fread(g->state, 1, g->n_sectors, in) != g->n_sectors || fgetc(in) != EOF)
        fail("%s is of another disk", path);
    fclose(in);
}

static void save_state(const struct device_guest *g, const char *path)
{
    FILE *out = fopen(path, "we");

    if (out == NULL || fwrite(g->state, 1, g->n_sectors, out) != g->n_sectors || fclose(out) != 0)
        fail("cannot write %s: %s", path, strerror(errno));
}

/* ---- The device ---- */

static void connect_to(struct device_guest *g, const char *path)
{
    struct gw_guest_region region = {.kind = GW_GUEST_MEMFD, .gpa = MEMORY_GPA, .length = MEMORY};
    struct gw_driver_config driver = {.size = sizeof(driver), .queue_size = 16};
    struct gw_frontend_config cfg = {
        .size = sizeof(cfg), .timeout_ms = PATIENCE, .connect_timeout_ms = PATIENCE};
    struct gw_frontend_options opt = {
        .size = sizeof(opt),
        .features = BIT(28) | BIT(29) | BIT(30) | BIT(32) | BIT(VIRTIO_BLK_F_FLUSH) |
                    BIT(VIRTIO_BLK_F_CONFIG_WCE) | BIT(VIRTIO_BLK_F_DISCARD) |
                    BIT(VIRTIO_BLK_F_WRITE_ZEROES),
        .drivers = &g->driver,
        .n_drivers = 1};

    must(gw_guest_mem_new(&g->mem, GW_GUEST_UVA_HOST), "memory");
    must(gw_guest_mem_add(g->mem, &region), "memory");
    driver.mem = opt.mem = g->mem;
    must(gw_driver_new(&g->driver, &driver), "driver");
    must(gw_driver_blk_init(&g->blk, g->driver), "request");
    g->buf.len = BUFFER;
    must(gw_guest_mem_alloc(g->mem, BUFFER, 4096, &g->buf.addr), "buffer");
    must(gw_frontend_new(&g->fe, &cfg), "front-end");
    if (gw_frontend_connect(g->fe, path) < 0 || gw_frontend_start(g->fe, &opt) < 0 ||
        gw_frontend_get_features(g->fe, &g->offered) < 0 ||
        gw_frontend_get_config(g->fe, 0, &g->disk, sizeof(g->disk)) < 0)
        fail("%s: %s", path, gw_frontend_last_error());
    g->n_sectors = le64toh(g->disk.capacity);
}

static void disconnect(struct device_guest *g)
{
    if (gw_frontend_stop(g->fe, &g->driver, 1) < 0)
        fail("%s", gw_frontend_last_error());
    gw_frontend_free(g->fe);
    gw_guest_mem_release(g->mem, g->buf.addr, BUFFER);
    gw_driver_blk_done(&g->blk);
    gw_driver_free(g->driver);
    gw_guest_mem_free(g->mem);
    free(g->state);
}

/* READ, WRITE or FLUSH with the first bytes of the buffer. Returns: the device's result. */
static int transfer(struct device_guest *g, uint32_t type, uint64_t sector, uint32_t length)
{
    struct gw_driver_buf buf = {g->buf.addr, length};

    must(gw_driver_blk_add(&g->blk, type, sector, &buf, length > 0, 1, 0), "request");
    return gw_driver_blk_wait(&g->blk, 1, PATIENCE);
}

/* Returns: the device's result. */
static int range_request(struct device_guest *g, uint32_t type, struct range r, uint32_t flags)
{
    must(gw_driver_blk_add_range(&g->blk, type, r.sector, (uint32_t)r.n, flags, 1, 0), "request");
    return gw_driver_blk_wait(&g->blk, 1, PATIENCE);
}

/* ---- Steps ---- */

static void mark(struct device_guest *g, struct range r, uint8_t state)
{
    memset(g->state + r.sector, state, r.n);
}

/* Returns: 0; the error of a failed write, after which the rest of the range is undefined. */
static int fill(struct device_guest *g, struct range r)
{
    uint8_t *data = gw_guest_mem_at(g->mem, g->buf.addr, BUFFER);

    while (r.n > 0) {
        uint64_t n = r.n < BUFFER / SECTOR ? r.n : BUFFER / SECTOR;
        int error;

        for (uint64_t i = 0; i < n; i++) {
            uint8_t *state = g->state + r.sector + i;

            *state = *state >= UNDEFINED - 1 ? 1 : (uint8_t)(*state + 1);
            fill_sector(data + i * SECTOR, r.sector + i, *state);
        }
        error = transfer(g, GW_DRIVER_BLK_WRITE, r.sector, (uint32_t)n * SECTOR);
        if (error < 0) {
            mark(g, r, UNDEFINED);
            return error;
        }
        r.sector += n;
        r.n -= n;
    }
    return 0;
}

static void zeroes(struct device_guest *g, struct range r, uint32_t flags)
{
    must(range_request(g, GW_DRIVER_BLK_WRITE_ZEROES, r, flags), "the device answered");
    mark(g, r, ZERO);
}

static void discard(struct device_guest *g, struct range r)
{
    must(range_request(g, GW_DRIVER_BLK_DISCARD, r, 0), "the device answered");
    mark(g, r, UNDEFINED);
}

/* Zeroes, a discard and a write at every offset in a granule, each overlapping the previous one. */
static void pieces(struct device_guest *g)
{
    static const uint32_t lengths[] = {1, 7, 8, 24, 33, 128, 264}; /* sectors */
    bool can_discard = (g->offered & BIT(VIRTIO_BLK_F_DISCARD)) != 0;
    uint32_t block = le32toh(g->disk.blk_size) / SECTOR;
    unsigned n_done = 0;

    for (uint32_t at = 0; at < 16; at += block) {
        for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
            uint32_t n = (lengths[i] + block - 1) / block * block;
            uint64_t sector = PIECES_BEGIN + n_done % (PIECES / PIECE) * PIECE + at;

            zeroes(g, (struct range){sector, n},
                   n_done % 2 ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0);
            if (can_discard)
                discard(g, (struct range){sector + n, n});
            must(fill(g, (struct range){sector + n / 2 / block * block, block}), "write");
            n_done++;
        }
    }
}

static void check(struct device_guest *g)
{
    const uint8_t *data = gw_guest_mem_at(g->mem, g->buf.addr, BUFFER);
    uint64_t n;

    for (uint64_t at = 0; at < g->n_sectors; at += n) {
        n = g->n_sectors - at < BUFFER / SECTOR ? g->n_sectors - at : BUFFER / SECTOR;
        must(transfer(g, GW_DRIVER_BLK_READ, at, (uint32_t)n * SECTOR), "read");
        for (uint64_t i = 0; i < n; i++)
            check_sector(data + i * SECTOR, at + i, g->state[at + i]);
    }
}

static void refuse(struct device_guest *g, const char *what)
{
    static const struct range r = {0, 128};
    int error = -EINVAL;

    if (strcmp(what, "write") == 0)
        error = transfer(g, GW_DRIVER_BLK_WRITE, r.sector, BUFFER);
    else if (strcmp(what, "discard") == 0)
        error = range_request(g, GW_DRIVER_BLK_DISCARD, r, 0);
    else if (strcmp(what, "zeroes") == 0)
        error = range_request(g, GW_DRIVER_BLK_WRITE_ZEROES, r, 0);
    else if (strcmp(what, "unmap") == 0)
        error = range_request(g, GW_DRIVER_BLK_WRITE_ZEROES, r, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
    else
        fail("no such request");
    if (error != -EIO && error != -EOPNOTSUPP)
        fail("it was answered with: %s", error == 0 ? "OK" : strerror(-error));
}

static void offers(const struct device_guest *g, const char *expected)
{
    char text[32] = "";

    if (g->offered & BIT(VIRTIO_BLK_F_DISCARD))
        strcat(text, "discard,");
    if (g->offered & BIT(VIRTIO_BLK_F_WRITE_ZEROES))
        strcat(text, "zeroes,");
    if (g->offered & BIT(VIRTIO_BLK_F_RO))
        strcat(text, "ro,");
    if (text[0] != '\0')
        text[strlen(text) - 1] = '\0';
    if (strcmp(text, expected) != 0)
        fail("the device offers '%s'", text);
}

static void equal(uint64_t value, const char *expected)
{
    if (value != strtoull(expected, NULL, 10))
        fail("it is %llu", (unsigned long long)value);
}

static struct range parse_range(const struct device_guest *g, const char *text)
{
    unsigned long long begin, length;
    struct range r = {0, g->n_sectors};

    if (*text == '\0')
        return r;
    if (sscanf(text, "%llu+%llu", &begin, &length) != 2)
        fail("no range");
    r = (struct range){begin * KIB / SECTOR, length * KIB / SECTOR};
    if (r.sector > g->n_sectors || r.n > g->n_sectors - r.sector)
        fail("it is longer than the disk");
    return r;
}

/* Runs a step with a range. Returns: false if it is another step. */
static bool run_range_step(struct device_guest *g, const char *name, const char *value)
{
    if (strcmp(name, "fill") == 0)
        must(fill(g, parse_range(g, value)), "the device answered");
    else if (strcmp(name, "discard") == 0)
        discard(g, parse_range(g, value));
    else if (strcmp(name, "zeroes") == 0)
        zeroes(g, parse_range(g, value), 0);
    else if (strcmp(name, "unmap") == 0)
        zeroes(g, parse_range(g, value), VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
    else if (strcmp(name, "full") != 0)
        return false;
    else if (fill(g, parse_range(g, value)) == 0)
        fail("every write succeeded");
    return true;
}

static void run_step(struct device_guest *g, const char *name, const char *value)
{
    if (run_range_step(g, name, value))
        return;
    if (strcmp(name, "offers") == 0)
        offers(g, value);
    else if (strcmp(name, "block") == 0)
        equal(le32toh(g->disk.blk_size), value);
    else if (strcmp(name, "align") == 0)
        equal((uint64_t)le32toh(g->disk.discard_sector_alignment) * SECTOR, value);
    else if (strcmp(name, "may-unmap") == 0)
        equal(g->disk.write_zeroes_may_unmap, value);
    else if (strcmp(name, "pieces") == 0)
        pieces(g);
    else if (strcmp(name, "flush") == 0)
        must(transfer(g, GW_DRIVER_BLK_FLUSH, 0, 0), "the device answered");
    else if (strcmp(name, "refuse") == 0)
        refuse(g, value);
    else if (strcmp(name, "check") == 0)
        check(g);
    else
        fail("no such step");
}

static unsigned long long used_bytes(const char *path)
{
    static const uint8_t zero[SECTOR];
    uint8_t *data = aligned_alloc(4096, BUFFER);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    unsigned long long used = 0;
    ssize_t n;

    if (data == NULL || fd < 0)
        fail("%s: %s", path, strerror(errno));
    while ((n = read(fd, data, BUFFER)) > 0)
        for (ssize_t i = 0; i < n; i += SECTOR)
            used += memcmp(data + i, zero, SECTOR) != 0 ? SECTOR : 0;
    if (n < 0)
        fail("%s: %s", path, strerror(errno));
    close(fd);
    free(data);
    return used;
}

int main(int argc, char **argv)
{
    struct device_guest g = {0};

    step = "start";
    if (argc == 3 && strcmp(argv[1], "--used") == 0) {
        printf("%llu\n", used_bytes(argv[2]));
        return EXIT_SUCCESS;
    }
    if (argc < 4)
        fail("usage: device_guest SOCKET STATE STEP...");
    connect_to(&g, argv[1]);
    load_state(&g, argv[2]);
    for (int i = 3; i < argc; i++) {
        char name[16] = "";
        const char *value = strchr(argv[i], '=');

        step = argv[i];
        snprintf(name, sizeof(name), "%.*s", value ? (int)(value - step) : (int)strlen(step), step);
        run_step(&g, name, value ? value + 1 : "");
    }
    step = "stop";
    save_state(&g, argv[2]);
    disconnect(&g);
    return EXIT_SUCCESS;
}
