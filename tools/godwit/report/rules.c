/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * What each check refers to: vhost-user.rst of QEMU and virtio 1.3, by the names of their sections,
 * which outlast the numbers.
 */
#include "rules.h"

#include <stddef.h>
#include <string.h>

static const struct {
    const char *check, *rule;
} rules[] = {
    {"start", "vhost-user, \"Communication\": the back-end answers every message that has a reply, "
              "and keeps to the features that were negotiated"},
    {"session", "vhost-user, \"Communication\": the back-end answers every message that has a "
                "reply; virtio, \"The Virtqueue\": the device returns every buffer that it used"},
    {"pages-marked", "vhost-user, \"Migration\": while VHOST_F_LOG_ALL is negotiated, the back-end "
                     "marks every page that it writes in the dirty log, and the used ring if "
                     "VHOST_VRING_F_LOG is set"},
    {"quiet-after-stop", "vhost-user, \"Suspended device state\": while all rings are stopped, the "
                         "device does not write to guest memory"},
    {"log-replaced", "vhost-user, VHOST_USER_SET_LOG_BASE: after its reply the back-end uses only "
                     "the new dirty log"},
    {"pages-arrived", "vhost-user, VHOST_USER_POSTCOPY_LISTEN: the back-end registers all memory "
                      "with its userfaultfd, and touches no page through another mapping"},
    {"memories-equal", "virtio, \"Descriptor table\": the device writes only to device-writable "
                       "buffers and to its own parts of the rings"},
    {"resumed", "vhost-user, \"Inflight I/O tracking\": a restarted back-end processes the "
                "requests that were in flight again"},
    {"drained", "vhost-user, VHOST_USER_GET_VRING_BASE: the ring stops, and requests in flight "
                "complete before the reply"},
    {"data", "virtio, \"Block Device: Device Operation\": a read returns the data last written"},
    {"restarts", "vhost-user, \"Inflight I/O tracking\": a restarted back-end accepts the inflight "
                 "region of its predecessor"},
    {"region", "vhost-user, \"Inflight I/O tracking\": the inflight region lists exactly the "
               "requests that were taken and not completed"},
    {"order", "vhost-user, \"Inflight I/O tracking\": the counters of the inflight region keep the "
              "order in which the requests were taken"},
    {"answered-once", "vhost-user, \"Inflight I/O tracking\", virtio, \"The Virtqueue\": each "
                      "request completes once, after it was executed"},
    {"answered-all", "vhost-user, \"Inflight I/O tracking\": a restarted back-end completes all "
                     "requests in flight"},
    {"writes-kept", "virtio, \"Block Device: Device Operation\": data of completed writes are "
                    "kept; a completed FLUSH makes them durable"},
};

const char *rule_of(const char *check)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (strcmp(rules[i].check, check) == 0)
            return rules[i].rule;
    }
    return NULL;
}
