/* csv_rows.c - rows out of pushed CSV bytes.
 *
 * libcsv calls back per cell and per row and cannot be stopped from inside a callback; so the first failure is kept and
 * later callbacks do nothing. It is fed in pieces of 16 KiB, and after each the cell it is still collecting is
 * measured: memory stays within the row limit plus one piece.
 */
#include "util/csv_rows.h"

#include <csv.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/size.h"

enum {
    PIECE_BYTES = 16384
};

static const char byte_order_mark[] = "\xEF\xBB\xBF";

struct csv_rows {
    struct csv_parser parser;
    csv_rows_fn *header, *row;
    void *context;
    struct buf bytes;    /* cells of the row so far, each with a 0 behind it */
    size_t *ends;        /* end of cell i in bytes (its 0) */
    struct slice *cells; /* built from ends when the row is whole; same capacity */
    size_t n_cells, capacity, max_cells, max_row_bytes;
    size_t width;     /* cells of the header */
    bool ragged;      /* rows may have another number */
    uint64_t number;  /* rows given */
    unsigned mark_at; /* bytes of the byte order mark seen, 3 = past it */
    enum amx_status status;
    struct amx_error *err; /* of the running call */
};

static int no_blank(unsigned char c)
{
    (void)c;
    return 0;
}

struct csv_rows *csv_rows_new(size_t max_row_bytes, size_t max_cells, csv_rows_fn *header, csv_rows_fn *row,
                              void *context)
{
    struct csv_rows *rows = calloc(1, sizeof *rows);
    if (rows == NULL)
        return NULL;
    if (csv_init(&rows->parser, CSV_STRICT | CSV_STRICT_FINI) != 0) {
        free(rows);
        return NULL;
    }
    csv_set_space_func(&rows->parser, no_blank); /* libcsv would trim blanks around values */
    rows->header = header;
    rows->row = row;
    rows->context = context;
    rows->max_row_bytes = max_row_bytes;
    rows->max_cells = max_cells;
    /* Each cell brings its 0 byte along. */
    size_t with_ends;
    if (!size_add(&with_ends, max_row_bytes, max_cells))
        with_ends = SIZE_MAX;
    buf_init(&rows->bytes, with_ends);
    return rows;
}

void csv_rows_allow_ragged(struct csv_rows *rows)
{
    rows->ragged = true;
}

void csv_rows_free(struct csv_rows *rows)
{
    if (rows == NULL)
        return;
    csv_free(&rows->parser);
    buf_done(&rows->bytes);
    free(rows->ends);
    free(rows->cells);
    free(rows);
}

static void fail_row_bytes(struct csv_rows *rows)
{
    rows->status = error_set_line(rows->err, AMX_TOO_LARGE, rows->number + 1, "the row is longer than %zu bytes",
                                  rows->max_row_bytes);
}

static bool grow_cells(struct csv_rows *rows)
{
    size_t capacity = rows->capacity > 0 ? rows->capacity * 2 : 64, size;
    if (!size_mul(&size, capacity, sizeof *rows->cells))
        return false;
    size_t *ends = realloc(rows->ends, capacity * sizeof *ends);
    if (ends == NULL)
        return false;
    rows->ends = ends;
    struct slice *cells = realloc(rows->cells, size);
    if (cells == NULL)
        return false;
    rows->cells = cells;
    rows->capacity = capacity;
    return true;
}

static void on_cell(void *bytes, size_t n, void *context)
{
    struct csv_rows *rows = context;
    if (rows->status != AMX_OK)
        return;
    if (rows->n_cells == rows->max_cells) {
        rows->status = error_set_line(rows->err, AMX_TOO_LARGE, rows->number + 1, "the row has more than %zu cells",
                                      rows->max_cells);
        return;
    }
    if (rows->n_cells == rows->capacity && !grow_cells(rows)) {
        rows->status = error_set_line(rows->err, AMX_NO_MEMORY, rows->number + 1, "out of memory");
        return;
    }
    if (n > rows->max_row_bytes || rows->bytes.n - rows->n_cells > rows->max_row_bytes - n) {
        fail_row_bytes(rows);
        return;
    }
    (void)buf_append(&rows->bytes, bytes, n);
    (void)buf_char(&rows->bytes, '\0');
    if (rows->bytes.status != AMX_OK) {
        rows->status = error_set_line(rows->err, AMX_NO_MEMORY, rows->number + 1, "out of memory");
        return;
    }
    rows->ends[rows->n_cells++] = rows->bytes.n - 1;
}

