/* label_files.c - see label_files.h. Rows are kept as they come (numbers in order of appearance); at the end names are
 * sorted and the labels put in order by two counting sorts, annotator first: linear in the labels. */
#include "label_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csv_file.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "util/numbers.h"
#include "util/size.h"
#include "util/utf8.h"

enum {
    MAX_ROW = 65536,
    MAX_META = 16 * 1024 * 1024
};

/* A row of the history file. */
struct past {
    uint32_t annotator, true_, given;
    float count;
};

/* Rows as they come. */
struct reading {
    struct label_files *files;
    uint32_t *instance, *annotator, *class_;
    size_t n, capacity;
    uint32_t *gold_class; /* [gold_capacity] by number of the instance; UINT32_MAX = none */
    size_t gold_capacity;
    struct past *past;
    size_t n_past, past_capacity;
};

static enum amx_status no_memory(struct amx_error *err)
{
    return error_set(err, AMX_NO_MEMORY, "out of memory");
}

/* ---- one file ---------------------------------------------------------------------------------------------------- */

/* paths: whose progress is told; NULL: nobody's. */
static enum amx_status read_csv(const char *path, csv_rows_fn *header, csv_rows_fn *row, struct reading *reading,
                                const struct label_paths *paths, struct amx_error *err)
{
    const struct csv_file file = {.path = path,
                                  .max_row_bytes = MAX_ROW,
                                  .max_cells = 4,
                                  .header = header,
                                  .row = row,
                                  .context = reading,
                                  .progress = paths != NULL ? paths->progress : NULL,
                                  .progress_context = paths != NULL ? paths->context : NULL};

    return csv_file_read(&file, err);
}

static bool is_word(const struct slice *cell, const char *word)
{
    return cell->n == strlen(word) && memcmp(cell->bytes, word, cell->n) == 0;
}

static bool are_words(const struct slice *cells, size_t n, const char *const *words, size_t n_words)
{
    if (n != n_words)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!is_word(&cells[i], words[i]))
            return false;
    }
    return true;
}

/* Number of a name, new or known. */
static enum amx_status intern(struct name_table *table, const struct slice *cell, const char *what, uint32_t *out,
                              uint64_t row, struct amx_error *err)
{
    const char *why;

    if (!name_valid(cell->bytes, cell->n, &why))
        return error_set_line(err, AMX_INVALID, row, "the %s %s", what, why);
    return name_table_add(table, cell->bytes, cell->n, out, NULL) == AMX_OK ? AMX_OK : no_memory(err);
}

/* ---- labels ------------------------------------------------------------------------------------------------------ */

static enum amx_status labels_header(void *context, uint64_t row, const struct slice *cells, size_t n,
                                     struct amx_error *err)
{
    static const char *const either[] = {"task", "worker", "label"};
    static const char *const other[] = {"instance", "annotator", "class"};

    (void)context;
    if (are_words(cells, n, either, 3) || are_words(cells, n, other, 3))
        return AMX_OK;
    return error_set_line(err, AMX_INVALID, row, "the header must be task,worker,label or instance,annotator,class");
}

static enum amx_status grow_labels(struct reading *r, struct amx_error *err)
{
    uint32_t **const arrays[] = {&r->instance, &r->annotator, &r->class_};
    size_t capacity = r->capacity > 0 ? 2 * r->capacity : 4096;

    if (r->n < r->capacity)
        return AMX_OK;
    if (capacity >= UINT32_MAX)
        return error_set(err, AMX_TOO_LARGE, "more labels than a 32-bit number counts");
    for (int i = 0; i < 3; i++) {
        uint32_t *more = realloc(*arrays[i], capacity * sizeof *more);

        if (more == NULL)
            return no_memory(err);
        *arrays[i] = more;
    }
    r->capacity = capacity;
    return AMX_OK;
}

static enum amx_status labels_row(void *context, uint64_t row, const struct slice *cells, size_t n,
                                  struct amx_error *err)
{
    struct reading *r = context;
    enum amx_status status;

    (void)n;
    if ((status = grow_labels(r, err)) != AMX_OK ||
        (status = intern(&r->files->instances.table, &cells[0], "instance", &r->instance[r->n], row, err)) != AMX_OK ||
        (status = intern(&r->files->annotators.table, &cells[1], "annotator", &r->annotator[r->n], row, err)) !=
            AMX_OK ||
        (status = intern(&r->files->class_words, &cells[2], "class", &r->class_[r->n], row, err)) != AMX_OK)
        return status;
    r->n++;
    return AMX_OK;
}

