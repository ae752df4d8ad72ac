/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/*
 * The container of a device's state: what one version writes another reads or refuses, and no cut,
 * damaged or endless bytes pass as a state.
 */
#include "core/state/container.h"
#include "core/state/crc32c.h"
#include "fdcheck.h"

#include <errno.h>
#include <godwit/log.h>
#include <godwit/state.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DEVICE  "example"
#define VERSION 3

enum {
    ID_NUMBER = 1,
    ID_TABLE = 2,
    ID_LATER = 99,
};

/* The device of the tests: a number, and a table in as many sections as it likes. */
struct device {
    uint8_t number[4];
    uint8_t table[64];
    size_t table_len;
    unsigned n_sections;
    uint32_t version;
};

static int take(void *arg, const struct gw_state_section *s)
{
    struct device *d = arg;

    d->n_sections++;
    d->version = s->version;
    if (s->id == ID_NUMBER && s->len == sizeof(d->number)) {
        memcpy(d->number, s->data, s->len);
        return 0;
    }
    if (s->id == ID_TABLE && s->len <= sizeof(d->table) - d->table_len) {
        memcpy(d->table + d->table_len, s->data, s->len);
        d->table_len += s->len;
        return 0;
    }
    return s->id == ID_NUMBER || s->id == ID_TABLE ? -EBADMSG : -ENOENT;
}

static const struct device expected = {
    .number = {1, 2, 3, 4}, .table = "a table in two parts", .table_len = 21, .version = VERSION};

/* A state of `expected`, with an unknown section that has `flags`. */
static struct gw_state_writer *write_state(uint32_t flags)
{
    struct gw_state_writer *w;

    assert_int_equal(gw_state_writer_new(&w, DEVICE, VERSION), 0);
    assert_int_equal(gw_state_writer_add(w, ID_NUMBER, GW_STATE_REQUIRED, expected.number, 4), 0);
    assert_int_equal(gw_state_writer_add(w, ID_TABLE, 0, expected.table, 8), 0);
    assert_int_equal(gw_state_writer_add(w, ID_LATER, flags, "unknown", 7), 0);
    assert_int_equal(gw_state_writer_add(w, ID_TABLE, 0, NULL, 0), 0);
    assert_int_equal(gw_state_writer_add(w, ID_TABLE, 0, expected.table + 8, 13), 0);
    assert_int_equal(gw_state_writer_end(w), 0);
    return w;
}

/* Read `len` bytes in pieces of `piece`. Returns: the result, with gw_last_error. */
static int read_state(struct device *d, const void *data, size_t len, size_t piece)
{
    struct gw_state_reader *r;
    int result = 0;

    *d = (struct device){.version = 0};
    assert_int_equal(gw_state_reader_new(&r, DEVICE, VERSION, take, d), 0);
    for (size_t at = 0; at < len && result == 0; at += piece)
        result = gw_state_reader_feed(r, (const uint8_t *)data + at,
                                      len - at < piece ? len - at : piece);
    if (result == 0)
        result = gw_state_reader_end(r);
    else
        assert_int_equal(gw_state_reader_end(r), result); /* and stays so */
    gw_state_reader_free(r);
    return result;
}

static void expect_refusal(const void *data, size_t len, int error, const char *why)
{
    struct device d;

    assert_int_equal(read_state(&d, data, len, len), error);
    assert_non_null(strstr(gw_last_error(), why));
    assert_int_equal(read_state(&d, data, len, 1), error);
    assert_non_null(strstr(gw_last_error(), why));
}

static void test_state_crc32c_is_castagnoli(void **state)
{
    uint8_t bytes[32];

    assert_int_equal(gw_crc32c(0, "123456789", 9), 0xe3069283);
    memset(bytes, 0, sizeof(bytes)); /* RFC 3720, B.4 */
    assert_int_equal(gw_crc32c(0, bytes, sizeof(bytes)), 0x8a9136aa);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(gw_crc32c(0, bytes, sizeof(bytes)), 0x62a8ab43);
    for (size_t i = 0; i <= 9; i++)
        assert_int_equal(gw_crc32c(gw_crc32c(0, "123456789", i), &"123456789"[i], 9 - i),
                         0xe3069283);
}

static void test_state_in_pieces_of_any_size_is_read(void **state)
{
    struct gw_state_writer *w = write_state(0);
    struct device d;
    size_t len;
    const uint8_t *data = gw_state_writer_data(w, &len);

    for (size_t piece = 1; piece <= len; piece++) {
        assert_int_equal(read_state(&d, data, len, piece), 0);
        assert_int_equal(d.n_sections, 5);
        d.n_sections = 0;
        assert_memory_equal(&d, &expected, sizeof(d));
    }
    gw_state_writer_free(w);
}

