/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Copies of granted pages, a batch of them by one ioctl each way. */
#include "grant_copy.h"

#include "core/checked.h"

#include <stdlib.h>
#include <string.h>

/* A batch of requests with a few pages each needs no memory for its list. */
enum {
    FEW = 128
};

struct gw_grant_copies *gw_grant_copies_new(xengnttab_handle *handle, unsigned n_pieces,
                                            uint64_t n_bytes)
{
    struct gw_grant_copies *c = malloc(sizeof(*c) + n_pieces * sizeof(c->pieces[0]));
    void *memory = NULL;

    if (!c)
        return NULL;
    if (posix_memalign(&memory, 4096, n_bytes) != 0) {
        free(c);
        return NULL;
    }
    /* What the device does not write goes to the guest all the same. */
    memset(memory, 0, n_bytes);
    *c = (struct gw_grant_copies){.handle = handle, .n_pieces = n_pieces, .memory = memory};
    return c;
}

void gw_grant_copies_free(struct gw_grant_copies *c)
{
    free(c->memory);
    free(c);
}

static bool is_wanted(const struct gw_grant_piece *p, const struct gw_pin_copy *copy, bool in)
{
    return in == (p->extent < copy->n_out);
}

static void describe(xengnttab_grant_copy_segment_t *s, const struct gw_grant_piece *p, bool in)
{
    union xengnttab_copy_ptr ours = {.virt = p->at};
    union xengnttab_copy_ptr theirs = {
        .foreign = {.ref = p->ref, .offset = p->offset, .domid = p->domid}};

    *s = (xengnttab_grant_copy_segment_t){
        .source = in ? theirs : ours,
        .dest = in ? ours : theirs,
        .len = p->len,
        .flags = in ? GNTCOPY_source_gref : GNTCOPY_dest_gref,
        .status = GNTST_general_error, /* until it is done */
    };
}

/* Go through all wanted pieces. Returns: how many; `s` is described for them, or looked at. */
static unsigned for_each(struct gw_pin_copy *copies, unsigned n_copies, bool in,
                         xengnttab_grant_copy_segment_t *s, bool is_done)
{
    unsigned n = 0;

    for (unsigned i = 0; i < n_copies; i++) {
        const struct gw_grant_copies *c = gw_pin_copies(copies[i].pin);

        for (unsigned k = 0; c && k < c->n_pieces; k++) {
            if (!is_wanted(&c->pieces[k], &copies[i], in))
                continue;
            if (is_done)
                copies[i].failed = copies[i].failed || s[n].status != GNTST_okay;
            else if (s)
                describe(&s[n], &c->pieces[k], in);
            n++;
        }
    }
    return n;
}

static xengnttab_handle *any_handle(const struct gw_pin_copy *copies, unsigned n_copies)
{
    for (unsigned i = 0; i < n_copies; i++) {
        const struct gw_grant_copies *c = gw_pin_copies(copies[i].pin);

        if (c)
            return c->handle;
    }
    return NULL;
}

static void copy_all(struct gw_pin_copy *copies, unsigned n_copies, bool in)
{
    xengnttab_grant_copy_segment_t few[FEW], *segments = few;
    unsigned n = for_each(copies, n_copies, in, NULL, false);

    if (n == 0)
        return;
    if (n > GW_ARRAY_SIZE(few))
        segments = calloc(n, sizeof(*segments));
    if (!segments) {
        for (unsigned i = 0; i < n_copies; i++)
            copies[i].failed = true;
        return;
    }
    (void)for_each(copies, n_copies, in, segments, false);
    /* Where the call fails no piece is said to be done. */
    (void)xengnttab_grant_copy(any_handle(copies, n_copies), n, segments);
    (void)for_each(copies, n_copies, in, segments, true);
    if (segments != few)
        free(segments);
}

void gw_grant_copy_in(struct gw_pin_copy *copies, unsigned n_copies)
{
    copy_all(copies, n_copies, true);
}

void gw_grant_copy_out(struct gw_pin_copy *copies, unsigned n_copies)
{
    copy_all(copies, n_copies, false);
}
