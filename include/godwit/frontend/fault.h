/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Postcopy in the destination VMM: the messages (gw_frontend_postcopy_*), and the fault server
 * (gw_fault_*). The server puts pages into a guest memory as they arrive and wakes the threads that
 * wait for them: threads of this process, and back-ends ("clients"), whose userfaultfds it reads.
 * See frontend.h for errors and config structures.
 *
 * The order of calls: ADVISE each back-end and add its uffd as a client; add the regions, and set
 * which parts precopy has copied (set_received, discard); begin and start; LISTEN; start the
 * devices; put all pages; END each back-end; finish.
 */
#ifndef GODWIT_FRONTEND_FAULT_H
#define GODWIT_FRONTEND_FAULT_H

#include <godwit/frontend/frontend.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef uint64_t gw_bva_t; /* back-end virtual: an address in a region that it has mapped */

/* ---- The messages ("Post-copy support") ---- */

/*
 * Get the back-end's userfaultfd, which the caller then owns. Needs PAGEFAULT (8). Returns: as the
 * requests of frontend.h; -EREMOTEIO the back-end sent none.
 */
int gw_frontend_postcopy_advise(struct gw_frontend *fe, int *ret_uffd);

/*
 * Receives the address at which the back-end has mapped the region at `gpa`, after its answer and
 * before the acknowledgement that faults are served. It returns -EINVAL if no region can be there;
 * this ends the session with -EPROTO. gw_fault_client_add_base is such a callback.
 */
typedef int gw_frontend_base_cb(void *arg, gw_gpa_t gpa, uint64_t len, gw_bva_t base);

/*
 * Memory may be missing from now on. Until END, or another session, gw_frontend_set_mem_table,
 * gw_frontend_add_mem_reg, gw_frontend_rem_mem_reg and gw_frontend_start use the postcopy form of
 * their messages and pass the back-end's addresses to `cb` (NULL: ignore them). A refused table or
 * region is -EREMOTEIO; an answer with impossible addresses is -EPROTO. The back-end does not
 * answer the acknowledgement that ends a change: its next answer, such as that of
 * gw_frontend_get_features, shows that it uses the new memory.
 */
int gw_frontend_postcopy_listen(struct gw_frontend *fe, gw_frontend_base_cb *cb, void *arg);
/* POSTCOPY_END: all memory has arrived, or the back-end shall not wait for the rest. */
int gw_frontend_postcopy_end(struct gw_frontend *fe);

/* ---- The fault server ---- */

struct gw_fault_server;
struct gw_fault_client;

/* The reason of the last failed gw_fault_* call on this thread, as a sentence; "" without one. */
const char *gw_fault_error(void);

/* How a page gets into the memory. */
enum gw_fault_fill {
    GW_FAULT_COPY = 0, /* UFFDIO_COPY, and UFFDIO_ZEROPAGE for zeros */
    /*
     * Through a second mapping of the file, then UFFDIO_CONTINUE. A client without minor faults
     * could read a page while it is being written, so every client must register for them.
     */
    GW_FAULT_CONTINUE,
};

enum gw_fault_answer {
    GW_FAULT_HERE = 0, /* *ret_data is the page, NULL: a page of zeros */
    GW_FAULT_LATER,    /* the page was requested: gw_fault_server_put will bring it */
};

/*
 * A thread waits for the page at `gpa`, of `len` bytes; the first and last page of a region may be
 * shorter. The data must remain valid until the next call on the same thread, or until the call of
 * the server that led to it returns. The server asks only once for a page answered LATER.
 * Context: the server's thread, or a thread in gw_fault_server_run, _stream or _ask_again. The
 * callback must not wait for long, touch the served memory or call the server.
 */
typedef enum gw_fault_answer gw_fault_page_cb(void *arg, gw_gpa_t gpa, uint64_t len,
                                              const void **ret_data);

