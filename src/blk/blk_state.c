/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The state of the device, in the container of <godwit/state.h>: what the driver has set and does
 * not set again, which is the writeback byte of config space. Everything else is in the store, in
 * the options of the next device, or in messages of the front-end.
 */
#include "blk_i.h"

#include <errno.h>
#include <string.h>

#define STATE_NAME    "virtio-blk"
#define STATE_VERSION 1

enum section {
    SECTION_CACHE = 1, /* one byte: the writeback byte */
};

static int save_all(struct gw_blk *blk)
{
    uint8_t is_write_back = gw_blk_has_cache(blk);
    int r = gw_state_writer_new(&blk->state.writer, STATE_NAME, STATE_VERSION);

    if (r == 0)
        r = gw_state_writer_add(blk->state.writer, SECTION_CACHE, GW_STATE_REQUIRED, &is_write_back,
                                1);
    if (r == 0)
        r = gw_state_writer_end(blk->state.writer);
    return r;
}

static int take_section(void *arg, const struct gw_state_section *section)
{
    struct gw_blk *blk = arg;
    const uint8_t *byte = section->data;

    if (section->id != SECTION_CACHE)
        return -ENOENT;
    if (section->len != 1 || *byte > 1 || blk->state.has_cache)
        return -EBADMSG;
    blk->state.has_cache = true;
    blk->state.is_write_back = *byte == 1;
    return 0;
}

static void forget(struct gw_blk *blk)
{
    gw_state_writer_free(blk->state.writer);
    gw_state_reader_free(blk->state.reader);
    memset(&blk->state, 0, sizeof(blk->state));
}

int gw_blk_state_begin(void *dev, enum gw_state_direction direction, int *ret_fd)
{
    struct gw_blk *blk = dev;
    int r;

    if (direction == GW_STATE_SAVE)
        r = save_all(blk);
    else
        r = gw_state_reader_new(&blk->state.reader, STATE_NAME, STATE_VERSION, take_section, blk);
    if (r < 0)
        forget(blk);
    return r;
}

int64_t gw_blk_state_save(void *dev, void *buf, size_t size)
{
    struct gw_blk *blk = dev;

    return (int64_t)gw_state_writer_read(blk->state.writer, buf, size);
}

int64_t gw_blk_state_load(void *dev, const void *data, size_t size)
{
    struct gw_blk *blk = dev;
    int r = gw_state_reader_feed(blk->state.reader, data, size);

    return r < 0 ? r : (int64_t)size;
}

int gw_blk_state_end(void *dev, enum gw_state_direction direction, int result)
{
    struct gw_blk *blk = dev;

    if (result == 0 && direction == GW_STATE_LOAD) {
        result = gw_state_reader_end(blk->state.reader);
        if (result == 0 && !blk->state.has_cache)
            result = -EBADMSG;
        if (result == 0)
            gw_blk_set_cache(blk, blk->state.is_write_back);
    }
    forget(blk);
    return result;
}
