/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Arbitrary bytes on the link of a migration: each frame is refused with a reason, or parsed; a
 * parsed frame that is written again has the same bytes.
 */
#include "fuzz.h"

#include "link/link_wire.h"

#include <stdlib.h>
#include <string.h>

static void check(bool good)
{
    if (!good)
        abort();
}

static void look_at_hello(struct link_in in)
{
    static struct link_hello hello;
    struct link_out out = {0};
    struct link_in whole = in;

    if (!link_get_hello(&in, &hello))
        return;
    check(hello.n_options <= LINK_OPTIONS_MAX && hello.n_layout <= LINK_LAYOUT_MAX);
    for (unsigned i = 0; i < hello.n_options; i++)
        check(memchr(hello.options[i].name, '\0', LINK_NAME_MAX) != NULL);
    link_put_hello(&out, &hello);
    check(!out.failed && out.len == LINK_HEADER_LEN + whole.left);
    /* Any nonzero byte means yes. */
    out.data[LINK_HEADER_LEN + LINK_ID_LEN + 8] = whole.at[LINK_ID_LEN + 8];
    check(memcmp(out.data + LINK_HEADER_LEN, whole.at, whole.left) == 0);
    link_out_done(&out);
}

static void look_at_runs(struct link_in in, enum link_type type)
{
    static struct link_run runs[LINK_RUNS_MAX];
    struct link_out out = {0};
    struct link_in whole = in;
    int n = link_get_runs(&in, runs);

    if (n < 0)
        return;
    check(link_is_complete(&in));
    for (int i = 0; i < n; i++)
        check(runs[i].length > 0 && runs[i].gpa + runs[i].length > runs[i].gpa);
    link_put_runs(&out, type, runs, (unsigned)n);
    check(!out.failed && out.len == LINK_HEADER_LEN + whole.left);
    check(whole.left == 0 || memcmp(out.data + LINK_HEADER_LEN, whole.at, whole.left) == 0);
    link_out_done(&out);
}

static void look_at(const struct link_frame *frame, struct link_in in)
{
    char text[LINK_TEXT_MAX];

    switch (frame->type) {
    case LINK_HELLO:
        look_at_hello(in);
        break;
    case LINK_DISCARD:
    case LINK_REQUEST:
    case LINK_MISSING:
        look_at_runs(in, frame->type);
        break;
    default:
        link_get_text(&in, text, sizeof(text));
        for (const char *c = text; *c; c++)
            check(*c >= ' ' && *c < 0x7f);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[LINK_TEXT_MAX] = "";

    while (size >= LINK_HEADER_LEN) {
        struct link_frame frame;
        int r = link_parse_header(data, &frame, why);

        check(r == 0 || (r < 0 && why[0] != '\0' && memchr(why, '\0', sizeof(why)) != NULL));
        data += LINK_HEADER_LEN;
        size -= LINK_HEADER_LEN;
        if (r < 0 || frame.length > size)
            break;
        look_at(&frame, (struct link_in){.at = data, .left = frame.length});
        data += frame.length;
        size -= frame.length;
    }
    return 0;
}
