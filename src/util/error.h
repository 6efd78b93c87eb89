/* error.h - fills a struct amx_error (include/annotmix.h). */
#ifndef UTIL_ERROR_H
#define UTIL_ERROR_H

#include "annotmix.h"

/* Sets code and one sentence (cut to fit, always valid UTF-8: '?' stands for bytes that are none, and for control
 * characters, whatever the arguments hold), clears line and pointer; err may be
 * NULL. Returns `code`, so that `return error_set(err, AMX_INVALID, ...)` reads as one thought. */
enum amx_status error_set(struct amx_error *err, enum amx_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same with the line of the input, from 1. */
enum amx_status error_set_line(struct amx_error *err, enum amx_status code, uint64_t line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
