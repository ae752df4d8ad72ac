/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * A container for the state of a device: sections with checksums, which a program of another
 * version can read. docs/device-state.md describes its bytes.
 *
 * A device that offers its state (state_save and state_load of device.h) may stream any bytes. With
 * this container, a state that was cut, damaged, or written by a later version is refused with a
 * message, and a device can add sections in a later version: a reader skips an unknown section,
 * unless the writer marked it as required.
 *
 * Errors are those of device.h: a negative errno, and gw_last_error has the sentence.
 */
#ifndef GODWIT_STATE_H
#define GODWIT_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* The length of a device name, in bytes. */
#define GW_STATE_NAME_MAX 16
/* The longest section, in bytes. A larger table is a sequence of sections with one id. */
#define GW_STATE_SECTION_MAX (64u << 20)

/* enum gw_state_flags: flags of a section. */
enum gw_state_flags {
    GW_STATE_REQUIRED = 1, /* a reader that does not know the section refuses the state */
};

/* One section. */
struct gw_state_section {
    uint32_t id;      /* of the device's choice, not 0; may occur more than once */
    uint32_t flags;   /* GW_STATE_REQUIRED, or 0 */
    uint32_t version; /* of the device that wrote the state */
    const void *data; /* not NULL */
    size_t len;
};

/* ---- writing ---- */

struct gw_state_writer;

/*
 * Begin a state of the device called `device`, 1 to GW_STATE_NAME_MAX bytes, in version `version`.
 * Increase the version only if older readers must refuse the state.
 *
 * Ownership: `device` is copied. Free the result with gw_state_writer_free.
 * Returns: 0; -EINVAL for a name that does not fit; -ENOMEM.
 * Context: any thread.
 */
int gw_state_writer_new(struct gw_state_writer **ret, const char *device, uint32_t version);

/*
 * Append a section.
 *
 * Ownership: `data` is copied.
 * Returns: 0; -EINVAL for id 0 or unknown flags; -E2BIG above GW_STATE_SECTION_MAX; -EPERM after
 * the end; -ENOMEM, and the writer is as before.
 * Context: any thread, one at a time for each writer.
 */
int gw_state_writer_add(struct gw_state_writer *w, uint32_t id, uint32_t flags, const void *data,
                        size_t len);

/*
 * End the state: no section follows.
 *
 * Returns: 0, also if it has ended; -ENOMEM.
 * Context: as gw_state_writer_add.
 */
int gw_state_writer_end(struct gw_state_writer *w);

/*
 * Copy the next bytes of the state into `buf`, up to `size` of them: all that a state_save does.
 *
 * Returns: the number of bytes; 0 at the end of the state, or before gw_state_writer_end.
 * Context: as gw_state_writer_add.
 */
size_t gw_state_writer_read(struct gw_state_writer *w, void *buf, size_t size);

/*
 * All bytes of the state, whatever was read.
 *
 * Ownership: they stay the writer's, until the next call that appends to it.
 * Returns: the bytes, and their number in `ret_len`.
 * Context: as gw_state_writer_add.
 */
const void *gw_state_writer_data(const struct gw_state_writer *w, size_t *ret_len);

/*
 * Free a writer. `w` may be NULL.
 *
 * Context: as gw_state_writer_add.
 */
void gw_state_writer_free(struct gw_state_writer *w);

/* ---- reading ---- */

struct gw_state_reader;

/*
 * Takes a section, whose checksum was right. The state is complete only after gw_state_reader_end:
 * keep what the sections say until then. Returns 0; -ENOENT for an unknown section, which is
 * skipped, or refused if it is required; another negative errno refuses the state.
 */
typedef int gw_state_section_cb(void *arg, const struct gw_state_section *section);

/*
 * Begin to read a state of the device called `device`, up to version `version_max`. `cb` receives
 * each section, with `arg`.
 *
 * Ownership: `device` is copied. Free the result with gw_state_reader_free.
 * Returns: 0; -EINVAL for a name that does not fit; -ENOMEM.
 * Context: any thread.
 */
int gw_state_reader_new(struct gw_state_reader **ret, const char *device, uint32_t version_max,
                        gw_state_section_cb *cb, void *arg);

/*
 * Pass the next bytes, in pieces of any size. Memory is allocated for one section at a time, as its
 * bytes arrive.
 *
 * Returns: 0; -EBADMSG if the bytes are no state, or were damaged; -EINVAL for the state of another
 * device; -EOPNOTSUPP for a later version, or an unknown section that is required; -E2BIG for a
 * section above GW_STATE_SECTION_MAX; -ENOMEM; the error of `cb`. After an error, the same error.
 * Context: any thread, one at a time for each reader. Runs `cb`.
 */
int gw_state_reader_feed(struct gw_state_reader *r, const void *data, size_t len);

/*
 * Check that the state was complete.
 *
 * Returns: 0; -EBADMSG if it ends too early; the error of gw_state_reader_feed.
 * Context: as gw_state_reader_feed.
 */
int gw_state_reader_end(struct gw_state_reader *r);

/*
 * Free a reader. `r` may be NULL.
 *
 * Context: as gw_state_reader_feed, but not in `cb`.
 */
void gw_state_reader_free(struct gw_state_reader *r);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
