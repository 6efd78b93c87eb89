/* One CSV file from disk: plain, compressed, cut and broken, and what its errors say. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "files/csv_file.h"
#include "test.h"
#include "util/error.h"

enum {
    ROWS = 20000,
    COMPRESSED = 1 << 20
};

/* ---- a folder with one file -------------------------------------------------------------------------------------- */

struct folder {
    char path[32], file[64];
};

static void folder_init(struct folder *f, const char *name, const void *bytes, size_t n)
{
    FILE *file;

    memset(f, 0, sizeof *f);
    (void)snprintf(f->path, sizeof f->path, "/tmp/csv-file-XXXXXX");
    CHECK(mkdtemp(f->path) != NULL);
    (void)snprintf(f->file, sizeof f->file, "%s/%s", f->path, name);
    file = fopen(f->file, "wbe");
    CHECK(file != NULL);
    if (file == NULL)
        return;
    CHECK(fwrite(bytes, 1, n, file) == n);
    CHECK(fclose(file) == 0);
}

static void folder_done(struct folder *f)
{
    (void)unlink(f->file);
    CHECK(rmdir(f->path) == 0);
}

/* "a,b" and ROWS rows that compress badly enough for several pieces; the caller's. */
static char *long_text(size_t *n)
{
    char *text = malloc((size_t)ROWS * 24 + 8);
    unsigned state = 1;

    *n = 0;
    CHECK(text != NULL);
    if (text == NULL)
        return NULL;
    *n += (size_t)snprintf(text, 8, "a,b\n");
    for (int i = 0; i < ROWS; i++) {
        state = state * 1664525U + 1013904223U;
        *n += (size_t)snprintf(text + *n, 24, "%d,%08x\n", i, state);
    }
    return text;
}

