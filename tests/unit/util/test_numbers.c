/* test_numbers.c - util/numbers.h, util/utf8.h, util/random.h, util/digest.h */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"
#include "util/digest.h"
#include "util/numbers.h"
#include "util/random.h"
#include "util/utf8.h"

TEST(numbers_integers)
{
    int64_t i = 7;
    uint64_t u = 7;
    CHECK(number_int("-9223372036854775808", 20, &i) && i == INT64_MIN);
    CHECK(number_int("9223372036854775807", 19, &i) && i == INT64_MAX);
    CHECK(number_int("12x", 2, &i) && i == 12); /* the slice, not the string */
    CHECK(number_uint("18446744073709551615", 20, &u) && u == UINT64_MAX);
    static const char *const bad[] = {"", "-", "+1", " 1", "1 ", "0x1", "1.0", "1e3", "9223372036854775808", "--1"};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
        CHECK(!number_int(bad[k], strlen(bad[k]), &i));
    CHECK(!number_uint("18446744073709551616", 20, &u));
    CHECK(!number_uint("-1", 2, &u));
}

TEST(numbers_doubles_refused)
{
    double d = 7;
    static const char *const bad[] = {"",    "-",    ".",        "e5",    "1e",     "1e+", "nan",
                                      "NaN", "inf",  "Infinity", "-inf",  "0x10",   "1,5", " 1",
                                      "1 ",  "1..2", "1e5.0",    "1e999", "-1e999", "--1", "1d5"};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
        CHECK(!number_double(bad[k], strlen(bad[k]), &d));
    CHECK(d == 7);
}

TEST(numbers_doubles_as_strtod)
{
    static const char *const good[] = {"0",
                                       "-0",
                                       "+1",
                                       "1.",
                                       ".5",
                                       "1e-400",
                                       "0.1",
                                       "123456789.125",
                                       "1e22",
                                       "1e23",
                                       "-2.5E-3",
                                       "9007199254740993",
                                       "0.30000000000000004",
                                       "17976931348623157e292",
                                       "4.9e-324",
                                       "1.000000000000000000e+00",
                                       "00012",
                                       "123456789012345678901234567890"};
    for (size_t k = 0; k < sizeof good / sizeof *good; k++) {
        double d = 7;
        CHECK(number_double(good[k], strlen(good[k]), &d));
        double want = strtod(good[k], NULL);
        CHECK(memcmp(&d, &want, sizeof d) == 0);
    }
    uint64_t state = 1;
    for (int k = 0; k < 200000; k++) {
        char text[40];
        state = state * 6364136223846793005U + 1442695040888963407U;
        (void)snprintf(text, sizeof text, "%.*g", 1 + (int)(state >> 60),
                       ldexp((double)(state >> 11), (int)(state % 120) - 110));
        double d = 0;
        if (!number_double(text, strlen(text), &d) || d != strtod(text, NULL)) {
            CHECK_STR(text, "as strtod");
            break;
        }
    }
}

TEST(numbers_float_text_as_printf)
{
    static const float picked[] = {0,      -0.0F,     1,        -1,        0.1F,  0.5F,   1e-4F,         9.9999e-5F,
                                   1e-5F,  123456792, 1e9F,     999999936, 1e15F, 1e16F,  3.4028235e38F, 1e-38F,
                                   1e-45F, 0.3F,      16777216, 100,       1e8F,  1e-12F, 2.5e-3F};
    uint32_t state = 1;
    for (int k = 0; k < 1000000; k++) {
        float f;
        char text[NUMBER_TEXT_BYTES], want[40];
        uint32_t bits = state = state * 1664525U + 1013904223U;
        if (k < (int)(sizeof picked / sizeof *picked))
            f = picked[k];
        else if (k % 2 == 0)
            memcpy(&f, &bits, sizeof f);
        else
            f = (float)(bits >> 8) * 0x1p-24F; /* probabilities */
        size_t n = number_float_text(f, text);
        (void)snprintf(want, sizeof want, "%.9g", (double)f);
        if (!isfinite(f))
            want[0] = '\0';
        if (strcmp(text, want) != 0 || n != strlen(want)) {
            CHECK_STR(text, want);
            break;
        }
    }
}

