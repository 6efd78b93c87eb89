/* csv_file.h - reads one CSV file, plain or compressed (gzip), through util/csv_rows.h, for the commands that work on
 * files. What a row means is its caller's: data_dir.h, label_files.h. */
#ifndef FILES_CSV_FILE_H
#define FILES_CSV_FILE_H

#include <stddef.h>

#include "annotmix.h"
#include "util/csv_rows.h"

/* All is borrowed for the call. */
struct csv_file {
    const char *path;
    const char *name; /* what errors call it; NULL: the path where it cannot be opened, then the last part of that */
    size_t max_row_bytes, max_cells;
    csv_rows_fn *header, *row;
    void *context;                                             /* of header and row */
    void (*progress)(double fraction, void *progress_context); /* share of the bytes on disk; NULL: none */
    void *progress_context;
};

/* Opens, reads to the end or to the first failure, closes; nothing is left to free. Errors:
 *   AMX_NOT_FOUND, AMX_IO            "Cannot open NAME: WHY."  (AMX_NOT_FOUND: there is no such file)
 *   AMX_IO, AMX_INVALID              "NAME: it cannot be read: WHY" (the disk; the compressed data)
 *   AMX_INVALID                      "NAME: the compressed data is cut", whatever the last row looked like
 *   AMX_NO_MEMORY
 *   what csv_rows, header or row say "NAME, row N: TEXT" with err->line = N, or "NAME: TEXT" without a row */
AMX_CHECK enum amx_status csv_file_read(const struct csv_file *file, struct amx_error *err);

#endif
