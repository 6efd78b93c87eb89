/* data_dir.c - see data_dir.h. */
#include "data_dir.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csv_file.h"
#include "util/csv_rows.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "util/numbers.h"
#include "util/size.h"
#include "util/utf8.h"

enum {
    PIECE = 65536,
    MAX_ROW = 1024 * 1024,
    MAX_META = 16 * 1024 * 1024
};
#define MAX_FEATURE 1e6

/* What the row functions share. */
struct reading {
    struct data_dir *dir;
    size_t rows_capacity, labels_capacity;
    bool of_test;      /* labels_test.csv */
    unsigned may_miss; /* DATA_DIR_NO_... */
    bool by_name;      /* no instances file: labels and gold name the instances */
};

/* ---- files ------------------------------------------------------------------------------------------------------ */

/* DIR/STEM.csv, else DIR/STEM.csv.gz. AMX_NOT_FOUND when there is neither. */
static enum amx_status read_csv(const char *dir, const char *stem, csv_rows_fn *header, csv_rows_fn *row,
                                struct reading *reading, struct amx_error *err)
{
    static const char *const endings[] = {".csv", ".csv.gz"};

    for (int i = 0; i < 2; i++) {
        char path[4096], name[64];
        const struct csv_file file = {.path = path,
                                      .name = name,
                                      .max_row_bytes = MAX_ROW,
                                      .max_cells = AMX_MAX_FEATURES + 2,
                                      .header = header,
                                      .row = row,
                                      .context = reading};
        enum amx_status status;

        (void)snprintf(name, sizeof name, "%s%s", stem, endings[i]);
        if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path)
            return error_set(err, AMX_INVALID, "The path of the folder is too long.");
        status = csv_file_read(&file, err);
        if (status != AMX_NOT_FOUND)
            return status;
    }
    return error_set(err, AMX_NOT_FOUND, "There is no %s.csv or %s.csv.gz in %.100s.", stem, stem, dir);
}

/* ---- instances -------------------------------------------------------------------------------------------------- */

static bool is_word(const struct slice *cell, const char *word)
{
    return cell->n == strlen(word) && memcmp(cell->bytes, word, cell->n) == 0;
}

static enum amx_status check_name(const struct slice *cell, const char *what, struct amx_error *err, uint64_t row)
{
    const char *why;

    if (name_valid(cell->bytes, cell->n, &why))
        return AMX_OK;
    return error_set_line(err, AMX_INVALID, row, "the %s %s", what, why);
}

static enum amx_status no_memory(struct amx_error *err)
{
    return error_set(err, AMX_NO_MEMORY, "out of memory");
}

static enum amx_status instances_header(void *context, uint64_t row, const struct slice *cells, size_t n,
                                        struct amx_error *err)
{
    struct reading *reading = context;

    const size_t least = reading->may_miss & DATA_DIR_NO_INSTANCES ? 2 : 3;

    if (n < least || !is_word(&cells[0], "instance") || !is_word(&cells[1], "split"))
        return error_set_line(err, AMX_INVALID, row, "the header must be instance,split,f0,f1,...");
    for (size_t i = 2; i < n; i++) {
        char want[24];

        (void)snprintf(want, sizeof want, "f%zu", i - 2);
        if (!is_word(&cells[i], want))
            return error_set_line(err, AMX_INVALID, row, "column %zu of the header must be %s", i + 1, want);
    }
    reading->dir->n_features = n - 2;
    return AMX_OK;
}

/* Room for one more instance. */
static enum amx_status grow_rows(struct reading *reading, struct amx_error *err)
{
    struct data_dir *dir = reading->dir;
    size_t capacity, bytes;
    void *rows, *features;

    if (dir->instances.n < reading->rows_capacity)
        return AMX_OK;
    capacity = reading->rows_capacity > 0 ? 2 * reading->rows_capacity : 1024;
    if (!size_mul(&bytes, capacity, dir->n_features * sizeof(float)))
        return no_memory(err);
    rows = realloc(dir->rows, capacity * sizeof *dir->rows);
    if (rows == NULL)
        return no_memory(err);
    dir->rows = rows;
    if (bytes > 0) {
        features = realloc(dir->features, bytes);
        if (features == NULL)
            return no_memory(err);
        dir->features = features;
    }
    reading->rows_capacity = capacity;
    return AMX_OK;
}

