/* rate.c - token buckets by the one number each needs: when it will be full again (GCRA).
 *
 * A request moves that moment 1/rate s into the future; it is refused when the moment is more than BURST_SECONDS away.
 * A bucket whose moment has passed is as good as none, so its place is free. The table is fixed: who floods it with
 * addresses pushes out the bucket that is nearest to full, never one that is being refused while an emptier one is there, and it
 * never grows. An IPv6 address counts by its /64, which is what one customer gets.
 */
#include "endpoints/rate.h"

#include <pthread.h>
#include <string.h>

#include "endpoints/problem.h"
#include "util/clock.h"
#include "work/service.h"

enum {
    SETS = 1024,
    WAYS = 8,
    BURST_SECONDS = 10,
    V6_PREFIX_BYTES = 8
};
#define SECOND_NS INT64_C(1000000000)

struct bucket {
    unsigned char key[RATE_KEY_BYTES];
    int64_t full_ns; /* monotonic: when it is full again; 0 = free */
};

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER; /* a leaf */
static struct bucket table[SETS][WAYS];                /* guarded by mu */

static size_t set_of(const unsigned char key[RATE_KEY_BYTES])
{
    uint64_t h = UINT64_C(1469598103934665603);
    for (size_t i = 0; i < RATE_KEY_BYTES; i++) {
        h = (h ^ key[i]) * UINT64_C(1099511628211);
    }
    return (size_t)((h >> 20) % SETS);
}

unsigned rate_take(const unsigned char key[RATE_KEY_BYTES], unsigned rate, int64_t now_ns)
{
    struct bucket *set = table[set_of(key)], *mine = &set[0];
    int64_t step = SECOND_NS / rate, over;
    (void)pthread_mutex_lock(&mu);
    for (size_t i = 0; i < WAYS; i++) {
        if (memcmp(set[i].key, key, RATE_KEY_BYTES) == 0) {
            mine = &set[i];
            break;
        }
        if (set[i].full_ns < mine->full_ns) {
            mine = &set[i];
        }
    }
    if (memcmp(mine->key, key, RATE_KEY_BYTES) != 0) {
        memcpy(mine->key, key, RATE_KEY_BYTES);
        mine->full_ns = 0;
    }
    int64_t full = (mine->full_ns > now_ns ? mine->full_ns : now_ns) + step;
    over = full - now_ns - BURST_SECONDS * SECOND_NS;
    if (over <= 0) {
        mine->full_ns = full;
    }
    (void)pthread_mutex_unlock(&mu);
    return over <= 0 ? 0 : (unsigned)((over + SECOND_NS - 1) / SECOND_NS);
}

void rate_forget(void)
{
    (void)pthread_mutex_lock(&mu);
    memset(table, 0, sizeof table);
    (void)pthread_mutex_unlock(&mu);
}

static bool take(struct http_request *rq, const unsigned char key[RATE_KEY_BYTES], unsigned rate, const char *whose)
{
    unsigned wait = rate_take(key, rate, clock_monotonic_ns());
    if (wait == 0) {
        return true;
    }
    problem_reply_as(rq, PROBLEM_RATE_LIMITED, "This %s may make %u requests a second; try again in %u s.", whose, rate,
                     wait);
    return false;
}

bool rate_address(struct http_request *rq)
{
    const struct service *service = http_context(rq);
    unsigned char key[RATE_KEY_BYTES];
    if (service->config.rate_per_address == 0 || !http_peer(rq, key)) {
        return true;
    }
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (memcmp(key, mapped, sizeof mapped) != 0) {
        memset(key + V6_PREFIX_BYTES, 0, sizeof key - V6_PREFIX_BYTES);
    }
    return take(rq, key, service->config.rate_per_address, "address");
}

bool rate_token(struct http_request *rq, int64_t token_id)
{
    const struct service *service = http_context(rq);
    unsigned char key[RATE_KEY_BYTES] = "token"; /* begins like no address: 746f::/16 is not given out */
    if (service->config.rate_per_token == 0 || token_id == 0) {
        return true;
    }
    memcpy(key + 8, &token_id, sizeof token_id);
    return take(rq, key, service->config.rate_per_token, "token");
}
