/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A migration whose ends are two processes, on one host or on two: the same engine at both, and the
 * link between them. The source's half has no memory of the destination (m->other is NULL), the
 * destination's none of the source; what the one process would copy goes over the link.
 *
 * Until the source says GO, the guest is the source's: a link that is lost ends the migration and
 * nothing else. From then on it is the destination's, and a link that is lost is made anew.
 */
#pragma once

#include "guest/migrate_load.h"
#include "link/link_lobby.h"
#include "link/link_tcp.h"

#define MIGRATION_REMOTE_WAIT_MS 10 /* between two looks at everything else */

struct migration_fetch;
struct migration_pages;
struct migration_receiver;

struct migration_remote {
    struct link_channel channel;
    struct link_lobby lobby; /* of the destination */
    uint64_t tended_ns;      /* everything else was looked after */
    char peer[LINK_ADDRESS_MAX];
    struct link_hello hello;
    char mismatch[LINK_TEXT_MAX]; /* why the back-ends here cannot serve the guest of `hello` */
    int r;                        /* of sending memory; 0 as long as that works */
    unsigned n_notices;
    bool is_gone;            /* the guest is the destination's */
    bool is_told;            /* why it is over is in the result */
    bool is_over;            /* nothing goes over it any more */
    bool gave_up;            /* because the other end said so, or said what makes no sense */
    char why[LINK_TEXT_MAX]; /* as a sentence */
    struct migration_receiver *receiver; /* the destination, from GO on */
    struct migration_fetch *fetch;       /* postcopy, the destination: pages that come; or NULL */
    struct migration_pages *pages;       /* postcopy, the source: pages that go; or NULL */
    struct gw_guest_mem *sent;           /* and from GO on, what was sent before; or NULL */
    uint8_t *buffer; /* MIGRATION_REMOTE_CHUNK bytes, for what is copied before it is sent */
    enum link_verdict verdict;
    bool has_verdict; /* of the other end */
    char verdict_text[LINK_TEXT_MAX];
    uint64_t downtime_ns; /* as the source measured it */
};

#define MIGRATION_REMOTE_CHUNK (64u << 10)

/* ---- migrate_remote.c: frames out and in, for one thread ---- */

int migration_remote_new(struct migration *m);
void migration_remote_free(struct migration *m);
/* A new connection, in place of the one before. */
void migration_remote_attach(struct migration *m, const struct link_channel *channel);
void migration_remote_detach(struct migration *m);
/*
 * It is over with the link, and `why` is told by whoever it matters to. A reason given before
 * stays. Returns: -ENOLINK, which all functions return for a link that is over.
 */
int migration_remote_over(struct migration *m, bool gave_up, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Tell the other end why it ends, if it can still be told, and hang up. */
void migration_remote_give_up(struct migration *m, const char *why);
/* Frames were written to the channel: send until at most `most` bytes wait. Tends meanwhile. */
int migration_remote_push(struct migration *m, size_t most);
/* The next frame within `ms`. Tends meanwhile. Returns: 0; -EAGAIN; -ENOLINK; as migration_tend. */
int migration_remote_next(struct migration *m, unsigned ms, struct link_frame *ret,
                          struct link_in *ret_in);
/* Something for people, as long as there is not too much of it. */
void migration_remote_notice(struct migration *m, const char *text);
/* No connection can be accepted, by link_lobby_next. */
void migration_remote_notice_accept(struct migration *m, int r);
/* What cannot be here. Returns: -ENOLINK. */
int migration_remote_unexpected(struct migration *m, const struct link_frame *frame);
/* Send bytes of guest memory as they are at this moment. A failure is remembered by the link. */
void migration_remote_data(struct migration *m, gw_gpa_t gpa, const uint8_t *from, uint64_t len);
/* The same of bytes that nobody else writes. */
void migration_remote_copy(struct migration *m, gw_gpa_t gpa, const uint8_t *bytes, size_t len);
/* One frame with nothing in it. */
void migration_remote_say(struct migration *m, enum link_type type);
void migration_remote_put_verdict(struct migration *m, struct link_out *out);
int migration_remote_get_verdict(struct migration *m, struct link_in *in);
/* Take the other end's verdict into the result. */
void migration_remote_judge(struct migration *m, enum migration_side side);

/* ---- migrate_agree.c: what must be the same at both ends ---- */

void migration_agree_options(const struct migration *m, struct link_hello *hello);
/* Of the guest as it was made here. Returns: 0; -ENOMEM; -E2BIG. */
int migration_agree_layout(struct migration *m, struct link_hello *hello);
/* Does the source's agree with what was asked for here? Otherwise `why` says in what not. */
bool migration_agree_check(const struct migration *m, const struct link_hello *source, char *why);
/* The devices as they are at the source. Returns: false where there are others. */
bool migration_agree_units(struct migration *m, const struct link_hello *source);

/* ---- migrate_state.c: what drivers and loads know ---- */

int migration_state_send(struct migration *m);
struct migration_state;
int migration_state_new(const struct migration *m, struct migration_state **ret);
void migration_state_free(struct migration_state *s);
/* A piece of it came. Returns: false where it cannot be one. */
bool migration_state_take(struct migration_state *s, struct link_in *in);
/* All pieces are here: let drivers and loads know. Returns: 0; a negative errno. */
int migration_state_restore(struct migration *m, const struct migration_state *s);

/* ---- migrate_out.c: the source's half ---- */

/* Connect, and agree with the other half; the guest is made and has not run. */
int migration_remote_greet(struct migration *m);
/* What the copying has to say; nothing where both ends are in this process. */
void migration_remote_round(struct migration *m, unsigned number);
void migration_remote_written(struct migration *m, gw_gpa_t gpa, const uint8_t *from, uint64_t len);
void migration_remote_region(struct migration *m, gw_gpa_t gpa, uint64_t length); /* 0: it goes */
int migration_remote_settle(struct migration *m); /* what was sent has been, but for a rest */
/* Let the other half compare what it has of a region, or of all (the load is paused). */
int migration_remote_compare(struct migration *m, gw_gpa_t gpa, bool is_all);
/* The other half has done all that it was told. Returns: 0; -ENOLINK; as migration_tend. */
int migration_remote_catch_up(struct migration *m);
/* The guest is the destination's from here on, until its verdict is there. */
int migration_remote_hand_over(struct migration *m);
/* The link was lost before that: the guest goes on here. `r` is what ended it. Returns: it. */
int migration_remote_cancel(struct migration *m, int r);

/* ---- migrate_in.c: the destination's half, all of it ---- */

int migration_run_destination(struct migration *m);
/* Is the link over, on which the guest's pages and the verdict are to come? Told once. */
int migration_remote_tend(struct migration *m);
