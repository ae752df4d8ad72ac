/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Sends frames to a port that returns them, and checks each. No frame may be lost, duplicated,
 * reordered or changed. The port is stopped and restarted several times. For DPDK.
 *
 *     frames EAL-OPTIONS --vdev net_virtio_user0,... -- PAIRS SEGMENTS ROUNDS MILLISECONDS SEED
 *
 * Each frame is sent in up to SEGMENTS buffers. Exit status 0: success; 1: failure, with the reason
 * on stderr.
 */
#include "frame.h"

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <stdarg.h>
#include <stdlib.h>

enum {
    PAIRS_MAX = 4,
    BURST = 32,
    WINDOW = 200, /* in flight on each pair; fewer than a ring holds */
    RING_SIZE = 256,
    N_BUFFERS = 8192,
    SEGMENTS_MAX = 5,
    PATIENCE_S = 10,
};

struct pair {
    uint16_t index;
    uint64_t seed;
    uint64_t n_sent, n_back, n_bytes;
    uint64_t heard; /* when the last frame returned */
};

static struct rte_mempool *pool;
static uint16_t port;
static unsigned segments_max;

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("frames: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(EXIT_FAILURE);
}

static void check(int r, const char *what)
{
    if (r < 0)
        fail("%s: %s", what, rte_strerror(-r));
}

/* Makes a frame from one or more buffers. NULL: no buffer left. */
static struct rte_mbuf *make_packet(const struct pair *p, uint64_t number)
{
    uint8_t bytes[FRAME_MAX];
    uint16_t length = frame_make(p->seed, number, bytes);
    unsigned n_segments = 1 + frame_random(p->seed, number, 1) % segments_max;
    struct rte_mbuf *segments[SEGMENTS_MAX];

    if (rte_pktmbuf_alloc_bulk(pool, segments, n_segments) != 0)
        return NULL;
    for (unsigned i = 0, at = 0; i < n_segments; i++) {
        unsigned part = i + 1 < n_segments ? (length - at) / 2 : length - at;

        memcpy(rte_pktmbuf_append(segments[i], part), bytes + at, part);
        at += part;
        if (i > 0)
            rte_pktmbuf_chain(segments[0], segments[i]);
    }
    return segments[0];
}

static void check_packet(struct pair *p, const struct rte_mbuf *packet)
{
    uint8_t space[FRAME_MAX];
    uint32_t length = packet->pkt_len;
    char why[128];

    if (p->n_back >= p->n_sent)
        fail("pair %u: a frame arrived that was not sent, after %" PRIu64, p->index, p->n_back);
    if (length > FRAME_MAX)
        fail("pair %u: %u bytes came", p->index, length);
    if (!frame_is(rte_pktmbuf_read(packet, 0, length, space), length, p->seed, p->n_back, why,
                  sizeof(why)))
        fail("pair %u: %s", p->index, why);
    p->n_back++;
    p->n_bytes += length;
}

/* --- send and receive ------------------------------------------------------------------------- */

static void send_some(struct pair *p)
{
    struct rte_mbuf *packets[BURST];
    unsigned n = 0, n_taken, n_wanted = 1 + frame_random(p->seed, p->n_sent, 2) % BURST;

    while (n < n_wanted && p->n_sent + n - p->n_back < WINDOW &&
           (packets[n] = make_packet(p, p->n_sent + n)) != NULL)
        n++;
    n_taken = rte_eth_tx_burst(port, p->index, packets, (uint16_t)n);
    p->n_sent += n_taken;
    rte_pktmbuf_free_bulk(packets + n_taken, n - n_taken); /* sent in a later call */
}

static void receive_some(struct pair *p)
{
    struct rte_mbuf *packets[BURST];
    unsigned n = rte_eth_rx_burst(port, p->index, packets, BURST);
    uint64_t now = rte_get_timer_cycles();

    for (unsigned i = 0; i < n; i++)
        check_packet(p, packets[i]);
    rte_pktmbuf_free_bulk(packets, n);
    if (n > 0 || p->n_back == p->n_sent)
        p->heard = now;
    if (now - p->heard > PATIENCE_S * rte_get_timer_hz())
        fail("pair %u: frame %" PRIu64 " did not come back in %d s, %" PRIu64 " were sent",
             p->index, p->n_back, PATIENCE_S, p->n_sent);
}