static enum amx_status instances_row(void *context, uint64_t row, const struct slice *cells, size_t n,
                                     struct amx_error *err)
{
    struct reading *reading = context;
    struct data_dir *dir = reading->dir;
    enum split split = SPLIT_TRAIN;
    uint32_t i;
    bool added;
    enum amx_status status;

    if ((status = check_name(&cells[0], "instance", err, row)) != AMX_OK ||
        (status = grow_rows(reading, err)) != AMX_OK)
        return status;
    if (cells[1].n > 0 && !split_parse(cells[1].bytes, cells[1].n, &split))
        return error_set_line(err, AMX_INVALID, row, "split must be train, valid or test, not \"%.40s\"",
                              cells[1].bytes);
    if (name_table_add(&dir->instances, cells[0].bytes, cells[0].n, &i, &added) != AMX_OK)
        return no_memory(err);
    if (!added)
        return error_set_line(err, AMX_INVALID, row, "instance \"%.80s\" stands in the file twice", cells[0].bytes);
    dir->rows[i] = (struct training_row){NULL, split, dir->n_features > 0 ? i : SIZE_MAX, -1};
    for (size_t f = 2; f < n; f++) {
        double value;

        if (!number_double(cells[f].bytes, cells[f].n, &value) || fabs(value) > MAX_FEATURE)
            return error_set_line(err, AMX_INVALID, row, "f%zu is \"%.40s\": it must be a number within +-1e6", f - 2,
                                  cells[f].bytes);
        dir->features[(size_t)i * dir->n_features + f - 2] = (float)value;
    }
    return AMX_OK;
}

/* ---- labels and gold -------------------------------------------------------------------------------------------- */

static enum amx_status labels_header(void *context, uint64_t row, const struct slice *cells, size_t n,
                                     struct amx_error *err)
{
    (void)context;
    if (n == 3 && ((is_word(&cells[0], "task") && is_word(&cells[1], "worker") && is_word(&cells[2], "label")) ||
                   (is_word(&cells[0], "instance") && is_word(&cells[1], "annotator") && is_word(&cells[2], "class"))))
        return AMX_OK;
    return error_set_line(err, AMX_INVALID, row, "the header must be task,worker,label or instance,annotator,class");
}

static enum amx_status find_instance(struct reading *reading, const struct slice *cell, uint32_t *out, uint64_t row,
                                     struct amx_error *err)
{
    struct data_dir *dir = reading->dir;
    enum amx_status status;

    if (name_table_find(&dir->instances, cell->bytes, cell->n, out))
        return AMX_OK;
    if (reading->by_name) {
        if ((status = check_name(cell, "instance", err, row)) != AMX_OK || (status = grow_rows(reading, err)) != AMX_OK)
            return status;
        if (name_table_add(&dir->instances, cell->bytes, cell->n, out, NULL) != AMX_OK)
            return no_memory(err);
        dir->rows[*out] = (struct training_row){NULL, SPLIT_TRAIN, SIZE_MAX, -1};
        return AMX_OK;
    }
    return error_set_line(err, AMX_INVALID, row, "instance \"%.80s\" is not in the instances file", cell->bytes);
}

static enum amx_status labels_row(void *context, uint64_t row, const struct slice *cells, size_t n,
                                  struct amx_error *err)
{
    struct reading *reading = context;
    struct data_dir *dir = reading->dir;
    struct training_label label;
    enum amx_status status;

    (void)n;
    if ((status = find_instance(reading, &cells[0], &label.row, row, err)) != AMX_OK ||
        (status = check_name(&cells[1], "annotator", err, row)) != AMX_OK ||
        (status = check_name(&cells[2], "class", err, row)) != AMX_OK)
        return status;
    if (reading->of_test && dir->rows[label.row].split == SPLIT_TRAIN)
        return error_set_line(err, AMX_INVALID, row, "instance \"%.80s\" is of split train", cells[0].bytes);
    if (dir->n_labels == reading->labels_capacity) {
        size_t capacity = reading->labels_capacity > 0 ? 2 * reading->labels_capacity : 4096;
        void *labels = realloc(dir->labels, capacity * sizeof *dir->labels);

        if (labels == NULL)
            return no_memory(err);
        dir->labels = labels;
        reading->labels_capacity = capacity;
    }
    if (name_table_add(&dir->annotators, cells[1].bytes, cells[1].n, &label.annotator, NULL) != AMX_OK ||
        name_table_add(&dir->class_words, cells[2].bytes, cells[2].n, &label.class_, NULL) != AMX_OK)
        return no_memory(err);
    dir->labels[dir->n_labels++] = label;
    return AMX_OK;
}

