#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Make mutants of the library: each lacks one detail of the dirty log, of inflight tracking or of
postcopy. The tests of these features must find every mutant.

usage: mutate.py --list                   print NAME FILE... of every mutant, one per line
       mutate.py NAME ROOT OUTPUT...      write its mutated files, in the order of --list

A mutant replaces texts that must occur exactly once in their files. If one does not, the program names it
and exits with status 1.
"""

import os
import re
import sys
from pathlib import Path

COMPLETE = "src/core/queue/complete.c"
SPLIT = "src/core/ring/ring_split.c"
PACKED = "src/core/ring/ring_packed.c"
INFLIGHT = "src/core/inflight/inflight.c"
INFLIGHT_SPLIT = "src/core/inflight/inflight_split.c"
INFLIGHT_PACKED = "src/core/inflight/inflight_packed.c"
QUEUE = "src/core/queue/queue.c"
CTL_MEM = "src/core/message/ctl_mem.c"
CTL_QUEUE = "src/core/message/ctl_queue.c"
CTL_POSTCOPY = "src/core/message/ctl_postcopy.c"

MARK_BUFFER = "gw_dirty_log_mark(log, writable[i].gpa, writable[i].len);"

# name -> file -> [(original text, text of the mutant)]
MUTANTS = {
    # ---- the used ring ----
    "used-idx": {SPLIT: [(
        "        split_mark(ring, &s->used->idx, sizeof(s->used->idx));\n", "")]},
    "used-flags": {SPLIT: [
        ("    split_mark(ring, &s->used->flags, sizeof(s->used->flags));\n", ""),
        ("    split_mark(ring, word, sizeof(*word));\n",
         "    if (ring->event_idx)\n        split_mark(ring, word, sizeof(*word));\n")]},
    "avail-event": {SPLIT: [(
        "    split_mark(ring, word, sizeof(*word));\n",
        "    if (!ring->event_idx)\n        split_mark(ring, word, sizeof(*word));\n")]},
    "used-elements": {SPLIT: [(
        "        split_mark_elements(ring, old, s->published);\n", "        (void)old;\n"
        "        if (0)\n            split_mark_elements(ring, old, old);\n")]},
    "used-wrap": {SPLIT: [(
        "        split_mark(ring, &s->used->ring[0], (n - n_before_wrap) * size);\n",
        "        return;\n")]},
    # ---- the packed ring ----
    "packed-used": {PACKED: [
        ("    packed_mark_desc(ring, first, n_before_wrap);\n", "")]},
    "packed-wrap": {PACKED: [
        ("    packed_mark_desc(ring, 0, n - n_before_wrap);\n", "")]},
    "packed-event": {PACKED: [(
        "                                    /* [D] */\n    packed_mark_event(ring);\n",
        "                                    /* [D] */\n")]},
    # ---- buffers ----
    "last-page": {COMPLETE: [(
        MARK_BUFFER,
        "gw_dirty_log_mark(log, writable[i].gpa, writable[i].len > 4096 ? writable[i].len - 4096 : writable[i].len);")]},
    "status-byte": {COMPLETE: [(
        MARK_BUFFER,
        "gw_dirty_log_mark(log, writable[i].gpa, writable[i].len - (i + 1u == r->n_writable_extents));")]},
    "indirect-data": {"src/core/queue/chain.c": [(
        "        why = pin(q, r, &found);\n",
        "        why = pin(q, r, &found);\n"
        "    if ((q->ring.ops->is_packed ? gw_desc_unpack(head->descs[0]) : head->first).flags &\n"
        "        VRING_DESC_F_INDIRECT)\n"
        "        r->n_writable_extents = 0;\n")]},
    "late-region": {
        QUEUE: [(
            "void gw_queue_set_log(struct gw_queue *q, const struct gw_dirty_log_state *log)\n{\n",
            "gw_gpa_t gw_mutant_end;\n\n"
            "void gw_queue_set_log(struct gw_queue *q, const struct gw_dirty_log_state *log)\n{\n"
            "    gw_mutant_end = 0;\n"
            "    if (q->map && q->map->n_entries > 0)\n"
            "        gw_mutant_end = q->map->entries[q->map->n_entries - 1].gpa +\n"
            "                        q->map->entries[q->map->n_entries - 1].size;\n")],
        COMPLETE: [
            ("void gw_request_mark(const struct gw_queue *q, const struct gw_request_i *r)\n",
             "extern gw_gpa_t gw_mutant_end;\n\nvoid gw_request_mark(const struct gw_queue *q, const struct gw_request_i *r)\n"),
            (MARK_BUFFER,
             "if (gw_mutant_end == 0 || writable[i].gpa < gw_mutant_end)\n                " +
             MARK_BUFFER)]},
    # As if the bitmap only covered the regions present when it was set.
    "late-map": {
        QUEUE: [(
            "void gw_queue_set_log(struct gw_queue *q, const struct gw_dirty_log_state *log)\n{\n",
            "const struct gw_map *gw_mutant_map;\n\n"
            "void gw_queue_set_log(struct gw_queue *q, const struct gw_dirty_log_state *log)\n{\n"
            "    gw_mutant_map = q->map;\n")],
        COMPLETE: [
            ("void gw_request_mark(const struct gw_queue *q, const struct gw_request_i *r)\n",
             "extern const struct gw_map *gw_mutant_map;\n\n"
             "void gw_request_mark(const struct gw_queue *q, const struct gw_request_i *r)\n"),
            (MARK_BUFFER,
             "if (!gw_mutant_map || q->map == gw_mutant_map)\n                " + MARK_BUFFER)]},
    # ---- when ----
    "mark-before-write": {
        "src/core/queue/request.c": [(
            "    gw_count(&q->stats.bytes_readable, r->pub.readable_len);\n",
            "    gw_count(&q->stats.bytes_readable, r->pub.readable_len);\n"
            "    for (unsigned i = 0; q->dirty_log.all && q->dirty_log.log && i < r->n_writable_extents; i++) {\n"
            "        const struct gw_extent *e = gw_request_extents(r) + r->n_readable_extents + i;\n"
            "        gw_dirty_log_mark(q->dirty_log.log, e->gpa, e->len);\n"
            "    }\n")],
        COMPLETE: [(MARK_BUFFER, "(void)(writable + (log != NULL));")]},
    "stop-before-drain": {QUEUE: [(
        "    else if (gw_queue_is_drained(q))\n        finish_stop(q);\n}\n",
        "    else if (gw_queue_is_drained(q))\n        finish_stop(q);\n"
        "    if (q->stop.latch)\n        gw_latch_count(q->stop.latch, 0);\n"
        "    q->stop.latch = NULL;\n}\n")]},
    "replaced-log": {
        QUEUE: [("    q->dirty_log = *log;\n",
                 "    if (!q->dirty_log.log || !log->log)\n        q->dirty_log = *log;\n")],
        # Keep the old log mapped; otherwise the mutant crashes.
        "src/core/message/change.c": [("    gw_dirty_log_free(c->old);\n", "    (void)c->old;\n")]},
    "log-all-off": {"src/core/message/ctl_dirty_log.c": [(
        "    if (state.all == all)\n", "    if (state.all == all || !all)\n")]},
    # ---- inflight ----
    "not-in-flight": {
        INFLIGHT_SPLIT: [("        gw_inflight_set(&entries[entry].inflight, 1);\n", "")],
        INFLIGHT_PACKED: [("    return 1 | next << 16", "    return next << 16")]},
    "shown-before-linked": {COMPLETE: [
        ("    gw_inflight_close(&q->inflight, q->ring.ops->used(&q->ring));\n", ""),
        ("    struct gw_inflight *f = published && q->inflight.part ? &q->inflight : NULL;\n",
         "    struct gw_inflight *f = published && q->inflight.part ? &q->inflight : NULL;\n\n"
         # The window is only a few instructions long, so widen it for the kill.
         "    for (volatile unsigned i = 0; f && i < 20000; i++)\n"
         "        continue;\n"
         "    if (f)\n"
         "        gw_inflight_close(f, q->ring.ops->used(&q->ring));\n")]},
    "cleared-before-shown": {COMPLETE: [(
        "    notify = q->ring.ops->publish(&q->ring);\n",
        "    for (const struct gw_request_i *r = q->batch.completed; r; r = r->next_free)\n"
        "        gw_inflight_clear(&q->inflight, r->entry);\n"
        "    notify = q->ring.ops->publish(&q->ring);\n")]},
    "old-used": {
        INFLIGHT_SPLIT: [(
            "    gw_inflight_order();\n    gw_inflight_set(&p->used_idx, f->split.used);\n    gw_inflight_order();\n",
            "    (void)p;\n")],
        INFLIGHT_PACKED: [(
            "    places.old_idx = places.idx;\n    places.old_wrap = places.wrap;\n", "")]},
    "done-twice": {"src/core/inflight/resume.c": [
        ("    ring->ops->resume(ring, found.used, found.n_slots);\n",
         "    ring->ops->resume(ring, found.used, 0);\n")]},
    "other-order": {INFLIGHT: [
        ("    sort(entries, found.n_entries);\n",
         "    sort(entries, found.n_entries);\n    reverse(entries, found.n_entries);\n")]},
    # If SKIP_DRAIN is negotiated, too, only its own message may leave requests in flight.
    "stop-suspends": {CTL_QUEUE: [(
        "    bool may_suspend = gw_session_has_protocol(s, GW_PROTOCOL_F_GET_VRING_BASE_INFLIGHT) &&\n"
        "                       !gw_session_has_protocol(s, GW_PROTOCOL_F_GET_VRING_BASE_SKIP_DRAIN);\n",
        "    bool may_suspend = gw_session_has_protocol(s, GW_PROTOCOL_F_GET_VRING_BASE_INFLIGHT);\n")]},
    "trusts-zeroes": {INFLIGHT: [(
        "        f->ops->format(f->part, f->size, ring->used);\n", "")]},
    # ---- postcopy ----
    "postcopy-own-address": {CTL_MEM: [(
        "    wire->user_addr = (uintptr_t)region->hva;\n", "    (void)region;\n"), (
        ".at_uva = gw_postcopy_is_listening(&d->session.postcopy)", ".at_uva = false")]},
    "postcopy-late-region": {CTL_MEM: [(
        "    if (gw_postcopy_is_listening(&s->postcopy))\n        r = gw_region_listen(",
        "    if (gw_postcopy_is_listening(&s->postcopy) && (!s->map || s->map->n_entries == 0))\n"
        "        r = gw_region_listen(")]},
    # It also waits before it registers: a queue that has the map by then reads zeroes.
    "postcopy-registers-late": {
        CTL_MEM: [(
            "    if (gw_postcopy_is_listening(&s->postcopy))\n        r = gw_region_listen(",
            "    if (0)\n        r = gw_region_listen(")],
        CTL_POSTCOPY: [
            ("    if (gw_msg_u64(msg) == 0)\n        return gw_change_map_posted(d, map);\n",
             "    if (gw_msg_u64(msg) == 0) {\n"
             "        int r = gw_change_map_posted(d, map);\n\n"
             "        usleep(20000);\n"
             "        for (unsigned i = 0; r == 0 && i < s->map->n_entries; i++)\n"
             "            if (!s->map->entries[i].region->missing.owner)\n"
             "                r = gw_region_listen(s->map->entries[i].region, &s->postcopy);\n"
             "        return r;\n    }\n"),
            ("#include <inttypes.h>\n", "#include <inttypes.h>\n#include <unistd.h>\n")]},
    "postcopy-unacknowledged": {CTL_MEM: [(
        "    if (!gw_postcopy_is_listening(&d->session.postcopy))\n"
        "        return gw_change_map(d, map);\n",
        "    if (!d->session.pending)\n        return gw_change_map(d, map);\n")]},
    # Like libvhost-user.
    "postcopy-control-reads": {CTL_QUEUE: [(
        "    vring->has_addr = true;\n    return r;\n",
        "    vring->has_addr = true;\n"
        "    struct gw_pin pin;\n"
        "    const uint16_t *used =\n"
        "        gw_map_pin_uva(d->session.map, addr->used, sizeof(*used) * 2, NULL, &pin);\n\n"
        "    if (used)\n        (void)*(const volatile uint16_t *)(used + 1);\n"
        "    return r;\n")]},
}


def mutate(name, root, outputs):
    for (file, replacements), output in zip(MUTANTS[name].items(), outputs, strict=True):
        text = (root / file).read_text(encoding="utf-8")
        for old, new in replacements:
            if text.count(old) != 1:
                sys.exit(f"mutant {name}: {file} has this {text.count(old)} times instead of "
                         f"once:\n{old}")
            text = text.replace(old, new)
        # Headers beside it have no folder in their name; it is compiled elsewhere.
        folder = os.path.dirname(file.removeprefix("src/"))
        text = re.sub(r'(#include ")([^"/]+")', rf'\1{folder}/\2', text)
        Path(output).write_text(text, encoding="utf-8")


def main():
    if sys.argv[1:] == ["--list"]:
        for name, files in MUTANTS.items():
            print(name, *(Path(file).name for file in files))
    elif len(sys.argv) >= 4 and sys.argv[1] in MUTANTS:
        mutate(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
