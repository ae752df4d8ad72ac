/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The expected contents of a disk under load: for each block the acknowledged generation and the
 * newest issued one. They differ while a write is in flight, and after a write whose completion was
 * lost; then each sector may hold any generation in between. Blocks never written have generation
 * 0.
 */
#include "fe_disk.h"
#include "fe_sector.h"

#include "base/checked.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BLOCK_SIZE_DEFAULT 4096
#define BLOCK_SIZE_MAX     (16u << 20)

struct gw_guest_disk_block {
    uint64_t done_at;     /* n_done at the acknowledgement */
    uint32_t done;        /* acknowledged generation */
    uint32_t issued : 31; /* newest generation that may be on the disk */
    uint32_t claimed : 1; /* a request is in flight */
};

struct gw_guest_disk {
    struct gw_guest_disk_config cfg;
    uint64_t n_blocks;
    struct gw_guest_disk_block *blocks;
    uint64_t n_done;    /* acknowledged writes */
    uint64_t n_flushed; /* the first n_flushed of these were followed by a completed FLUSH */
    char error[320];
};

int gw_guest_disk_new(struct gw_guest_disk **ret, const struct gw_guest_disk_config *cfg)
{
    struct gw_guest_disk_config c;
    struct gw_guest_disk *disk;
    int r = gw_copy_struct(&c, sizeof(c), cfg, sizeof(c));

    if (r < 0)
        return r;
    if (!c.block_size)
        c.block_size = BLOCK_SIZE_DEFAULT;
    if (c.block_size % GW_GUEST_SECTOR_SIZE || c.block_size > BLOCK_SIZE_MAX || c.length == 0 ||
        c.length % c.block_size || c.offset % GW_GUEST_SECTOR_SIZE || c.offset > INT64_MAX ||
        c.length > INT64_MAX - c.offset)
        return -EINVAL;
    disk = calloc(1, sizeof(*disk));
    if (!disk)
        return -ENOMEM;
    disk->cfg = c;
    disk->n_blocks = c.length / c.block_size;
    disk->blocks = calloc(disk->n_blocks, sizeof(*disk->blocks));
    if (!disk->blocks) {
        free(disk);
        return -ENOMEM;
    }
    *ret = disk;
    return 0;
}

void gw_guest_disk_free(struct gw_guest_disk *disk)
{
    if (!disk)
        return;
    free(disk->blocks);
    free(disk);
}

const char *gw_guest_disk_error(const struct gw_guest_disk *disk)
{
    return disk->error;
}

uint64_t gw_guest_disk_blocks(const struct gw_guest_disk *disk)
{
    return disk->n_blocks;
}

uint32_t gw_guest_disk_block_size(const struct gw_guest_disk *disk)
{
    return disk->cfg.block_size;
}

uint64_t gw_guest_disk_sector(const struct gw_guest_disk *disk, uint64_t block)
{
    return (disk->cfg.offset + block * disk->cfg.block_size) / GW_GUEST_SECTOR_SIZE;
}

uint64_t gw_guest_disk_claim(struct gw_guest_disk *disk, uint64_t block)
{
    /* Terminates: a load has fewer requests than the disk has blocks. */
    while (disk->blocks[block].claimed)
        block = block + 1 == disk->n_blocks ? 0 : block + 1;
    disk->blocks[block].claimed = 1;
    return block;
}

void gw_guest_disk_unclaim(struct gw_guest_disk *disk, uint64_t block)
{
    disk->blocks[block].claimed = 0;
}

void gw_guest_disk_fill(struct gw_guest_disk *disk, uint64_t block, void *data)
{
    uint64_t sector = gw_guest_disk_sector(disk, block);
    uint32_t n = disk->cfg.block_size / GW_GUEST_SECTOR_SIZE;
    struct gw_guest_disk_block *b = &disk->blocks[block];

    b->issued++;
    for (uint32_t i = 0; i < n; i++)
        gw_guest_sector_fill((char *)data + (size_t)i * GW_GUEST_SECTOR_SIZE, sector + i, b->issued,
                             disk->cfg.seed);
}

void gw_guest_disk_written(struct gw_guest_disk *disk, uint64_t block)
{
    disk->blocks[block].done = disk->blocks[block].issued;
    disk->blocks[block].done_at = disk->n_done++;
}

uint64_t gw_guest_disk_flush(const struct gw_guest_disk *disk)
{
    return disk->n_done;
}

void gw_guest_disk_flushed(struct gw_guest_disk *disk, uint64_t covered)
{
    if (covered > disk->n_flushed)
        disk->n_flushed = covered;
}

/* Judge a sector that does not hold the one expected generation: acceptable, or wrong and how. */
static int judge_sector(struct gw_guest_disk *disk, uint64_t block, uint64_t sector,
                        const struct gw_guest_disk_known *b, const void *data)
{
    const struct gw_guest_disk_block *now = &disk->blocks[block];
    const char *lost = "";
    uint32_t generation = 0;
    char why[128];
    bool ours;

    ours = gw_guest_sector_read(data, sector, disk->cfg.seed, &generation, why, sizeof(why));
    if (ours && generation >= b->done && generation <= b->issued)
        return 0;
    /* The contents before the first write of the load: anything, or zeros. */
    if (b->done == 0 && (disk->cfg.blank ? gw_guest_sector_is_blank(data) : !ours))
        return 0;
    /* An earlier run with the same seed may have written the block. */
    if (b->issued == 0 && !disk->cfg.blank)
        return 0;
    if (ours && generation < b->done)
        lost = b->done == now->done && now->done_at < disk->n_flushed
                   ? " (a lost write, although a later FLUSH completed)"
                   : " (a lost write)";
    snprintf(disk->error, sizeof(disk->error),
             "sector %" PRIu64 " of block %" PRIu64 ": expected generation %" PRIu32 " to %" PRIu32
             ", found %s%s",
             sector, block, b->done, b->issued, why, lost);
    return -EILSEQ;
}

