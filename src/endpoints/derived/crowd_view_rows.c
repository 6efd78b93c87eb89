/* crowd_view_rows.c - see crowd_view_rows.h. Labels come by (instance, annotator) number, so instances are dense at
 * once; annotators are sorted and looked up. */
#include "endpoints/derived/crowd_view_rows.h"

#include <stdlib.h>
#include <string.h>

#include "store/labels.h"
#include "store/projects.h"
#include "store/store.h"
#include "util/error.h"
#include "util/size.h"

/* ---- reading
 * --------------------------------------------------------------------------------------------------------- */

struct reading {
    struct label_cell *cells;
    size_t n, room;
    size_t n_classes; /* a class appended since the project was looked up is left out */
};

static enum amx_status take_cell(void *context, const struct label_cell *cell)
{
    struct reading *r = context;
    if (cell->class_index == LABEL_SKIPPED || (size_t)cell->class_index >= r->n_classes) {
        return AMX_OK;
    }
    if (r->n == r->room) {
        size_t room = r->room > 0 ? r->room : 1024, bytes;
        if ((r->room > 0 && !size_mul(&room, room, 2)) || !size_mul(&bytes, room, sizeof *r->cells)) {
            return AMX_NO_MEMORY;
        }
        struct label_cell *moved = realloc(r->cells, bytes);
        if (moved == NULL) {
            return AMX_NO_MEMORY;
        }
        r->cells = moved;
        r->room = room;
    }
    r->cells[r->n++] = *cell;
    return AMX_OK;
}

/* All current labels with a class, and the number they are as of, in one view of the database. */
static enum amx_status read_cells(struct service *service, int64_t project_id, struct reading *r, int64_t *label_seq,
                                  struct amx_error *err)
{
    struct db *db;
    struct project_row row;
    enum amx_status status = store_reader_get(service->store, &db, err);
    if (status != AMX_OK) {
        return status;
    }
    status = db_begin_read(db, err);
    if (status == AMX_OK) {
        status = projects_get(db, project_id, &row, err);
    }
    if (status == AMX_OK) {
        *label_seq = row.label_seq;
        project_row_done(&row);
        status = labels_cells(db, project_id, 1, INT64_MAX, take_cell, r, err);
    }
    store_reader_put(service->store, db);
    return status;
}

/* ---- dense
 * ----------------------------------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

size_t crowd_rows_find(const int64_t *ids, size_t n, int64_t id)
{
    const int64_t *at = n == 0 ? NULL : bsearch(&id, ids, n, sizeof *ids, by_number);
    return at == NULL ? SIZE_MAX : (size_t)(at - ids);
}

static size_t distinct(int64_t *ids, size_t n)
{
    size_t kept_n = 0;
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || ids[i] != ids[kept_n - 1]) {
            ids[kept_n++] = ids[i];
        }
    }
    return kept_n;
}

static void *array(size_t n, size_t item)
{
    size_t bytes;
    return size_mul(&bytes, n > 0 ? n : 1, item) ? calloc(1, bytes) : NULL;
}

static bool make_dense(const struct reading *r, struct crowd_rows *rows)
{
    rows->instance = array(r->n, sizeof *rows->instance);
    rows->annotator = array(r->n, sizeof *rows->annotator);
    rows->class_ = array(r->n, sizeof *rows->class_);
    rows->instance_ids = array(r->n, sizeof *rows->instance_ids);
    rows->annotator_ids = array(r->n, sizeof *rows->annotator_ids);
    if (rows->instance == NULL || rows->annotator == NULL || rows->class_ == NULL || rows->instance_ids == NULL ||
        rows->annotator_ids == NULL) {
        return false;
    }
    for (size_t i = 0; i < r->n; i++) {
        rows->instance_ids[i] = r->cells[i].instance_id;
        rows->annotator_ids[i] = r->cells[i].annotator_id;
    }
    qsort(rows->annotator_ids, r->n, sizeof *rows->annotator_ids, by_number);
    rows->n_instances = distinct(rows->instance_ids, r->n);
    rows->n_annotators = distinct(rows->annotator_ids, r->n);
    uint32_t instance = 0;
    for (size_t i = 0; i < r->n; i++) {
        instance += i > 0 && r->cells[i].instance_id != r->cells[i - 1].instance_id;
        rows->instance[i] = instance;
        rows->annotator[i] =
            (uint32_t)crowd_rows_find(rows->annotator_ids, rows->n_annotators, r->cells[i].annotator_id);
        rows->class_[i] = (uint32_t)r->cells[i].class_index;
    }
    rows->n_labels = r->n;
    return true;
}

enum amx_status crowd_rows_read(struct service *service, const struct project_info *project, struct crowd_rows *out,
                                struct amx_error *err)
{
    struct reading r = {.n_classes = project->n_classes};
    *out = (struct crowd_rows){.n_classes = project->n_classes};
    enum amx_status status = read_cells(service, project->id, &r, &out->label_seq, err);
    if (status == AMX_OK && !make_dense(&r, out)) {
        status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    free(r.cells);
    return status;
}

void crowd_rows_done(struct crowd_rows *rows)
{
    free(rows->instance);
    free(rows->annotator);
    free(rows->class_);
    free(rows->instance_ids);
    free(rows->annotator_ids);
    *rows = (struct crowd_rows){.label_seq = 0};
}

void crowd_rows_only(struct crowd_rows *rows, const bool *keep)
{
    size_t n_labels = 0, n_instances = 0;
    for (size_t l = 0; l < rows->n_labels;) {
        size_t instance = rows->instance[l];
        size_t first = l;
        while (l < rows->n_labels && rows->instance[l] == instance) {
            l++;
        }
        if (!keep[instance]) {
            continue;
        }
        for (size_t i = first; i < l; i++, n_labels++) {
            rows->instance[n_labels] = (uint32_t)n_instances;
            rows->annotator[n_labels] = rows->annotator[i];
            rows->class_[n_labels] = rows->class_[i];
        }
        rows->instance_ids[n_instances++] = rows->instance_ids[instance];
    }
    rows->n_labels = n_labels;
    rows->n_instances = n_instances;
}

struct crowd_labels crowd_rows_labels(const struct crowd_rows *rows)
{
    return (struct crowd_labels){.n_instances = rows->n_instances,
                                 .n_annotators = rows->n_annotators,
                                 .n_classes = rows->n_classes,
                                 .n_labels = rows->n_labels,
                                 .instance = rows->instance,
                                 .annotator = rows->annotator,
                                 .class_ = rows->class_};
}