static void on_row(int end, void *context)
{
    struct csv_rows *rows = context;
    (void)end;
    if (rows->status != AMX_OK || rows->n_cells == 0)
        return;
    rows->number++;
    if (rows->number == 1)
        rows->width = rows->n_cells;
    if (rows->n_cells != rows->width && !rows->ragged) {
        rows->status = error_set_line(rows->err, AMX_INVALID, rows->number, "the row has %zu cells, the header has %zu",
                                      rows->n_cells, rows->width);
        return;
    }
    for (size_t i = 0, start = 0; i < rows->n_cells; i++) {
        rows->cells[i] = (struct slice){rows->bytes.bytes + start, rows->ends[i] - start};
        start = rows->ends[i] + 1;
    }
    csv_rows_fn *give = rows->number == 1 ? rows->header : rows->row;
    rows->status = give(rows->context, rows->number, rows->cells, rows->n_cells, rows->err);
    rows->n_cells = 0;
    buf_clear(&rows->bytes);
}

static void fail_grammar(struct csv_rows *rows)
{
    int code = csv_error(&rows->parser);
    if (code == CSV_ENOMEM || code == CSV_ETOOBIG)
        rows->status = error_set_line(rows->err, AMX_NO_MEMORY, rows->number + 1, "out of memory");
    else
        rows->status = error_set_line(rows->err, AMX_INVALID, rows->number + 1,
                                      "bad quoting: a value with quotes must be quoted whole and its quotes doubled");
}

/* What began like the mark was data. */
static void give_back_mark(struct csv_rows *rows)
{
    if (rows->mark_at > 0 && rows->mark_at < 3)
        (void)csv_parse(&rows->parser, byte_order_mark, rows->mark_at, on_cell, on_row, rows);
    rows->mark_at = 3;
}

enum amx_status csv_rows_push(struct csv_rows *rows, const char *bytes, size_t n, struct amx_error *err)
{
    rows->err = err;
    /* The mark may come split; a start that only begins like one is given back to the parser. */
    for (; n > 0 && rows->mark_at < 3; bytes++, n--) {
        if (*bytes != byte_order_mark[rows->mark_at]) {
            give_back_mark(rows);
            break;
        }
        rows->mark_at++;
    }
    while (n > 0 && rows->status == AMX_OK) {
        size_t piece = n < PIECE_BYTES ? n : PIECE_BYTES;
        size_t done = csv_parse(&rows->parser, bytes, piece, on_cell, on_row, rows);
        if (rows->status == AMX_OK && done != piece)
            fail_grammar(rows);
        if (rows->status == AMX_OK && rows->parser.entry_pos > rows->max_row_bytes)
            fail_row_bytes(rows);
        bytes += piece;
        n -= piece;
    }
    rows->err = NULL;
    return rows->status;
}

enum amx_status csv_rows_end(struct csv_rows *rows, struct amx_error *err)
{
    rows->err = err;
    if (rows->status == AMX_OK)
        give_back_mark(rows);
    if (rows->status == AMX_OK && csv_fini(&rows->parser, on_cell, on_row, rows) != 0 && rows->status == AMX_OK)
        fail_grammar(rows);
    if (rows->status == AMX_OK && rows->number == 0)
        rows->status = error_set_line(err, AMX_INVALID, 1, "the CSV text is empty; its first row must be a header");
    rows->err = NULL;
    return rows->status;
}

enum amx_status csv_rows_write_cell(struct buf *out, const char *bytes, size_t n)
{
    bool quote = false;
    for (size_t i = 0; i < n && !quote; i++)
        quote = bytes[i] == '"' || bytes[i] == ',' || bytes[i] == '\n' || bytes[i] == '\r';
    if (!quote)
        return buf_append(out, bytes, n);
    (void)buf_char(out, '"');
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] == '"')
            (void)buf_char(out, '"');
        (void)buf_char(out, bytes[i]);
    }
    return buf_char(out, '"');
}