static void test_state_writer_gives_pieces_of_any_size(void **state)
{
    struct gw_state_writer *w;
    uint8_t got[1024];
    size_t len, n = 0;

    assert_int_equal(gw_state_writer_new(&w, DEVICE, VERSION), 0);
    assert_int_equal(gw_state_writer_read(w, got, sizeof(got)), 0); /* has not ended */
    assert_int_equal(gw_state_writer_add(w, ID_NUMBER, 0, "1234", 4), 0);
    assert_int_equal(gw_state_writer_end(w), 0);
    assert_int_equal(gw_state_writer_end(w), 0);
    for (size_t piece = 1;; piece++) {
        size_t r = gw_state_writer_read(w, got + n, piece);

        n += r;
        if (r == 0)
            break;
    }
    assert_memory_equal(gw_state_writer_data(w, &len), got, n);
    assert_int_equal(n, len);
    assert_int_equal(gw_state_writer_add(w, ID_NUMBER, 0, "1234", 4), -EPERM);
    gw_state_writer_free(w);
}

static void test_state_cut_at_any_byte_is_refused(void **state)
{
    struct gw_state_writer *w = write_state(0);
    struct device d;
    size_t len;
    const uint8_t *data = gw_state_writer_data(w, &len);

    for (size_t cut = 0; cut < len; cut++) {
        assert_int_equal(read_state(&d, data, cut, len), -EBADMSG);
        assert_non_null(strstr(gw_last_error(), "incomplete"));
    }
    gw_state_writer_free(w);
}

static void test_state_damaged_at_any_byte_is_refused(void **state)
{
    struct gw_state_writer *w = write_state(0);
    uint8_t *copy;
    struct device d;
    size_t len;
    const uint8_t *data = gw_state_writer_data(w, &len);

    copy = malloc(len);
    assert_non_null(copy);
    for (size_t at = 0; at < len; at++) {
        for (unsigned change = 1; change < 256; change = change * 2 + (change & 1)) {
            memcpy(copy, data, len);
            copy[at] ^= (uint8_t)change;
            assert_int_equal(read_state(&d, copy, len, len), -EBADMSG);
        }
    }
    free(copy);
    gw_state_writer_free(w);
}

static void test_state_without_a_part_is_refused(void **state)
{
    struct gw_state_writer *w = write_state(0);
    struct device d;
    uint8_t *copy;
    size_t len;
    const uint8_t *data = gw_state_writer_data(w, &len);

    copy = malloc(len);
    assert_non_null(copy);
    for (size_t at = 0; at < len; at++) {
        for (size_t n = 1; n < len - at; n++) {
            memcpy(copy, data, at);
            memcpy(copy + at, data + at + n, len - at - n);
            assert_int_not_equal(read_state(&d, copy, len - n, len), 0);
        }
    }
    free(copy);
    gw_state_writer_free(w);
}

static void test_state_with_bytes_behind_it_is_refused(void **state)
{
    struct gw_state_writer *w = write_state(0);
    uint8_t copy[1024] = {0};
    size_t len;
    const void *data = gw_state_writer_data(w, &len);

    memcpy(copy, data, len);
    expect_refusal(copy, len + 1, -EBADMSG, "follow its end");
    gw_state_writer_free(w);
}

static void test_state_with_unknown_required_section_is_refused(void **state)
{
    struct gw_state_writer *w = write_state(GW_STATE_REQUIRED);
    size_t len;
    const void *data = gw_state_writer_data(w, &len);

    expect_refusal(data, len, -EOPNOTSUPP, "section 0x63 is required");
    gw_state_writer_free(w);
}

/* Change the header and correct its checksum. */
static void patch_header(uint8_t *copy, unsigned at, uint32_t value)
{
    gw_put_le32(copy + at, value);
    gw_put_le32(copy + 32, gw_crc32c(0, copy, 32));
}

static void test_state_of_later_version_is_refused(void **state)
{
    struct gw_state_writer *w = write_state(0);
    uint8_t copy[1024];
    struct device d;
    size_t len;
    const void *data = gw_state_writer_data(w, &len);

    memcpy(copy, data, len);
    patch_header(copy, 8, GW_STATE_VERSION + 1);
    expect_refusal(copy, len, -EOPNOTSUPP, "container version 2");
    memcpy(copy, data, len);
    patch_header(copy, 12, VERSION + 1);
    expect_refusal(copy, len, -EOPNOTSUPP, "version 4 of device \"example\"");
    memcpy(copy, data, len);
    patch_header(copy, 12, VERSION - 1);
    assert_int_equal(read_state(&d, copy, len, 7), 0);
    assert_int_equal(d.version, VERSION - 1);
    gw_state_writer_free(w);
}

static void test_state_of_another_device_is_refused(void **state)
{
    struct gw_state_writer *w;
    size_t len;
    const void *data;

    assert_int_equal(gw_state_writer_new(&w, "another", VERSION), 0);
    assert_int_equal(gw_state_writer_end(w), 0);
    data = gw_state_writer_data(w, &len);
    expect_refusal(data, len, -EINVAL, "belongs to device \"another\", not \"example\"");
    gw_state_writer_free(w);
    expect_refusal("This is a text and no state of a device.", 40, -EBADMSG, "magic");
}

