/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A bitmap of the pages left to send, and a queue of the requested ones. The background visits each
 * word of the bitmap once: the n-th is word (n * step + first) modulo their number, where step and
 * that number have no common divisor. Within a word it begins at any bit. Memory may be sparse: a
 * terabyte has 32 MiB of bits, and only words with pages to send are ever written.
 */
#include "page_stream.h"

#include "base/clock.h"
#include "base/random.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define WORD_BITS   64
#define PAGES_MAX   (UINT64_C(1) << 40)
#define LATE_MAX_NS 20000000 /* a thread that woke late catches up by this much at most */
#define AHEAD_NS                                                                    \
    200000 /* pages may be ahead of the rate: a sleep takes longer than one of them \
            */

struct request {
    uint64_t page;
    uint64_t asked_ns;
};

struct page_stream {
    pthread_mutex_t lock;
    pthread_cond_t changed;

    /* under the lock */
    uint64_t *words; /* pages to be sent */
    uint64_t *asked; /* of these, the requested ones */
    uint64_t n_pages, n_words;
    uint64_t n_left;
    uint64_t step, at, n_visited; /* background: present word, and words visited */
    uint64_t random;
    bool is_random;
    struct request *queue; /* a ring */
    uint64_t first, n_queued, n_room;
    uint64_t rate, free_ns; /* the link is busy until then */
    uint64_t delay_ns;
    bool is_behind; /* a thread had to wait for the link, and woke late */
    bool is_paused, is_stopped;
};

static uint64_t divisor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

/* Choose the first word and the step of the background. */
static void choose_order(struct page_stream *s)
{
    s->step = 1;
    if (!s->is_random)
        return;
    s->at = gw_random_below(&s->random, s->n_words);
    do
        s->step = 1 + gw_random_below(&s->random, s->n_words);
    while (divisor(s->step, s->n_words) != 1);
}

/* Zeros; the kernel allocates memory when they are written. NULL: no address space. */
static void *map_bits(uint64_t n_words)
{
    void *map = mmap(NULL, n_words * sizeof(uint64_t), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return map == MAP_FAILED ? NULL : map;
}

int page_stream_new(struct page_stream **ret, const struct page_stream_config *cfg)
{
    pthread_condattr_t attr;
    struct page_stream *s;

    if (cfg->n_pages == 0 || cfg->n_pages > PAGES_MAX)
        return -EINVAL;
    s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attr);
    pthread_condattr_destroy(&attr);
    s->n_pages = cfg->n_pages;
    s->n_words = (cfg->n_pages + WORD_BITS - 1) / WORD_BITS;
    s->is_random = cfg->is_random;
    s->random = cfg->seed;
    s->rate = cfg->rate;
    s->delay_ns = cfg->delay_ns;
    choose_order(s);
    s->words = map_bits(s->n_words);
    s->asked = map_bits(s->n_words);
    if (!s->words || !s->asked) {
        page_stream_free(s);
        return -ENOMEM;
    }
    *ret = s;
    return 0;
}

