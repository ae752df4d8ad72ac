/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Preloaded into a back-end: counts the ioctls that are hypercalls, and writes the counts to the
 * file in XEN_METER when the program ends. With XEN_MAP_EACH set, it replaces copies by the
 * hypervisor: it maps, copies and unmaps each piece separately, like vm-memory of rust-vmm.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <xen/sys/gntdev.h>
#include <xengnttab.h>

#define GRANTS  'G' /* ioctls of gntdev */
#define PRIVCMD 'P'

static struct {
    unsigned long map, unmap, copy, other_grant, privcmd;
} counts;

static void count(unsigned long *n)
{
    __atomic_fetch_add(n, 1, __ATOMIC_RELAXED);
}

static void count_ioctl(unsigned long request)
{
    if (request == IOCTL_GNTDEV_MAP_GRANT_REF)
        count(&counts.map);
    else if (request == IOCTL_GNTDEV_UNMAP_GRANT_REF)
        count(&counts.unmap);
    else if (request == IOCTL_GNTDEV_GRANT_COPY)
        count(&counts.copy);
    else if (_IOC_TYPE(request) == GRANTS)
        count(&counts.other_grant);
    else if (_IOC_TYPE(request) == PRIVCMD)
        count(&counts.privcmd);
}

__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
    static int (*real)(int fd, unsigned long request, ...);
    va_list args;
    void *arg;

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "ioctl");
    va_start(args, request);
    arg = va_arg(args, void *);
    va_end(args);
    count_ioctl(request);
    return real(fd, request, arg);
}

/* ---- like rust-vmm ---- */

static void map_one(xengnttab_handle *handle, xengnttab_grant_copy_segment_t *s)
{
    bool in = s->flags & GNTCOPY_source_gref;
    uint32_t ref = in ? s->source.foreign.ref : s->dest.foreign.ref;
    uint32_t domid = in ? s->source.foreign.domid : s->dest.foreign.domid;
    uint32_t offset = in ? s->source.foreign.offset : s->dest.foreign.offset;
    char *page =
        xengnttab_map_grant_ref(handle, domid, ref, in ? PROT_READ : PROT_READ | PROT_WRITE);

    s->status = page ? GNTST_okay : GNTST_general_error;
    if (!page)
        return;
    if (in)
        memcpy(s->dest.virt, page + offset, s->len);
    else
        memcpy(page + offset, s->source.virt, s->len);
    xengnttab_unmap(handle, page, 1);
}

__attribute__((visibility("default"))) int xengnttab_grant_copy(
    xengnttab_handle *handle, uint32_t n, xengnttab_grant_copy_segment_t *segments)
{
    static int (*real)(xengnttab_handle * handle, uint32_t n,
                       xengnttab_grant_copy_segment_t * segments);

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "xengnttab_grant_copy");
    if (!getenv("XEN_MAP_EACH"))
        return real(handle, n, segments);
    for (uint32_t i = 0; i < n; i++)
        map_one(handle, &segments[i]);
    return 0;
}

__attribute__((destructor)) static void tell(void)
{
    const char *path = getenv("XEN_METER");
    FILE *f = path ? fopen(path, "w") : NULL;

    if (!f)
        return;
    fprintf(f, "map %lu unmap %lu copy %lu other %lu privcmd %lu\n", counts.map, counts.unmap,
            counts.copy, counts.other_grant, counts.privcmd);
    fclose(f);
}
