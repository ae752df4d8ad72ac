/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Postcopy in the destination VMM: the messages (gw_frontend_postcopy_*), and the fault server
 * (gw_fault_*). The server puts pages into a guest memory as they arrive and wakes the threads that
 * wait for them: threads of this process, and back-ends ("clients"), whose userfaultfds it reads.
 *
 * The order of calls: ADVISE each back-end and add its uffd as a client; add the regions, and set
 * which parts precopy has copied (set_received, discard); begin and start; LISTEN; start the
 * devices; put all pages; END each back-end; finish.
 *
 * Context, unless a function states another: any thread, but not a callback of the server.
 * error.h describes errors, frontend.h configuration structures.
 */
#ifndef GODWIT_FRONTEND_FAULT_H
#define GODWIT_FRONTEND_FAULT_H

#include <godwit/frontend/frontend.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef uint64_t gw_bva_t; /* back-end virtual: an address in a region that it has mapped */

/* ---- The messages (vhost-user.rst, "Front-end message types") ---- */

/*
 * Get the userfaultfd of the back-end: POSTCOPY_ADVISE. Needs PAGEFAULT (8).
 *
 * Ownership: the fd becomes the caller's.
 * Returns: as gw_frontend_get_features; -EREMOTEIO also if the back-end sent no fd.
 * Context: the thread of `fe`; as gw_frontend_get_features.
 */
int gw_frontend_postcopy_advise(struct gw_frontend *fe, int *ret_uffd);

/*
 * Receives the address at which the back-end has mapped the region at `gpa`, after its answer and
 * before the acknowledgement that faults are served. It returns -EINVAL if no region can be there;
 * this ends the session with -EPROTO. It must not call functions of the front-end.
 * gw_fault_client_add_base is such a callback.
 */
typedef int gw_frontend_base_cb(void *arg, gw_gpa_t gpa, uint64_t len, gw_bva_t base);

/*
 * Declare that memory may be missing from now on: POSTCOPY_LISTEN. Until END, or another session,
 * gw_frontend_set_mem_table, gw_frontend_add_mem_reg, gw_frontend_rem_mem_reg and gw_frontend_start
 * use the postcopy form of their messages and pass the back-end's addresses to `cb` with `arg`
 * (NULL: ignore them). A refused table or region is -EREMOTEIO; an answer with impossible addresses
 * is -EPROTO. The back-end does not answer the acknowledgement that ends a change: its next answer,
 * such as that of gw_frontend_get_features, shows that it uses the new memory.
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_postcopy_advise.
 */
int gw_frontend_postcopy_listen(struct gw_frontend *fe, gw_frontend_base_cb *cb, void *arg);

/*
 * Declare that all memory has arrived, or that the back-end shall not wait for the rest:
 * POSTCOPY_END.
 *
 * Returns: as gw_frontend_get_features.
 * Context: as gw_frontend_postcopy_advise.
 */
int gw_frontend_postcopy_end(struct gw_frontend *fe);

/* ---- The fault server ---- */

struct gw_fault_server;
struct gw_fault_client;

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
 * Make a fault server, with a userfaultfd for this process.
 *
 * Ownership: `cfg` is copied. Free the result with gw_fault_server_free, before the memory that it
 * serves.
 * Returns: 0; -EINVAL for an unknown `fill`, or if `size` is smaller than in the first version;
 * -E2BIG if a member is set that only later versions know; -ENOMEM; -EPERM if this process may not
 * create a userfaultfd; -EOPNOTSUPP if the kernel has no userfaultfd, or none for shared memory, or
 * no minor faults.
 */
int gw_fault_server_new(struct gw_fault_server **ret, const struct gw_fault_config *cfg);

/*
 * Stop and free a server. This wakes waiting threads, which read zeros from missing pages. `s` may
 * be NULL.
 */
void gw_fault_server_free(struct gw_fault_server *s);

/*
 * Serve the region of `m` that begins at `gpa`, in pages of its file, none of them received. After
 * gw_fault_server_begin, a thread that touches it waits.
 *
 * Ownership: `m` stays the caller's; the region must stay in it until it is removed here.
 * Returns: 0; -ENOENT if no region begins there; -EINVAL for a GW_GUEST_MAPPED one; -EEXIST if it
 * was already added; -ENOMEM; the errno of UFFDIO_REGISTER.
 * Context: any thread, also while the server runs, but not a callback of the server.
 */
int gw_fault_server_add_region(struct gw_fault_server *s, const struct gw_guest_mem *m,
                               gw_gpa_t gpa);

/*
 * Serve a region no longer, when its clients no longer use it. Threads that still wait for it are
 * not served.
 *
 * Returns: 0; -ENOENT if no served region begins at `gpa`.
 * Context: as gw_fault_server_add_region.
 */
int gw_fault_server_remove_region(struct gw_fault_server *s, gw_gpa_t gpa);

/*
 * Serve all regions of `m`, as gw_fault_server_add_region does.
 *
 * Returns: as gw_fault_server_add_region, for the first error.
 */
int gw_fault_server_add_mem(struct gw_fault_server *s, const struct gw_guest_mem *m);

/*
 * Declare that precopy has copied the pages of [gpa, gpa + len); `len` 0: to the end of the region.
 * Only before faults are served.
 *
 * Returns: 0; -EINVAL if they are not in one region; -EBUSY if faults are being served.
 */
int gw_fault_server_set_received(struct gw_fault_server *s, gw_gpa_t gpa, uint64_t len);