/* ---- gold and history -------------------------------------------------------------------------------------------- */

static enum amx_status gold_header(void *context, uint64_t row, const struct slice *cells, size_t n,
                                   struct amx_error *err)
{
    static const char *const words[] = {"instance", "class"};

    (void)context;
    if (are_words(cells, n, words, 2))
        return AMX_OK;
    return error_set_line(err, AMX_INVALID, row, "the header must be instance,class");
}

static enum amx_status gold_row(void *context, uint64_t row, const struct slice *cells, size_t n, struct amx_error *err)
{
    struct reading *r = context;
    uint32_t instance, class_;
    enum amx_status status = intern(&r->files->class_words, &cells[1], "class", &class_, row, err);

    (void)n;
    if (status != AMX_OK || !name_table_find(&r->files->instances.table, cells[0].bytes, cells[0].n, &instance))
        return status;
    if (r->gold_class[instance] != UINT32_MAX && r->gold_class[instance] != class_)
        return error_set_line(err, AMX_INVALID, row, "instance \"%.80s\" has another gold class before",
                              cells[0].bytes);
    r->gold_class[instance] = class_;
    return AMX_OK;
}

static enum amx_status history_header(void *context, uint64_t row, const struct slice *cells, size_t n,
                                      struct amx_error *err)
{
    static const char *const words[] = {"annotator", "true_class", "given_class", "count"};

    (void)context;
    if (are_words(cells, n, words, 4))
        return AMX_OK;
    return error_set_line(err, AMX_INVALID, row, "the header must be annotator,true_class,given_class,count");
}

static enum amx_status history_row(void *context, uint64_t row, const struct slice *cells, size_t n,
                                   struct amx_error *err)
{
    struct reading *r = context;
    struct past past;
    double count;
    enum amx_status status;

    (void)n;
    if ((status = intern(&r->files->class_words, &cells[1], "class", &past.true_, row, err)) != AMX_OK ||
        (status = intern(&r->files->class_words, &cells[2], "class", &past.given, row, err)) != AMX_OK)
        return status;
    if (!number_double(cells[3].bytes, cells[3].n, &count) || count < 0 || count > 1e9)
        return error_set_line(err, AMX_INVALID, row, "the count must be a number from 0 to 1e9, not \"%.40s\"",
                              cells[3].bytes);
    if (!name_table_find(&r->files->annotators.table, cells[0].bytes, cells[0].n, &past.annotator))
        return AMX_OK;
    past.count = (float)count;
    if (r->n_past == r->past_capacity) {
        size_t capacity = r->past_capacity > 0 ? 2 * r->past_capacity : 1024;
        struct past *more = realloc(r->past, capacity * sizeof *more);

        if (more == NULL)
            return no_memory(err);
        r->past = more;
        r->past_capacity = capacity;
    }
    r->past[r->n_past++] = past;
    return AMX_OK;
}

/* ---- order ------------------------------------------------------------------------------------------------------- */

struct named {
    const char *name;
    uint32_t number;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

static bool sort_names(struct sorted_names *s)
{
    struct named *order = calloc(s->table.n + 1, sizeof *order);

    s->names = calloc(s->table.n + 1, sizeof *s->names);
    s->rank = calloc(s->table.n + 1, sizeof *s->rank);
    if (order == NULL || s->names == NULL || s->rank == NULL) {
        free(order);
        return false;
    }
    for (size_t i = 0; i < s->table.n; i++)
        order[i] = (struct named){s->table.names[i], (uint32_t)i};
    qsort(order, s->table.n, sizeof *order, by_name);
    for (size_t i = 0; i < s->table.n; i++) {
        s->names[i] = order[i].name;
        s->rank[order[i].number] = (uint32_t)i;
    }
    free(order);
    return true;
}

/* `classes` of meta.json as words with the numbers they have; *n stays 0 when there is no file or no such member. */
static enum amx_status read_meta(const char *path, struct name_table *words, uint32_t **out, size_t *n,
                                 struct amx_error *err)
{
    struct buf text = BUF_INIT(MAX_META);
    FILE *file = path != NULL ? fopen(path, "rbe") : NULL;
    char piece[4096];
    json_t *meta = NULL, *listed;
    struct amx_error own;
    enum amx_status status = AMX_OK;
    size_t got;

