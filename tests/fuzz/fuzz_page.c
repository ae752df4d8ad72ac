/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * Arbitrary bytes as the JSON of a report: they are refused with a reason, or become a complete
 * page without any element of theirs.
 */
#include "fuzz.h"

#include "html/page.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static void check(bool good)
{
    if (!good)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *page = NULL, why[256] = "";
    size_t len = 0;
    FILE *out = open_memstream(&page, &len);
    int r;

    check(out != NULL);
    r = page_make((const char *)data, size, out, why, sizeof(why));
    check(fclose(out) == 0);
    check((r == 0) == (why[0] == '\0'));
    if (r == 0) {
        check(strlen(page) == len);
        check(strstr(page, "</html>") != NULL);
        check(strstr(page, "<script") == NULL);
    }
    free(page);
    return 0;
}
