/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Which page of guest memory goes over the link next, and when: those that somebody waits for
 * first, in the order in which they were asked for, then all others, one after the other or in an
 * order that follows from a seed; not faster than the link is said to be, and none at all while it
 * is paused. It knows numbers of pages only. Who calls it moves them, in the same process or to
 * another host.
 *
 * Context: any thread, also several at once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct page_stream;

struct page_stream_config {
    uint64_t n_pages; /* numbers go from 0 up to this */
    bool is_random;   /* the order of what nobody waits for */
    uint64_t seed;
    uint64_t rate;     /* bytes per second; 0: any */
    uint64_t delay_ns; /* until a request has come to who sends; the background goes on meanwhile */
};

struct page_stream_item {
    uint64_t page;
    bool is_requested;
    uint64_t asked_ns; /* CLOCK_MONOTONIC, of a requested one */
};

/* No page is to be sent yet. Free with page_stream_free. Returns: 0; -EINVAL; -ENOMEM. */
int page_stream_new(struct page_stream **ret, const struct page_stream_config *cfg);
void page_stream_free(struct page_stream *s);

/* Pages [first, first + n) are to be sent; none of them is asked for yet. */
void page_stream_add(struct page_stream *s, uint64_t first, uint64_t n);
/*
 * Somebody waits for it. Returns: 0 also where it was asked for before; -EALREADY it has been
 * handed out, or was never to be sent; -ERANGE; -ENOMEM.
 */
int page_stream_request(struct page_stream *s, uint64_t page);

/*
 * Hand out the next page. Returns: 0; -EAGAIN not now: the link is busy for `ret_wait_ns` more
 * (UINT64_MAX: as long as it is paused); -ENODATA there is none left; -ECANCELED after a stop.
 */
int page_stream_next(struct page_stream *s, struct page_stream_item *ret, uint64_t *ret_wait_ns);
/* The same, and wait until it is time. Returns: 0; -ENODATA; -ECANCELED. */
int page_stream_await(struct page_stream *s, struct page_stream_item *ret);
/* So many bytes were sent for it: the link is busy with them. */
void page_stream_sent(struct page_stream *s, uint64_t bytes);

/* Nothing is handed out, until it goes on. */
void page_stream_pause(struct page_stream *s, bool paused);
/* Whoever waits comes back, now and from now on. */
void page_stream_stop(struct page_stream *s);

/* Pages that are still to be handed out; requests that are under way or wait to be. */
uint64_t page_stream_left(struct page_stream *s);
uint64_t page_stream_n_requested(struct page_stream *s);
