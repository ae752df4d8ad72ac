/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * From the device's answer to the driver's interrupt. The order is the whole point:
 *
 *   data written  ->  used element written  ->  used index (release)  ->  notify decision
 *
 * The device has written its data before it calls gw_request_complete; elements of a batch follow,
 * then one index for all of them, then at most one eventfd write. On the worker a batch is what
 * completes within one turn.
 */
#include "barrier.h"
#include "queue.h"

#include <poll.h>
#include <sys/eventfd.h>

/*
 * An eventfd that blocks is only written to while it has room. (A front-end that fills it at that
 * very moment delays its own queue; it is told from the queue's age in the statistics.)
 */
void gw_signal_fd(int fd, bool may_block)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};

    if (!may_block || (poll(&p, 1, 0) == 1 && (p.revents & POLLOUT)))
        (void)eventfd_write(fd, 1);
}

void gw_queue_call(struct gw_queue *q)
{
    struct gw_loop *loop = q->worker->loop;

    q->called = true;
    if (q->call_fd < 0)
        return; /* made up for when there is one, see gw_queue_set_call */
    gw_count(&q->stats.calls, 1);
    if (q->call_blocks || !gw_worker_is_current(q->worker))
        gw_signal_fd(q->call_fd, q->call_blocks);
    else
        loop->ops->signal(loop, q->call_fd);
}

void gw_queue_publish(struct gw_queue *q)
{
    if (gw_worker_is_current(q->worker) && !gw_list_is_empty(&q->dirty_link))
        gw_list_remove(&q->dirty_link);
    if (!q->ring.used || !q->ring.ops->has_unpublished(&q->ring))
        return;
    if (q->ring.ops->publish(&q->ring))
        gw_queue_call(q);
    else
        gw_count(&q->stats.calls_suppressed, 1);
}

/* The worker publishes at the end of its turn, another thread at once. */
static void publish_soon(struct gw_queue *q)
{
    if (!gw_worker_is_current(q->worker))
        gw_queue_publish(q);
    else if (gw_list_is_empty(&q->dirty_link))
        gw_list_append(&q->worker->dirty, &q->dirty_link);
}

static void put_used(struct gw_queue *q, uint16_t head, uint32_t len)
{
    if (!q->ring.used)
        return; /* its memory was taken away, see gw_queue_adopt_map */
    q->ring.ops->put_used(&q->ring, head, len);
    publish_soon(q);
}

void gw_queue_put_bad(struct gw_queue *q, uint16_t head)
{
    put_used(q, head, 0);
}

void gw_request_complete(struct gw_request *pub, uint32_t len)
{
    struct gw_request_i *r = gw_container_of(pub, struct gw_request_i, pub);
    struct gw_queue *q = pub->queue;

    gw_queue_lock(q);
    gw_count(&q->stats.completed, 1);
    gw_count(&q->stats.bytes_in, len);
    put_used(q, r->head, len);
    gw_request_retire(q, r);
    gw_queue_unlock(q);
}

void gw_queue_flush(struct gw_queue *q)
{
    gw_queue_lock(q);
    gw_queue_publish(q);
    gw_queue_unlock(q);
}
