/* test_buf.c - util/buf.h, util/size.h, util/error.h */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"
#include "util/buf.h"
#include "util/error.h"
#include "util/size.h"

TEST(buf_grows_and_stays_terminated)
{
    AUTO(buf) b = BUF_INIT(100000);
    CHECK_STR(buf_string(&b), "");
    for (int i = 0; i < 1000; i++)
        CHECK_INT(buf_printf(&b, "%d,", i), AMX_OK);
    CHECK_INT(b.n, 10 * 2 + 90 * 3 + 900 * 4);
    CHECK_INT(strlen(buf_string(&b)), b.n);
    CHECK(strncmp(b.bytes, "0,1,2,3,", 8) == 0);
    buf_clear(&b);
    CHECK_INT(b.n, 0);
    CHECK_STR(buf_string(&b), "");
}

TEST(buf_keeps_its_limit_and_its_first_failure)
{
    AUTO(buf) b = BUF_INIT(5);
    CHECK_INT(buf_text(&b, "abc"), AMX_OK);
    CHECK_INT(buf_text(&b, "def"), AMX_TOO_LARGE);
    CHECK_STR(buf_string(&b), "abc");
    CHECK_INT(buf_char(&b, 'd'), AMX_TOO_LARGE); /* would fit, but the failure sticks */
    CHECK_INT(buf_printf(&b, "%d", 1), AMX_TOO_LARGE);
    CHECK(buf_reserve(&b, 1) == NULL);
    size_t n = 7;
    CHECK(buf_take(&b, &n) == NULL);
    buf_clear(&b);
    CHECK_INT(buf_text(&b, "12345"), AMX_OK);
    CHECK(buf_reserve(&b, SIZE_MAX) == NULL);
    CHECK_INT(b.status, AMX_TOO_LARGE);
}

TEST(buf_take_hands_over)
{
    struct buf b;
    buf_init(&b, 10);
    size_t n = 7;
    char *bytes = buf_take(&b, &n);
    CHECK_STR(bytes, "");
    CHECK_INT(n, 0);
    free(bytes);
    (void)buf_append(&b, "a\0b", 3);
    bytes = buf_take(&b, &n);
    CHECK_INT(n, 3);
    CHECK(bytes != NULL && memcmp(bytes, "a\0b", 4) == 0);
    free(bytes);
    CHECK(b.bytes == NULL);
}

TEST(size_overflow_is_seen)
{
    size_t n = 1;
    CHECK(size_mul(&n, 6, 7));
    CHECK_INT(n, 42);
    CHECK(!size_mul(&n, SIZE_MAX, 2));
    CHECK(size_add(&n, SIZE_MAX, 0));
    CHECK(!size_add(&n, SIZE_MAX, 1));
}

TEST(error_is_cut_between_characters)
{
    struct amx_error err;
    char text[300];
    for (size_t i = 0; i < sizeof text - 1; i++)
        text[i] = i % 2 == 0 ? '\xC3' : '\xA9'; /* é, two bytes; the field holds 199: an odd number */
    text[sizeof text - 1] = '\0';
    CHECK_INT(error_set_line(&err, AMX_INVALID, 7, "%s", text), AMX_INVALID);
    CHECK_INT(strlen(err.text), 198);
    CHECK_INT(err.line, 7);
    CHECK_STR(err.pointer, "");
    CHECK_INT(error_set(NULL, AMX_BUSY, "nobody hears it"), AMX_BUSY);
    (void)error_set(&err, AMX_IO, "plain");
    CHECK_STR(err.text, "plain");
    CHECK_INT(err.line, 0);
}

TEST(error_is_readable_whatever_it_quotes)
{
    static const struct {
        const char *quoted, *text;
    } cases[] = {{"caf\xC3\xA9", "caf\xC3\xA9."},
                 {"\xC3", "?."},
                 {"a\xFF\xFE", "a??."},
                 {"\x1B[31m\x7F", "?[31m?."},
                 {"\xF0\x9F\x98\x80\xF0\x9F", "\xF0\x9F\x98\x80??."}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct amx_error err;
        CHECK_INT(error_set(&err, AMX_INVALID, "%s.", cases[i].quoted), AMX_INVALID);
        CHECK_STR(err.text, cases[i].text);
    }
}
