/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The HTML page of any JSON: what is no report is refused with the reason, and what is one is shown
 * whatever its values are, escaped and within limits. Also the tags of the template, and the
 * build-id of any file.
 */
#include "fdcheck.h"
#include "html/page.h"
#include "html/template.h"
#include "target/build_id.h"

#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A report in which every member that the template and the charts read is present. */
static const char full[] =
    "{\"godwit\":\"0.1.0\",\"command\":\"migrate\",\"began\":\"2026-01-01T00:00:00Z\","
    "\"verdict\":\"FAILED\",\"reason\":\"because\",\"severity\":\"data loss\",\"exit_status\":1,"
    "\"seed\":42,\"command_line\":\"godwit migrate a b\",\"duration_ns\":2000000000,"
    "\"host\":{\"name\":\"h\",\"kernel\":\"k\",\"machine\":\"m\",\"processor\":\"p\","
    "\"processors\":2,\"memory_bytes\":1073741824},"
    "\"backends\":[{\"name\":\"source\",\"target\":\"prog\",\"executable\":\"/bin/prog\","
    "\"build_id\":\"abcd\",\"features\":{\"value\":\"0x1\",\"bits\":[{\"bit\":0,\"name\":null}]},"
    "\"protocol_features\":{\"value\":\"0x0\",\"bits\":[]}}],"
    "\"options\":{\"device\":\"blk\",\"postcopy\":{\"at_round\":1},\"to\":null},"
    "\"checks\":[{\"name\":\"pages-marked\",\"title\":\"t\",\"outcome\":\"failed\",\"text\":\"x\","
    "\"rule\":\"the rule\"}],"
    "\"faults\":[{\"at_ns\":1,\"hop\":1,\"who\":\"source\",\"side\":\"source\",\"phase\":\"copy\","
    "\"text\":\"f\",\"evidence\":[{\"who\":\"source\",\"messages\":[{\"at_ns\":5,\"text\":\"m\"}],"
    "\"output\":[\"last words\"]}]}],"
    "\"load\":{\"requests\":5,\"reads\":2,\"requests_per_second_log_on\":12.5},"
    "\"hops\":[{\"hop\":1,\"source\":\"a\",\"destination\":\"b\",\"stop_ns\":1000000000,"
    "\"end_ns\":1100000000,\"downtime_ns\":9000000,\"device_stop_ns\":2000000,"
    "\"device_start_ns\":3000000,\"pages_lost\":2,\"postcopy\":{\"faults\":2}}],"
    "\"rounds\":[{\"hop\":1,\"number\":0,\"at_ns\":300000000,\"duration_ns\":5,\"pages\":7,"
    "\"is_final\":true}],"
    "\"lost_by_use\":{\"data buffer\":2},"
    "\"lost\":[{\"page\":\"0x1000\",\"first\":\"0x1001\",\"bytes\":3,\"hop\":1,"
    "\"use\":\"data buffer\",\"is_hint\":false,\"text\":\"of request 1\"},"
    "{\"page\":\"0x2000\",\"use\":\"avail_event\",\"is_hint\":true}],"
    "\"events\":[{\"at_ns\":400000000,\"kind\":\"log replaced\"}],"
    "\"page_faults\":{\"at_ns\":[1200000000,1200000001],\"latency_ns\":[20000,30000]},"
    "\"samples\":{\"at_ns\":[10000000,20000000],\"requests\":[3,4],\"bytes\":[1,2],"
    "\"worst_stall_ns\":[100,200],\"worst_latency_ns\":[300,400]}}";

static char why[256];

/* Returns: the page, to be freed; NULL after an error, with the reason in `why`. */
static char *make(const char *json, size_t len, int *ret_r)
{
    char *page = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&page, &size);

    assert_non_null(out);
    why[0] = '\0';
    *ret_r = page_make(json, len, out, why, sizeof(why));
    assert_int_equal(fclose(out), 0);
    assert_int_equal(*ret_r < 0, why[0] != '\0');
    if (*ret_r == 0)
        return page;
    free(page);
    return NULL;
}

static char *page_of_text(const char *json)
{
    int r;
    char *page = make(json, strlen(json), &r);

    if (page == NULL)
        fail_msg("%s: %s", why, json);
    return page;
}

static void assert_has(const char *text, const char *part)
{
    if (text == NULL || strstr(text, part) == NULL)
        fail_msg("\"%s\" is not in:\n%s", part, text != NULL ? text : "nothing");
}

static void assert_refused(const char *json, size_t len, int expected, const char *reason)
{
    int r;
    char *page = make(json, len, &r);

    assert_null(page);
    assert_int_equal(r, expected);
    assert_has(why, reason);
}

