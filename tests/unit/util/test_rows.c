/* test_rows.c - util/lines.h, util/csv_rows.h: the same rows whatever the pieces they come in */
#include <stdio.h>
#include <string.h>

#include "test.h"
#include "util/csv_rows.h"
#include "util/error.h"
#include "util/lines.h"

/* Collects "number:cell|cell;" */
static enum amx_status collect_row(void *context, uint64_t row, const struct slice *cells, size_t n,
                                   struct amx_error *err)
{
    struct buf *out = context;
    (void)buf_printf(out, "%llu:", (unsigned long long)row);
    for (size_t i = 0; i < n; i++) {
        (void)buf_printf(out, "%s", i > 0 ? "|" : "");
        (void)buf_append(out, cells[i].bytes, cells[i].n);
        CHECK_INT(cells[i].bytes[cells[i].n], 0);
    }
    (void)buf_char(out, ';');
    if (n > 0 && cells[0].n == 4 && memcmp(cells[0].bytes, "stop", 4) == 0)
        return error_set_line(err, AMX_CONFLICT, row, "stopped");
    return AMX_OK;
}

static enum amx_status collect_line(void *context, uint64_t number, const char *text, size_t n, struct amx_error *err)
{
    struct slice cell = {text, n};
    struct buf *out = context;
    (void)buf_printf(out, "%llu:", (unsigned long long)number);
    (void)buf_append(out, cell.bytes, cell.n);
    (void)buf_char(out, ';');
    return n == 4 && memcmp(text, "stop", 4) == 0 ? error_set_line(err, AMX_CONFLICT, number, "stopped") : AMX_OK;
}

static enum amx_status run_csv(const char *text, size_t n, size_t piece, size_t max_bytes, struct buf *out,
                               struct amx_error *err)
{
    struct csv_rows *rows = csv_rows_new(max_bytes, 4, collect_row, collect_row, out);
    enum amx_status status = AMX_OK;
    CHECK(rows != NULL);
    for (size_t i = 0; i < n && status == AMX_OK; i += piece)
        status = csv_rows_push(rows, text + i, n - i < piece ? n - i : piece, err);
    if (status == AMX_OK)
        status = csv_rows_end(rows, err);
    CHECK_INT(csv_rows_push(rows, "x", 1, NULL), status == AMX_OK ? AMX_OK : status); /* failures stick */
    csv_rows_free(rows);
    return status;
}

static void check_csv(const char *text, const char *want, enum amx_status want_status, uint64_t want_line)
{
    for (size_t piece = 1; piece <= strlen(text) + 1; piece++) {
        AUTO(buf) out = BUF_INIT(10000);
        struct amx_error err = {.code = AMX_OK};
        CHECK_INT(run_csv(text, strlen(text), piece, 50, &out, &err), want_status);
        CHECK_STR(buf_string(&out), want);
        CHECK_INT(err.line, want_line);
    }
}

TEST(csv_rows_and_quotes)
{
    check_csv("a,b\n1,2\n", "1:a|b;2:1|2;", AMX_OK, 0);
    check_csv("a,b\r\n1,2\r\n3,4", "1:a|b;2:1|2;3:3|4;", AMX_OK, 0);
    check_csv("a,b\n\"x,\"\"y\"\"\",\" z\n\"\n", "1:a|b;2:x,\"y\"| z\n;", AMX_OK, 0);
    check_csv("a,b\n x , y \n", "1:a|b;2: x | y ;", AMX_OK, 0); /* blanks are data */
    check_csv("a,b\n,\n", "1:a|b;2:|;", AMX_OK, 0);
    check_csv("\xEF\xBB\xBF"
              "a,b\n1,2\n",
              "1:a|b;2:1|2;", AMX_OK, 0);
    check_csv("\xEF\xBB", "1:\xEF\xBB;", AMX_OK, 0); /* not the whole mark: data */
    check_csv("a\n\n\nb\n", "1:a;2:b;", AMX_OK, 0);
}

TEST(csv_rows_errors_name_the_row)
{
    check_csv("", "", AMX_INVALID, 1);
    check_csv("a,b\n1\n", "1:a|b;", AMX_INVALID, 2);
    check_csv("a,b\n1,2\n1,2,3\n", "1:a|b;2:1|2;", AMX_INVALID, 3);
    check_csv("a,b\n1,x\"y\n", "1:a|b;", AMX_INVALID, 2);
    check_csv("a,b\n1,\"x\"y\n", "1:a|b;", AMX_INVALID, 2);
    check_csv("a,b\n1,\"x", "1:a|b;", AMX_INVALID, 2);
    check_csv("a\nstop\nmore\n", "1:a;2:stop;", AMX_CONFLICT, 2);
    check_csv("a,b,c,d,e\n", "", AMX_TOO_LARGE, 1);
    check_csv("a\n123456789012345678901234567890123456789012345678901\n", "1:a;", AMX_TOO_LARGE, 2);
    check_csv("a\n12345678901234567890123456789012345678901234567890\n",
              "1:a;2:12345678901234567890123456789012345678901234567890;", AMX_OK, 0);
}

TEST(csv_rows_bound_their_memory)
{
    /* A row that never ends, in large pieces: refused long before all of it is kept. */
    static char text[200000];
    AUTO(buf) out = BUF_INIT(1000);
    struct amx_error err;
    memset(text, 'x', sizeof text);
    CHECK_INT(run_csv(text, sizeof text, sizeof text, 100, &out, &err), AMX_TOO_LARGE);
    CHECK_INT(err.line, 1);
}

TEST(csv_cells_are_written_back)
{
    AUTO(buf) out = BUF_INIT(100);
    (void)csv_rows_write_cell(&out, "plain", 5);
    (void)buf_char(&out, ',');
    (void)csv_rows_write_cell(&out, "a,\"b\"\n", 6);
    CHECK_STR(buf_string(&out), "plain,\"a,\"\"b\"\"\n\"");
}

static void check_lines(const char *text, const char *want, enum amx_status want_status, uint64_t want_line)
{
    for (size_t piece = 1; piece <= strlen(text) + 1; piece++) {
        AUTO(buf) out = BUF_INIT(10000);
        struct amx_error err = {.code = AMX_OK};
        struct lines lines;
        enum amx_status status = AMX_OK;
        lines_init(&lines, 10);
        for (size_t i = 0; i < strlen(text) && status == AMX_OK; i += piece)
            status = lines_push(&lines, text + i, strlen(text) - i < piece ? strlen(text) - i : piece, collect_line,
                                &out, &err);
        if (status == AMX_OK)
            status = lines_end(&lines, collect_line, &out, &err);
        lines_done(&lines);
        CHECK_INT(status, want_status);
        CHECK_STR(buf_string(&out), want);
        CHECK_INT(err.line, want_line);
    }
}

TEST(lines_in_any_pieces)
{
    check_lines("", "", AMX_OK, 0);
    check_lines("a\nbc\n", "1:a;2:bc;", AMX_OK, 0);
    check_lines("a\r\nlast", "1:a;2:last;", AMX_OK, 0);
    check_lines("a\n\n \t\r\nb", "1:a;4:b;", AMX_OK, 0);
    check_lines("1234567890\nx", "1:1234567890;2:x;", AMX_OK, 0);
    check_lines("a\n12345678901\nx\n", "1:a;", AMX_TOO_LARGE, 2);
    check_lines("a\nstop\nx\n", "1:a;2:stop;", AMX_CONFLICT, 2);
}
