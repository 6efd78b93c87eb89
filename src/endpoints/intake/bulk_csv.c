/* bulk_csv.c - rows from CSV. The header names the columns, in any order:
 *
 *   labels     task,worker,label or instance,annotator,class; besides ref, given_at, duration_ms, skipped
 *   instances  instance (or id); besides split, gold, metadata, and either no or all of f0 ... f{D-1}
 *   gold       instance,class
 *
 * An empty cell is a field that is not given; a row without any number awaits its features.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "endpoints/intake/bulk.h"
#include "util/csv_rows.h"
#include "util/error.h"
#include "util/numbers.h"

enum column {
    COLUMN_INSTANCE,
    COLUMN_ANNOTATOR,
    COLUMN_CLASS,
    COLUMN_REF,
    COLUMN_GIVEN_AT,
    COLUMN_DURATION,
    COLUMN_SKIPPED,
    COLUMN_SPLIT,
    COLUMN_GOLD,
    COLUMN_METADATA,
    COLUMNS,
    COLUMN_FEATURE = 1000 /* + i */
};

struct bulk_csv {
    struct csv_rows *rows;
    int *columns; /* [n_columns] enum column, or COLUMN_FEATURE + i */
    size_t n_columns;
    bool features;
};

static const struct {
    const char *name;
    unsigned kinds; /* bit 1 << kind->id */
    enum column column;
} names[] = {
    {"instance", 1U << BULK_LABELS | 1U << BULK_INSTANCES | 1U << BULK_GOLD, COLUMN_INSTANCE},
    {"task", 1U << BULK_LABELS, COLUMN_INSTANCE},
    {"id", 1U << BULK_INSTANCES, COLUMN_INSTANCE},
    {"annotator", 1U << BULK_LABELS, COLUMN_ANNOTATOR},
    {"worker", 1U << BULK_LABELS, COLUMN_ANNOTATOR},
    {"class", 1U << BULK_LABELS | 1U << BULK_GOLD, COLUMN_CLASS},
    {"label", 1U << BULK_LABELS, COLUMN_CLASS},
    {"ref", 1U << BULK_LABELS, COLUMN_REF},
    {"given_at", 1U << BULK_LABELS, COLUMN_GIVEN_AT},
    {"duration_ms", 1U << BULK_LABELS, COLUMN_DURATION},
    {"skipped", 1U << BULK_LABELS, COLUMN_SKIPPED},
    {"split", 1U << BULK_INSTANCES, COLUMN_SPLIT},
    {"gold", 1U << BULK_INSTANCES, COLUMN_GOLD},
    {"metadata", 1U << BULK_INSTANCES, COLUMN_METADATA},
};

static const char *wanted_header(const struct bulk *b)
{
    switch (b->kind->id) {
    case BULK_LABELS:
        return "task,worker,label or instance,annotator,class";
    case BULK_GOLD:
        return "instance,class";
    case BULK_INSTANCES:
        break;
    }
    return "instance,split,f0,f1,...";
}

/* ---- header ---- */

static int column_of(const struct bulk *b, struct slice cell)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if ((names[i].kinds & 1U << b->kind->id) != 0 && strlen(names[i].name) == cell.n &&
            memcmp(names[i].name, cell.bytes, cell.n) == 0)
            return (int)names[i].column;
    uint64_t i;
    if (b->kind->id == BULK_INSTANCES && cell.n > 1 && cell.bytes[0] == 'f' && (cell.n == 2 || cell.bytes[1] != '0') &&
        number_uint(cell.bytes + 1, cell.n - 1, &i) && i < b->context.project->feature_dim)
        return COLUMN_FEATURE + (int)i;
    return -1;
}

static enum amx_status wrong_header(const struct bulk *b, struct amx_error *err, const char *what)
{
    return error_set_line(err, AMX_INVALID, 1, "%s; the header must be %s", what, wanted_header(b));
}

static enum amx_status check_header(struct bulk *b, size_t n_features, const bool *seen, struct amx_error *err)
{
    bool ok = seen[COLUMN_INSTANCE];
    if (b->kind->id == BULK_LABELS)
        ok = ok && seen[COLUMN_ANNOTATOR] && seen[COLUMN_CLASS];
    if (b->kind->id == BULK_GOLD)
        ok = ok && seen[COLUMN_CLASS];
    if (!ok)
        return wrong_header(b, err, "a column is missing");
    size_t d = b->context.project->feature_dim;
    if (n_features > 0 && n_features != d)
        return error_set_line(err, AMX_INVALID, 1, "the header has %zu feature columns; feature_dim is %zu", n_features,
                              d);
    b->csv->features = n_features > 0;
    return AMX_OK;
}