static bool is_under_way(const struct pair *pairs, unsigned n_pairs)
{
    for (unsigned i = 0; i < n_pairs; i++) {
        if (pairs[i].n_back < pairs[i].n_sent)
            return true;
    }
    return false;
}

static void run_round(struct pair *pairs, unsigned n_pairs, unsigned ms)
{
    uint64_t stop = rte_get_timer_cycles() + ms * rte_get_timer_hz() / 1000;

    for (unsigned i = 0; i < n_pairs; i++)
        pairs[i].heard = rte_get_timer_cycles();
    while (rte_get_timer_cycles() < stop || is_under_way(pairs, n_pairs)) {
        bool is_over = rte_get_timer_cycles() >= stop;

        for (unsigned i = 0; i < n_pairs; i++) {
            if (!is_over)
                send_some(&pairs[i]);
            receive_some(&pairs[i]);
        }
    }
}

static void open_port(unsigned n_pairs)
{
    struct rte_eth_conf conf = {.txmode.offloads = RTE_ETH_TX_OFFLOAD_MULTI_SEGS};

    if (rte_eth_dev_count_avail() != 1)
        fail("there is no port");
    port = (uint16_t)rte_eth_find_next(0);
    pool = rte_pktmbuf_pool_create("frames", N_BUFFERS, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
                                   SOCKET_ID_ANY);
    if (pool == NULL)
        fail("there is no memory for the frames: %s", rte_strerror(rte_errno));
    check(rte_eth_dev_configure(port, n_pairs, n_pairs, &conf), "the port cannot be configured");
    for (uint16_t i = 0; i < n_pairs; i++) {
        check(rte_eth_rx_queue_setup(port, i, RING_SIZE, SOCKET_ID_ANY, NULL, pool),
              "a receive queue cannot be made");
        check(rte_eth_tx_queue_setup(port, i, RING_SIZE, SOCKET_ID_ANY, NULL),
              "a send queue cannot be made");
    }
}

int main(int argc, char **argv)
{
    struct pair pairs[PAIRS_MAX] = {0};
    int n = rte_eal_init(argc, argv);
    unsigned n_pairs, n_rounds, ms;

    if (n < 0 || argc - n != 6)
        fail("usage: frames EAL-OPTIONS -- PAIRS SEGMENTS ROUNDS MILLISECONDS SEED");
    n_pairs = (unsigned)atoi(argv[n + 1]);
    segments_max = (unsigned)atoi(argv[n + 2]);
    n_rounds = (unsigned)atoi(argv[n + 3]);
    ms = (unsigned)atoi(argv[n + 4]);
    if (n_pairs < 1 || n_pairs > PAIRS_MAX || segments_max < 1 || segments_max > SEGMENTS_MAX)
        fail("1 to %d pairs, 1 to %d segments", PAIRS_MAX, SEGMENTS_MAX);
    open_port(n_pairs);
    for (uint16_t i = 0; i < n_pairs; i++) {
        pairs[i].index = i;
        pairs[i].seed = strtoull(argv[n + 5], NULL, 0) + i;
    }
    for (unsigned i = 0; i < n_rounds; i++) {
        check(rte_eth_dev_start(port), "the port cannot be started");
        run_round(pairs, n_pairs, ms);
        check(rte_eth_dev_stop(port), "the port cannot be stopped");
    }
    check(rte_eth_dev_close(port), "the port cannot be closed");
    for (unsigned i = 0; i < n_pairs; i++)
        printf("pair %u: %" PRIu64 " frames, %" PRIu64 " bytes\n", i, pairs[i].n_back,
               pairs[i].n_bytes);
    rte_eal_cleanup();
    return EXIT_SUCCESS;
}
