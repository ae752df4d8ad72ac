/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A fixture: a fault server with one region, a source of pages with known stamps, threads that
 * touch pages, and clients in this process and in children.
 */
#pragma once

#include "fdcheck.h"
#include "patience.h"
#include "requires.h"

#include <godwit/frontend/fault.h>

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE       UINT64_C(4096)
#define PAGES      64u
#define ZERO_EVERY 8u /* every 8th page is all zeros */
#define WAIT_MS    patience_ms()

enum fault_source {
    SOURCE_HERE,  /* has all pages */
    SOURCE_LATER, /* pages arrive by put_page */
};

struct fault_fixture {
    struct gw_fault_server *server;
    struct gw_guest_mem *mem;
    struct gw_guest_region region;
    gw_gpa_t gpa;
    char *own;                    /* mapping in this process */
    enum fault_source source;     /* atomic */
    unsigned n_asked;             /* atomic */
    gw_gpa_t held;                /* atomic: the source keeps this page back; 0: none */
    gw_gpa_t last_asked;          /* atomic */
    unsigned asked_before[PAGES]; /* atomic; number of requests before that of each page */
    unsigned n_reports[4];        /* atomic */
    struct gw_fault_report last;  /* written before n_reports */
    char last_client[48];
};

/* Stamp of a page: 0, or a number that it has at every 4th byte. */
uint32_t stamp_of(uint64_t page);
/* The stamp of a page in memory; UINT32_MAX if it is not uniform. */
uint32_t touch(const char *page);

/* Make a server of one region; start it, with a thread; or both (begin). */
void fault_fixture_prepare(struct fault_fixture *b, enum gw_fault_fill fill,
                           enum fault_source source);
void fault_fixture_serve(struct fault_fixture *b);
void fault_fixture_begin(struct fault_fixture *b, enum gw_fault_fill fill,
                         enum fault_source source);
void fault_fixture_end(struct fault_fixture *b);
int put_page(struct fault_fixture *b, uint64_t page);
void await_asked(struct fault_fixture *b, unsigned n);
void await_faults(struct fault_fixture *b, uint64_t n);
void await_report(struct fault_fixture *b, enum gw_fault_problem problem);

/* A userfaultfd without UFFDIO_API. */
int fault_uffd_raw(void);
/* With UFFDIO_API and these features. Returns: -1 if the kernel lacks one. */
int fault_uffd(uint64_t features);

/* A thread that touches one page. */
struct toucher {
    pthread_t thread;
    const char *page;
    uint32_t seen;
    bool is_back; /* atomic */
};

void toucher_begin(struct toucher *t, const char *page);
bool toucher_is_back(struct toucher *t);
uint32_t toucher_end(struct toucher *t);

/* A client in this process, with a mapping of its own. */
struct client {
    struct gw_fault_client *client;
    int uffd; /* the client's end */
    char *map;
    uint64_t len;
};

void client_map(struct client *c, struct fault_fixture *b, bool is_minor);
void client_begin(struct client *c, struct fault_fixture *b, bool is_minor);
/* Minor faults if the features say so. Returns: false if the kernel does not have the features. */
bool client_begin_with(struct client *c, struct fault_fixture *b, uint64_t features);
void client_wake(struct client *c, uint64_t offset);
/* Unregister the mapping, which wakes its threads; they read the present contents. */
void client_unregister(struct client *c);
void client_end(struct client *c, struct fault_fixture *b);

/*
 * A client in a child process. It touches the pages that child_touch names and sends back their
 * stamps.
 */
struct child {
    struct gw_fault_client *client;
    pid_t pid;
    int socket;
};

void child_begin(struct child *c, struct fault_fixture *b);
void child_touch(struct child *c, uint64_t page);
uint32_t child_result(struct child *c);
void child_kill(struct child *c, int signal);
void child_end(struct child *c, struct fault_fixture *b, int signal);

/* Skips the test program if this process may not use userfaultfd. */
void requires_userfaultfd(void);