static enum amx_status gold_header(void *context, uint64_t row, const struct slice *cells, size_t n,
                                   struct amx_error *err)
{
    (void)context;
    if (n == 2 && is_word(&cells[0], "instance") && is_word(&cells[1], "class"))
        return AMX_OK;
    return error_set_line(err, AMX_INVALID, row, "the header must be instance,class");
}

static enum amx_status gold_row(void *context, uint64_t row, const struct slice *cells, size_t n, struct amx_error *err)
{
    struct reading *reading = context;
    struct data_dir *dir = reading->dir;
    uint32_t i, class_;
    enum amx_status status;

    (void)n;
    if ((status = find_instance(reading, &cells[0], &i, row, err)) != AMX_OK ||
        (status = check_name(&cells[1], "class", err, row)) != AMX_OK)
        return status;
    if (name_table_add(&dir->class_words, cells[1].bytes, cells[1].n, &class_, NULL) != AMX_OK)
        return no_memory(err);
    if (dir->rows[i].gold >= 0 && dir->rows[i].gold != (int32_t)class_)
        return error_set_line(err, AMX_INVALID, row, "instance \"%.80s\" has another gold class before",
                              cells[0].bytes);
    dir->rows[i].gold = (int32_t)class_;
    return AMX_OK;
}

/* ---- meta.json and the order of classes -------------------------------------------------------------------------- */

enum amx_status data_dir_meta(const char *dir, json_t **out, struct amx_error *err)
{
    char path[4096], piece[PIECE];
    struct buf text = BUF_INIT(MAX_META);
    struct amx_error own;
    FILE *file;
    size_t n;
    enum amx_status status;

    if ((size_t)snprintf(path, sizeof path, "%s/meta.json", dir) >= sizeof path)
        return error_set(err, AMX_INVALID, "The path of the folder is too long.");
    file = fopen(path, "rbe");
    if (file == NULL)
        return errno == ENOENT ? AMX_OK : error_set(err, AMX_IO, "Cannot open meta.json: %s.", strerror(errno));
    while ((n = fread(piece, 1, sizeof piece, file)) > 0)
        (void)buf_append(&text, piece, n);
    status = ferror(file) ? error_set(err, AMX_IO, "meta.json cannot be read.") : AMX_OK;
    (void)fclose(file); /* only read */
    if (status == AMX_OK && text.status != AMX_OK)
        status = error_set(err, text.status, "meta.json is too large.");
    if (status == AMX_OK) {
        status = jsonx_load_object(buf_string(&text), text.n, out, &own);
        if (status != AMX_OK)
            (void)error_set(err, status, "meta.json: %s", own.text);
    }
    buf_done(&text);
    return status;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Final order in dir->classes, and every class number of rows and labels changed to it. */
static enum amx_status order_classes(struct data_dir *dir, const json_t *meta, struct amx_error *err)
{
    const json_t *listed = json_object_get(meta, "classes");
    size_t n = json_is_array(listed) ? json_array_size(listed) : 0, n_words = dir->class_words.n;
    uint32_t *place = calloc(n_words + n + 1, sizeof *place); /* number of a word -> final place */
    enum amx_status status = AMX_OK;

    dir->classes = calloc(n_words + n + 1, sizeof *dir->classes);
    if (place == NULL || dir->classes == NULL) {
        free(place);
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    for (size_t k = 0; k < n && status == AMX_OK; k++) {
        const char *word = json_string_value(json_array_get(listed, k));
        uint32_t number;
        bool is_new;

        if (word == NULL || name_table_add(&dir->class_words, word, strlen(word), &number, &is_new) != AMX_OK)
            status = error_set(err, AMX_INVALID, "meta.json: classes must be a list of names.");
        else
            dir->classes[k] = dir->class_words.names[number];
    }
    for (size_t w = 0; w < n_words && n == 0; w++)
        dir->classes[w] = dir->class_words.names[w];
    dir->n_classes = n > 0 ? n : n_words;
    if (n == 0)
        qsort(dir->classes, dir->n_classes, sizeof *dir->classes, by_text);
    for (size_t w = 0; w < n_words && status == AMX_OK; w++) {
        place[w] = UINT32_MAX;
        for (size_t k = 0; k < dir->n_classes; k++) {
            if (dir->classes[k] == dir->class_words.names[w])
                place[w] = (uint32_t)k;
        }
        if (place[w] == UINT32_MAX)
            status = error_set(err, AMX_INVALID, "Class \"%.80s\" is not among the classes of meta.json.",
                               dir->class_words.names[w]);
    }
    for (size_t l = 0; l < dir->n_labels && status == AMX_OK; l++)
        dir->labels[l].class_ = place[dir->labels[l].class_];
    for (size_t i = 0; i < dir->instances.n && status == AMX_OK; i++) {
        if (dir->rows[i].gold >= 0)
            dir->rows[i].gold = (int32_t)place[dir->rows[i].gold];
    }
    free(place);
    return status;
}

static enum amx_status read_accuracies(struct data_dir *dir, const json_t *meta, struct amx_error *err)
{
    const json_t *known = json_object_get(meta, "annotator_accuracy");