void page_stream_free(struct page_stream *s)
{
    if (!s)
        return;
    if (s->words)
        munmap(s->words, s->n_words * sizeof(uint64_t));
    if (s->asked)
        munmap(s->asked, s->n_words * sizeof(uint64_t));
    free(s->queue);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static bool is_set(const uint64_t *words, uint64_t page)
{
    return words[page / WORD_BITS] >> (page % WORD_BITS) & 1;
}

static void set(uint64_t *words, uint64_t page)
{
    words[page / WORD_BITS] |= UINT64_C(1) << (page % WORD_BITS);
}

static void clear(uint64_t *words, uint64_t page)
{
    words[page / WORD_BITS] &= ~(UINT64_C(1) << (page % WORD_BITS));
}

void page_stream_add(struct page_stream *s, uint64_t first, uint64_t n)
{
    pthread_mutex_lock(&s->lock);
    for (uint64_t page = first; page < s->n_pages && page - first < n; page++) {
        s->n_left += !is_set(s->words, page);
        set(s->words, page);
    }
    s->n_visited = 0; /* visit all words again */
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

/* Make room for another request. */
static int grow(struct page_stream *s)
{
    uint64_t room = s->n_room ? 2 * s->n_room : 64;
    struct request *grown;

    if (s->n_queued < s->n_room)
        return 0;
    grown = malloc(room * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    for (uint64_t i = 0; i < s->n_queued; i++)
        grown[i] = s->queue[(s->first + i) % s->n_room];
    free(s->queue);
    s->queue = grown;
    s->n_room = room;
    s->first = 0;
    return 0;
}

int page_stream_request(struct page_stream *s, uint64_t page)
{
    int r = 0;

    if (page >= s->n_pages)
        return -ERANGE;
    pthread_mutex_lock(&s->lock);
    if (!is_set(s->words, page))
        r = -EALREADY;
    else if (!is_set(s->asked, page))
        r = grow(s);
    if (r == 0 && !is_set(s->asked, page)) {
        set(s->asked, page);
        s->queue[(s->first + s->n_queued++) % s->n_room] =
            (struct request){.page = page, .asked_ns = gw_clock_ns()};
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return r;
}

static void hand_out(struct page_stream *s, uint64_t page)
{
    clear(s->words, page);
    s->n_left--;
}

/* Drop requests whose pages the background has handed out. */
static void skip_requests(struct page_stream *s)
{
    while (s->n_queued && !is_set(s->words, s->queue[s->first].page)) {
        clear(s->asked, s->queue[s->first].page);
        s->first = (s->first + 1) % s->n_room;
        s->n_queued--;
    }
}

/* When the first request is due. UINT64_MAX: no request. */
static uint64_t request_due_ns(struct page_stream *s)
{
    skip_requests(s);
    return s->n_queued ? s->queue[s->first].asked_ns + s->delay_ns : UINT64_MAX;
}

/* The queue is not empty. */
static void take_requested(struct page_stream *s, struct page_stream_item *ret)
{
    *ret = (struct page_stream_item){.page = s->queue[s->first].page,
                                     .is_requested = true,
                                     .asked_ns = s->queue[s->first].asked_ns};
    s->first = (s->first + 1) % s->n_room;
    s->n_queued--;
    clear(s->asked, ret->page);
    hand_out(s, ret->page);
}

/* Choose a page of a word that has some. */
static uint64_t choose_in_word(struct page_stream *s, uint64_t word)
{
    unsigned turn = s->is_random ? (unsigned)(gw_random_below(&s->random, WORD_BITS)) : 0;
    uint64_t turned = turn ? word >> turn | word << (WORD_BITS - turn) : word;

    return ((unsigned)__builtin_ctzll(turned) + turn) % WORD_BITS;
}

static bool take_any(struct page_stream *s, struct page_stream_item *ret)
{
    for (; s->n_visited < s->n_words; s->n_visited++) {
        uint64_t word = s->words[s->at];

        if (word) {
            *ret = (struct page_stream_item){.page = s->at * WORD_BITS + choose_in_word(s, word)};
            hand_out(s, ret->page);
            return true;
        }
        s->at = s->step < s->n_words - s->at ? s->at + s->step : s->at + s->step - s->n_words;
    }
    return false;
}

/* Under the lock. Requested pages stay in the bitmap until they are handed out. */
static int next(struct page_stream *s, struct page_stream_item *ret, uint64_t *ret_wait_ns)
{
    uint64_t now = gw_clock_ns();

    if (s->is_stopped)
        return -ECANCELED;
    if (s->n_left == 0)
        return -ENODATA;
    *ret_wait_ns = s->free_ns > now + AHEAD_NS ? s->free_ns - now - AHEAD_NS : 0;
    if (s->is_paused)
        *ret_wait_ns = UINT64_MAX;
    if (*ret_wait_ns) {
        s->is_behind = true;
        return -EAGAIN;
    }
    if (request_due_ns(s) > now)
        return take_any(s, ret) ? 0 : -ENODATA;
    take_requested(s, ret);
    return 0;
}

int page_stream_next(struct page_stream *s, struct page_stream_item *ret, uint64_t *ret_wait_ns)
{
    int r;

    pthread_mutex_lock(&s->lock);
    r = next(s, ret, ret_wait_ns);
    pthread_mutex_unlock(&s->lock);
    return r;
}

int page_stream_await(struct page_stream *s, struct page_stream_item *ret)
{
    uint64_t wait_ns = 0;
    int r;

    pthread_mutex_lock(&s->lock);
    while ((r = next(s, ret, &wait_ns)) == -EAGAIN) {
        uint64_t until = wait_ns == UINT64_MAX ? 0 : gw_clock_ns() + wait_ns;
        struct timespec ts = gw_clock_timespec(until);

        if (wait_ns == UINT64_MAX)
            pthread_cond_wait(&s->changed, &s->lock);
        else
            pthread_cond_timedwait(&s->changed, &s->lock, &ts);
    }
    pthread_mutex_unlock(&s->lock);
    return r;
}

void page_stream_sent(struct page_stream *s, uint64_t bytes)
{
    uint64_t now = gw_clock_ns();

    pthread_mutex_lock(&s->lock);
    if (s->rate) {
        uint64_t late = s->is_behind && now > LATE_MAX_NS ? LATE_MAX_NS : 0;

        if (s->free_ns < now - late)
            s->free_ns = now - late;
        s->free_ns += (uint64_t)((__uint128_t)bytes * GW_NS_PER_S / s->rate);
        s->is_behind &= s->free_ns < now;
    }
    pthread_mutex_unlock(&s->lock);
}

void page_stream_pause(struct page_stream *s, bool paused)
{
    pthread_mutex_lock(&s->lock);
    s->is_paused = paused;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void page_stream_stop(struct page_stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->is_stopped = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

uint64_t page_stream_left(struct page_stream *s)
{
    uint64_t n;

    pthread_mutex_lock(&s->lock);
    n = s->n_left;
    pthread_mutex_unlock(&s->lock);
    return n;
}

uint64_t page_stream_n_requested(struct page_stream *s)
{
    uint64_t n;

    pthread_mutex_lock(&s->lock);
    n = s->n_queued;
    pthread_mutex_unlock(&s->lock);
    return n;
}
