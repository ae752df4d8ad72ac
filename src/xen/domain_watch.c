/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Detects domains that die while we hold pages of theirs. The pages do not show it: they can still
 * be read and written, and as long as we hold them, the dead domain and all of its memory remain.
 * Xenstore reports that some domain was released, and lists the existing domains.
 */
#include "base/log_i.h"
#include "core/memory/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>

#define TOKEN "godwit"

struct gw_mem_watch {
    struct xs_handle *store;
};

int gw_mem_backend_watch(struct gw_mem_watch **ret)
{
    struct gw_mem_watch *w = calloc(1, sizeof(*w));
    int r = -ENOMEM;

    if (w) {
        w->store = xs_open(0);
        if (w->store && xs_watch(w->store, "@releaseDomain", TOKEN)) {
            *ret = w;
            return 0;
        }
        r = errno ? -errno : -EIO;
        gw_mem_backend_unwatch(w);
    }
    return gw_fail(r, "cannot detect domains that die, because xenstore cannot be asked: %s",
                   strerror(-r));
}

void gw_mem_backend_unwatch(struct gw_mem_watch *w)
{
    if (!w)
        return;
    if (w->store)
        xs_close(w->store);
    free(w);
}

int gw_mem_backend_watch_fd(const struct gw_mem_watch *w)
{
    return w ? xs_fileno(w->store) : -1;
}

/* Every domain has a folder in xenstore until it is destroyed. */
static bool is_gone(struct xs_handle *store, uint32_t domid)
{
    char folder[32];
    void *value;
    unsigned len;
    bool gone;

    snprintf(folder, sizeof(folder), "/local/domain/%u", domid);
    value = xs_read(store, XBT_NULL, folder, &len);
    gone = !value && errno == ENOENT;
    free(value);
    return gone;
}

int gw_mem_backend_check_owners(struct gw_mem_watch *w, const struct gw_map *map)
{
    char **event;

    while ((event = xs_check_watch(w->store)))
        free(event);
    for (unsigned i = 0; i < map->n_entries; i++) {
        const struct gw_region_desc *d = &map->entries[i].region->desc;

        if (d->flags && is_gone(w->store, d->domid))
            return gw_fail(-ESHUTDOWN, "domain %u, the owner of guest memory, is gone", d->domid);
    }
    return 0;
}
