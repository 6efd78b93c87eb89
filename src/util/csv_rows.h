/* csv_rows.h - CSV (RFC 4180: comma, quotes, CRLF or LF) that arrives in pieces; libcsv does the grammar.
 *
 * Blanks are part of a value; a quote inside an unquoted value and text after a closing quote are errors; a UTF-8 byte
 * order mark at the start is skipped; blank lines are skipped and not counted. Every row must have as many cells as the
 * header, unless csv_rows_allow_ragged was called. */
#ifndef UTIL_CSV_ROWS_H
#define UTIL_CSV_ROWS_H

#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "util/buf.h"

struct csv_rows;

/* Both: cells are borrowed for the call; each is followed by a 0 byte that is not counted. Any status but AMX_OK ends
 * the work. `row` counts rows from 1, the header being row 1 (a quoted value may span lines: it is a row number). */
typedef enum amx_status csv_rows_fn(void *context, uint64_t row, const struct slice *cells, size_t n,
                                    struct amx_error *err);

/* NULL when memory is out. header is called once, for row 1. */
struct csv_rows *csv_rows_new(size_t max_row_bytes, size_t max_cells, csv_rows_fn *header, csv_rows_fn *row,
                              void *context);
void csv_rows_free(struct csv_rows *rows);
/* Rows with another number of cells than the header go to the row function too, which then looks at n. */
void csv_rows_allow_ragged(struct csv_rows *rows);
/* The next piece. AMX_INVALID (grammar, number of cells), AMX_TOO_LARGE (row or cells over the limit), AMX_NO_MEMORY,
 * with err->line = row number, or what a function returned. After a failure further calls return it again and do
 * nothing. */
enum amx_status csv_rows_push(struct csv_rows *rows, const char *bytes, size_t n, struct amx_error *err);
/* No more pieces: gives a last row without an end. AMX_INVALID when a quote is still open or there was no header. */
enum amx_status csv_rows_end(struct csv_rows *rows, struct amx_error *err);
/* Writes one value with quotes where RFC 4180 wants them. */
enum amx_status csv_rows_write_cell(struct buf *out, const char *bytes, size_t n);

#endif