enum gw_fault_problem {
    GW_FAULT_EARLY,  /* the page was in the memory before it arrived: a thread has read zeros */
    GW_FAULT_STRAY,  /* a client faulted outside of its regions, or of those of the server */
    GW_FAULT_CLIENT, /* its uffd has failed; the server no longer reads it */
    GW_FAULT_PLACE,  /* the kernel refuses the page; threads continue to wait for it */
};

struct gw_fault_report {
    enum gw_fault_problem problem;
    int error;          /* a negative errno */
    gw_gpa_t gpa;       /* of the page (EARLY, PLACE) */
    uint64_t len;       /* of the page */
    gw_gpa_t region;    /* of the region that contains it */
    const char *client; /* its name; NULL: this process, or no client */
    gw_bva_t address;   /* of the fault (STRAY) */
    const char *text;   /* the report as a sentence */
};

struct gw_fault_config {
    size_t size;
    enum gw_fault_fill fill;
    gw_fault_page_cb *page; /* NULL: every page is answered LATER */
    /* Reports a problem. Context: as `page`, and threads in gw_fault_server_put. */
    void (*report)(void *arg, const struct gw_fault_report *report);
    /* After each wake-up: the time from the fault to the wake-up. Context: as `report`. */
    void (*served)(void *arg, gw_gpa_t gpa, uint64_t latency_ns);
    void *arg; /* of all three */
};

/*
 * Make a server, with a userfaultfd for this process. Free it with gw_fault_server_free, before the
 * memory that it serves: this wakes waiting threads, which read zeros from missing pages.
 * Returns: 0; -EINVAL bad `size` or `fill`; -E2BIG a member is set that only later versions know;
 * -ENOMEM; -EPERM this process may not create a userfaultfd;
 * -EOPNOTSUPP the kernel has no userfaultfd, or none for shared memory, or no minor faults.
 */
int gw_fault_server_new(struct gw_fault_server **ret, const struct gw_fault_config *cfg);
void gw_fault_server_free(struct gw_fault_server *s);

/*
 * Serve the region of `m` that begins at `gpa`, in pages of its file, none of them received. After
 * gw_fault_server_begin, a thread that touches it waits. Remove the region when its clients no
 * longer use it; the server does not serve threads that still wait for it.
 * Returns: 0; -ENOENT no such region; -EINVAL GW_GUEST_MAPPED; -EEXIST already added; -ENOMEM; the
 * errno of UFFDIO_REGISTER. Context: any thread, also while the server runs; not in its callbacks.
 */
int gw_fault_server_add_region(struct gw_fault_server *s, const struct gw_guest_mem *m,
                               gw_gpa_t gpa);
int gw_fault_server_remove_region(struct gw_fault_server *s, gw_gpa_t gpa);
/* Add all regions of `m`. */
int gw_fault_server_add_mem(struct gw_fault_server *s, const struct gw_guest_mem *m);

/*
 * Before faults are served. set_received: precopy has copied the pages of [gpa, gpa + len); `len`
 * 0: to the end of the region. discard: the pages are stale, including those that are partly
 * inside; the server removes them from the file, and they are missing. Returns: 0; -EINVAL not in
 * one region; -EBUSY faults are being served; the errno of fallocate.
 */
int gw_fault_server_set_received(struct gw_fault_server *s, gw_gpa_t gpa, uint64_t len);
int gw_fault_server_discard(struct gw_fault_server *s, gw_gpa_t gpa, uint64_t len);

/*
 * Register the mappings of this process: a thread that touches a missing page waits for it. The
 * time does not depend on the size of the regions. Returns: 0; the errno of UFFDIO_REGISTER.
 */
int gw_fault_server_begin(struct gw_fault_server *s);

/*
 * Add a back-end. `uffd` is consumed, also on failure; `name` is copied. `is_minor`: it also
 * registers for minor faults. A base is the address at which it has mapped a region of the server,
 * with the length `len` of that region; it replaces a previous mapping there. Removing the client
 * closes the uffd.
 * Returns: 0; -EINVAL no userfaultfd that is ready for use; a base that overflows, has another
 * offset in its page than the file, or another length than the region; -ENOENT no such region;
 * -EOPNOTSUPP GW_FAULT_CONTINUE without minor faults; -ENOMEM.
 * Context: as gw_fault_server_add_region.
 */
