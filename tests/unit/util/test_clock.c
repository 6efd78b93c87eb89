/* test_clock.c - util/clock.h */
#include <string.h>

#include "test.h"
#include "util/clock.h"

static int64_t parsed(const char *text)
{
    int64_t ms = -1;
    return clock_parse(text, strlen(text), &ms) ? ms : -1;
}

TEST(clock_writes_rfc3339)
{
    char text[CLOCK_TEXT_BYTES];
    CHECK_STR(clock_text(0, text), "1970-01-01T00:00:00.000Z");
    CHECK_STR(clock_text(1795467600123, text), "2026-11-23T21:00:00.123Z");
    CHECK_STR(clock_text(-1, text), "1969-12-31T23:59:59.999Z");
    CHECK_STR(clock_text(951782400000, text), "2000-02-29T00:00:00.000Z");
    CHECK_STR(clock_text(INT64_MAX, text), "9999-12-31T23:59:59.999Z");
    CHECK_STR(clock_text(INT64_MIN, text), "0000-01-01T00:00:00.000Z");
}

TEST(clock_reads_what_it_writes)
{
    for (int64_t ms = -100000000000000; ms < 200000000000000; ms += 12345678901) {
        char text[CLOCK_TEXT_BYTES];
        int64_t back;
        clock_text(ms, text);
        if (ms > -62167219200000)
            CHECK(clock_parse(text, strlen(text), &back) && back == ms);
    }
}

TEST(clock_reads_zones_and_fractions)
{
    CHECK_INT(parsed("2026-11-23T21:00:00Z"), 1795467600000);
    CHECK_INT(parsed("2026-11-23T23:00:00+02:00"), 1795467600000);
    CHECK_INT(parsed("2026-11-23t15:30:00.5-05:30"), 1795467600500);
    CHECK_INT(parsed("2026-11-23T21:00:00.123456789z"), 1795467600123);
    CHECK_INT(parsed("2016-12-31T23:59:60Z"), parsed("2017-01-01T00:00:00Z"));
}

TEST(clock_refuses)
{
    static const char *const bad[] = {"",
                                      "2026-11-23",
                                      "2026-11-23T21:00:00",
                                      "2026-11-23 21:00:00Z",
                                      "2026-02-29T00:00:00Z",
                                      "2026-13-01T00:00:00Z",
                                      "2026-00-01T00:00:00Z",
                                      "2026-01-32T00:00:00Z",
                                      "2026-01-01T24:00:00Z",
                                      "2026-01-01T00:60:00Z",
                                      "2026-01-01T00:00:61Z",
                                      "2026-01-01T00:00:00.Z",
                                      "2026-01-01T00:00:00+24:00",
                                      "2026-01-01T00:00:00+0200",
                                      "2026-01-01T00:00:00Z ",
                                      " 2026-01-01T00:00:00Z",
                                      "26-01-01T00:00:00Z",
                                      "+026-01-01T00:00:00Z",
                                      "2026-01-01T00:00Z",
                                      "1900-02-29T00:00:00Z"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_INT(parsed(bad[i]), -1);
}

TEST(clock_moves_for_tests)
{
    int64_t wall = clock_wall_ms(), monotonic = clock_monotonic_ms();
    clock_test_advance_ms(3600000);
    CHECK(clock_wall_ms() - wall >= 3600000);
    CHECK(clock_monotonic_ms() - monotonic >= 3600000);
    clock_test_set_wall_ms(5000);
    CHECK_INT(clock_wall_ms(), 5000);
    clock_test_advance_ms(10);
    CHECK_INT(clock_wall_ms(), 5010);
    clock_test_set_wall_ms(-1);
    clock_test_advance_ms(-3600010);
    CHECK(clock_wall_ms() - wall < 3600000);
}