    if (file == NULL)
        return AMX_OK;
    while ((got = fread(piece, 1, sizeof piece, file)) > 0)
        (void)buf_append(&text, piece, got);
    status = ferror(file) ? AMX_IO : text.status;
    (void)fclose(file); /* only read */
    if (status == AMX_OK)
        status = jsonx_load_object(buf_string(&text), text.n, &meta, &own);
    if (status != AMX_OK) {
        (void)error_set(err, status, "meta.json cannot be read.");
        goto done;
    }
    listed = json_object_get(meta, "classes");
    *out = calloc(json_array_size(listed) + 1, sizeof **out);
    if (*out == NULL)
        status = no_memory(err);
    for (size_t k = 0; status == AMX_OK && k < json_array_size(listed); k++) {
        const char *word = json_string_value(json_array_get(listed, k));

        if (word == NULL || name_table_add(words, word, strlen(word), &(*out)[k], NULL) != AMX_OK)
            status = error_set(err, AMX_INVALID, "meta.json: classes must be a list of names.");
        else
            ++*n;
    }
done:
    json_decref(meta);
    buf_done(&text);
    return status;
}

/* Final order of the classes; place[number of a word] = its class. Caller frees *place. */
static enum amx_status order_classes(struct label_files *f, const char *meta, uint32_t **place, struct amx_error *err)
{
    struct sorted_names sorted;
    uint32_t *listed = NULL;
    size_t n = 0;
    enum amx_status status = read_meta(meta, &f->class_words, &listed, &n, err);

    sorted = (struct sorted_names){.table = f->class_words};
    if (status == AMX_OK && !sort_names(&sorted))
        status = no_memory(err);
    for (size_t k = 0; status == AMX_OK && k < n; k++) {
        sorted.names[k] = f->class_words.names[listed[k]];
        sorted.rank[listed[k]] = (uint32_t)k;
    }
    /* Words that meta.json does not list were numbered after those it does, or before by the files. */
    for (size_t w = 0; status == AMX_OK && n > 0 && w < f->class_words.n; w++) {
        if (sorted.rank[w] >= n || sorted.names[sorted.rank[w]] != f->class_words.names[w])
            status = error_set(err, AMX_INVALID, "Class \"%.80s\" is not among the classes of meta.json.",
                               f->class_words.names[w]);
    }
    f->labels.n_classes = n > 0 ? n : f->class_words.n;
    if (status == AMX_OK && f->labels.n_classes > AMX_MAX_CLASSES)
        status = error_set(err, AMX_INVALID, "There are %zu classes; %d are the most.", f->labels.n_classes,
                           (int)AMX_MAX_CLASSES);
    f->classes = sorted.names;
    *place = sorted.rank;
    free(listed);
    return status;
}

/* to = from in the order of key[from[i]] < n_keys, stable. */
static bool counting_sort(const uint32_t *key, const uint32_t *rank, size_t n_keys, const uint32_t *from, uint32_t *to,
                          size_t n)
{
    size_t *begin = calloc(n_keys + 1, sizeof *begin);

    if (begin == NULL)
        return false;
    for (size_t i = 0; i < n; i++)
        begin[rank[key[i]] + 1]++;
    for (size_t k = 0; k < n_keys; k++)
        begin[k + 1] += begin[k];
    for (size_t i = 0; i < n; i++) {
        const uint32_t row = from != NULL ? from[i] : (uint32_t)i;

        to[begin[rank[key[row]]]++] = row;
    }
    free(begin);
    return true;
}

/* Rows to labels: sorted, of equal pairs the last. */
static enum amx_status order_labels(struct reading *r, const uint32_t *place, struct amx_error *err)
{
    struct label_files *f = r->files;
    const uint32_t *instances = f->instances.rank, *annotators = f->annotators.rank;
    uint32_t *first = malloc((r->n + 1) * sizeof *first), *order = malloc((r->n + 1) * sizeof *order);
    bool ok = first != NULL && order != NULL;
    size_t n = 0;

