/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A device inside of a VMM: a queue without a daemon (godwit/vring.h) over memory of this process.
 * The device answers each text in upper case. Between two requests its state is saved, and another
 * vring continues. A real VMM has a guest instead of the driver of libgodwit-frontend:
 *
 *     cc -o vring_upper vring_upper.c $(pkg-config --cflags --libs godwit godwit-frontend)
 *     ./vring_upper
 */
#include <ctype.h>
#include <godwit.h>
#include <godwit/frontend.h>
#include <stdio.h>
#include <string.h>

#define MEMORY_SIZE 0x10000
#define DESC        0x1000
#define AVAIL       0x2000
#define USED        0x3000
#define TEXT        0x4000
#define ANSWER      0x5000

static char memory[MEMORY_SIZE] __attribute__((aligned(4096)));

/* The device: gw_vring_run calls it while requests wait. */
static void ready(void *arg, struct gw_queue *q)
{
    struct gw_request *reqs[16];
    unsigned n = gw_queue_pop(q, reqs, 16);

    for (unsigned i = 0; i < n; i++) {
        char text[64];
        size_t len = gw_request_read(reqs[i], text, sizeof(text));

        for (size_t at = 0; at < len; at++)
            text[at] = (char)toupper((unsigned char)text[at]);
        gw_request_complete(reqs[i], (uint32_t)gw_request_write(reqs[i], text, len));
    }
}

static struct gw_vring *start(const struct gw_vring_state *state)
{
    const struct gw_vring_config cfg = {.size = sizeof(cfg), .ready = ready};
    const struct gw_vring_region region = {.gpa = 0, .size = MEMORY_SIZE, .at = memory};
    struct gw_vring *v;

    if (gw_vring_new(&v, &cfg) == 0) {
        if (gw_vring_set_memory(v, &region, 1) == 0 && gw_vring_start(v, state) == 0)
            return v;
        gw_vring_free(v);
    }
    fprintf(stderr, "vring_upper: %s\n", gw_last_error());
    return NULL;
}

/* The driver's side: one request, which the device handles at the kick. */
static int ask(struct gw_driver *driver, struct gw_vring *v, const char *text)
{
    const struct gw_driver_buf bufs[] = {{TEXT, (uint32_t)strlen(text)},
                                         {ANSWER, (uint32_t)strlen(text)}};
    struct gw_driver_used used;

    memcpy(memory + TEXT, text, strlen(text));
    if (gw_driver_add(driver, bufs, 1, 1, 0, 0) < 0)
        return -1;
    gw_driver_publish(driver);
    if (gw_vring_run(v) < 0 || gw_driver_take(driver, &used, 1) != 1)
        return -1;
    printf("%.*s\n", (int)used.len, memory + ANSWER);
    return 0;
}

static struct gw_driver *make_driver(struct gw_guest_mem **ret_mem)
{
    const struct gw_guest_region region = {
        .kind = GW_GUEST_MAPPED, .length = MEMORY_SIZE, .host = memory, .fd = -1, .no_alloc = true};
    struct gw_driver_config cfg = {.size = sizeof(cfg),
                                   .queue_size = 8,
                                   .place = true,
                                   .desc = DESC,
                                   .avail = AVAIL,
                                   .used = USED};
    struct gw_driver *driver;

    if (gw_guest_mem_new(ret_mem, GW_GUEST_UVA_HOST) < 0 || gw_guest_mem_add(*ret_mem, &region) < 0)
        return NULL;
    cfg.mem = *ret_mem;
    return gw_driver_new(&driver, &cfg) < 0 ? NULL : driver;
}

int main(void)
{
    struct gw_vring_state state = {
        .size = sizeof(state), .queue_size = 8, .desc = DESC, .driver = AVAIL, .device = USED};
    struct gw_guest_mem *mem = NULL;
    struct gw_driver *driver = make_driver(&mem);
    struct gw_vring *v = driver != NULL ? start(&state) : NULL;
    int r = v != NULL ? ask(driver, v, "in the first vring") : -1;

    if (r == 0)
        r = gw_vring_save(v, &state);
    gw_vring_free(v);
    v = r == 0 ? start(&state) : NULL;
    if (v == NULL || ask(driver, v, "restored from its state") < 0)
        r = -1;
    gw_vring_free(v);
    gw_driver_free(driver);
    gw_guest_mem_free(mem);
    return r < 0;
}
