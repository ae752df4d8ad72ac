/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Postcopy as the destination VMM sees it: the messages (gw_frontend_postcopy_*), and the fault
 * server (gw_fault_*), which puts pages into a guest memory as they arrive and wakes who waits for
 * them: threads of this process that touch the memory, and back-ends ("clients"), whose
 * userfaultfds it reads. See frontend.h for errors and config structures.
 *
 * In order: ADVISE each back-end and make its uffd a client; add the regions, and tell what of them
 * precopy has brought (set_received, discard); begin and start; LISTEN; start the devices; have all
 * pages come; END each back-end; finish.
 */
#ifndef GODWIT_FAULT_H
#define GODWIT_FAULT_H

#include <godwit/frontend.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef uint64_t gw_bva_t; /* back-end virtual: where it has mapped a region */

/* ---- The messages ("Post-copy support") ---- */

/*
 * Get the back-end's userfaultfd, which is the caller's then. Needs PAGEFAULT (8). Returns: as the
 * requests of frontend.h; -EREMOTEIO it has none to give.
 */
int gw_frontend_postcopy_advise(struct gw_frontend *fe, int *ret_uffd);

/*
 * Where the back-end has mapped the region at `gpa`. Called after its answer and before it is told
 * that faults are served. -EINVAL: there can be no region (-EPROTO then), the session is over;
 * gw_fault_client_add_base is one.
 */
typedef int gw_frontend_base_cb(void *arg, gw_gpa_t gpa, uint64_t len, gw_bva_t base);

/*
 * Memory may be missing from now on. Until END, or another session, gw_frontend_set_mem_table,
 * gw_frontend_add_mem_reg, gw_frontend_rem_mem_reg and gw_frontend_start take the forms of
 * postcopy: the back-end's addresses go to `cb` (NULL: nowhere). A refused table or region is
 * -EREMOTEIO; an answer with addresses that cannot be is -EPROTO. The back-end answers nothing to
 * the acknowledgement that ends a change: that it has new memory is known by its next answer, such
 * as that of gw_frontend_get_features.
 */
int gw_frontend_postcopy_listen(struct gw_frontend *fe, gw_frontend_base_cb *cb, void *arg);
/* All memory is there, or the back-end is not to wait for the rest. */
int gw_frontend_postcopy_end(struct gw_frontend *fe);

/* ---- The fault server ---- */

struct gw_fault_server;
struct gw_fault_client;

/* Why the last gw_fault_* call on this thread failed, as a sentence; "" when none did. */
const char *gw_fault_error(void);

/* How a page gets into the memory. */
enum gw_fault_fill {
    GW_FAULT_COPY = 0, /* UFFDIO_COPY, and UFFDIO_ZEROPAGE for zeros */
    /*
     * Through a second mapping of the file, then UFFDIO_CONTINUE. The bytes are seen while they
     * are written by whoever has not registered for minor faults, so every client has to.
     */
    GW_FAULT_CONTINUE,
};

enum gw_fault_answer {
    GW_FAULT_HERE = 0, /* *ret_data is the page, NULL: it is zeros */
    GW_FAULT_LATER,    /* it was asked for: gw_fault_server_put will bring it */
};

/*
 * Somebody waits for `len` bytes at `gpa`, one page; a region that does not begin or end with a
 * page has shorter ones there. The data is looked at until the callback is called again on the
 * same thread, or the call of the server that led to it returns. A page answered LATER is not asked
 * for again. Context: the server's thread, or one in gw_fault_server_run, _stream or _ask_again; it
 * must not wait for long, touch the memory that is served or call the server.
 */
typedef enum gw_fault_answer gw_fault_page_cb(void *arg, gw_gpa_t gpa, uint64_t len,
                                              const void **ret_data);

enum gw_fault_problem {
    GW_FAULT_EARLY,  /* the page was in the memory before it came: somebody has read zeros */
    GW_FAULT_STRAY,  /* a client waits for what is none of its regions, or of the server's */
    GW_FAULT_CLIENT, /* its uffd is of no use; it is not read any more */
    GW_FAULT_PLACE,  /* the kernel does not take the page; who waits for it goes on waiting */
};

