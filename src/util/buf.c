/* buf.c - a growable byte buffer with a limit. Capacity doubles, so appending is linear in the bytes. */
#include "util/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/size.h"

enum {
    FIRST_CAPACITY = 256
};

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf)BUF_INIT(max);
}

void buf_done(struct buf *b)
{
    free(b->bytes);
    *b = (struct buf)BUF_INIT(b->max);
}

static enum amx_status fail(struct buf *b, enum amx_status status)
{
    if (b->status == AMX_OK)
        b->status = status;
    return b->status;
}

char *buf_reserve(struct buf *b, size_t n)
{
    size_t need, with_end;
    if (b->status != AMX_OK)
        return NULL;
    if (!size_add(&need, b->n, n) || need > b->max || !size_add(&with_end, need, 1)) {
        (void)fail(b, AMX_TOO_LARGE);
        return NULL;
    }
    if (b->bytes == NULL || with_end > b->capacity) {
        size_t capacity = b->capacity > 0 ? b->capacity : FIRST_CAPACITY;
        while (capacity < with_end) {
            if (!size_mul(&capacity, capacity, 2))
                capacity = with_end;
        }
        char *bytes = realloc(b->bytes, capacity);
        if (bytes == NULL) {
            (void)fail(b, AMX_NO_MEMORY);
            return NULL;
        }
        b->bytes = bytes;
        b->capacity = capacity;
    }
    b->bytes[b->n] = '\0';
    return b->bytes + b->n;
}

void buf_grew(struct buf *b, size_t n)
{
    b->n += n;
    b->bytes[b->n] = '\0';
}

enum amx_status buf_append(struct buf *b, const void *bytes, size_t n)
{
    char *room = buf_reserve(b, n);
    if (room == NULL)
        return b->status;
    if (n > 0)
        memcpy(room, bytes, n);
    buf_grew(b, n);
    return AMX_OK;
}

enum amx_status buf_text(struct buf *b, const char *text)
{
    return buf_append(b, text, strlen(text));
}

enum amx_status buf_char(struct buf *b, char c)
{
    return buf_append(b, &c, 1);
}

enum amx_status buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0)
        return fail(b, AMX_NO_MEMORY);
    char *at = buf_reserve(b, (size_t)n);
    if (at == NULL)
        return b->status;
    va_start(args, format);
    n = vsnprintf(at, b->capacity - b->n, format, args);
    va_end(args);
    if (n < 0)
        return fail(b, AMX_NO_MEMORY);
    buf_grew(b, (size_t)n);
    return AMX_OK;
}

void buf_clear(struct buf *b)
{
    b->n = 0;
    b->status = AMX_OK;
    if (b->bytes != NULL)
        b->bytes[0] = '\0';
}

const char *buf_string(const struct buf *b)
{
    return b->bytes != NULL ? b->bytes : "";
}

char *buf_take(struct buf *b, size_t *n)
{
    if (buf_reserve(b, 0) == NULL)
        return NULL;
    char *bytes = b->bytes;
    if (n != NULL)
        *n = b->n;
    *b = (struct buf)BUF_INIT(b->max);
    return bytes;
}
