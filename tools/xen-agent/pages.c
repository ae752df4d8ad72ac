/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Lent memory comes from gntalloc instead of the process: the kernel may move pages of a process at
 * any time, even if they are locked, and dom0 also maps by frame numbers.
 */
#include "pages.h"

#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xen/sys/gntalloc.h>

int pages_lend(struct pages *p, uint32_t n)
{
    struct ioctl_gntalloc_alloc_gref *ask;
    int r = 0;

    if (p->fd >= 0)
        return -EBUSY;
    if (n == 0 || n > XEN_LENT_MAX)
        return -EINVAL;
    ask = calloc(1, sizeof(*ask) + n * sizeof(ask->gref_ids[0]));
    p->refs = calloc(n, sizeof(*p->refs));
    if (!ask || !p->refs)
        r = -ENOMEM;
    if (r == 0) {
        p->fd = open("/dev/xen/gntalloc", O_RDWR | O_CLOEXEC);
        ask->flags = GNTALLOC_FLAG_WRITABLE;
        ask->count = n;
        if (p->fd < 0 || ioctl(p->fd, IOCTL_GNTALLOC_ALLOC_GREF, ask) < 0)
            r = -errno;
    }
    if (r == 0) {
        memcpy(p->refs, ask->gref_ids, n * sizeof(*p->refs));
        p->index = ask->index;
        p->n = n;
    }
    free(ask);
    if (r < 0)
        pages_done(p);
    return r;
}

void pages_done(struct pages *p)
{
    if (p->fd >= 0)
        close(p->fd);
    free(p->refs);
    *p = (struct pages){.fd = -1};
}

int pages_revoke(struct pages *p, uint64_t first, uint64_t n)
{
    struct ioctl_gntalloc_dealloc_gref ask = {.index = p->index + first * XEN_PAGE,
                                              .count = (uint32_t)n};

    if (p->fd < 0 || first > p->n || n == 0 || n > p->n - first)
        return -EINVAL;
    return ioctl(p->fd, IOCTL_GNTALLOC_DEALLOC_GREF, &ask) < 0 ? -errno : 0;
}

/* Number of consecutive pages at the start. */
static uint32_t run_length(const uint32_t *which, uint32_t n)
{
    uint32_t k = 1;

    while (k < n && which[k] == which[0] + k)
        k++;
    return k;
}

int pages_window(const struct pages *p, const uint32_t *which, uint32_t n, void **ret)
{
    size_t len = (size_t)n * XEN_PAGE;
    char *window;

    for (uint32_t i = 0; i < n; i++) {
        if (which[i] >= p->n)
            return -EINVAL;
    }
    window = n ? mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : NULL;
    if (!window)
        return -EINVAL;
    if (window == MAP_FAILED)
        return -errno;
    for (uint32_t i = 0, k; i < n; i += k) {
        void *at;

        k = run_length(which + i, n - i);
        at = mmap(window + (size_t)i * XEN_PAGE, (size_t)k * XEN_PAGE, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_FIXED, p->fd, (off_t)(p->index + (uint64_t)which[i] * XEN_PAGE));
        if (at == MAP_FAILED) {
            int r = -errno;

            munmap(window, len);
            return r;
        }
    }
    *ret = window;
    return 0;
}