struct gw_fault_report {
    enum gw_fault_problem problem;
    int error;          /* a negative errno */
    gw_gpa_t gpa;       /* of the page (EARLY, PLACE) */
    uint64_t len;       /* of the page */
    gw_gpa_t region;    /* that it is in */
    const char *client; /* its name; NULL: this process itself, or nobody */
    gw_bva_t address;   /* of the fault (STRAY) */
    const char *text;   /* all of it in a sentence */
};

struct gw_fault_config {
    size_t size;
    enum gw_fault_fill fill;
    gw_fault_page_cb *page; /* NULL: every page is answered LATER */
    /* What should not be. Context: as `page`, and threads in gw_fault_server_put. */
    void (*report)(void *arg, const struct gw_fault_report *report);
    /* After each wake-up for a fault on a page: how long that took. Context: as `report`. */
    void (*served)(void *arg, gw_gpa_t gpa, uint64_t latency_ns);
    void *arg; /* of all three */
};

/*
 * Make a server, with a userfaultfd for this process. Free with gw_fault_server_free, before the
 * memory it serves: threads that wait then come back, to zeros where nothing has come.
 * Returns: 0; -EINVAL; -E2BIG; -ENOMEM; -EPERM this process may have no userfaultfd, -EOPNOTSUPP
 * the kernel has none, or not for shared memory, or not with minor faults.
 */
int gw_fault_server_new(struct gw_fault_server **ret, const struct gw_fault_config *cfg);
void gw_fault_server_free(struct gw_fault_server *s);

/*
 * Serve the region of `m` that begins at `gpa`, in pages of its file. Nothing of it has been
 * received. After gw_fault_server_begin, who touches it waits from now on. Remove it when its
 * clients do not use it any more; who waits for it then is on his own.
 * Returns: 0; -ENOENT no such region; -EINVAL GW_GUEST_MAPPED; -EEXIST it is there; -ENOMEM; the
 * errno of UFFDIO_REGISTER. Context: any thread, also while the server runs; not in its callbacks.
 */
int gw_fault_server_add_region(struct gw_fault_server *s, const struct gw_guest_mem *m,
                               gw_gpa_t gpa);
int gw_fault_server_remove_region(struct gw_fault_server *s, gw_gpa_t gpa);
/* All of the regions of `m`. */
int gw_fault_server_add_mem(struct gw_fault_server *s, const struct gw_guest_mem *m);

/*
 * Before faults are served. Received: what pages of [gpa, gpa + len) hold is right, as precopy has
 * brought it; `len` 0: to the end of the region. Discard: it is not, even where only a part of the
 * page is within; the page is taken out of the file and will come.
 * Returns: 0; -EINVAL not in one region; -EBUSY faults are being served; the errno of fallocate.
 */
int gw_fault_server_set_received(struct gw_fault_server *s, gw_gpa_t gpa, uint64_t len);
int gw_fault_server_discard(struct gw_fault_server *s, gw_gpa_t gpa, uint64_t len);

/*
 * The mappings of this process are registered: who touches a page that has not come waits for it.
 * Nothing of this takes longer for larger regions. Returns: 0; the errno of UFFDIO_REGISTER.
 */
int gw_fault_server_begin(struct gw_fault_server *s);

/*
 * A back-end. `uffd` is consumed, also on failure; `name` is copied. `is_minor`: it registers for
 * minor faults as well. Its bases are where it has mapped which region of the server (`len` is its
 * length); what was mapped there before is forgotten. Removing it closes the uffd.
 * Returns: 0; -EINVAL no userfaultfd ready for use; a base that overflows or is not on the page
 * where its file is, or of another length than the region; -ENOENT no such region; -EOPNOTSUPP
 * GW_FAULT_CONTINUE without minor faults; -ENOMEM. Context: as gw_fault_server_add_region.
 */
