/* reliability_items.c - see reliability_items.h.
 *
 * An annotator the model has not seen gets the population's reliability with evidence 0, never an error: that is what
 * the model would assume of its next label.
 */
#include "endpoints/derived/reliability_items.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "endpoints/derived/answers.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "util/numbers.h"
#include "util/size.h"

enum {
    NAMES_MAX_BYTES = 1 << 20
};

enum amx_status reliability_items_init(struct reliability_items *r, struct amx_error *err)
{
    size_t bytes;
    r->n_classes = r->snapshot != NULL ? r->snapshot->info.n_classes : r->project->n_classes;
    buf_init(&r->names, NAMES_MAX_BYTES);
    r->items = calloc(RELIABILITY_BLOCK, sizeof *r->items);
    if (size_mul(&bytes, r->n_classes, 2 * RELIABILITY_BLOCK * sizeof *r->numbers)) {
        r->numbers = malloc(bytes);
    }
    return r->items != NULL && r->numbers != NULL ? AMX_OK : error_set(err, AMX_NO_MEMORY, "Out of memory.");
}

void reliability_items_done(struct reliability_items *r)
{
    buf_done(&r->names);
    free(r->items);
    free(r->numbers);
    free(r->confusion);
}

double reliability_items_population(const struct reliability_items *r)
{
    return r->snapshot != NULL ? r->snapshot->population_reliability : r->view->mean_reliability;
}

/* ---- reading
 * --------------------------------------------------------------------------------------------------------- */

static float *numbers_of(struct reliability_items *r, size_t i)
{
    return r->numbers + i * 2 * r->n_classes;
}

/* By the labels alone: position in the view. */
static void from_view(struct reliability_items *r, size_t i)
{
    struct reliability_item *item = &r->items[i];
    size_t at = crowd_view_annotator(r->view, item->id), n_classes = r->n_classes;
    item->reliability = (double)NAN;
    if (at == SIZE_MAX || r->view->n_classes != n_classes) {
        return;
    }
    item->reliability = r->view->reliability[at];
    item->evidence = r->view->labels[at];
    if (r->view->confusion != NULL) {
        float *per_class = numbers_of(r, i);
        item->confusion = r->view->confusion + at * n_classes * n_classes;
        for (size_t k = 0; k < n_classes; k++) {
            per_class[k] = item->confusion[k * n_classes + k];
        }
        item->per_class = per_class;
    }
}

static const struct model_annotator_folds no_folds = {(double)NAN, (double)NAN, (double)NAN};

static enum amx_status take_annotator(void *context, const struct annotator_row *row)
{
    struct reliability_items *r = context;
    struct reliability_item *item = &r->items[r->n];
    *item = (struct reliability_item){.id = row->id, .name = r->names.n, .labels = row->labels - row->skipped};
    item->folds = no_folds;
    item->gold_right = row->gold_right;
    item->gold_of = row->gold_of;
    (void)buf_append(&r->names, row->name.bytes, row->name.n);
    if (buf_char(&r->names, '\0') != AMX_OK) {
        return r->names.status;
    }
    if (r->snapshot == NULL) {
        from_view(r, r->n);
    } else {
        item->reliability = reliability_items_population(r); /* until the model's own figure is found */
    }
    r->n++;
    return AMX_OK;
}

static void from_model(struct reliability_items *r, size_t i, const struct model_annotator *row)
{
    struct reliability_item *item = &r->items[i];
    float *numbers = numbers_of(r, i);
    bool fits = row->n_classes == r->n_classes;
    item->reliability = row->reliability;
    item->evidence = (uint64_t)row->labels;
    if (row->folds != NULL) {
        item->folds = *row->folds;
    }
    if (fits && row->class_reliability != NULL) {
        memcpy(numbers, row->class_reliability, r->n_classes * sizeof *numbers);
        item->per_class = numbers;
    }
    if (fits && row->class_evidence != NULL) {
        memcpy(numbers + r->n_classes, row->class_evidence, r->n_classes * sizeof *numbers);
        item->class_evidence = numbers + r->n_classes;
    }
}

static enum amx_status take_model_row(void *context, const struct model_annotator *row)
{
    struct reliability_items *r = context;
    size_t low = 0, high = r->n; /* both lists are by id */
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (r->items[middle].id < row->annotator_id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low < r->n && r->items[low].id == row->annotator_id) {
        from_model(r, low, row);
    }
    return AMX_OK;
}

enum amx_status reliability_items_read(struct reliability_items *r, struct db *db, int64_t *after, size_t limit,
                                       bool *more, struct amx_error *err)
{
    bool rest;
    r->n = 0;
    buf_clear(&r->names);
    enum amx_status status = annotators_list(db, r->project->id, *after, limit, take_annotator, r, more, err);
    if (status == AMX_OK && r->snapshot != NULL && r->n > 0) {
        /* The model's annotators are among the project's, so at most r->n of them lie in this range. */
        status = model_annotators_list(db, r->project->id, r->snapshot->number, *after, r->n, false, take_model_row, r,
                                       &rest, err);
    }
    if (r->n > 0) {
        *after = r->items[r->n - 1].id;
    }
    return status;
}

