/* csv_file.c - see csv_file.h. Files are read through zlib (which reads plain files too) in pieces of 64 KiB. */
#include "csv_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "util/error.h"

enum {
    PIECE = 65536
};

/* *size: bytes on disk, 0 when unknown. */
static enum amx_status open_file(const struct csv_file *file, gzFile *out, double *size, struct amx_error *err)
{
    struct stat about;
    int fd = open(file->path, O_RDONLY | O_CLOEXEC);
    gzFile gz;

    if (fd < 0)
        return error_set(err, errno == ENOENT ? AMX_NOT_FOUND : AMX_IO, "Cannot open %.120s: %s.",
                         file->name != NULL ? file->name : file->path, strerror(errno));
    gz = gzdopen(fd, "rb");
    if (gz == NULL) {
        (void)close(fd);
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    *size = fstat(fd, &about) == 0 ? (double)about.st_size : 0;
    *out = gz;
    return AMX_OK;
}

static enum amx_status push_file(const struct csv_file *file, gzFile gz, double size, struct csv_rows *csv,
                                 struct amx_error *err)
{
    char piece[PIECE];
    int n;

    while ((n = gzread(gz, piece, sizeof piece)) > 0) {
        enum amx_status status = csv_rows_push(csv, piece, (size_t)n, err);

        if (status != AMX_OK)
            return status;
        if (file->progress != NULL && size > 0)
            file->progress((double)gzoffset(gz) / size, file->progress_context);
    }
    if (n < 0) {
        int code = 0;
        const char *text = gzerror(gz, &code);

        return error_set(err, code == Z_ERRNO ? AMX_IO : AMX_INVALID, "it cannot be read: %s",
                         code == Z_ERRNO ? strerror(errno) : text);
    }
    return csv_rows_end(csv, err);
}

static const char *name_of(const struct csv_file *file)
{
    const char *slash = strrchr(file->path, '/');

    if (file->name != NULL)
        return file->name;
    return slash != NULL ? slash + 1 : file->path;
}

enum amx_status csv_file_read(const struct csv_file *file, struct amx_error *err)
{
    struct csv_rows *csv;
    gzFile gz = NULL;
    double size = 0;
    struct amx_error own;
    enum amx_status status = open_file(file, &gz, &size, err);

    if (status != AMX_OK)
        return status;
    memset(&own, 0, sizeof own);
    csv = csv_rows_new(file->max_row_bytes, file->max_cells, file->header, file->row, file->context);
    status = csv == NULL ? error_set(&own, AMX_NO_MEMORY, "out of memory") : push_file(file, gz, size, csv, &own);
    csv_rows_free(csv);
    /* A file that is cut ends in the middle of a row: say why, not where. */
    if (gzclose_r(gz) == Z_BUF_ERROR)
        status = error_set(&own, AMX_INVALID, "the compressed data is cut");
    if (status == AMX_OK)
        return AMX_OK;
    if (own.line > 0)
        return error_set_line(err, status, own.line, "%.80s, row %llu: %s", name_of(file),
                              (unsigned long long)own.line, own.text);
    return error_set(err, status, "%.80s: %s", name_of(file), own.text);
}