/*
 * Declare that the pages of [gpa, gpa + len) are stale, including those that are partly inside: the
 * server removes them from the file, and they are missing. Only before faults are served.
 *
 * Returns: as gw_fault_server_set_received; the errno of fallocate(2).
 */
int gw_fault_server_discard(struct gw_fault_server *s, gw_gpa_t gpa, uint64_t len);

/*
 * Register the mappings of this process: a thread that touches a missing page waits for it. The
 * time does not depend on the size of the regions.
 *
 * Returns: 0; the errno of UFFDIO_REGISTER.
 */
int gw_fault_server_begin(struct gw_fault_server *s);

/*
 * Add a back-end as a client. `name` is for reports. `is_minor`: it also registers for minor
 * faults.
 *
 * Ownership: `uffd` is consumed, also on failure; `name` is copied. The client stays the server's.
 * Returns: 0; -EINVAL if `uffd` is no userfaultfd that is ready for use; -EOPNOTSUPP for
 * GW_FAULT_CONTINUE without minor faults; -ENOMEM; the errno of epoll_ctl(2).
 * Context: as gw_fault_server_add_region.
 */
int gw_fault_server_add_client(struct gw_fault_server *s, struct gw_fault_client **ret, int uffd,
                               const char *name, bool is_minor);

/*
 * Set the address `base` at which a client has mapped the region of the server that begins at
 * `gpa`, with the length `len` of that region; it replaces a previous mapping there. It can be
 * passed to gw_frontend_postcopy_listen, with the client as `arg`.
 *
 * Returns: 0; -EINVAL if the base overflows, or has another offset in its page than the file, or
 * another length than the region; -ENOENT if no served region begins there; -ENOMEM.
 * Context: as gw_fault_server_add_region.
 */
int gw_fault_client_add_base(void *client, gw_gpa_t gpa, uint64_t len, gw_bva_t base);

/*
 * Remove a client: close its uffd, and free it.
 *
 * Context: as gw_fault_server_add_region.
 */
void gw_fault_server_remove_client(struct gw_fault_server *s, struct gw_fault_client *c);

/*
 * Serve faults on a thread of the server, until gw_fault_server_stop.
 *
 * Returns: 0; -EBUSY if the server already runs; the errno of pthread_create(3).
 */
int gw_fault_server_start(struct gw_fault_server *s);

/* Stop serving faults. Waits only for a running callback. */
void gw_fault_server_stop(struct gw_fault_server *s);

/*
 * An fd to poll(2) for faults, for a program that calls gw_fault_server_run.
 *
 * Ownership: it stays the server's.
 * Returns: the fd.
 */
int gw_fault_server_fd(const struct gw_fault_server *s);

/*
 * Serve pending faults on this thread, and return after `timeout_ms` milliseconds without a fault
 * (-1: never), or because of gw_fault_server_stop.
 *
 * Returns: 0; -EBUSY if the server already runs.
 */
int gw_fault_server_run(struct gw_fault_server *s, int timeout_ms);

/*
 * Put pages into the memory, requested or not: `len` bytes at `gpa`, whole pages as in calls of
 * `page`; `data` NULL: zeros. Pages that have already arrived are left alone.
 *
 * Ownership: `data` stays the caller's.
 * Returns: the number of new pages; -EINVAL if they are not whole pages of one region; -EEXIST if a
 * page was in the memory before it arrived (see GW_FAULT_EARLY; the others are in place); the errno
 * of the ioctl.
 * Context: any thread, several at once; not callbacks.
 */
int gw_fault_server_put(struct gw_fault_server *s, gw_gpa_t gpa, uint64_t len, const void *data);

/*
 * Get up to `n_pages` that were not requested from `page`, in the order of addresses; fewer if
 * faults arrive. A page answered LATER counts.
 *
 * Returns: the number of pages; 0 if all have arrived or were requested; as gw_fault_server_put.
 * Context: one thread at a time.
 */
int gw_fault_server_stream(struct gw_fault_server *s, unsigned n_pages);

/*
 * Call `page` again for the pages that threads wait for and that it answered LATER, after those
 * pages were lost, for example with a connection.
 *
 * Returns: 0; the errno of the ioctl that puts a page into the memory.
 */
int gw_fault_server_ask_again(struct gw_fault_server *s);

/*
 * Find the first missing page that ends after `*gpa`: its address and length.
 *
 * Returns: 0; -ENOENT without one.
 */
int gw_fault_server_next_missing(struct gw_fault_server *s, gw_gpa_t *gpa, uint64_t *ret_len);

/*
 * Count the missing bytes.
 *
 * Returns: the number of bytes.
 */
uint64_t gw_fault_server_missing(struct gw_fault_server *s);

/*
 * Unregister this process, after END of the back-ends: its threads no longer wait for pages.
 *
 * Returns: 0; -EBUSY if pages are missing; nothing has changed then.
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
 * Copy the counters since the server was made to `ret`. A page of this process's own mapping counts
 * after its threads were woken.
 */
void gw_fault_server_stats(struct gw_fault_server *s, struct gw_fault_stats *ret);

/*
 * Copy the counters of the region that begins at `gpa` to `ret`.
 *
 * Returns: 0; -ENOENT if no served region begins there.
 */
int gw_fault_server_region_stats(struct gw_fault_server *s, gw_gpa_t gpa,
                                 struct gw_fault_stats *ret);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
