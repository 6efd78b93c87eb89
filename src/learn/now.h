/* now.h - seconds on a clock that only goes forward, for rates, budgets and waiting; their zero means nothing. */
#ifndef LEARN_NOW_H
#define LEARN_NOW_H

#include <time.h>

static inline double amx_now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail with this clock */
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
