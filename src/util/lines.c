/* lines.c - splits bytes that arrive in pieces into lines. */
#include "util/lines.h"

#include <string.h>

#include "util/error.h"

void lines_init(struct lines *l, size_t max_line_bytes)
{
    buf_init(&l->rest, max_line_bytes);
    l->number = 0;
    l->status = AMX_OK;
}

void lines_done(struct lines *l)
{
    buf_done(&l->rest);
}

static enum amx_status give(struct lines *l, const char *text, size_t n, lines_fn *line, void *context,
                            struct amx_error *err)
{
    l->number++;
    if (n > l->rest.max)
        return error_set_line(err, AMX_TOO_LARGE, l->number, "the line is longer than %zu bytes", l->rest.max);
    if (n > 0 && text[n - 1] == '\r')
        n--;
    for (size_t i = 0; i < n; i++) {
        if (text[i] != ' ' && text[i] != '\t')
            return line(context, l->number, text, n, err);
    }
    return AMX_OK;
}

/* Keeps the start of a line for the next piece. */
static enum amx_status keep(struct lines *l, const char *bytes, size_t n, struct amx_error *err)
{
    enum amx_status status = buf_append(&l->rest, bytes, n);
    if (status == AMX_TOO_LARGE)
        return error_set_line(err, status, l->number + 1, "the line is longer than %zu bytes", l->rest.max);
    if (status != AMX_OK)
        return error_set_line(err, status, l->number + 1, "out of memory");
    return AMX_OK;
}

enum amx_status lines_push(struct lines *l, const char *bytes, size_t n, lines_fn *line, void *context,
                           struct amx_error *err)
{
    while (n > 0 && l->status == AMX_OK) {
        const char *end = memchr(bytes, '\n', n);
        size_t length = end != NULL ? (size_t)(end - bytes) : n;
        if (end == NULL || l->rest.n > 0)
            l->status = keep(l, bytes, length, err);
        if (end == NULL || l->status != AMX_OK)
            break;
        if (l->rest.n > 0) {
            l->status = give(l, l->rest.bytes, l->rest.n, line, context, err);
            buf_clear(&l->rest);
        } else {
            l->status = give(l, bytes, length, line, context, err);
        }
        bytes = end + 1;
        n -= length + 1;
    }
    return l->status;
}

enum amx_status lines_end(struct lines *l, lines_fn *line, void *context, struct amx_error *err)
{
    if (l->status == AMX_OK && l->rest.n > 0) {
        l->status = give(l, l->rest.bytes, l->rest.n, line, context, err);
        buf_clear(&l->rest);
    }
    return l->status;
}