TEST(utf8_validation)
{
    CHECK(utf8_valid("", 0));
    CHECK(utf8_valid("plain ascii text, more than 8", 29));
    CHECK(utf8_valid("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 9));
    CHECK(utf8_valid("\xF4\x8F\xBF\xBF", 4));
    static const char *const bad[] = {"\x80",
                                      "\xC0\x80",
                                      "\xC1\xBF",
                                      "\xC3",
                                      "\xE2\x82",
                                      "\xE0\x9F\xBF",
                                      "\xED\xA0\x80",
                                      "\xF0\x8F\xBF\xBF",
                                      "\xF4\x90\x80\x80",
                                      "\xF5\x80\x80\x80",
                                      "\xFF",
                                      "abcdefgh\xC3",
                                      "abcdefg\xC3("};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
        CHECK(!utf8_valid(bad[k], strlen(bad[k])));
}

static const char *wrong(const char *name, size_t n)
{
    const char *why = "";
    return name_valid(name, n, &why) ? "" : why;
}

TEST(utf8_names)
{
    char longest[256];
    memset(longest, 'x', sizeof longest);
    CHECK_STR(wrong("song-17", 7), "");
    CHECK_STR(wrong("a/b c", 5), "");
    CHECK_STR(wrong("...", 3), "");
    CHECK_STR(wrong("\xC3\xA9", 2), "");
    CHECK_STR(wrong(longest, 255), "");
    CHECK_STR(wrong(longest, 256), "is longer than 255 bytes");
    CHECK_STR(wrong("", 0), "is empty");
    CHECK_STR(wrong(".", 1), "may not be \".\" or \"..\"");
    CHECK_STR(wrong("..", 2), "may not be \".\" or \"..\"");
    CHECK_STR(wrong("a\xFF", 2), "is not valid UTF-8");
    CHECK_STR(wrong("a\nb", 3), "holds a control character");
    CHECK_STR(wrong("a\0b", 3), "holds a control character");
    CHECK_STR(wrong("\x7F", 1), "holds a control character");
    CHECK_STR(wrong("\xC2\x80", 2), "holds a control character"); /* U+0080 */
    CHECK_STR(wrong("\xC2\x9F", 2), "holds a control character"); /* U+009F */
    CHECK_STR(wrong("\xC2\xA0", 2), "");
}

TEST(random_text)
{
    unsigned char a[32] = {0}, b[32] = {0};
    char text[RANDOM_BASE64URL_BYTES(32)], hex[65];
    CHECK_INT(random_bytes(a, sizeof a), AMX_OK);
    CHECK_INT(random_bytes(b, sizeof b), AMX_OK);
    CHECK(memcmp(a, b, sizeof a) != 0);
    random_base64url(a, sizeof a, text);
    CHECK_INT(strlen(text), 43);
    random_base64url("\xFB\xFF\xBF", 3, text);
    CHECK_STR(text, "-_-_");
    random_base64url("f", 1, text);
    CHECK_STR(text, "Zg");
    random_base64url("fo", 2, text);
    CHECK_STR(text, "Zm8");
    random_hex("\x00\xAF\x10", 3, hex);
    CHECK_STR(hex, "00af10");
}

TEST(digest_known_answers)
{
    uint8_t out[DIGEST_BYTES], again[DIGEST_BYTES];
    char hex[DIGEST_HEX_BYTES];
    digest_of("abc", 3, out);
    CHECK_STR(digest_hex(out, hex), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest_of("", 0, out);
    CHECK_STR(digest_hex(out, hex), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    struct digest d;
    digest_init(&d);
    digest_add_sized(&d, "ab", 2);
    digest_add_sized(&d, "c", 1);
    digest_finish(&d, out);
    digest_init(&d);
    digest_add(&d, "\2\0\0\0\0\0\0\0ab\1\0\0\0\0\0\0\0c", 19);
    digest_finish(&d, again);
    CHECK(memcmp(out, again, sizeof out) == 0);
}

TEST(number_int_text_is_what_printf_writes)
{
    static const int64_t values[] = {0, 1, -1, 9, 10, -10, 1234567, INT64_MAX, INT64_MIN};
    char ours[NUMBER_TEXT_BYTES], printed[NUMBER_TEXT_BYTES];

    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        (void)snprintf(printed, sizeof printed, "%lld", (long long)values[i]);
        CHECK_INT(number_int_text(values[i], ours), strlen(printed));
        CHECK_STR(ours, printed);
    }
}
