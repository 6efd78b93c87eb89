/* cmd_export.c - `annotmixd export PROJECT DIR`: instances.csv, labels.csv, gold.csv, in the layout that `import` and `fit`
 * read, and awaiting.csv for instances that have no features yet. Reads the file beside a running server, page by page, so
 * that no read transaction is held long; names are written as they are (no spreadsheet escaping), so that a way out and
 * back changes nothing. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd.h"
#include "store/instances.h"
#include "store/labels.h"
#include "store/projects.h"
#include "store/store.h"
#include "util/csv_rows.h"
#include "util/error.h"
#include "util/numbers.h"

enum { PAGE_ROWS = 2000, ROW_BYTES = 4 << 20 };

struct export {
    struct store *store;
    const struct project_row *project;
    const char *dir;
    FILE *instances, *awaiting, *labels, *gold;
    struct buf row;
    int64_t after;
    uint64_t n_instances, n_awaiting, n_labels, n_gold;
};

/* DIR/name, which must not exist; NULL and err otherwise. */
static FILE *create_file(const struct export *x, const char *name, struct amx_error *err)
{
    AUTO(buf) path = BUF_INIT(4096);
    FILE *file;
    int fd;

    if (buf_printf(&path, "%s/%s", x->dir, name) != AMX_OK) {
        (void)error_set(err, path.status, "the path of the folder is too long");
        return NULL;
    }
    fd = open(buf_string(&path), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (file == NULL) {
        (void)error_set(err, AMX_IO, "%s: %s", buf_string(&path), strerror(errno));
        if (fd >= 0)
            (void)close(fd);
    }
    return file;
}

/* Sends x->row to the file as one line. */
static enum amx_status end_row(struct export *x, FILE *file)
{
    (void)buf_char(&x->row, '\n');
    if (x->row.status != AMX_OK)
        return x->row.status;
    if (fwrite(buf_string(&x->row), 1, x->row.n, file) != x->row.n)
        return errno == ENOSPC ? AMX_FULL : AMX_IO;
    buf_clear(&x->row);
    return AMX_OK;
}

static enum amx_status write_gold(struct export *x, const struct instance_row *row)
{
    struct slice class_name = x->project->classes[row->gold_class].name;

    (void)csv_rows_write_cell(&x->row, row->name.bytes, row->name.n);
    (void)buf_char(&x->row, ',');
    (void)csv_rows_write_cell(&x->row, class_name.bytes, class_name.n);
    x->n_gold++;
    return end_row(x, x->gold);
}

static enum amx_status write_instance(void *context, const struct instance_row *row)
{
    struct export *x = context;
    bool whole = row->features != NULL || x->project->feature_dim == 0;
    const char *split = split_name(row->split);
    enum amx_status status;

    x->after = row->id;
    (void)csv_rows_write_cell(&x->row, row->name.bytes, row->name.n);
    (void)buf_char(&x->row, ',');
    (void)buf_text(&x->row, split);
    for (size_t i = 0; i < row->n_features && row->features != NULL; i++) {
        char text[NUMBER_TEXT_BYTES];
        size_t n = number_float_text(row->features[i], text);

        (void)buf_char(&x->row, ',');
        (void)buf_append(&x->row, text, n);
    }
    if (whole)
        x->n_instances++;
    else
        x->n_awaiting++;
    status = end_row(x, whole ? x->instances : x->awaiting);
    return status == AMX_OK && row->gold_class >= 0 ? write_gold(x, row) : status;
}

static enum amx_status write_label(void *context, const struct label_row *row)
{
    struct export *x = context;
    struct slice class_name;

    x->after = row->seq;
    if (row->skipped || row->class_index < 0)
        return AMX_OK; /* the layout has no place for "no class" */
    class_name = x->project->classes[row->class_index].name;
    (void)csv_rows_write_cell(&x->row, row->instance.bytes, row->instance.n);
    (void)buf_char(&x->row, ',');
    (void)csv_rows_write_cell(&x->row, row->annotator.bytes, row->annotator.n);
    (void)buf_char(&x->row, ',');
    (void)csv_rows_write_cell(&x->row, class_name.bytes, class_name.n);
    x->n_labels++;
    return end_row(x, x->labels);
}

/* All pages of one kind; a read connection is out for one page at a time. */
static enum amx_status write_pages(struct export *x, bool labels, struct amx_error *err)
{
    const struct instance_filter every_instance = INSTANCE_FILTER_ALL;
    const struct label_filter every_label = {.history = false};
    enum amx_status status = AMX_OK;
    bool more = true;

    x->after = INT64_MIN;
    while (status == AMX_OK && more) {
        struct db *db = NULL;

        status = store_reader_get(x->store, &db, err);
        if (status == AMX_OK && labels)
            status = labels_list(db, x->project->id, &every_label, x->after, PAGE_ROWS, write_label, x, &more, err);
        else if (status == AMX_OK)
            status = instances_list(db, x->project->id, &every_instance, x->after, PAGE_ROWS, INSTANCES_FEATURES,
                                    write_instance, x, &more, err);
        store_reader_put(x->store, db);
    }
    return status;
}

static enum amx_status write_headers(struct export *x)
{
    enum amx_status status;

    (void)buf_text(&x->row, "instance,split");
    for (size_t i = 0; i < x->project->feature_dim; i++)
        (void)buf_printf(&x->row, ",f%zu", i);
    status = end_row(x, x->instances);
    (void)buf_text(&x->row, "instance,split");
    if (status == AMX_OK && x->awaiting != NULL)
        status = end_row(x, x->awaiting);
    buf_clear(&x->row);
    (void)buf_text(&x->row, "task,worker,label");
    if (status == AMX_OK)
        status = end_row(x, x->labels);
    (void)buf_text(&x->row, "instance,class");
    return status == AMX_OK ? end_row(x, x->gold) : status;
}

/* True when everything reached the file. */
static bool close_file(FILE *file)
{
    bool good;

    if (file == NULL)
        return true;
    good = fflush(file) == 0 && fsync(fileno(file)) == 0;
    return fclose(file) == 0 && good;
}

/* The usual case: every instance has its features, and the folder looks as import and fit know it. */
static void remove_awaiting(const struct export *x)
{
    char path[4096]; /* it was made under this name: there is room */

    if (snprintf(path, sizeof path, "%s/awaiting.csv", x->dir) < (int)sizeof path)
        (void)unlink(path); /* an empty file more does no harm */
}

static enum amx_status export_project(struct export *x, struct amx_error *err)
{
    enum amx_status status = AMX_OK;

    if (mkdir(x->dir, 0777) != 0 && errno != EEXIST)
        return error_set(err, AMX_IO, "%s: %s", x->dir, strerror(errno));
    if ((x->instances = create_file(x, "instances.csv", err)) == NULL ||
        (x->labels = create_file(x, "labels.csv", err)) == NULL || (x->gold = create_file(x, "gold.csv", err)) == NULL ||
        (x->project->feature_dim > 0 && (x->awaiting = create_file(x, "awaiting.csv", err)) == NULL))
        status = AMX_IO;
    if (status == AMX_OK && (status = write_headers(x)) == AMX_OK && (status = write_pages(x, false, err)) == AMX_OK)
        status = write_pages(x, true, err);
    /* Every file is closed, whatever came before. */
    bool closed = close_file(x->instances);

    closed = close_file(x->awaiting) && closed;
    closed = close_file(x->labels) && closed;
    closed = close_file(x->gold) && closed;
    if (x->awaiting != NULL && x->n_awaiting == 0)
        remove_awaiting(x);
    if (status == AMX_OK && !closed)
        status = AMX_IO;
    if ((status == AMX_IO || status == AMX_FULL) && err->text[0] == '\0')
        return error_set(err, status, "%s: %s", x->dir, strerror(errno));
    return status;
}

int cmd_export(int argc, char **argv)
{
    const char *db_path = NULL, *words[2] = {NULL, NULL};
    const struct option table[] = {{"--db", "FILE", "database (default annotmix.db)", &db_path, NULL}, {0}};
    size_t n_words = 0;
    int exit_status;
    struct export x = {.row = BUF_INIT(ROW_BYTES)};
    struct project_row project = {0};
    struct db *db = NULL;
    struct amx_error err = {0};
    enum amx_status status;

    if (!options_parse(argc, argv, table, "PROJECT DIR [--db FILE]", 2, 2, words, &n_words, &exit_status))
        return exit_status;
    x.project = &project;
    x.dir = words[1];
    status = store_open_readonly(cmd_db_path(db_path), &x.store, &err);
    if (status == AMX_OK && (status = store_reader_get(x.store, &db, &err)) == AMX_OK) {
        status = projects_find(db, (struct slice){words[0], strlen(words[0])}, &project, &err);
        store_reader_put(x.store, db);
    }
    if (status == AMX_OK)
        status = export_project(&x, &err);
    if (status == AMX_OK)
        printf("%s: %llu instances, %llu labels, %llu gold labels to %s\n", words[0],
               (unsigned long long)(x.n_instances + x.n_awaiting), (unsigned long long)x.n_labels,
               (unsigned long long)x.n_gold, x.dir);
    buf_done(&x.row);
    project_row_done(&project);
    store_close(x.store);
    return cmd_end("export", status, &err);
}