/* No tag of the template remains, no element of a value gets in, and the page is complete. */
static void assert_sound(const char *page)
{
    assert_null(strstr(page, "{{"));
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "nan"));
    assert_has(page, "</html>");
}

static void test_page_shows_everything(void **state)
{
    static const char *const parts[] = {
        "<div class=\"verdict failed\"><b>FAILED</b> (exit status 1)",
        "Rule broken: the rule",
        "<pre>godwit migrate a b</pre>",
        "seed 42, godwit 0.1.0 on h",
        "<code>abcd</code>",
        "<span>bit 0</span>",
        "<h3>data buffer: 2 pages</h3>",
        "<h3 class=\"is-hint\">avail_event: 0 pages (hint: no data lost)</h3>",
        "0.000000 s  m",
        "last words",
        "<h3>Page faults</h3>",
        "<td>device</td><td>blk</td>",
        "<td>to</td><td>none</td>",
        "aria-label=\"Dirty pages per round\"",
        "aria-label=\"Parts of the downtime of each hop\"",
        "k, m",
    };
    char *page = page_of_text(full);

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        assert_has(page, parts[i]);
    assert_sound(page);
    free(page);
}

static void test_page_of_a_bare_report_is_complete(void **state)
{
    static const char *const commands[] = {"migrate", "crash", "bench", "probe"};
    char json[96];

    for (size_t i = 0; i < 4; i++) {
        char *page;

        snprintf(json, sizeof(json), "{\"godwit\":\"9\",\"command\":\"%s\"}", commands[i]);
        page = page_of_text(json);
        assert_sound(page);
        free(page);
    }
}

