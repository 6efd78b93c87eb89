/* status.c - the small change of the public interface: version, status words, error text, amx_free.
 * Nothing here knows of the learner; every other file of the folder may call it. */
#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *amx_version(void)
{
    return ANNOTMIX_VERSION;
}

const char *amx_status_text(enum amx_status status)
{
    switch (status) {
    case AMX_OK:
        return "ok";
    case AMX_NO_MEMORY:
        return "out of memory";
    case AMX_INVALID:
        return "invalid argument";
    case AMX_NOTHING:
        return "nothing to train";
    case AMX_NOT_FINITE:
        return "not finite";
    case AMX_CANCELLED:
        return "cancelled";
    case AMX_CORRUPT:
        return "corrupt file";
    case AMX_TOO_LARGE:
        return "too large";
    case AMX_NOT_FOUND:
        return "not found";
    case AMX_CONFLICT:
        return "conflict";
    case AMX_BUSY:
        return "busy";
    case AMX_FULL:
        return "disk full";
    case AMX_IO:
        return "input or output error";
    }
    return "unknown status";
}

void amx_free(void *memory)
{
    free(memory);
}

enum amx_status amx_fail(struct amx_error *err, enum amx_status code, const char *pointer, const char *format, ...)
{
    va_list arguments;

    if (err == NULL)
        return code;
    memset(err, 0, sizeof *err);
    err->code = code;
    (void)snprintf(err->pointer, sizeof err->pointer, "%s", pointer); /* cut on purpose */
    va_start(arguments, format);
    (void)vsnprintf(err->text, sizeof err->text, format, arguments); /* cut on purpose */
    va_end(arguments);
    return code;
}

enum amx_status amx_fail_memory(struct amx_error *err)
{
    return amx_fail(err, AMX_NO_MEMORY, "", "There is not enough memory.");
}

bool amx_size_mul(size_t *out, size_t a, size_t b)
{
    if (!__builtin_mul_overflow(a, b, out))
        return true;
    *out = SIZE_MAX;
    return false;
}

bool amx_size_add(size_t *out, size_t a, size_t b)
{
    if (!__builtin_add_overflow(a, b, out))
        return true;
    *out = SIZE_MAX;
    return false;
}