    if (!json_is_object(known))
        return AMX_OK;
    dir->annotator_accuracy = calloc(dir->annotators.n + 1, sizeof *dir->annotator_accuracy);
    if (dir->annotator_accuracy == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    for (size_t a = 0; a < dir->annotators.n; a++) {
        const json_t *value = json_object_get(known, dir->annotators.names[a]);

        dir->annotator_accuracy[a] = json_is_number(value) ? json_number_value(value) : (double)NAN;
    }
    return AMX_OK;
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

static enum amx_status read_files(const char *path, struct reading *reading, struct amx_error *err)
{
    enum amx_status status;

    status = read_csv(path, "instances", instances_header, instances_row, reading, err);
    if (status == AMX_NOT_FOUND && (reading->may_miss & DATA_DIR_NO_INSTANCES)) {
        reading->by_name = true;
        status = AMX_OK;
    }
    if (status != AMX_OK)
        return status;
    status = read_csv(path, "labels", labels_header, labels_row, reading, err);
    if (status != AMX_OK && !(status == AMX_NOT_FOUND && (reading->may_miss & DATA_DIR_NO_LABELS)))
        return status;
    reading->of_test = true;
    status = read_csv(path, "labels_test", labels_header, labels_row, reading, err);
    if (status != AMX_OK && status != AMX_NOT_FOUND)
        return status;
    status = read_csv(path, "gold", gold_header, gold_row, reading, err);
    if (status == AMX_NOT_FOUND && reading->by_name && reading->dir->instances.n == 0)
        return error_set(err, AMX_NOT_FOUND, "There are no instances, labels or gold in %.100s.", path);
    return status == AMX_NOT_FOUND ? AMX_OK : status;
}

enum amx_status data_dir_read(const char *path, struct data_dir *out, struct amx_error *err)
{
    return data_dir_read_partly(path, 0, out, err);
}

enum amx_status data_dir_read_partly(const char *path, unsigned may_miss, struct data_dir *out, struct amx_error *err)
{
    struct data_dir dir;
    struct reading reading = {.dir = &dir, .may_miss = may_miss};
    json_t *meta = NULL;
    enum amx_status status;

    memset(&dir, 0, sizeof dir);
    if ((status = read_files(path, &reading, err)) != AMX_OK || (status = data_dir_meta(path, &meta, err)) != AMX_OK ||
        (status = order_classes(&dir, meta, err)) != AMX_OK || (status = read_accuracies(&dir, meta, err)) != AMX_OK)
        goto done;
    if (dir.n_classes < 2 || dir.n_classes > AMX_MAX_CLASSES) {
        status = error_set(err, AMX_INVALID, "A data folder has 2 to %d classes; this one has %zu.",
                           (int)AMX_MAX_CLASSES, dir.n_classes);
        goto done;
    }
    for (size_t i = 0; i < dir.instances.n; i++)
        dir.rows[i].name = dir.instances.names[i];
    dir.view = (struct training_rows){
        .rows = dir.rows,
        .n_rows = dir.instances.n,
        .n_features = dir.n_features,
        .features = dir.features,
        .annotators = (const char *const *)dir.annotators.names,
        .n_annotators = dir.annotators.n,
        .classes = dir.classes,
        .n_classes = dir.n_classes,
        .labels = dir.labels,
        .n_labels = dir.n_labels,
    };
    *out = dir;
done:
    json_decref(meta);
    if (status != AMX_OK)
        data_dir_done(&dir);
    return status;
}

void data_dir_done(struct data_dir *dir)
{
    free(dir->annotator_accuracy);
    free(dir->classes);
    free(dir->labels);
    free(dir->features);
    free(dir->rows);
    name_table_done(&dir->class_words);
    name_table_done(&dir->annotators);
    name_table_done(&dir->instances);
    memset(dir, 0, sizeof *dir);
}
