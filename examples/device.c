/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A virtio entropy device ("Entropy Device", virtio 1.3, 5.4). It serves one front-end, then ends:
 *
 *     cc -o device device.c $(pkg-config --cflags --libs godwit)
 *     godwit probe --device=rng './device {socket}'
 */
#include <godwit.h>
#include <stdio.h>
#include <sys/random.h>

/*
 * The worker calls this when requests may be waiting. An entropy device need not fill the whole
 * buffer of a request.
 */
static int queue_ready(void *dev, struct gw_queue *q)
{
    struct gw_request *reqs[16];
    unsigned char bytes[256]; /* getrandom returns all of up to 256 bytes */
    unsigned n = gw_queue_pop(q, reqs, 16);

    for (unsigned i = 0; i < n; i++) {
        ssize_t len = getrandom(bytes, sizeof(bytes), 0);
        size_t written = gw_request_write(reqs[i], bytes, len > 0 ? (size_t)len : 0);

        gw_request_complete(reqs[i], (uint32_t)written);
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct gw_device_ops ops = {.size = sizeof(ops), .queue_ready = queue_ready};
    const struct gw_daemon_config cfg = {
        .size = sizeof(cfg), .name = "device", .handle_sigbus = true};
    struct gw_daemon *d = NULL;
    int r = argc == 2 ? gw_daemon_new(&d, &cfg, &ops, NULL) : -1;

    if (argc != 2)
        fprintf(stderr, "usage: device SOCKET\n");
    else if (r < 0 || (r = gw_daemon_serve(d, argv[1])) < 0)
        fprintf(stderr, "device: %s\n", gw_last_error());
    gw_daemon_free(d);
    return r < 0;
}
