/* buf.h - a growable byte buffer with a limit.
 *
 * The limit is given at the start, so that no input can make a buffer grow without end. The first failure sticks: later
 * appends do nothing, and the writer of a long text checks `status` once at the end.
 */
#ifndef UTIL_BUF_H
#define UTIL_BUF_H

#include <stddef.h>

#include "annotmix.h"

/* Bytes that belong to somebody else; not terminated. */
struct slice {
    const char *bytes;
    size_t n;
};

struct buf {
    char *bytes;            /* NULL as long as nothing was appended; otherwise bytes[n] is 0 */
    size_t n;               /* bytes in use */
    size_t capacity;        /* bytes allocated, the final 0 included */
    size_t max;             /* n never exceeds it */
    enum amx_status status; /* AMX_OK, AMX_NO_MEMORY or AMX_TOO_LARGE: the first failure; what was in before stays */
};

#define BUF_INIT(max_bytes)                                                                                            \
    {                                                                                                                  \
        NULL, 0, 0, (max_bytes), AMX_OK                                                                                \
    }
/* AUTO(buf) b = BUF_INIT(n): buf_done runs at the end of the block. For any struct x with x_done(struct x *). */
#define AUTO(type) __attribute__((cleanup(type##_done))) struct type

void buf_init(struct buf *b, size_t max);
void buf_done(struct buf *b); /* frees the bytes; the buffer is empty and usable again */

/* Each returns b->status. */
enum amx_status buf_append(struct buf *b, const void *bytes, size_t n);
enum amx_status buf_text(struct buf *b, const char *text);
enum amx_status buf_char(struct buf *b, char c);
enum amx_status buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Room for n more bytes, to be written by the caller and then counted by buf_grew (at most n). NULL on failure. */
char *buf_reserve(struct buf *b, size_t n);
void buf_grew(struct buf *b, size_t n);

void buf_clear(struct buf *b);               /* n = 0 and status AMX_OK; keeps the memory */
const char *buf_string(const struct buf *b); /* 0-terminated, "" when empty; borrowed until the next change */
/* Hands the bytes (0-terminated) over; free() them. NULL if the buffer failed or memory is out; empty gives "". n may be
 * NULL. */
char *buf_take(struct buf *b, size_t *n);

#endif
