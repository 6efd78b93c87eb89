/* status.h - how src/learn words its failures, and overflow-checked sizes. */
#ifndef LEARN_STATUS_H
#define LEARN_STATUS_H

#include "annotmix.h"

/* Fills *err (may be NULL) and returns `code`, so that callers write `return amx_fail(...)`.
 * `pointer` is a JSON pointer or "". */
enum amx_status amx_fail(struct amx_error *err, enum amx_status code, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
enum amx_status amx_fail_memory(struct amx_error *err);

/* *out = a * b, or a + b; false (and *out = SIZE_MAX) when it does not fit. */
bool amx_size_mul(size_t *out, size_t a, size_t b);
bool amx_size_add(size_t *out, size_t a, size_t b);

static inline size_t amx_round_up(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

#endif