static enum amx_status keep_confusion(struct reliability_items *r, const struct model_annotator *row,
                                      struct amx_error *err)
{
    size_t cells, bytes;
    if (row->confusion == NULL || row->n_classes != r->n_classes) {
        return AMX_OK;
    }
    free(r->confusion);
    r->confusion = size_mul(&cells, r->n_classes, r->n_classes) && size_mul(&bytes, cells, sizeof *r->confusion)
                       ? malloc(bytes)
                       : NULL;
    if (r->confusion == NULL) {
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    memcpy(r->confusion, row->confusion, bytes);
    r->items[0].confusion = r->confusion;
    return AMX_OK;
}

enum amx_status reliability_items_find(struct reliability_items *r, struct db *db, const char *name,
                                       struct amx_error *err)
{
    struct annotator_row row;
    struct model_annotator figures;
    r->n = 0;
    buf_clear(&r->names);
    enum amx_status status = annotators_find(db, r->project->id, (struct slice){name, strlen(name)}, &row, err);
    if (status == AMX_NOT_FOUND) {
        struct annotator_row nobody = {.name = {name, strlen(name)}};
        enum amx_status taken = take_annotator(r, &nobody);
        if (taken == AMX_OK) {
            r->items[0].reliability = reliability_items_population(r);
        }
        return taken == AMX_OK ? status : taken;
    }
    if (status != AMX_OK) {
        return status;
    }
    status = take_annotator(r, &row);
    annotator_row_done(&row);
    if (status != AMX_OK || r->snapshot == NULL) {
        return status;
    }
    status = model_annotators_get(db, r->project->id, r->snapshot->number, r->items[0].id, &figures, err);
    if (status == AMX_NOT_FOUND) {
        return AMX_OK; /* came after the model was made */
    }
    if (status == AMX_OK) {
        from_model(r, 0, &figures);
        status = keep_confusion(r, &figures, err);
        model_annotator_done(&figures);
    }
    return status;
}

/* ---- writing
 * --------------------------------------------------------------------------------------------------------- */

static void write_number(struct buf *out, double value)
{
    char text[NUMBER_TEXT_BYTES];
    size_t n = number_double_text(value, text);
    if (n == 0) {
        (void)buf_text(out, "null");
    } else {
        (void)buf_append(out, text, n);
    }
}

static const char *basis_of(const struct reliability_items *r)
{
    return r->snapshot != NULL ? "model" : r->view->has_dawid_skene ? "dawid_skene" : "agreement";
}

static void write_per_class(const struct reliability_items *r, const struct reliability_item *item, struct buf *out)
{
    if (item->per_class == NULL) {
        (void)buf_text(out, "null");
        return;
    }
    (void)buf_char(out, '[');
    for (size_t k = 0; k < r->n_classes; k++) {
        (void)buf_text(out, k > 0 ? ",{\"class\":" : "{\"class\":");
        (void)jsonx_write_string(out, r->project->classes[k], strlen(r->project->classes[k]));
        (void)buf_text(out, ",\"reliability\":");
        write_number(out, (double)item->per_class[k]);
        (void)buf_text(out, ",\"interval\":null,\"evidence\":");
        write_number(out, item->class_evidence != NULL ? (double)item->class_evidence[k] : (double)NAN);
        (void)buf_char(out, '}');
    }
    (void)buf_char(out, ']');
}

void reliability_items_write_json(const struct reliability_items *r, size_t i, struct buf *out)
{
    const struct reliability_item *item = &r->items[i];
    const char *name = r->names.bytes + item->name;
    (void)buf_text(out, "\"annotator\":");
    (void)jsonx_write_string(out, name, strlen(name));
    (void)buf_printf(out, ",\"labels\":%lld,\"reliability\":", (long long)item->labels);
    write_number(out, item->reliability);
    (void)buf_text(out, ",\"reliability_all\":");
    write_number(out, item->folds.reliability_all);
    (void)buf_text(out, ",\"expected_correct\":");
    write_number(out, item->folds.expected_correct);
    (void)buf_printf(out,
                     ",\"interval\":null,\"interval_level\":null,\"evidence\":%llu,\"basis\":\"%s\",\"per_class\":",
                     (unsigned long long)item->evidence, basis_of(r));
    write_per_class(r, item, out);
    (void)buf_text(out, ",\"agreement_with_others\":");
    write_number(out, item->folds.agreement_with_others);
    (void)buf_text(out, ",\"against_gold\":");
    if (r->may_gold) {
        (void)buf_printf(out, "{\"right\":%lld,\"of\":%lld}", (long long)item->gold_right, (long long)item->gold_of);
    } else {
        (void)buf_text(out, "null");
    }
    (void)buf_text(out, ",\"flags\":null");
}

void reliability_items_write_csv_header(struct buf *out)
{
    (void)buf_text(out,
                   "annotator,labels,reliability,evidence,basis,gold_right,gold_of,reliability_all,expected_correct,"
                   "agreement_with_others\r\n");
}

void reliability_items_write_csv(const struct reliability_items *r, size_t i, struct buf *out)
{
    const struct reliability_item *item = &r->items[i];
    const char *name = r->names.bytes + item->name;
    char number[NUMBER_TEXT_BYTES];
    answers_csv_name(out, name, strlen(name));
    (void)buf_printf(out, ",%lld,", (long long)item->labels);
    (void)buf_append(out, number, number_double_text(item->reliability, number));
    (void)buf_printf(out, ",%llu,%s,", (unsigned long long)item->evidence, basis_of(r));
    if (r->may_gold) {
        (void)buf_printf(out, "%lld,%lld", (long long)item->gold_right, (long long)item->gold_of);
    } else {
        (void)buf_char(out, ',');
    }
    const double figures[] = {item->folds.reliability_all, item->folds.expected_correct,
                              item->folds.agreement_with_others};
    for (size_t f = 0; f < sizeof figures / sizeof figures[0]; f++) {
        (void)buf_char(out, ',');
        (void)buf_append(out, number, number_double_text(figures[f], number));
    }
    (void)buf_text(out, "\r\n");
}