/* gzip of the text; the caller's. */
static unsigned char *compress_text(const char *text, size_t n, size_t *out_n)
{
    unsigned char *out = malloc(COMPRESSED);
    z_stream z = {0};

    CHECK(out != NULL && deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    if (out == NULL)
        return NULL;
    z.next_in = (unsigned char *)(uintptr_t)text;
    z.avail_in = (unsigned)n;
    z.next_out = out;
    z.avail_out = COMPRESSED;
    CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
    *out_n = z.total_out;
    CHECK(deflateEnd(&z) == Z_OK);
    return out;
}

/* ---- what is read ------------------------------------------------------------------------------------------------ */

struct seen {
    size_t headers, rows;
    char last[24];
    double fraction;
    size_t shown;
    bool falls;
};

static enum amx_status header(void *context, uint64_t row, const struct slice *cells, size_t n, struct amx_error *err)
{
    struct seen *seen = context;

    (void)cells;
    seen->headers++;
    return n == 2 ? AMX_OK : error_set_line(err, AMX_INVALID, row, "the header must be a,b");
}

static enum amx_status row(void *context, uint64_t number, const struct slice *cells, size_t n, struct amx_error *err)
{
    struct seen *seen = context;

    (void)number;
    (void)n;
    seen->rows++;
    (void)snprintf(seen->last, sizeof seen->last, "%.20s", cells[0].bytes);
    return strcmp(seen->last, "full") == 0 ? error_set(err, AMX_TOO_LARGE, "it is full") : AMX_OK;
}

static void progress(double fraction, void *context)
{
    struct seen *seen = context;

    seen->falls = seen->falls || fraction < seen->fraction;
    seen->fraction = fraction;
    seen->shown++;
}

static enum amx_status read_it(const char *path, const char *name, struct seen *seen, struct amx_error *err)
{
    const struct csv_file file = {.path = path,
                                  .name = name,
                                  .max_row_bytes = 1000,
                                  .max_cells = 2,
                                  .header = header,
                                  .row = row,
                                  .context = seen,
                                  .progress = progress,
                                  .progress_context = seen};

    memset(seen, 0, sizeof *seen);
    memset(err, 0, sizeof *err);
    return csv_file_read(&file, err);
}

/* The file of these bytes, read; what is said is in err. */
static enum amx_status read_bytes(const char *name, const void *bytes, size_t n, struct seen *seen,
                                  struct amx_error *err)
{
    struct folder f;
    enum amx_status status;

    folder_init(&f, name, bytes, n);
    status = read_it(f.file, NULL, seen, err);
    folder_done(&f);
    return status;
}

TEST(plain_and_compressed_files_read_alike)
{
    size_t n, n_gz = 0;
    char *text = long_text(&n);
    unsigned char *gz = text != NULL ? compress_text(text, n, &n_gz) : NULL;
    struct amx_error err;
    struct seen seen;

    for (int compressed = 0; compressed < 2 && gz != NULL; compressed++) {
        const void *bytes = compressed ? (const void *)gz : text;

        CHECK_INT(read_bytes(compressed ? "x.csv.gz" : "x.csv", bytes, compressed ? n_gz : n, &seen, &err), AMX_OK);
        CHECK_INT(seen.headers, 1);
        CHECK_INT(seen.rows, ROWS);
        CHECK_STR(seen.last, "19999");
        CHECK(seen.shown >= 2 && !seen.falls);
        CHECK_NEAR(seen.fraction, 1, 0);
    }
    free(gz);
    free(text);
}

TEST(cut_and_broken_gzip_is_said_instead_of_a_half_row)
{
    size_t n, n_gz = 0;
    char *text = long_text(&n);
    unsigned char *gz = text != NULL ? compress_text(text, n, &n_gz) : NULL;
    struct amx_error err;
    struct seen seen;

    if (gz != NULL) {
        CHECK_INT(read_bytes("x.csv.gz", gz, n_gz / 2, &seen, &err), AMX_INVALID);
        CHECK_STR(err.text, "x.csv.gz: the compressed data is cut");
        CHECK_INT(err.line, 0);
        CHECK(seen.rows > 0 && seen.rows < ROWS);
        gz[n_gz - 8] ^= 0xff; /* the checksum */
        CHECK_INT(read_bytes("x.csv.gz", gz, n_gz, &seen, &err), AMX_INVALID);
        CHECK(strncmp(err.text, "x.csv.gz: it cannot be read: ", 29) == 0);
    }
    free(gz);
    free(text);
}

TEST(errors_name_file_and_row)
{
    struct amx_error err;
    struct seen seen;

    CHECK_INT(read_bytes("x.csv", "a,b\n1,2\n3\n", 10, &seen, &err), AMX_INVALID);
    CHECK_STR(err.text, "x.csv, row 3: the row has 1 cells, the header has 2");
    CHECK_INT(err.line, 3);
    CHECK_INT(read_bytes("x.csv", "a\n1\n", 4, &seen, &err), AMX_INVALID);
    CHECK_STR(err.text, "x.csv, row 1: the header must be a,b");
    CHECK_INT(read_bytes("x.csv", "a,b\nfull,2\n3,4\n", 15, &seen, &err), AMX_TOO_LARGE);
    CHECK_STR(err.text, "x.csv: it is full");
    CHECK_INT(err.line, 0);
    CHECK_INT(seen.rows, 1);
}

TEST(files_that_do_not_open_are_called_by_name_or_path)
{
    struct folder f;
    struct amx_error err;
    struct seen seen;

    folder_init(&f, "x.csv", "a,b\n", 4);
    CHECK_INT(read_it(f.file, "the file", &seen, &err), AMX_OK);
    CHECK(unlink(f.file) == 0);
    CHECK_INT(read_it(f.file, "the file", &seen, &err), AMX_NOT_FOUND);
    CHECK_STR(err.text, "Cannot open the file: No such file or directory.");
    CHECK_INT(read_it(f.file, NULL, &seen, &err), AMX_NOT_FOUND);
    CHECK(strstr(err.text, f.file) != NULL);
    /* A file that is there but cannot be opened is no missing one. */
    CHECK(symlink("x.csv", f.file) == 0);
    CHECK_INT(read_it(f.file, "the file", &seen, &err), AMX_IO);
    CHECK_INT(seen.headers, 0);
    CHECK_INT(read_it(f.path, "the folder", &seen, &err), AMX_IO);
    CHECK_STR(err.text, "the folder: it cannot be read: Is a directory");
    folder_done(&f);
}
