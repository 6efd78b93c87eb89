/* test_scan.c - the JSON scanner: what is JSON, what is not, strings and numbers. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/scan.h"
#include "test.h"

static bool is_json(const char *text, size_t n)
{
    struct scan s;
    scan_init(&s, text, n);
    return scan_skip(&s) && scan_done(&s);
}

TEST(scan_takes_what_is_json)
{
    static const char *const good[] = {
        "{}",  "[]",    "null",       " true ", "[1,2,[3,{\"a\":[]}]]", "{\"a\":1,\"b\":{\"c\":\"d\"}}",
        "-0",  "0.5e1", "1E+9",       "\"\"",   "\"\\u00e9\\n\\/\"",    "\"\\ud83d\\ude00\"",
        "[ ]", "{ }",   "\r\n[1]\t ",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        CHECK(is_json(good[i], strlen(good[i])));
}

TEST(scan_refuses_what_is_not)
{
    static const char *const bad[] = {
        "",
        "{",
        "}",
        "[1,]",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{a:1}",
        "[1 2]",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "- 1",
        "\"a",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\u0000\"",
        "\"a\nb\"",
        "tru",
        "nullx",
        "1 2",
        "{\"a\":1}}",
        "[1]]",
        "\"\\ud800\\u0041\"",
        "{\"a\":}",
        "{,}",
        "[,1]",
        "'a'",
        "\x01",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(!is_json(bad[i], strlen(bad[i])));
    CHECK(!is_json("\"a\0b\"", 5));
}

/* Every beginning of a text is refused, and nothing is read behind the end (a sanitizer would say). */
TEST(scan_refuses_every_cut)
{
    static const char text[] = "{\"id\":\"a\\u00e9\\ud83d\\ude00\",\"f\":[1.5e-3,-2,true,null],\"m\":{\"x\":[]}}";
    for (size_t n = 0; n < sizeof text - 1; n++) {
        char *copy = malloc(n > 0 ? n : 1);
        CHECK(copy != NULL);
        if (copy == NULL)
            return;
        memcpy(copy, text, n);
        CHECK(!is_json(copy, n));
        free(copy);
    }
    CHECK(is_json(text, sizeof text - 1));
}

TEST(scan_bounds_nesting)
{
    char text[2 * SCAN_DEPTH + 2];
    memset(text, '[', SCAN_DEPTH);
    memset(text + SCAN_DEPTH, ']', SCAN_DEPTH);
    CHECK(is_json(text, 2 * SCAN_DEPTH));
    memset(text, '[', SCAN_DEPTH + 1);
    memset(text + SCAN_DEPTH + 1, ']', SCAN_DEPTH + 1);
    CHECK(!is_json(text, 2 * SCAN_DEPTH + 2));
}

TEST(scan_recognises_not_finite_words)
{
    static const char *const words[] = {"NaN", "Infinity", "-Infinity", "[1,NaN]"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        struct scan s;
        scan_init(&s, words[i], strlen(words[i]));
        CHECK(scan_skip(&s) && scan_done(&s));
        CHECK(s.not_finite);
    }
    CHECK(!is_json("-NaNx", 5));
    CHECK(!is_json("Inf", 3));
}

TEST(scan_decodes_escapes)
{
    static const char text[] = "\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20ac\\ud83d\\ude00z\"";
    struct scan s;
    struct scan_text string;
    char plain[sizeof text];
    scan_init(&s, text, sizeof text - 1);
    CHECK(scan_string(&s, &string));
    CHECK(string.escaped);
    size_t n = scan_unescape(string.raw, plain);
    plain[n] = '\0';
    CHECK_STR(plain, "a\"\\/\b\f\n\r\tA\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z");
}

TEST(scan_knows_keys_through_escapes)
{
    struct scan s;
    struct scan_text text;
    scan_init(&s, "\"cl\\u0061ss\"", 12);
    CHECK(scan_string(&s, &text));
    CHECK(scan_is(&text, "class"));
    CHECK(!scan_is(&text, "clas"));
}

/* The fast path and the slow one agree with strtod to the last bit. */
TEST(scan_rounds_numbers_correctly)
{
    static const char *const fixed[] = {"0",
                                        "-0",
                                        "1",
                                        "0.1",
                                        "1e22",
                                        "1e23",
                                        "123456789012345678",
                                        "9007199254740993",
                                        "0.000001",
                                        "1.7976931348623157e308",
                                        "4.9e-324",
                                        "1e-400",
                                        "2.2250738585072011e-308",
                                        "0.30000000000000004",
                                        "100000000000000000000000",
                                        "12345678901234567890123e-10"};
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0] + 2000; i++) {
        char text[64];
        if (i < sizeof fixed / sizeof fixed[0])
            (void)snprintf(text, sizeof text, "%s", fixed[i]);
        else
            (void)snprintf(text, sizeof text, "%.*g", (int)(i % 18) + 1,
                           sin((double)i) * pow(10, (double)(i % 31) - 15));
        struct scan s;
        struct slice raw;
        double value = -1;
        scan_init(&s, text, strlen(text));
        CHECK(scan_number(&s, &raw, &value));
        CHECK_INT(raw.n, strlen(text));
        double want = strtod(text, NULL);
        CHECK(memcmp(&value, &want, sizeof value) == 0);
    }
}

TEST(scan_overflow_is_infinite)
{
    struct scan s;
    struct slice raw;
    double value = 0;
    scan_init(&s, "-1e999", 6);
    CHECK(scan_number(&s, &raw, &value));
    CHECK(isinf(value) && value < 0);
    scan_init(&s, "1e99999999999999999999", 22);
    CHECK(scan_number(&s, &raw, &value));
    CHECK(isinf(value) && value > 0);
    scan_init(&s, "0e99999999999999999999", 22);
    CHECK(scan_number(&s, &raw, &value));
    CHECK(value == 0);
}

TEST(scan_says_where)
{
    struct scan s;
    struct amx_error err;
    scan_init(&s, "{\"a\":1,\n\"b\":x}", 14);
    CHECK(!scan_skip(&s));
    CHECK_INT(scan_error(&s, &err), AMX_INVALID);
    CHECK_STR(err.text, "not JSON: line 2, column 5: a value is expected");
}
