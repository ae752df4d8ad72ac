/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The frames between the two halves of a migration. A frame is a header of 16 bytes (magic,
 * version, type, length, zero) and a payload; each type limits its length. Numbers are
 * little-endian. docs/link.md describes the sequence of frames.
 *
 * All input is untrusted and is checked before use. An error says what was wrong and what to do
 * about it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_MAGIC      UINT32_C(0x6b6c7767) /* "gwlk" */
#define LINK_VERSION    4u
#define LINK_HEADER_LEN 16u
#define LINK_DATA_MAX   (2u << 20) /* bytes of memory in one frame: a huge page */
#define LINK_TEXT_MAX   320
#define LINK_RUNS_MAX   4096 /* runs, or hashes, in one frame */
#define LINK_ID_LEN     16
#define LINK_PAGE_LEN   4096u       /* unit of comparison */
#define LINK_STATE_MAX  (64u << 10) /* bytes of a piece of state */

enum link_type {
    LINK_HELLO = 1, /* source: its identity, and what must be the same at both ends */
    LINK_WELCOME,   /* destination: everything is the same */
    LINK_DATA,      /* source: bytes of guest memory */
    LINK_ZEROS,     /* source: a range of zeros in guest memory */
    LINK_REGION,    /* source: a region was added, or removed (length 0) */
    LINK_ROUND,     /* source: a round begins */
    LINK_DISCARD,   /* source: pages that it sends after the switch (postcopy) */
    LINK_STATE,     /* source: a piece of the state of a driver, load or device */
    LINK_HASHES,    /* source: hashes of present pages */
    LINK_COMPARE,   /* source: end of the hashes of a region, or of all: see link_compare */
    LINK_DIFFERS,   /* destination: its contents of a page whose hash differs */
    LINK_READY,     /* destination: compared, and everything is equal now */
    LINK_GO,        /* source: hands over the guest */
    LINK_RUNNING,   /* destination: first completion of a request */
    LINK_REQUEST,   /* destination: a thread waits for these pages (postcopy) */
    LINK_PAGE,      /* source: a page, before or after the switch; without bytes it is all zeros */
    LINK_COMPLETE,  /* destination: all pages arrived (postcopy) */
    LINK_VERDICT,   /* both: their result */
    LINK_BYE,       /* destination: received the verdict */
    LINK_ERROR,     /* both: the reason for giving up */
    LINK_RESUME,    /* source: reconnects after a lost connection */
    LINK_RESUMED,   /* destination: accepts that; LINK_MISSING follows */
    LINK_MISSING,   /* destination: pages that did not arrive; an empty one ends the list */
    LINK_N_TYPES,
};

/* Flags of LINK_COMPARE, next to the number of completed requests that the driver has not seen. */
enum link_compare {
    LINK_COMPARE_ALL = 1,     /* the guest has stopped, nothing follows before LINK_GO */
    LINK_COMPARE_REQUEUE = 2, /* requests that were popped and not completed must be resubmitted */
};

/* Kinds of LINK_STATE. */
enum link_state {
    LINK_STATE_DRIVER = 0,
    LINK_STATE_LOAD,
    LINK_STATE_DEVICE, /* of the back-end, if it offers DEVICE_STATE */
};

const char *link_type_name(unsigned type); /* never NULL */

/* ---- Writing ---- */

struct link_out {
    uint8_t *data; /* of malloc */
    size_t len, room;
    size_t frame; /* start of the unfinished frame */
    bool failed;  /* out of memory: later bytes are missing */
};

void link_out_done(struct link_out *out);
void link_begin(struct link_out *out, enum link_type type);
void link_put(struct link_out *out, uint64_t value, unsigned n_bytes);
void link_put_bytes(struct link_out *out, const void *data, size_t len);
void link_put_text(struct link_out *out, const char *text); /* truncated to LINK_TEXT_MAX */
void link_end(struct link_out *out);

/* ---- Reading ---- */

struct link_in {
    const uint8_t *at;
    size_t left;
    bool failed; /* the frame was too short */
};

uint64_t link_get(struct link_in *in, unsigned n_bytes);
/* NULL if fewer bytes are left. */
const uint8_t *link_get_bytes(struct link_in *in, size_t len);
/* Unprintable bytes become "?". `text` of LINK_TEXT_MAX bytes holds any text. */
void link_get_text(struct link_in *in, char *text, size_t size);
bool link_is_complete(const struct link_in *in); /* was everything read, without an error? */

struct link_frame {
    enum link_type type;
    uint32_t length; /* of the payload */
};

/*
 * Check a header. Returns: 0; -EPROTO wrong magic, version, type or length, with the reason in
 * `why` (LINK_TEXT_MAX bytes).
 */
int link_parse_header(const uint8_t header[LINK_HEADER_LEN], struct link_frame *ret, char *why);

/* ---- Payloads of more than a few numbers ---- */

#define LINK_OPTIONS_MAX 64
#define LINK_NAME_MAX    32
#define LINK_LAYOUT_MAX  4096
/* Maximum payload of a HELLO. */
#define LINK_HELLO_MAX (64u + LINK_OPTIONS_MAX * (LINK_NAME_MAX + 9) + LINK_LAYOUT_MAX * 8)

/* An option that must be the same at both ends, by name. */
struct link_option {
    char name[LINK_NAME_MAX];
    uint64_t value;
};

struct link_hello {
    uint8_t id[LINK_ID_LEN]; /* random; identifies the migration */
    uint64_t seed;
    bool is_postcopy;
    struct link_option options[LINK_OPTIONS_MAX];
    unsigned n_options;
    uint64_t layout[LINK_LAYOUT_MAX]; /* regions, rings, features of this half's guest */
    unsigned n_layout;
};

struct link_run {
    uint64_t gpa, length;
};

enum link_verdict {
    LINK_PASSED = 0,
    LINK_FAILED,
    LINK_COULD_NOT,
    LINK_HINTS,      /* passed, except for words that cannot lose data */
    LINK_NOT_TESTED, /* the run exercised nothing that this half checks */
};

void link_put_hello(struct link_out *out, const struct link_hello *hello);
/* Returns: false if the payload is invalid. */
bool link_get_hello(struct link_in *in, struct link_hello *ret);

/*
 * Lists of runs; none is empty or wraps around. `runs` holds LINK_RUNS_MAX. Returns: their number;
 * -EPROTO.
 */
void link_put_runs(struct link_out *out, enum link_type type, const struct link_run *runs,
                   unsigned n_runs);
int link_get_runs(struct link_in *in, struct link_run *runs);
