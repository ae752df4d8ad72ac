/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Decides which page of guest memory is sent next, and when: first the pages that a thread waits
 * for, in the order of the requests, then all others, in the order of addresses or in a random one;
 * at the rate of the link, and not while it is paused. It handles numbers of pages only; the caller
 * sends them.
 *
 * Context: any thread, several at once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct page_stream;

struct page_stream_config {
    uint64_t n_pages; /* pages have numbers below this */
    bool is_random;   /* random order for pages that no thread waits for */
    uint64_t seed;
    uint64_t rate;     /* bytes per second; 0: unlimited */
    uint64_t delay_ns; /* added latency of a request; other pages are sent during it */
};

struct page_stream_item {
    uint64_t page;
    bool is_requested;
    uint64_t asked_ns; /* CLOCK_MONOTONIC, if requested */
};

/* A stream without pages to send. Free with page_stream_free. Returns: 0; -EINVAL; -ENOMEM. */
int page_stream_new(struct page_stream **ret, const struct page_stream_config *cfg);
void page_stream_free(struct page_stream *s);

/* Add pages [first, first + n), none of which is requested yet. */
void page_stream_add(struct page_stream *s, uint64_t first, uint64_t n);
/*
 * A thread waits for the page. Returns: 0, also if it was requested before; -EALREADY already
 * handed out, or never added; -ERANGE; -ENOMEM.
 */
int page_stream_request(struct page_stream *s, uint64_t page);

/*
 * Hand out the next page. Returns: 0; -EAGAIN the link is busy for `ret_wait_ns` more (UINT64_MAX:
 * until it is resumed); -ENODATA no page is left; -ECANCELED after page_stream_stop.
 */
int page_stream_next(struct page_stream *s, struct page_stream_item *ret, uint64_t *ret_wait_ns);
/* The same, and wait for the link. Returns: 0; -ENODATA; -ECANCELED. */
int page_stream_await(struct page_stream *s, struct page_stream_item *ret);
/* `bytes` were sent for a page: the link is busy for the time that takes. */
void page_stream_sent(struct page_stream *s, uint64_t bytes);

/* While paused, no page is handed out. */
void page_stream_pause(struct page_stream *s, bool paused);
/* Wake all threads in page_stream_await; from now on it does not wait. */
void page_stream_stop(struct page_stream *s);

/* Pages not handed out yet; requests not handed out yet. */
uint64_t page_stream_left(struct page_stream *s);
uint64_t page_stream_n_requested(struct page_stream *s);