/* A head of a section with a right checksum, whatever it says. */
static size_t put_head(uint8_t *p, uint32_t id, uint32_t flags, uint64_t len)
{
    gw_put_le32(p, id);
    gw_put_le32(p + 4, flags);
    gw_put_le64(p + 8, len);
    gw_put_le32(p + 16, gw_crc32c(0, p, 16));
    return GW_STATE_HEAD_LEN;
}

static void test_state_with_lying_head_is_refused(void **state)
{
    struct gw_state_writer *w;
    uint8_t copy[256];
    size_t len;

    assert_int_equal(gw_state_writer_new(&w, DEVICE, VERSION), 0);
    memcpy(copy, gw_state_writer_data(w, &len), GW_STATE_HEADER_LEN);
    assert_int_equal(len, GW_STATE_HEADER_LEN);
    gw_state_writer_free(w);
    (void)put_head(copy + len, ID_NUMBER, 0, (uint64_t)GW_STATE_SECTION_MAX + 1);
    expect_refusal(copy, sizeof(copy), -E2BIG, "limit");
    (void)put_head(copy + len, ID_NUMBER, 0, UINT64_MAX);
    expect_refusal(copy, sizeof(copy), -E2BIG, "limit");
    (void)put_head(copy + len, ID_NUMBER, 6, 4);
    expect_refusal(copy, sizeof(copy), -EOPNOTSUPP, "flags 0x6");
    (void)put_head(copy + len, GW_STATE_END_ID, 0, 4);
    expect_refusal(copy, sizeof(copy), -EBADMSG, "length of the last section");
    /* The longest section allocates what has arrived, not what is announced. */
    (void)put_head(copy + len, ID_NUMBER, 0, GW_STATE_SECTION_MAX);
    expect_refusal(copy, sizeof(copy), -EBADMSG, "incomplete");
}

static int refuse(void *arg, const struct gw_state_section *s)
{
    return -ERANGE;
}

static void test_state_that_the_device_refuses_fails(void **state)
{
    struct gw_state_writer *w = write_state(0);
    struct gw_state_reader *r;
    size_t len;
    const void *data = gw_state_writer_data(w, &len);

    assert_int_equal(gw_state_reader_new(&r, DEVICE, VERSION, refuse, NULL), 0);
    assert_int_equal(gw_state_reader_feed(r, data, len), -ERANGE);
    assert_non_null(strstr(gw_last_error(), "section 0x1 is refused"));
    gw_state_reader_free(r);
    gw_state_writer_free(w);
}

static void test_state_bad_arguments_are_refused(void **state)
{
    static uint8_t byte;
    struct gw_state_writer *w;
    struct gw_state_reader *r;

    assert_int_equal(gw_state_writer_new(&w, "", 1), -EINVAL);
    assert_int_equal(gw_state_writer_new(&w, "seventeen letters", 1), -EINVAL);
    assert_int_equal(gw_state_reader_new(&r, "", 1, take, NULL), -EINVAL);
    assert_int_equal(gw_state_reader_new(&r, "seventeen letters", 1, take, NULL), -EINVAL);
    assert_int_equal(gw_state_writer_new(&w, "sixteen letters!", 1), 0);
    assert_int_equal(gw_state_writer_add(w, GW_STATE_END_ID, 0, &byte, 1), -EINVAL);
    assert_int_equal(gw_state_writer_add(w, 1, 2, &byte, 1), -EINVAL);
    assert_int_equal(gw_state_writer_add(w, 1, 0, &byte, (size_t)GW_STATE_SECTION_MAX + 1), -E2BIG);
    assert_int_equal(gw_state_writer_add(w, 1, 0, &byte, SIZE_MAX), -E2BIG);
    gw_state_writer_free(w);
    gw_state_writer_free(NULL);
    gw_state_reader_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_state_crc32c_is_castagnoli),
        FDCHECK_TEST(test_state_in_pieces_of_any_size_is_read),
        FDCHECK_TEST(test_state_writer_gives_pieces_of_any_size),
        FDCHECK_TEST(test_state_cut_at_any_byte_is_refused),
        FDCHECK_TEST(test_state_damaged_at_any_byte_is_refused),
        FDCHECK_TEST(test_state_without_a_part_is_refused),
        FDCHECK_TEST(test_state_with_bytes_behind_it_is_refused),
        FDCHECK_TEST(test_state_with_unknown_required_section_is_refused),
        FDCHECK_TEST(test_state_of_later_version_is_refused),
        FDCHECK_TEST(test_state_of_another_device_is_refused),
        FDCHECK_TEST(test_state_with_lying_head_is_refused),
        FDCHECK_TEST(test_state_that_the_device_refuses_fails),
        FDCHECK_TEST(test_state_bad_arguments_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