static enum amx_status header(void *context, uint64_t row, const struct slice *cells, size_t n, struct amx_error *err)
{
    struct bulk *b = context;
    (void)row; /* always 1 */
    size_t d = b->context.project->feature_dim, n_features = 0;
    bool seen[COLUMNS] = {false};
    bool *seen_feature = calloc(d + 1, sizeof *seen_feature);
    b->csv->columns = calloc(n > 0 ? n : 1, sizeof *b->csv->columns);
    b->csv->n_columns = n;
    enum amx_status status = AMX_OK;
    if (seen_feature == NULL || b->csv->columns == NULL)
        status = error_set(err, AMX_NO_MEMORY, "out of memory");
    for (size_t i = 0; i < n && status == AMX_OK; i++) {
        int column = column_of(b, cells[i]);
        if (column < 0) {
            status = wrong_header(b, err, "the header has a column that is not known");
            break;
        }
        bool *mark = column >= COLUMN_FEATURE ? &seen_feature[column - COLUMN_FEATURE] : &seen[column];
        if (*mark)
            status = wrong_header(b, err, "the header has a column twice");
        *mark = true;
        n_features += column >= COLUMN_FEATURE;
        b->csv->columns[i] = column;
    }
    if (status == AMX_OK)
        status = check_header(b, n_features, seen, err);
    free(seen_feature);
    return status;
}

/* ---- rows ---- */

static enum amx_status label_cell(struct bulk *b, enum column column, struct slice cell, struct label_in *row,
                                  struct amx_error *err)
{
    struct row_context *c = &b->context;
    switch (column) {
    case COLUMN_INSTANCE:
        return row_name(c, cell, "", "instance", bulk_arena(b), &row->instance, err);
    case COLUMN_ANNOTATOR:
        return row_name(c, cell, "", "annotator", bulk_arena(b), &row->annotator, err);
    case COLUMN_CLASS:
        return cell.n == 0 ? AMX_OK : row_class(c, cell, "", "class", &row->class_index, err);
    case COLUMN_REF:
        return cell.n == 0 ? AMX_OK : row_name(c, cell, "", "ref", bulk_arena(b), &row->ref, err);
    case COLUMN_GIVEN_AT:
        return cell.n == 0 ? AMX_OK : row_given_at(c, cell, "", &row->given_at_ms, err);
    case COLUMN_DURATION:
        return cell.n == 0 ? AMX_OK : row_duration(c, cell, "", &row->duration_ms, err);
    case COLUMN_SKIPPED:
        row->skipped = cell.n == 4 && memcmp(cell.bytes, "true", 4) == 0;
        if (row->skipped || cell.n == 0 || (cell.n == 5 && memcmp(cell.bytes, "false", 5) == 0))
            return AMX_OK;
        return row_fail(c, PROBLEM_INVALID_BODY, err, "", "skipped", "skipped must be true or false");
    case COLUMN_SPLIT:
    case COLUMN_GOLD:
    case COLUMN_METADATA:
    case COLUMNS:
    case COLUMN_FEATURE:
        break;
    }
    return AMX_OK;
}

static enum amx_status label_of(struct bulk *b, const struct slice *cells, struct label_in *row, struct amx_error *err)
{
    *row = (struct label_in){.class_index = ROW_NO_CLASS, .duration_ms = -1};
    for (size_t i = 0; i < b->csv->n_columns; i++) {
        enum amx_status status = label_cell(b, (enum column)b->csv->columns[i], cells[i], row, err);
        if (status != AMX_OK)
            return status;
    }
    return row_label_check(&b->context, row, "", err);
}

static enum amx_status gold_of(struct bulk *b, const struct slice *cells, struct gold_in *row, struct amx_error *err)
{
    *row = (struct gold_in){.class_index = ROW_NO_CLASS};
    for (size_t i = 0; i < b->csv->n_columns; i++) {
        enum amx_status status =
            b->csv->columns[i] == COLUMN_INSTANCE
                ? row_name(&b->context, cells[i], "", "instance", bulk_arena(b), &row->instance, err)
                : row_class(&b->context, cells[i], "", "class", &row->class_index, err);
        if (status != AMX_OK)
            return status;
    }
    return AMX_OK;
}

static enum amx_status instance_cell(struct bulk *b, enum column column, struct slice cell, struct instance_in *row,
                                     struct amx_error *err)
{
    struct row_context *c = &b->context;
    if (column == COLUMN_INSTANCE)
        return row_name(c, cell, "", "id", bulk_arena(b), &row->id, err);
    if (cell.n == 0)
        return AMX_OK;
    if (column == COLUMN_SPLIT)
        return row_split_of(c, cell, &row->split, err);
    if (column == COLUMN_METADATA)
        return row_metadata(c, cell, bulk_arena(b), &row->metadata, err);
    if (!c->may_gold)
        return row_fail(c, PROBLEM_FORBIDDEN, err, "", "gold", "writing gold labels needs the scope gold");
    return row_class(c, cell, "", "gold", &row->gold, err);
}

