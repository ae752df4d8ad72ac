/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What goes over the link between the two halves of a migration, as bytes. A frame is a header of
 * 16 bytes (magic, version, type, length, zero) and a payload of at most what its type allows; all
 * numbers are in little endian. Docs: docs/link.md has the course of it.
 *
 * Everything that is read here comes from who knows where. Nothing is believed but what has been
 * looked at, and an error says what was wrong and what to do about it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_MAGIC      UINT32_C(0x6b6c7767) /* "gwlk" */
#define LINK_VERSION    3u
#define LINK_HEADER_LEN 16u
#define LINK_DATA_MAX   (2u << 20) /* bytes of memory in one frame: a huge page */
#define LINK_TEXT_MAX   320
#define LINK_RUNS_MAX   4096 /* runs, or hashes, in one frame */
#define LINK_ID_LEN     16
#define LINK_PAGE_LEN   4096u       /* of what is compared */
#define LINK_STATE_MAX  (64u << 10) /* bytes of a piece of state */

enum link_type {
    LINK_HELLO = 1, /* source: who I am, and what must be the same at both ends */
    LINK_WELCOME,   /* destination: it is */
    LINK_DATA,      /* source: bytes of guest memory */
    LINK_ZEROS,     /* source: so many bytes of it are zeros */
    LINK_REGION,    /* source: a region came, or went (length 0) */
    LINK_ROUND,     /* source: a round begins */
    LINK_DISCARD,   /* source: these pages come after the switch (postcopy) */
    LINK_STATE,     /* source: a piece of what a driver or a load knows */
    LINK_HASHES,    /* source: of pages as they are now */
    LINK_COMPARE,   /* source: that was all to compare, or all there is: see link_compare */
    LINK_DIFFERS,   /* destination: what I have of this page, which is not what you say */
    LINK_READY,     /* destination: compared, and all is equal by now */
    LINK_GO,        /* source: the guest is yours */
    LINK_RUNNING,   /* destination: it runs */
    LINK_REQUEST,   /* destination: somebody waits for these pages (postcopy) */
    LINK_PAGE,      /* source: a page, also after the switch; without bytes it is zeros */
    LINK_COMPLETE,  /* destination: all pages are here (postcopy) */
    LINK_VERDICT,   /* both: what came of it */
    LINK_BYE,       /* destination: I have your verdict */
    LINK_ERROR,     /* both: I give up, for this reason */
    LINK_RESUME,    /* source: the connection was lost, here I am again */
    LINK_RESUMED,   /* destination: so am I; what has not come follows as LINK_MISSING */
    LINK_MISSING,   /* destination: these pages have not come; without any: that was all */
    LINK_N_TYPES,
};

/* In LINK_COMPARE, beside the number of requests that the driver has not found to be done. */
enum link_compare {
    LINK_COMPARE_ALL = 1,     /* the guest has stopped, and nothing more comes before LINK_GO */
    LINK_COMPARE_REQUEUE = 2, /* requests that were taken and not completed are to be done again */
};

/* In LINK_STATE. */
enum link_state {
    LINK_STATE_DRIVER = 0,
    LINK_STATE_LOAD,
};

const char *link_type_name(unsigned type); /* never NULL */

/* ---- Bytes out ---- */

struct link_out {
    uint8_t *data; /* of malloc */
    size_t len, room;
    size_t frame; /* where the frame begins that is being written */
    bool failed;  /* no memory: what was written since is missing */
};

void link_out_done(struct link_out *out);
void link_begin(struct link_out *out, enum link_type type);
void link_put(struct link_out *out, uint64_t value, unsigned n_bytes);
void link_put_bytes(struct link_out *out, const void *data, size_t len);
void link_put_text(struct link_out *out, const char *text); /* as much as goes into LINK_TEXT_MAX */
void link_end(struct link_out *out);

/* ---- Bytes in ---- */

struct link_in {
    const uint8_t *at;
    size_t left;
    bool failed; /* there was less than was asked for */
};

uint64_t link_get(struct link_in *in, unsigned n_bytes);
/* NULL where there are fewer. */
const uint8_t *link_get_bytes(struct link_in *in, size_t len);
/* What cannot be shown is shown as "?". `size` of LINK_TEXT_MAX takes any. */
void link_get_text(struct link_in *in, char *text, size_t size);
bool link_is_complete(const struct link_in *in); /* all of it, and nothing more */

struct link_frame {
    enum link_type type;
    uint32_t length; /* of the payload */
};

/*
 * Look at a header. Returns: 0; -EPROTO it is none, of another version, of no type, or longer or
 * shorter than its type can be, with the reason in `why` (LINK_TEXT_MAX bytes).
 */
int link_parse_header(const uint8_t header[LINK_HEADER_LEN], struct link_frame *ret, char *why);

/* ---- Payloads of more than a few numbers ---- */

#define LINK_OPTIONS_MAX 64
#define LINK_NAME_MAX    32
#define LINK_LAYOUT_MAX  4096
/* Bytes of a HELLO. */
#define LINK_HELLO_MAX (64u + LINK_OPTIONS_MAX * (LINK_NAME_MAX + 9) + LINK_LAYOUT_MAX * 8)

/* Something that both ends must have been told alike, by the name of the option. */
struct link_option {
    char name[LINK_NAME_MAX];
    uint64_t value;
};

struct link_hello {
    uint8_t id[LINK_ID_LEN]; /* of this migration, random */
    uint64_t seed;
    bool is_postcopy;
    struct link_option options[LINK_OPTIONS_MAX];
    unsigned n_options;
    uint64_t layout[LINK_LAYOUT_MAX]; /* regions, rings, features: as the halves find them */
    unsigned n_layout;
};

struct link_run {
    uint64_t gpa, length;
};

enum link_verdict {
    LINK_PASSED = 0,
    LINK_FAILED,
    LINK_COULD_NOT,
    LINK_HINTS,      /* passed, but for words that cannot lose data */
    LINK_NOT_TESTED, /* nothing exercised what this half checks */
};

void link_put_hello(struct link_out *out, const struct link_hello *hello);
/* Returns: false where it cannot be one. */
bool link_get_hello(struct link_in *in, struct link_hello *ret);

/*
 * Runs that are neither empty nor wrap around, at most LINK_RUNS_MAX of them, into `runs` of that
 * size. Returns: how many; a negative errno for what is no such thing (-EPROTO).
 */
void link_put_runs(struct link_out *out, enum link_type type, const struct link_run *runs,
                   unsigned n_runs);
int link_get_runs(struct link_in *in, struct link_run *runs);