    ok = ok && counting_sort(r->annotator, annotators, f->annotators.table.n, NULL, first, r->n);
    ok = ok && counting_sort(r->instance, instances, f->instances.table.n, first, order, r->n);
    free(first);
    f->instance = malloc((r->n + 1) * sizeof *f->instance);
    f->annotator = malloc((r->n + 1) * sizeof *f->annotator);
    f->class_ = malloc((r->n + 1) * sizeof *f->class_);
    if (!ok || f->instance == NULL || f->annotator == NULL || f->class_ == NULL) {
        free(order);
        return no_memory(err);
    }
    for (size_t i = 0; i < r->n; i++) {
        const uint32_t row = order[i];

        if (i + 1 < r->n && r->instance[order[i + 1]] == r->instance[row] &&
            r->annotator[order[i + 1]] == r->annotator[row])
            continue;
        f->instance[n] = instances[r->instance[row]];
        f->annotator[n] = annotators[r->annotator[row]];
        f->class_[n++] = place[r->class_[row]];
    }
    free(order);
    f->labels.n_instances = f->instances.table.n;
    f->labels.n_annotators = f->annotators.table.n;
    f->labels.n_labels = n;
    f->labels.instance = f->instance;
    f->labels.annotator = f->annotator;
    f->labels.class_ = f->class_;
    return AMX_OK;
}

static enum amx_status place_gold(struct reading *r, const uint32_t *place, struct amx_error *err)
{
    struct label_files *f = r->files;
    const size_t N = f->instances.table.n;

    f->gold = malloc((N + 1) * sizeof *f->gold);
    if (f->gold == NULL)
        return no_memory(err);
    for (size_t i = 0; i < N; i++) {
        const bool has = r->gold_class[i] != UINT32_MAX;

        f->gold[f->instances.rank[i]] = has ? (int32_t)place[r->gold_class[i]] : -1;
        f->n_gold += has;
    }
    return AMX_OK;
}

static enum amx_status place_history(struct reading *r, const uint32_t *place, struct amx_error *err)
{
    struct label_files *f = r->files;
    const size_t C = f->labels.n_classes;
    size_t row, cells;

    if (!size_mul(&row, f->labels.n_annotators, C) || !size_mul(&cells, row, C) || cells > SIZE_MAX / sizeof(float))
        return error_set(err, AMX_TOO_LARGE, "The history is too large.");
    f->history = calloc(cells + 1, sizeof *f->history);
    if (f->history == NULL)
        return no_memory(err);
    for (size_t i = 0; i < r->n_past; i++) {
        const struct past *p = &r->past[i];

        f->history[(f->annotators.rank[p->annotator] * C + place[p->true_]) * C + place[p->given]] += p->count;
    }
    return AMX_OK;
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

static enum amx_status read_all(const struct label_paths *paths, struct reading *r, struct amx_error *err)
{
    struct label_files *f = r->files;
    uint32_t *place = NULL;
    enum amx_status status = read_csv(paths->labels, labels_header, labels_row, r, paths, err);

    if (status == AMX_OK && r->n == 0)
        return error_set(err, AMX_NOTHING, "There are no labels in %.120s.", paths->labels);
    r->gold_class = malloc((f->instances.table.n + 1) * sizeof *r->gold_class);
    if (status == AMX_OK && r->gold_class == NULL)
        status = no_memory(err);
    for (size_t i = 0; status == AMX_OK && i < f->instances.table.n; i++)
        r->gold_class[i] = UINT32_MAX;
    if (status == AMX_OK && paths->gold != NULL)
        status = read_csv(paths->gold, gold_header, gold_row, r, NULL, err);
    if (status == AMX_OK && paths->history != NULL)
        status = read_csv(paths->history, history_header, history_row, r, NULL, err);
    if (status == AMX_OK && (!sort_names(&f->instances) || !sort_names(&f->annotators)))
        status = no_memory(err);
    if (status == AMX_OK)
        status = order_classes(f, paths->meta, &place, err);
    if (status == AMX_OK)
        status = order_labels(r, place, err);
    if (status == AMX_OK)
        status = place_gold(r, place, err);
    if (status == AMX_OK && paths->history != NULL)
        status = place_history(r, place, err);
    free(place);
    return status;
}

enum amx_status label_files_read(const struct label_paths *paths, struct label_files *out, struct amx_error *err)
{
    struct reading r = {.files = out};
    enum amx_status status;

    memset(out, 0, sizeof *out);
    status = read_all(paths, &r, err);
    free(r.past);
    free(r.gold_class);
    free(r.class_);
    free(r.annotator);
    free(r.instance);
    if (status != AMX_OK)
        label_files_done(out);
    return status;
}

static void sorted_names_done(struct sorted_names *s)
{
    free(s->rank);
    free(s->names);
    name_table_done(&s->table);
}

void label_files_done(struct label_files *files)
{
    free(files->history);
    free(files->gold);
    free(files->class_);
    free(files->annotator);
    free(files->instance);
    free(files->classes);
    name_table_done(&files->class_words);
    sorted_names_done(&files->annotators);
    sorted_names_done(&files->instances);
    memset(files, 0, sizeof *files);
}
