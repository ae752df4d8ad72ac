/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A migration whose ends are two processes, on one host or on two: each runs the same engine, with
 * a link between them. The source has no memory of the destination (m->other is NULL), and the
 * reverse. Pages that one process would copy are sent over the link.
 *
 * Until the source sends GO, it owns the guest, and a lost link ends only the migration. After that
 * the destination owns the guest, and a lost link is established again.
 */
#pragma once

#include "guest/migrate_load.h"
#include "link/link_lobby.h"
#include "link/link_tcp.h"

#define MIGRATION_REMOTE_WAIT_MS 10 /* longest wait between two calls of migration_tend */

struct migration_fetch;
struct migration_pages;
struct migration_receiver;

struct migration_remote {
    struct link_channel channel;
    struct link_lobby lobby; /* of the destination */
    uint64_t tended_ns;      /* when migration_tend was last called */
    char peer[LINK_ADDRESS_MAX];
    struct link_hello hello;
    char mismatch[LINK_TEXT_MAX]; /* why the back-ends here cannot serve the guest of `hello` */
    int r;                        /* result of sending memory; 0: no error so far */
    unsigned n_notices;
    bool is_gone; /* the destination owns the guest */
    bool is_told; /* the reason is in the result */
    bool is_over; /* no connection */
    bool gave_up; /* reconnecting is useless: an error, or a message that makes no sense */
    char why[LINK_TEXT_MAX];             /* a sentence */
    struct migration_receiver *receiver; /* destination, from GO on */
    struct migration_fetch *fetch;       /* postcopy, destination: receives pages; or NULL */
    struct migration_pages *pages;       /* postcopy, source: sends pages; or NULL */
    struct gw_guest_mem *sent; /* source, from GO on: the memory as it was sent; or NULL */
    uint8_t *buffer; /* MIGRATION_REMOTE_CHUNK bytes; memory is copied into it before it is sent */
    enum link_verdict verdict;
    bool has_verdict; /* the other end's */
    char verdict_text[LINK_TEXT_MAX];
    uint64_t downtime_ns; /* measured by the source */
};

#define MIGRATION_REMOTE_CHUNK (64u << 10)

/* ---- migrate_remote.c: frames out and in, for one thread ---- */

int migration_remote_new(struct migration *m);
void migration_remote_free(struct migration *m);
/* Replace the connection. */
void migration_remote_attach(struct migration *m, const struct link_channel *channel);
void migration_remote_detach(struct migration *m);
/*
 * Close the link and keep `why` for the report; the first reason stays. `gave_up`: do not connect
 * again. Returns: -ENOLINK, which all functions return for a closed link.
 */
int migration_remote_over(struct migration *m, bool gave_up, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Send the reason to the other end if possible, and close the link. */
void migration_remote_give_up(struct migration *m, const char *why);
/* Send the frames in the channel until at most `most` bytes wait. Calls migration_tend. */
int migration_remote_push(struct migration *m, size_t most);
/*
 * Wait up to `ms` for the next frame; calls migration_tend. Returns: 0; -EAGAIN; -ENOLINK; as
 * migration_tend.
 */
int migration_remote_next(struct migration *m, unsigned ms, struct link_frame *ret,
                          struct link_in *ret_in);
/* Pass a sentence to `notice`; after a limit further ones are dropped. */
void migration_remote_notice(struct migration *m, const char *text);
/* Report that link_lobby_next cannot accept connections. */
void migration_remote_notice_accept(struct migration *m, int r);
/* Close the link because of a frame that is invalid in this state. Returns: -ENOLINK. */
int migration_remote_unexpected(struct migration *m, const struct link_frame *frame);
/* Send the present contents of guest memory. An error is kept in `r`. */
void migration_remote_data(struct migration *m, gw_gpa_t gpa, const uint8_t *from, uint64_t len);
/* The same for bytes that no other thread writes. */
void migration_remote_copy(struct migration *m, gw_gpa_t gpa, const uint8_t *bytes, size_t len);
/* Send a frame without payload. */
void migration_remote_say(struct migration *m, enum link_type type);
void migration_remote_put_verdict(struct migration *m, struct link_out *out);
int migration_remote_get_verdict(struct migration *m, struct link_in *in);
/* Take the other end's verdict into the result. */
void migration_remote_judge(struct migration *m, enum migration_side side);

/* ---- migrate_agree.c: what must be the same at both ends ---- */

void migration_agree_options(const struct migration *m, struct link_hello *hello);
/* Describe the layout of the guest that this end made. Returns: 0; -ENOMEM; -E2BIG. */
int migration_agree_layout(struct migration *m, struct link_hello *hello);
/* Compare the source's options with ours. `why`: what differs. */
bool migration_agree_check(const struct migration *m, const struct link_hello *source, char *why);
/*
 * Take the device configurations of the source. Returns: false if the back-ends here do not match.
 */
bool migration_agree_units(struct migration *m, const struct link_hello *source);

/* ---- migrate_state.c: what drivers and loads know ---- */

int migration_state_send(struct migration *m);
struct migration_state;
int migration_state_new(const struct migration *m, struct migration_state **ret);
void migration_state_free(struct migration_state *s);
/* Add a piece of the state. Returns: false if it is invalid. */
bool migration_state_take(struct migration_state *s, struct link_in *in);
/* All pieces arrived: restore drivers and loads. Returns: 0; a negative errno. */
int migration_state_restore(struct migration *m, const struct migration_state *s);

/* ---- migrate_out.c: the source's half ---- */

/* Connect, and compare options and layout with the other half. The guest exists and has not run. */
int migration_remote_greet(struct migration *m);
/* Send what the copying produces. No effect if both ends are in this process. */
void migration_remote_round(struct migration *m, unsigned number);
void migration_remote_written(struct migration *m, gw_gpa_t gpa, const uint8_t *from, uint64_t len);
void migration_remote_region(struct migration *m, gw_gpa_t gpa, uint64_t length); /* 0: removed */
int migration_remote_settle(struct migration *m); /* wait until most of it is sent */
/* Compare a region, or all memory, with the other half. The load is paused. */
int migration_remote_compare(struct migration *m, gw_gpa_t gpa, bool is_all);
/*
 * Wait until the other half has processed everything sent so far. Returns: 0; -ENOLINK; as
 * migration_tend.
 */
int migration_remote_catch_up(struct migration *m);
/* Hand the guest over, and wait for the verdict of the destination. */
int migration_remote_hand_over(struct migration *m);
/*
 * The link was lost before the guest was handed over: it continues here. Returns: `r`, the error
 * that ended the link.
 */
int migration_remote_cancel(struct migration *m, int r);

/* ---- migrate_in.c: the destination's half, all of it ---- */

int migration_run_destination(struct migration *m);
/* After the switch: has the link closed that carries pages and the verdict? Reports it once. */
int migration_remote_tend(struct migration *m);
