/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
#include "worker_bed.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void silent(void *arg, enum gw_diag_level level, const char *message)
{
}

void prepare(struct bench *b)
{
    memset(b, 0, sizeof(*b));
    gw_diag_init(&b->diag, silent, NULL, GW_DIAG_ERROR, "bench");
    b->ops.size = sizeof(b->ops);
    b->worker.ops = &b->ops;
    b->worker.dev = b;
    b->worker.diag = &b->diag;
    b->worker.loop_kind = rig_loop;
}

void begin(struct bench *b)
{
    prepare(b);
    assert_int_equal(gw_worker_start(&b->worker), 0);
    assert_true(gw_worker_has_uring(&b->worker) == (rig_loop == GW_LOOP_URING));
    assert_false(gw_worker_is_current(&b->worker));
    assert_int_equal(pipe2(b->fds, O_CLOEXEC | O_NONBLOCK), 0);
}

void finish(struct bench *b)
{
    gw_worker_end(&b->worker);
    close(b->fds[0]);
    close(b->fds[1]);
}

int nothing(void *arg)
{
    return 0;
}

void settle(struct bench *b)
{
    for (int i = 0; i < 3; i++)
        gw_worker_call(&b->worker, nothing, NULL);
}

unsigned count(struct bench *b)
{
    return __atomic_load_n(&b->n, __ATOMIC_ACQUIRE);
}

void add_one(void *arg)
{
    struct bench *b = arg;

    __atomic_add_fetch(&b->n, 1, __ATOMIC_RELEASE);
}

void note_order(void *arg)
{
    struct numbered *n = arg;

    n->b->order[n->b->n_order] = n->number;
    __atomic_store_n(&n->b->n_order, n->b->n_order + 1, __ATOMIC_RELEASE);
}

void sleep_a_little(void *arg)
{
    usleep(20000);
}

/* The post is freed before its function is called, as its owner may do. */
struct posted {
    struct gw_post post;
    void (*fn)(void *arg);
    void *arg;
};

static void run_posted(struct gw_post *post)
{
    struct posted *p = gw_container_of(post, struct posted, post);
    struct posted copy = *p;

    free(p);
    copy.fn(copy.arg);
}

int post_call(struct gw_worker *w, void (*fn)(void *arg), void *arg)
{
    struct posted *p = malloc(sizeof(*p));
    int r;

    assert_non_null(p);
    *p = (struct posted){.post.run = run_posted, .fn = fn, .arg = arg};
    r = gw_worker_post(w, &p->post);
    if (r < 0)
        free(p);
    return r;
}
