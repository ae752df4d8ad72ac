/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* See backend_record.h. */
#include "backend_record.h"

#include <stdio.h>

void backend_record_take(struct backend_record *b, const struct target *t,
                         const struct gw_frontend *fe)
{
    *b = (struct backend_record){
        .name = target_name(t),
        .text = target_text(t),
        .features = gw_frontend_features(fe),
        .protocol_features = gw_frontend_protocol_features(fe),
    };
    snprintf(b->executable, sizeof(b->executable), "%s", target_executable(t));
    snprintf(b->build_id, sizeof(b->build_id), "%s", target_build_id(t));
}