static void test_page_of_other_input_is_refused(void **state)
{
    static const struct {
        const char *json, *reason;
    } cases[] = {
        {"", "incomplete"},
        {"  ", "incomplete"},
        {"{", "incomplete"},
        {"nul", "incomplete"},
        {"<html>", "not JSON at byte 1"},
        {"{} {}", "more after its end"},
        {"[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]", "not JSON"},
        {"{\"a\":\"\xff\"}", "utf-8"},
        {"{\"a\":\"\xed\xa0\x80\"}", ""},
        {"null\n", "not a report"},
        {"[]", "not a report"},
        {"{}", "not a report"},
        {"{\"godwit\":\"1\"}", "not a report"},
        {"{\"godwit\":\"1\",\"command\":\"fly\"}", "not a report"},
        {"{\"godwit\":1,\"command\":\"probe\"}", "not a report"},
        {"{\"godwit\":\"1\",\"command\":[\"probe\"]}", "not a report"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_refused(cases[i].json, strlen(cases[i].json), -EINVAL, cases[i].reason);
    assert_refused("{}\0", 3, -EINVAL, "NUL byte");
    assert_refused("\0{}", 3, -EINVAL, "NUL byte");
}

/* Whatever follows is missing. */
static void test_page_of_a_truncated_report_is_refused(void **state)
{
    for (size_t len = 0; len < sizeof(full) - 1; len += 3)
        assert_refused(full, len, -EINVAL, "");
}

/* One byte after another is another one: no page, or a sound one. */
static void test_page_of_a_damaged_report_is_sound(void **state)
{
    static const char bytes[] = {'\0', '"', '{', ']', '<', '9', '-', '\\', '\xff'};
    char json[sizeof(full)];

    for (size_t i = 0; i < sizeof(full) - 1; i += 2) {
        char *page;
        int r;

        memcpy(json, full, sizeof(full));
        json[i] = bytes[i % sizeof(bytes)];
        page = make(json, sizeof(full) - 1, &r);
        assert_true(r == 0 || r == -EINVAL);
        if (page != NULL)
            assert_sound(page);
        free(page);
    }
}

/* Replace the values of a document, one after another in depth-first order. Returns: done. */
static bool replace(struct json_object *json, unsigned *n, struct json_object *by)
{
    if (json_object_is_type(json, json_type_object)) {
        json_object_object_foreach(json, key, value)
        {
            bool is_name = strcmp(key, "godwit") == 0 || strcmp(key, "command") == 0;

            if (!is_name && (*n)-- == 0)
                return json_object_object_add(json, key, json_object_get(by)) == 0;
            if (replace(value, n, by))
                return true;
        }
    }
    for (size_t i = 0;
         json_object_is_type(json, json_type_array) && i < json_object_array_length(json); i++) {
        if ((*n)-- == 0)
            return json_object_array_put_idx(json, i, json_object_get(by)) == 0;
        if (replace(json_object_array_get_idx(json, i), n, by))
            return true;
    }
    return false;
}

/* Each value has some other type or extreme, and each of these is somewhere. */
static void test_page_of_wrong_types_is_sound(void **state)
{
    static const char *const values[] = {
        "null",
        "true",
        "-1",
        "18446744073709551615",
        "-9223372036854775808",
        "1e308",
        "-1e308",
        "0.5",
        "\"\"",
        "\"<script>&\\\"'\\u0000\\u0001\"",
        "[]",
        "{}",
        "[[1],null,\"x\"]",
        "{\"<b>\":{\"bits\":3}}",
        "[1,2,3,4,5,6,7,8,9]",
    };
    const unsigned n_values = sizeof(values) / sizeof(values[0]);
    bool is_replaced = true;

    for (unsigned n = 0; is_replaced; n++) {
        for (unsigned k = 0; k < 2; k++) {
            struct json_object *by = json_tokener_parse(values[(n * 2 + k) % n_values]);
            struct json_object *json = json_tokener_parse(full);
            unsigned left = n;
            char *page;

            is_replaced = replace(json, &left, by);
            page = page_of_text(json_object_to_json_string_ext(json, 0));
            assert_sound(page);
            free(page);
            json_object_put(json);
            json_object_put(by);
        }
    }
}

static void test_page_of_text_is_escaped(void **state)
{
    char *page = page_of_text(
        "{\"godwit\":\"1\",\"command\":\"probe\",\"verdict\":\"x\\\" onload=\\\"y\","
        "\"reason\":\"</div><script>a\\u0000b</script>\",\"target\":\"&amp;\\u001b[31m\"}");

    assert_has(page, "<div class=\"verdict x-onload-y\">");
    assert_has(page, "&lt;/div&gt;&lt;script&gt;a?b&lt;/script&gt;");
    assert_has(page, "&amp;amp;?[31m");
    assert_sound(page);
    free(page);
}

static void test_page_of_huge_input_is_refused(void **state)
{
    size_t len = PAGE_VALUES_MAX + 2;
    char *json = malloc(len);

    assert_non_null(json);
    memset(json, ',', len);
    assert_refused(json, len, -EFBIG, "million values");
    free(json);
    assert_refused("", (size_t)PAGE_INPUT_MAX + 1, -EFBIG, "256 MiB");
}

/* Long lists: the charts keep their limits, and a list that fills the page ends it. */
static void test_page_of_long_lists_is_limited(void **state)
{
    static const char *const lists[] = {"rounds", "events", "samples", "checks"};

    for (size_t i = 0; i < 4; i++) {
        char *json = NULL, *page;
        size_t size = 0;
        FILE *out = open_memstream(&json, &size);
        int r;

        fputs("{\"godwit\":\"1\",\"command\":\"migrate\",\"duration_ns\":5,", out);
        fprintf(out, i == 2 ? "\"%s\":{\"at_ns\":[0" : "\"%s\":[0", lists[i]);
        for (unsigned k = 0; k < 20000 && i < 3; k++)
            fputs(",9", out);
        for (unsigned k = 0; k < 5000 && i == 3; k++)
            fprintf(out, ",{\"text\":\"%016000u\"}", k);
        fputs(i == 2 ? "]}}" : "]}", out);
        fclose(out);
        page = make(json, size, &r);
        assert_int_equal(r, i == 3 ? -EFBIG : 0);
        assert_true(page == NULL || strlen(page) < 8 << 20);
        free(page);
        free(json);
    }
}

/* ---- The template ---- */

static void no_chart(const char *name, const void *arg, FILE *out)
{
    fprintf(out, "(%s)", name);
}

static int filled(const char *text, const char *json, char **ret)
{
    struct json_object *document = json_tokener_parse(json);
    size_t size = 0;
    FILE *out = open_memstream(ret, &size);
    int r = template_fill(text, document, no_chart, NULL, out);

    fclose(out);
    json_object_put(document);
    return r;
}

static void test_template_tags(void **state)
{
    static const char json[] =
        "{\"a\":\"<x>\",\"n\":1234567,\"f\":0.5,\"l\":[{\"k\":1},{\"k\":2}],"
        "\"o\":{\"x_y\":1,\"z\":null},\"e\":[],\"t\":true,\"s\":\"Big, Red\"}";
    static const char *const cases[][2] = {
        {"plain", "plain"},
        {"{{a}} {{missing}}", "&lt;x&gt; none"},
        {"{{count n}} {{time n}} {{bytes n}} {{rate f}}", "1,234,567 1.23 ms 1.18 MiB 0"},
        {"{{count a}} {{count missing}}", "? -"},
        {"{{#l}}{{@number}}:{{k}} {{/}}", "1:1 2:2 "},
        {"{{#l}}{{/n}},{{/}}", "1234567,1234567,"},
        {"{{*o}}{{@key}}={{.}};{{/}}", "x y=1;z=none;"},
        {"{{o.x_y}}{{o.x_y.q}}", "1none"},
        {"{{?t}}yes{{/}}{{^t}}no{{/}}{{?e}}yes{{/}}{{^e}}no{{/}}", "yesno"},
        {"{{?t}}{{?e}}{{#l}}{{/}}{{/}}x{{/}}", "x"},
        {"{{=s Big, Red}}equal{{/}}{{=s Big}}no{{/}}", "equal"},
        {"{{class s}} {{class n}}", "big-red "},
        {"{{words s}}{{chart c}}", "Big, Red(c)"},
        {"{{#a}}x{{/}}{{#n}}x{{/}}{{*l}}x{{/}}", ""},
        {"{{?t}}", NULL},
        {"{{/}}", NULL},
        {"{{a", NULL},
        {"{{}}", NULL},
        {"{{what n}}", NULL},
        {"{{=a}}{{/}}", NULL},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *text = NULL;
        int r = filled(cases[i][0], json, &text);

        if (cases[i][1] == NULL)
            assert_int_equal(r, -EINVAL);
        else
            assert_int_equal(r, 0);
        if (cases[i][1] != NULL)
            assert_string_equal(text, cases[i][1]);
        free(text);
    }
}

/* ---- The build-id ---- */

static int build_id_of(const void *bytes, size_t size, char *ret)
{
    char path[] = "/tmp/test_page.XXXXXX";
    int fd = mkstemp(path), r;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), (ssize_t)size);
    close(fd);
    r = build_id_read(path, ret);
    unlink(path);
    return r;
}

