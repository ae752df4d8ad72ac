/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* The HTML page of a JSON report, for tests. Include after cmocka.h. */
#pragma once

#include "html/page.h"

#include <string.h>

/* Free the page; `json` is freed here. */
static inline char *page_of(char *json)
{
    char *text = NULL, why[256] = "";
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    if (page_make(json, strlen(json), out, why, sizeof(why)) != 0)
        fail_msg("no page: %s", why);
    assert_int_equal(fclose(out), 0);
    free(json);
    return text;
}
