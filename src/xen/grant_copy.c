/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Copies of granted pages, with one ioctl per batch in each direction. */
#include "grant_copy.h"

#include "base/checked.h"

#include <stdlib.h>
#include <string.h>

/* Up to this many segments need no memory allocation. */
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
    /* Bytes that the device does not write are copied to the guest, too. */
    memset(memory, 0, n_bytes);
    *c = (struct gw_grant_copies){.handle = handle, .n_pieces = n_pieces, .memory = memory};
    return c;
}

void gw_grant_copies_free(struct gw_grant_copies *c)
{
    free(c->memory);
    free(c);
}

enum direction {
    IN,   /* what the device reads */
    OUT,  /* what the device wrote */
    VOID, /* ones, over the stored parts of an incomplete answer */
};

static bool is_wanted(const struct gw_grant_piece *p, const struct gw_pin_copy *copy,
                      enum direction way)
{
    if (p->is_mapped || (p->extent < copy->n_readable) != (way == IN))
        return false;
    return way != VOID || (copy->failed && p->is_stored);
}

static void describe(xengnttab_grant_copy_segment_t *s, const struct gw_grant_piece *p,
                     enum direction way)
{
    union xengnttab_copy_ptr ours = {.virt = p->at};
    union xengnttab_copy_ptr theirs = {
        .foreign = {.ref = p->ref, .offset = p->offset, .domid = p->domid}};

    *s = (xengnttab_grant_copy_segment_t){
        .source = way == IN ? theirs : ours,
        .dest = way == IN ? ours : theirs,
        .len = (uint16_t)p->len,
        .flags = way == IN ? GNTCOPY_source_gref : GNTCOPY_dest_gref,
        .status = GNTST_general_error, /* until the hypervisor sets it */
    };
    if (way == VOID)
        memset(p->at, 0xff, p->len);
}

/* Counts all wanted pieces, and describes them in `s` unless it is NULL. Returns: how many. */
static unsigned list_pieces(const struct gw_pin_copy *copies, unsigned n_copies, enum direction way,
                            xengnttab_grant_copy_segment_t *s)
{
    unsigned n = 0;

    for (unsigned i = 0; i < n_copies; i++) {
        const struct gw_grant_copies *c = gw_pin_copies(copies[i].pin);

        for (unsigned k = 0; c && k < c->n_pieces; k++) {
            if (!is_wanted(&c->pieces[k], &copies[i], way))
                continue;
            if (s)
                describe(&s[n], &c->pieces[k], way);
            n++;
        }
    }
    return n;
}

/* Records the results of all wanted pieces. Returns: did any fail? */
static bool note_results(struct gw_pin_copy *copies, unsigned n_copies, enum direction way,
                         const xengnttab_grant_copy_segment_t *s)
{
    bool any_failed = false;

    for (unsigned i = 0; i < n_copies; i++) {
        struct gw_grant_copies *c = gw_pin_copies(copies[i].pin);
        bool failed = false;

        for (unsigned k = 0; c && k < c->n_pieces; k++) {
            bool good;

            if (!is_wanted(&c->pieces[k], &copies[i], way))
                continue;
            good = s++->status == GNTST_okay;
            if (way == OUT)
                c->pieces[k].is_stored = good;
            failed = failed || !good;
        }
        *(way == VOID ? &copies[i].torn : &copies[i].failed) = failed;
        any_failed = any_failed || failed;
    }
    return any_failed;
}

/* Nothing was copied, because there is no memory for the list. */
static bool fail_all(struct gw_pin_copy *copies, unsigned n_copies, enum direction way)
{
    for (unsigned i = 0; i < n_copies; i++) {
        copies[i].torn = way == VOID && copies[i].failed;
        copies[i].failed = copies[i].failed || way != VOID;
    }
    return true;
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

/* Returns: did any fail? */
static bool copy_all(struct gw_pin_copy *copies, unsigned n_copies, enum direction way)
{
    xengnttab_grant_copy_segment_t few[FEW], *segments = few;
    unsigned n = list_pieces(copies, n_copies, way, NULL);
    bool any_failed;

    if (n == 0)
        return false;
    if (n > GW_ARRAY_SIZE(few))
        segments = calloc(n, sizeof(*segments));
    if (!segments)
        return fail_all(copies, n_copies, way);
    (void)list_pieces(copies, n_copies, way, segments);
    /* If the call fails, every piece keeps its error status. */
    (void)xengnttab_grant_copy(any_handle(copies, n_copies), n, segments);
    any_failed = note_results(copies, n_copies, way, segments);
    if (segments != few)
        free(segments);
    return any_failed;
}

void gw_grant_copy_in(struct gw_pin_copy *copies, unsigned n_copies)
{
    (void)copy_all(copies, n_copies, IN);
}

/* Overwrites with ones what the device wrote of incomplete answers to mapped memory. */
static void void_mapped(const struct gw_pin_copy *copies, unsigned n_copies)
{
    for (unsigned i = 0; i < n_copies; i++) {
        const struct gw_grant_copies *c = copies[i].failed ? gw_pin_copies(copies[i].pin) : NULL;

        for (unsigned k = 0; c && k < c->n_pieces; k++)
            if (c->pieces[k].is_mapped && c->pieces[k].extent >= copies[i].n_readable)
                memset(c->pieces[k].at, 0xff, c->pieces[k].len);
    }
}

void gw_grant_copy_out(struct gw_pin_copy *copies, unsigned n_copies)
{
    if (!copy_all(copies, n_copies, OUT))
        return;
    void_mapped(copies, n_copies);
    (void)copy_all(copies, n_copies, VOID);
}
