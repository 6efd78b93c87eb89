/* csv_out.c - CSV as the service writes it must read back as what was written, and start no formula in a spreadsheet.
 *
 * The input is cut at bytes 0x1E into cells; the first byte says how many make a row. */
#include <stdlib.h>
#include <string.h>

#include "endpoints/derived/answers.h"
#include "fuzz.h"
#include "util/csv_rows.h"

enum {
    CELLS_MAX = 512,
    CELL_BYTES_MAX = 4000 /* names have 255 bytes at most */
};

struct written {
    struct slice cells[CELLS_MAX];
    size_t n, per_row, seen;
};

static bool starts_formula(struct slice cell)
{
    return cell.n > 0 && memchr("=+-@\t\r", cell.bytes[0], 6) != NULL;
}

static enum amx_status read_header(void *context, uint64_t row, const struct slice *cells, size_t n,
                                   struct amx_error *err)
{
    const struct written *w = context;
    (void)cells;
    (void)err;
    EXPECT(row == 1 && n == w->per_row + 1);
    return AMX_OK;
}

static enum amx_status read_row(void *context, uint64_t row, const struct slice *cells, size_t n, struct amx_error *err)
{
    struct written *w = context;
    (void)row;
    (void)err;
    EXPECT(n == w->per_row + 1 && cells[0].n == 1 && cells[0].bytes[0] == 'r');
    for (size_t i = 1; i < n; i++) {
        EXPECT(w->seen < w->n);
        struct slice was = w->cells[w->seen++], is = cells[i];
        EXPECT(!starts_formula(is));
        if (starts_formula(was)) {
            EXPECT(is.n > 0 && is.bytes[0] == '\'');
            is.bytes++;
            is.n--;
        }
        EXPECT(is.n == was.n && (is.n == 0 || memcmp(is.bytes, was.bytes, is.n) == 0));
    }
    return AMX_OK;
}

static void cut(struct written *w, const char *text, size_t n)
{
    while (w->n < CELLS_MAX) {
        const char *end = memchr(text, 0x1E, n);
        size_t length = end != NULL ? (size_t)(end - text) : n;
        w->cells[w->n++] = (struct slice){text, length < CELL_BYTES_MAX ? length : CELL_BYTES_MAX};
        if (end == NULL)
            return;
        text += length + 1;
        n -= length + 1;
    }
}

void fuzz_csv_out(const uint8_t *data, size_t n)
{
    struct written w = {.per_row = 1 + fuzz_byte(&data, &n) % 5U};
    AUTO(buf) out = BUF_INIT((size_t)64 << 20);
    cut(&w, (const char *)data, n);
    while (w.n % w.per_row != 0)
        w.n--;
    (void)buf_text(&out, "row");
    for (size_t i = 0; i < w.per_row; i++)
        (void)buf_text(&out, ",value");
    (void)buf_text(&out, "\r\n");
    for (size_t i = 0; i < w.n; i++) {
        if (i % w.per_row == 0)
            (void)buf_char(&out, 'r');
        (void)buf_char(&out, ',');
        answers_csv_name(&out, w.cells[i].bytes, w.cells[i].n);
        if ((i + 1) % w.per_row == 0)
            (void)buf_text(&out, "\r\n");
    }
    EXPECT(out.status == AMX_OK);
    struct csv_rows *rows = csv_rows_new((size_t)1 << 20, CELLS_MAX, read_header, read_row, &w);
    struct amx_error err;
    EXPECT(rows != NULL);
    EXPECT(csv_rows_push(rows, out.bytes, out.n, &err) == AMX_OK && csv_rows_end(rows, &err) == AMX_OK);
    EXPECT(w.seen == w.n);
    csv_rows_free(rows);
}
