/* Buckets of requests: a burst, then the rate, each key for itself, and a table that is flooded. */
#include <string.h>

#include "endpoints/rate.h"
#include "test.h"

#define SECOND INT64_C(1000000000)

static unsigned taken(const char *name, unsigned rate, int64_t now, unsigned tries)
{
    unsigned char key[RATE_KEY_BYTES] = {0};
    unsigned n = 0;
    memcpy(key, name, strlen(name));
    for (unsigned i = 0; i < tries; i++) {
        n += rate_take(key, rate, now) == 0;
    }
    return n;
}

TEST(rate_gives_a_burst_then_the_rate)
{
    unsigned char key[RATE_KEY_BYTES] = "a";
    rate_forget();
    CHECK_INT(taken("a", 5, 100 * SECOND, 1000), 50);
    CHECK_INT(rate_take(key, 5, 100 * SECOND), 1);
    CHECK_INT(taken("b", 5, 100 * SECOND, 10), 10);
    CHECK_INT(taken("a", 5, 101 * SECOND, 1000), 5);
    CHECK_INT(taken("a", 5, 103 * SECOND, 1000), 10);
    CHECK_INT(taken("a", 5, 1000 * SECOND, 1000), 50);
    CHECK_INT(taken("slow", 1, 1000 * SECOND, 100), 10);
}

TEST(rate_of_a_flooded_table_still_refuses_the_emptiest)
{
    unsigned char key[RATE_KEY_BYTES] = {0};
    rate_forget();
    CHECK_INT(taken("a", 5, 100 * SECOND, 1000), 50);
    for (uint32_t i = 0; i < 200000; i++) {
        memcpy(key + 4, &i, sizeof i);
        CHECK_INT(rate_take(key, 5, 100 * SECOND), 0);
    }
    CHECK_INT(taken("a", 5, 100 * SECOND, 10), 0);
}