struct program {
    Elf64_Ehdr header;
    Elf64_Phdr segment;
    Elf64_Nhdr other, note;
    char name[4];
    uint8_t id[20];
};

static struct program make_program(void)
{
    struct program p = {
        .header = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64},
                   .e_phoff = offsetof(struct program, segment),
                   .e_phentsize = sizeof(Elf64_Phdr),
                   .e_phnum = 1},
        .segment = {.p_type = PT_NOTE,
                    .p_offset = offsetof(struct program, other),
                    .p_filesz = sizeof(struct program) - offsetof(struct program, other)},
        .note = {.n_namesz = 4, .n_descsz = 20, .n_type = NT_GNU_BUILD_ID},
        .name = "GNU",
        .id = {0xab, 0xcd},
    };

    return p;
}

static void test_build_id_is_found(void **state)
{
    struct program p = make_program();
    char id[BUILD_ID_SIZE] = "";

    assert_int_equal(build_id_of(&p, sizeof(p), id), 0);
    assert_string_equal(id, "abcd000000000000000000000000000000000000");
}

static void test_build_id_of_any_file_is_refused(void **state)
{
    struct program p = make_program(), damaged;
    char id[BUILD_ID_SIZE] = "kept";

    assert_int_equal(build_id_read("/nowhere/at/all", id), -ENOENT);
    assert_true(build_id_read("/", id) < 0);
    assert_int_equal(build_id_of("#!/bin/sh\n", 10, id), -ENOEXEC);
    for (size_t size = 0; size < sizeof(p); size++)
        assert_true(build_id_of(&p, size, id) < 0);
    damaged = p;
    damaged.note.n_descsz = UINT32_MAX;
    assert_int_equal(build_id_of(&damaged, sizeof(p), id), -ENODATA);
    damaged = p;
    damaged.other.n_namesz = UINT32_MAX;
    assert_int_equal(build_id_of(&damaged, sizeof(p), id), -ENODATA);
    damaged = p;
    damaged.segment.p_offset = UINT64_MAX - 3;
    assert_int_equal(build_id_of(&damaged, sizeof(p), id), -ENODATA);
    damaged = p;
    damaged.header.e_phoff = UINT64_MAX;
    assert_int_equal(build_id_of(&damaged, sizeof(p), id), -ENOEXEC);
    damaged = p;
    damaged.header.e_ident[EI_CLASS] = ELFCLASS32;
    assert_int_equal(build_id_of(&damaged, sizeof(p), id), -ENOEXEC);
    assert_string_equal(id, "kept");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_page_shows_everything),
        FDCHECK_TEST(test_page_of_a_bare_report_is_complete),
        FDCHECK_TEST(test_page_of_other_input_is_refused),
        FDCHECK_TEST(test_page_of_a_truncated_report_is_refused),
        FDCHECK_TEST(test_page_of_a_damaged_report_is_sound),
        FDCHECK_TEST(test_page_of_wrong_types_is_sound),
        FDCHECK_TEST(test_page_of_text_is_escaped),
        FDCHECK_TEST(test_page_of_huge_input_is_refused),
        FDCHECK_TEST(test_page_of_long_lists_is_limited),
        FDCHECK_TEST(test_template_tags),
        FDCHECK_TEST(test_build_id_is_found),
        FDCHECK_TEST(test_build_id_of_any_file_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