int gw_fault_server_add_client(struct gw_fault_server *s, struct gw_fault_client **ret, int uffd,
                               const char *name, bool is_minor);
int gw_fault_client_add_base(void *client, gw_gpa_t gpa, uint64_t len, gw_bva_t base);
void gw_fault_server_remove_client(struct gw_fault_server *s, struct gw_fault_client *c);

/*
 * Serve faults on a thread of its own until stop, which waits for the callback that is running and
 * for nothing else. Or on the caller's: poll the fd, and run, which serves what is there and
 * returns after `timeout_ms` without a fault (-1: never), or because of gw_fault_server_stop.
 * Returns: 0; -EBUSY it runs; the errno of pthread_create.
 */
int gw_fault_server_start(struct gw_fault_server *s);
void gw_fault_server_stop(struct gw_fault_server *s);
int gw_fault_server_fd(const struct gw_fault_server *s);
int gw_fault_server_run(struct gw_fault_server *s, int timeout_ms);

/*
 * Bytes have come, asked for or not: `len` at `gpa`, whole pages as `page` would be asked for them;
 * NULL: they are zeros. What has come before is left alone.
 * Returns: how many pages were new; -EINVAL not whole pages of one region; -EEXIST one of them was
 * in the memory before it came (see GW_FAULT_EARLY; the others are there); the errno of the ioctl.
 * Context: any thread, several at once; not in callbacks.
 */
int gw_fault_server_put(struct gw_fault_server *s, gw_gpa_t gpa, uint64_t len, const void *data);

/*
 * Bring up to `n_pages` which nobody has asked for, by `page`, in the order of addresses; fewer
 * when faults come meanwhile. A page answered LATER counts. Returns: how many; 0 when all have come
 * or were asked for; as gw_fault_server_put. Context: one thread at a time.
 */
int gw_fault_server_stream(struct gw_fault_server *s, unsigned n_pages);

/* Ask again, by `page`, for what is waited for and was answered LATER: the answers were lost. */
int gw_fault_server_ask_again(struct gw_fault_server *s);

/* The first page that ends after `*gpa` and has not come. Returns: 0; -ENOENT there is none. */
int gw_fault_server_next_missing(struct gw_fault_server *s, gw_gpa_t *gpa, uint64_t *ret_len);
/* How many bytes have not come. */
uint64_t gw_fault_server_missing(struct gw_fault_server *s);

/*
 * The end, after that of the back-ends: nothing of this process waits any more.
 * Returns: 0; -EBUSY not all has come, and everything stays as it is.
 */
int gw_fault_server_finish(struct gw_fault_server *s);

/* From a fault read to its thread woken, in nanoseconds, within 3 percent. */
struct gw_fault_latency {
    uint64_t count, p50, p90, p99, p999, max;
};

struct gw_fault_stats {
    uint64_t faults;                    /* read, on pages of a region */
    uint64_t already;                   /* of these: the page had come meanwhile */
    uint64_t copied, zeroed, continued; /* pages, by the way they took */
    uint64_t asked;                     /* pages answered LATER to a fault */
    uint64_t wakes;                     /* ioctls; those of COPY and the like not counted */
    uint64_t bytes_requested;           /* of pages that somebody waited for */
    uint64_t bytes_streamed;            /* of pages that nobody did */
    uint64_t repeated;                  /* pages put again */
    uint64_t early, stray;              /* see gw_fault_problem */
    uint64_t pages, received;           /* of the regions as they are now */
    struct gw_fault_latency latency;
};

/*
 * Pages of this process' own mapping are counted after their threads have been woken. Of all since
 * the server was made, or of one region (0; -ENOENT). Context: any thread.
 */
void gw_fault_server_stats(struct gw_fault_server *s, struct gw_fault_stats *ret);
int gw_fault_server_region_stats(struct gw_fault_server *s, gw_gpa_t gpa,
                                 struct gw_fault_stats *ret);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
