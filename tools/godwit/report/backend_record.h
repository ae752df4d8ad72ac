/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* What a report says of each back-end: its command, its program, and the negotiated features. */
#pragma once

#include "target/build_id.h"
#include "target/target.h"

struct backend_record {
    const char *name, *text; /* the target's, valid as long as it; NULL: not connected */
    char executable[256], build_id[BUILD_ID_SIZE]; /* empty if unknown */
    uint64_t features, protocol_features;          /* negotiated */
};

/* Record a connected back-end. Its virtio features are known once the device has started. */
void backend_record_take(struct backend_record *b, const struct target *t,
                         const struct gw_frontend *fe);