int gw_fault_server_add_client(struct gw_fault_server *s, struct gw_fault_client **ret, int uffd,
                               const char *name, bool is_minor);
int gw_fault_client_add_base(void *client, gw_gpa_t gpa, uint64_t len, gw_bva_t base);
void gw_fault_server_remove_client(struct gw_fault_server *s, struct gw_fault_client *c);

/*
 * Serve faults on a thread of the server until stop, which waits only for a running callback.
 * Or on a thread of the caller: poll the fd and call run, which serves pending faults and returns
 * after `timeout_ms` without a fault (-1: never), or because of gw_fault_server_stop.
 * Returns: 0; -EBUSY it already runs; the errno of pthread_create.
 */
int gw_fault_server_start(struct gw_fault_server *s);
void gw_fault_server_stop(struct gw_fault_server *s);
int gw_fault_server_fd(const struct gw_fault_server *s);
int gw_fault_server_run(struct gw_fault_server *s, int timeout_ms);

/*
 * Put pages into the memory, requested or not: `len` bytes at `gpa`, whole pages as in calls of
 * `page`; NULL: zeros. Pages that have already arrived are left alone.
 * Returns: the number of new pages; -EINVAL not whole pages of one region; -EEXIST a page was in
 * the memory before it arrived (see GW_FAULT_EARLY; the others are in place); the errno of the
 * ioctl. Context: any thread, several at once; not in callbacks.
 */
int gw_fault_server_put(struct gw_fault_server *s, gw_gpa_t gpa, uint64_t len, const void *data);

/*
 * Get up to `n_pages` that were not requested from `page`, in the order of addresses; fewer if
 * faults arrive. A page answered LATER counts. Returns: the number of pages; 0 if all have arrived
 * or were requested; as gw_fault_server_put. Context: one thread at a time.
 */
int gw_fault_server_stream(struct gw_fault_server *s, unsigned n_pages);

/* Call `page` again for pages that threads wait for and that it answered LATER: they were lost. */
int gw_fault_server_ask_again(struct gw_fault_server *s);

/* The first missing page that ends after `*gpa`. Returns: 0; -ENOENT without one. */
int gw_fault_server_next_missing(struct gw_fault_server *s, gw_gpa_t *gpa, uint64_t *ret_len);
/* The number of missing bytes. */
uint64_t gw_fault_server_missing(struct gw_fault_server *s);

/*
 * Unregister this process, after END of the back-ends: its threads no longer wait for pages.
 * Returns: 0; -EBUSY pages are missing; nothing has changed.
 */
int gw_fault_server_finish(struct gw_fault_server *s);

/* Time from reading a fault to waking its thread, in nanoseconds, within 3 percent. */
struct gw_fault_latency {
    uint64_t count, p50, p90, p99, p999, max;
};

struct gw_fault_stats {
    uint64_t faults;                    /* read, on pages of a region */
    uint64_t already;                   /* of these: the page had already arrived */
    uint64_t copied, zeroed, continued; /* pages, by the ioctl that placed them */
    uint64_t asked;                     /* pages answered LATER to a fault */
    uint64_t wakes;                     /* UFFDIO_WAKE; wake-ups by COPY and others not counted */
    uint64_t bytes_requested;           /* of pages for which a thread waited */
    uint64_t bytes_streamed;            /* of the other pages */
    uint64_t repeated;                  /* pages put again */
    uint64_t early, stray;              /* see gw_fault_problem */
    uint64_t pages, received;           /* of the current regions */
    struct gw_fault_latency latency;
};

/*
 * Counters since the server was made, or of one region (returns 0; -ENOENT no such region). A page
 * of this process's own mapping counts after its threads were woken. Context: any thread.
 */
void gw_fault_server_stats(struct gw_fault_server *s, struct gw_fault_stats *ret);
int gw_fault_server_region_stats(struct gw_fault_server *s, gw_gpa_t gpa,
                                 struct gw_fault_stats *ret);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
