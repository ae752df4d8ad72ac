/* SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause */
/* Text for people: where lines are wrapped, how continuations are indented, and when colours are
 * used.
 */
#include "fdcheck.h"
#include "text.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

static void assert_printed(const char *text, struct text_style style, const char *expected)
{
    char *printed = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&printed, &size);

    assert_non_null(out);
    text_print(text, style, out);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(printed, expected);
    free(printed);
}

static void test_text_wraps_between_words(void **state)
{
    static const struct text_style style = {.width = 40};
    static const char *const cases[][2] = {
        {"", ""},
        {"\n\n", "\n\n"},
        {"short\n", "short\n"},
        {"no newline", "no newline\n"},
        {"1234567890 1234567890 1234567890 1234567\n",
         "1234567890 1234567890 1234567890 1234567\n"},
        {"1234567890 1234567890 1234567890 12345678\n",
         "1234567890 1234567890 1234567890\n    12345678\n"},
        {"passed      a check of some length: and what it found\n",
         "passed      a check of some length: and\n            what it found\n"},
        {"            indented like the text of a label, and long\n",
         "            indented like the text of a\n            label, and long\n"},
        {"    page 0x1000: 512 bytes from 0x1200 on: data\n",
         "    page 0x1000: 512 bytes from 0x1200\n        on: data\n"},
        {"word aVeryLongWordThatFitsIntoNoLineWhateverIsDoneAboutIt end\n",
         "word\n    aVeryLongWordThatFitsIntoNoLineWhateverIsDoneAboutIt\n    end\n"},
        {"repeat      godwit migrate --seed=1 'a command line' with words\n",
         "repeat      godwit migrate --seed=1 'a command line' with words\n"},
        /* A character of two bytes takes one column. */
        {"\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4 67890 1234567890 1234567890 123456\n",
         "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4 67890 1234567890 1234567890 123456\n"},
        {"blanks at the end of a line are dropped      \n",
         "blanks at the end of a line are dropped\n"},
        {"\033[2J\177\a\n", "?[2J??\n"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_printed(cases[i][0], style, cases[i][1]);
}

static void test_text_colours_verdicts(void **state)
{
    static const struct text_style style = {.width = 40, .has_color = true};
    static const char *const cases[][2] = {
        {"passed      a check\n", "\033[32mpassed\033[0m      a check\n"},
        {"FAILED      a check of some length: and what it found\n",
         "\033[1;31mFAILED\033[0m      a check of some length: and\n            what it found\n"},
        {"PASSED, with hints after 2 s: x\n", "\033[1;33mPASSED, with hints\033[0m after 2 s: x\n"},
        {"PASSED after 2 s: x\n", "\033[1;32mPASSED\033[0m after 2 s: x\n"},
        {"passedx\n", "passedx\n"},
        {"    passed \n", "    passed \n"},
        {"load        5 requests\n", "load        5 requests\n"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_printed(cases[i][0], style, cases[i][1]);
}

/* A stream on a terminal of that many columns. */
static FILE *open_terminal(int *ret_master, unsigned short columns)
{
    struct winsize size = {.ws_row = 25, .ws_col = columns};
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    FILE *file;
    int fd;

    assert_true(master >= 0);
    assert_int_equal(grantpt(master) | unlockpt(master), 0);
    assert_int_equal(ioctl(master, TIOCSWINSZ, &size), 0);
    fd = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(fd >= 0);
    file = fdopen(fd, "r+");
    assert_non_null(file);
    *ret_master = master;
    return file;
}

static void assert_style(FILE *file, enum text_color color, unsigned width, bool has_color)
{
    struct text_style style = text_style_of(file, color);

    assert_int_equal(style.width, width);
    assert_int_equal(style.has_color, has_color);
}

static void test_text_style_follows_the_terminal(void **state)
{
    static const unsigned short columns[][2] = {{200, 80}, {80, 80}, {60, 60}, {10, 40}, {0, 80}};
    int master;
    FILE *file;

    unsetenv("COLUMNS");
    unsetenv("NO_COLOR");
    setenv("TERM", "xterm", 1);
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
        file = open_terminal(&master, columns[i][0]);
        assert_style(file, TEXT_COLOR_AUTO, columns[i][1], true);
        fclose(file);
        close(master);
    }
    file = open_terminal(&master, 80);
    assert_style(file, TEXT_COLOR_NEVER, 80, false);
    setenv("NO_COLOR", "", 1); /* empty does not count */
    assert_style(file, TEXT_COLOR_AUTO, 80, true);
    setenv("NO_COLOR", "1", 1);
    assert_style(file, TEXT_COLOR_AUTO, 80, false);
    assert_style(file, TEXT_COLOR_ALWAYS, 80, true);
    unsetenv("NO_COLOR");
    setenv("TERM", "dumb", 1);
    assert_style(file, TEXT_COLOR_AUTO, 80, false);
    fclose(file);
    close(master);
}

static void test_text_style_without_a_terminal(void **state)
{
    FILE *file = fopen("/dev/null", "we");

    assert_non_null(file);
    unsetenv("COLUMNS");
    assert_style(file, TEXT_COLOR_AUTO, 80, false);
    assert_style(file, TEXT_COLOR_ALWAYS, 80, true);
    setenv("COLUMNS", "1000", 1);
    assert_style(file, TEXT_COLOR_AUTO, 1000, false);
    setenv("COLUMNS", "soon", 1);
    assert_style(file, TEXT_COLOR_AUTO, 80, false);
    setenv("COLUMNS", "7", 1);
    assert_style(file, TEXT_COLOR_AUTO, 80, false);
    unsetenv("COLUMNS");
    fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FDCHECK_TEST(test_text_wraps_between_words),
        FDCHECK_TEST(test_text_colours_verdicts),
        FDCHECK_TEST(test_text_style_follows_the_terminal),
        FDCHECK_TEST(test_text_style_without_a_terminal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