void gw_guest_disk_known(const struct gw_guest_disk *disk, uint64_t block,
                         struct gw_guest_disk_known *ret)
{
    ret->done = disk->blocks[block].done;
    ret->issued = disk->blocks[block].issued;
}

int gw_guest_disk_check(struct gw_guest_disk *disk, uint64_t block, const void *data)
{
    struct gw_guest_disk_known known;

    gw_guest_disk_known(disk, block, &known);
    return gw_guest_disk_check_known(disk, block, &known, data);
}

int gw_guest_disk_check_known(struct gw_guest_disk *disk, uint64_t block,
                              const struct gw_guest_disk_known *b, const void *data)
{
    uint32_t n = disk->cfg.block_size / GW_GUEST_SECTOR_SIZE;
    uint64_t sector = gw_guest_disk_sector(disk, block);
    bool settled = b->done && b->issued == b->done;
    int r;

    for (uint32_t i = 0; i < n; i++) {
        const char *s = (const char *)data + (size_t)i * GW_GUEST_SECTOR_SIZE;

        if (settled && gw_guest_sector_is(s, sector + i, b->done, disk->cfg.seed))
            continue;
        r = judge_sector(disk, block, sector + i, b, s);
        if (r < 0)
            return r;
    }
    return 0;
}

int gw_guest_disk_check_fd(struct gw_guest_disk *disk, int fd)
{
    uint32_t size = disk->cfg.block_size;
    char *buf = malloc(size);
    int r = buf ? 0 : -ENOMEM;

    for (uint64_t block = 0; r == 0 && block < disk->n_blocks; block++) {
        off_t at = (off_t)(disk->cfg.offset + block * size);
        ssize_t n = pread(fd, buf, size, at);

        r = n < 0 ? -errno : n == (ssize_t)size ? 0 : -EIO;
        if (r < 0)
            snprintf(disk->error, sizeof(disk->error), "block %" PRIu64 " cannot be read", block);
        else
            r = gw_guest_disk_check(disk, block, buf);
    }
    free(buf);
    return r;
}

/* ---- Migration to another host ---- */

/* Save only blocks that were ever written; the others are zero. */
void gw_guest_disk_put(const struct gw_guest_disk *disk, struct gw_state_writer *w)
{
    uint64_t n = 0;

    for (uint64_t i = 0; i < disk->n_blocks; i++)
        n += disk->blocks[i].issued != 0;
    gw_state_put(w, disk->cfg.offset, 8);
    gw_state_put(w, disk->n_blocks, 8);
    gw_state_put(w, disk->cfg.seed, 8);
    gw_state_put(w, disk->cfg.blank, 1);
    gw_state_put(w, disk->n_done, 8);
    gw_state_put(w, disk->n_flushed, 8);
    gw_state_put(w, n, 8);
    for (uint64_t i = 0; i < disk->n_blocks; i++) {
        const struct gw_guest_disk_block *b = &disk->blocks[i];

        if (b->issued == 0)
            continue;
        gw_state_put(w, i, 8);
        gw_state_put(w, b->done, 4);
        gw_state_put(w, b->issued, 4);
        gw_state_put(w, b->done_at, 8);
    }
}

static bool get_block(struct gw_state_reader *r, struct gw_guest_disk_state *s)
{
    uint64_t i = gw_state_get(r, 8);
    uint32_t done = (uint32_t)gw_state_get(r, 4), issued = (uint32_t)gw_state_get(r, 4);
    uint64_t done_at = gw_state_get(r, 8);

    if (i >= s->n_blocks || issued == 0 || issued > INT32_MAX || done > issued ||
        s->blocks[i].issued)
        return false;
    s->blocks[i].done = done;
    s->blocks[i].issued = issued & INT32_MAX;
    s->blocks[i].done_at = done_at;
    return true;
}

int gw_guest_disk_get(const struct gw_guest_disk *disk, struct gw_state_reader *r,
                      struct gw_guest_disk_state *ret)
{
    bool is_same = gw_state_get(r, 8) == disk->cfg.offset;
    uint64_t n;

    is_same &= gw_state_get(r, 8) == disk->n_blocks;
    is_same &= gw_state_get(r, 8) == disk->cfg.seed;
    is_same &= gw_state_get(r, 1) == disk->cfg.blank;
    ret->n_done = gw_state_get(r, 8);
    ret->n_flushed = gw_state_get(r, 8);
    n = gw_state_get(r, 8);
    if (!is_same || n > disk->n_blocks || ret->n_flushed > ret->n_done)
        return -EINVAL;
    ret->n_blocks = disk->n_blocks;
    ret->blocks = calloc(disk->n_blocks, sizeof(*ret->blocks));
    if (!ret->blocks)
        return -ENOMEM;
    for (uint64_t i = 0; i < n; i++) {
        if (!get_block(r, ret))
            return -EINVAL;
    }
    return 0;
}

bool gw_guest_disk_state_claim(struct gw_guest_disk_state *s, uint64_t block)
{
    if (s->blocks[block].claimed)
        return false;
    s->blocks[block].claimed = 1;
    return true;
}

void gw_guest_disk_take(struct gw_guest_disk *disk, struct gw_guest_disk_state *s)
{
    struct gw_guest_disk_block *blocks = disk->blocks;

    disk->blocks = s->blocks;
    disk->n_done = s->n_done;
    disk->n_flushed = s->n_flushed;
    s->blocks = blocks;
}

void gw_guest_disk_state_done(struct gw_guest_disk_state *s)
{
    free(s->blocks);
    s->blocks = NULL;
}
