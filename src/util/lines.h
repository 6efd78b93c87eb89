/* lines.h - splits bytes that arrive in pieces into lines (NDJSON). Lines that lie whole within one piece are not
 * copied. */
#ifndef UTIL_LINES_H
#define UTIL_LINES_H

#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "util/buf.h"

/* One line without its end (LF or CR LF), borrowed for the call. Blank lines (blanks and tabs only) are counted, not
 * given. Any status but AMX_OK ends the work. */
typedef enum amx_status lines_fn(void *context, uint64_t number, const char *text, size_t n, struct amx_error *err);

struct lines {
    struct buf rest;        /* start of a line whose end has not come */
    uint64_t number;        /* of the last line given or skipped, from 1 */
    enum amx_status status; /* first failure; sticks, and its error was told once */
};

void lines_init(struct lines *l, size_t max_line_bytes);
void lines_done(struct lines *l);
/* The next piece. AMX_TOO_LARGE (err->line set) for a longer line, AMX_NO_MEMORY, or what the function returned. After
 * a failure further calls return it again and do nothing. */
enum amx_status lines_push(struct lines *l, const char *bytes, size_t n, lines_fn *line, void *context,
                           struct amx_error *err);
/* No more pieces: a last line without an end is given too. */
enum amx_status lines_end(struct lines *l, lines_fn *line, void *context, struct amx_error *err);

#endif