static enum amx_status feature_cell(struct bulk *b, size_t i, struct slice cell, float *out, struct amx_error *err)
{
    double value;
    if (!number_double(cell.bytes, cell.n, &value)) {
        static const char *const words[] = {"nan", "inf", "-inf", "infinity", "-infinity", "+inf", "+infinity"};
        for (size_t w = 0; w < sizeof words / sizeof words[0]; w++)
            if (cell.n == strlen(words[w]) && strncasecmp(cell.bytes, words[w], cell.n) == 0)
                return row_feature(&b->context, (double)NAN, cell, i, err);
        if (cell.n > 0 && strspn(cell.bytes, "0123456789.eE+-") >= cell.n)
            return row_feature(&b->context, (double)INFINITY, cell, i, err); /* 1e999 */
        char pointer[32];
        (void)snprintf(pointer, sizeof pointer, "/features/%zu", i);
        return row_fail(&b->context, PROBLEM_INVALID_BODY, err, pointer, NULL, "a feature must be a number");
    }
    *out = (float)value;
    return row_feature(&b->context, value, cell, i, err);
}

static enum amx_status instance_of(struct bulk *b, const struct slice *cells, struct instance_in *row,
                                   struct amx_error *err)
{
    *row = (struct instance_in){.split = SPLIT_KEEP, .gold = ROW_NO_CLASS};
    size_t d = b->context.project->feature_dim, n_given = 0;
    float *features = NULL;
    if (b->csv->features) {
        for (size_t i = 0; i < b->csv->n_columns; i++)
            n_given += b->csv->columns[i] >= COLUMN_FEATURE && cells[i].n > 0;
        if (n_given > 0 && (features = arena_take(bulk_arena(b), d * sizeof *features)) == NULL)
            return error_set(err, AMX_NO_MEMORY, "out of memory");
    }
    for (size_t i = 0; i < b->csv->n_columns; i++) {
        int column = b->csv->columns[i];
        enum amx_status status = AMX_OK;
        if (column < COLUMN_FEATURE)
            status = instance_cell(b, (enum column)column, cells[i], row, err);
        else if (features != NULL)
            status =
                feature_cell(b, (size_t)(column - COLUMN_FEATURE), cells[i], &features[column - COLUMN_FEATURE], err);
        if (status != AMX_OK)
            return status;
    }
    row->features = features;
    return AMX_OK;
}

static enum amx_status row_of(struct bulk *b, const struct slice *cells, size_t n, struct bulk_row *row,
                              struct amx_error *err)
{
    if (n != b->csv->n_columns)
        return row_fail(&b->context, PROBLEM_INVALID_BODY, err, "", NULL, "the row has %zu cells, the header has %zu",
                        n, b->csv->n_columns);
    switch (b->kind->id) {
    case BULK_LABELS:
        return label_of(b, cells, &row->as.label, err);
    case BULK_INSTANCES:
        return instance_of(b, cells, &row->as.instance, err);
    case BULK_GOLD:
        return gold_of(b, cells, &row->as.gold, err);
    }
    return AMX_OK;
}

static enum amx_status row_cells(void *context, uint64_t number, const struct slice *cells, size_t n,
                                 struct amx_error *err)
{
    struct bulk *b = context;
    struct bulk_row *row = bulk_row(b, number);
    if (row == NULL)
        return error_set(err, AMX_NO_MEMORY, "out of memory");
    struct amx_error why = {.code = AMX_OK};
    enum amx_status status = row_of(b, cells, n, row, &why);
    status = bulk_row_end(b, row, status, &why);
    if (status != AMX_OK && err != NULL)
        *err = b->failure;
    return status;
}

/* ---- life ---- */

bool bulk_csv_open(struct bulk *b)
{
    b->csv = calloc(1, sizeof *b->csv);
    if (b->csv == NULL)
        return false;
    size_t max_cells = b->context.project->feature_dim + COLUMNS;
    b->csv->rows = csv_rows_new(b->write.service->config.line_bytes, max_cells, header, row_cells, b);
    if (b->csv->rows == NULL)
        return false;
    csv_rows_allow_ragged(b->csv->rows); /* such a row is refused like any other bad one; the rest goes on */
    return true;
}

enum amx_status bulk_csv_push(struct bulk *b, const char *data, size_t n, struct amx_error *err)
{
    return csv_rows_push(b->csv->rows, data, n, err);
}

enum amx_status bulk_csv_end(struct bulk *b, struct amx_error *err)
{
    return csv_rows_end(b->csv->rows, err);
}

void bulk_csv_close(struct bulk *b)
{
    if (b->csv == NULL)
        return;
    csv_rows_free(b->csv->rows);
    free(b->csv->columns);
    free(b->csv);
    b->csv = NULL;
}
