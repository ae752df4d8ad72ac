/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Bad messages and what must come of them: what it_bad_frames and it_bad_input share. */
#pragma once

#include "bed.h"

#include "base/proto.h"

/* What comes of a message. Without REPLY_ACK, or where there is no answer, REFUSED is ENDS. */
enum outcome {
    ACCEPTED,
    REFUSED, /* the answer is not 0, and the session goes on */
    EMPTY,   /* an answer without payload (GET_CONFIG), and the session goes on */
    ENDS,    /* the session */
};

/* Where a session is when the message comes. */
enum stage {
    STAGE_NEW,     /* negotiated, memory told; queue 0 not described, queue 1 runs */
    STAGE_READY,   /* the same, and queue 0 described but not started */
    STAGE_RUNNING, /* both queues run */
    STAGE_NO_30,   /* negotiated without PROTOCOL_FEATURES (30): no REPLY_ACK either */
    STAGE_GATED,   /* REPLY_ACK alone was negotiated, of protocol features */
    STAGE_BARE,    /* just connected */
};

/* Messages with an answer of their own, of any size but 0. */
bool bad_has_answer(uint32_t request);

/*
 * Connect and bring a session to `stage`, with REPLY_ACK or without.
 * Returns: 0 or a negative errno, told on stderr.
 */
int bad_stage(struct bed *b, struct guest *g, enum stage stage, bool ack);

struct bad_message {
    uint32_t request;
    uint32_t flags; /* NEED_REPLY is added where REPLY_ACK was negotiated */
    uint32_t size;  /* as the header says */
    const void *payload;
    size_t length;
    const int *fds;
    unsigned n_fds;
};

/* Send it and see what comes of it. Returns: is it `outcome`? If not, stderr tells. */
bool bad_send(struct guest *g, const char *name, const struct bad_message *m, enum outcome outcome);
