/* batch.c - checks the caller's arrays, lists the labelled instances, and cuts epochs into batches.
 *
 * Only instances with a label (for methods that need gold: with gold) are rows. Their features stay where the caller
 * has them, for on large problems they are most of the memory: a batch copies its rows anyway, and standardises them
 * on the way, padded with zeros to full vectors. Mean and deviation are taken over the rows in double and rounded to
 * float once, and rows are scaled as (x - mean) / scale in float: the predictors do the very same, by the same kernel,
 * so training and prediction see the same numbers.
 *
 * A batch is at most batch_size rows, or batch_size + 1 when a last single row joins it (BatchNorm needs two). How
 * many labels it can have is the sum of the largest counts: that bounds the workspace. */
#include "batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEVIATION_FLOOR 1e-12 /* a smaller deviation counts as 1 */

/* ---- counting ---------------------------------------------------------------------------------------------------- */

/* Largest possible number of labels in a batch of `most` rows. counts[c] = rows that have c labels. */
static size_t sum_of_largest(const uint32_t *counts, size_t max_count, size_t most)
{
    size_t total = 0;

    for (size_t c = max_count; c > 0 && most > 0; c--) {
        size_t take = counts[c] < most ? counts[c] : most;
        total += take * c;
        most -= take;
    }
    return total;
}

static size_t most_rows(size_t n_rows, const struct amx_settings *settings)
{
    size_t most = (size_t)settings->batch_size + 1;

    return n_rows < most ? n_rows : most;
}

/* Labels per kept row: with gold every instance that has gold, else every instance that has labels. */
struct row_counts {
    size_t n_rows, n_labels, largest;
    uint32_t *rows_with; /* [largest + 1] rows that have so many labels */
};

static bool kept(const struct amx_data *data, bool with_gold, size_t instance, size_t n_labels)
{
    return with_gold ? data->gold != NULL && data->gold[instance] >= 0 : n_labels > 0;
}

/* Labels of instance i from *at on, which moves to the next instance's. */
static size_t run_of(const struct amx_data *data, size_t i, size_t *at)
{
    size_t first = *at;

    while (*at < data->n_labels && data->label_instance[*at] == i)
        ++*at;
    return *at - first;
}

/* One pass without (rows_with NULL) and one with the histogram. */
static void count_rows(const struct amx_data *data, bool with_gold, struct row_counts *counts)
{
    size_t at = 0;

    counts->n_rows = counts->n_labels = 0;
    for (size_t i = 0; i < data->n_instances; i++) {
        size_t run = run_of(data, i, &at);
        if (!kept(data, with_gold, i, run))
            continue;
        counts->n_rows++;
        counts->n_labels += run;
        if (counts->rows_with != NULL)
            counts->rows_with[run]++;
        else
            counts->largest = run > counts->largest ? run : counts->largest;
    }
}

bool train_data_count(const struct amx_data *data, const struct amx_settings *settings, bool with_gold, size_t *n_rows,
                      size_t *max_labels)
{
    struct row_counts counts = {0};

    count_rows(data, with_gold, &counts);
    counts.rows_with = calloc(counts.largest + 1, sizeof *counts.rows_with);
    if (counts.rows_with == NULL)
        return false;
    count_rows(data, with_gold, &counts);
    *n_rows = counts.n_rows;
    *max_labels = sum_of_largest(counts.rows_with, counts.largest, most_rows(counts.n_rows, settings));
    free(counts.rows_with);
    return true;
}

size_t train_data_bytes(const struct amx_data *data, bool with_gold, size_t n_rows)
{
    struct arena arena = {0};

    if (with_gold)
        (void)arena_take(&arena, data->n_labels, 2 * sizeof(uint32_t)); /* own */
    (void)arena_take(&arena, n_rows + 1, sizeof(size_t));
    (void)arena_floats(&arena, 4, data->n_features); /* mean, scale, and their sums in double */
    (void)arena_take(&arena, data->n_annotators, sizeof(uint64_t));
    (void)arena_take(&arena, n_rows, 2 * sizeof(uint32_t)); /* instance, gold */
    return arena.used;
}

/* ---- checking ---------------------------------------------------------------------------------------------------- */

static enum amx_status check_sizes(const struct amx_data *data, struct amx_error *err)
{
    if (data->n_features < 1 || data->n_features > AMX_MAX_FEATURES)
        return amx_fail(err, AMX_INVALID, "", "There must be 1 to %d features; there are %zu.", (int)AMX_MAX_FEATURES,
                        data->n_features);
    if (data->n_classes < 2 || data->n_classes > AMX_MAX_CLASSES)
        return amx_fail(err, AMX_INVALID, "", "There must be 2 to %d classes; there are %zu.", (int)AMX_MAX_CLASSES,
                        data->n_classes);
    if (data->n_instances >= UINT32_MAX || data->n_annotators >= UINT32_MAX || data->n_labels >= UINT32_MAX)
        return amx_fail(err, AMX_TOO_LARGE, "", "There may be at most 2^32-2 instances, annotators and labels.");
    return AMX_OK;
}

static enum amx_status check_labels(const struct amx_data *data, struct amx_error *err)
{
    for (size_t i = 0; i < data->n_labels; i++) {
        if (data->label_instance[i] >= data->n_instances || data->label_annotator[i] >= data->n_annotators ||
            data->label_class[i] >= data->n_classes)
            return amx_fail(err, AMX_INVALID, "",
                            "Label %zu names an instance, annotator or class that does not exist.", i);
        if (i > 0 && data->label_instance[i] < data->label_instance[i - 1])
            return amx_fail(err, AMX_INVALID, "", "Labels must be ordered by instance; label %zu is not.", i);
    }
    for (size_t i = 0; data->gold != NULL && i < data->n_instances; i++) {
        if (data->gold[i] < -1 || (data->gold[i] >= 0 && (size_t)data->gold[i] >= data->n_classes))
            return amx_fail(err, AMX_INVALID, "", "Gold of instance %zu names a class that does not exist.", i);
    }
    return AMX_OK;
}

static enum amx_status check_enough(const struct amx_data *data, struct amx_error *err)
{
    bool several = false;
    size_t n_rows = 0;

    for (size_t i = 0; i < data->n_labels; i++) {
        n_rows += i == 0 || data->label_instance[i] != data->label_instance[i - 1];
        several = several || data->label_class[i] != data->label_class[0];
    }
    if (n_rows < 2)
        return amx_fail(err, AMX_NOTHING, "", "Training needs at least two labelled instances; there %s %zu.",
                        n_rows == 1 ? "is" : "are", n_rows);
    if (!several)
        return amx_fail(err, AMX_NOTHING, "", "Training needs labels of at least two classes; all are of one class.");
    return AMX_OK;
}

static enum amx_status check_enough_gold(const struct amx_data *data, struct amx_error *err)
{
    int32_t first = -1;
    bool several = false;
    size_t n_rows = 0;

    for (size_t i = 0; data->gold != NULL && i < data->n_instances; i++) {
        if (data->gold[i] < 0)
            continue;
        first = n_rows++ == 0 ? data->gold[i] : first;
        several = several || data->gold[i] != first;
    }
    if (n_rows < 2)
        return amx_fail(err, AMX_NOTHING, "", "Training on gold needs at least two instances with gold; there %s %zu.",
                        n_rows == 1 ? "is" : "are", n_rows);
    if (!several)
        return amx_fail(err, AMX_NOTHING, "", "Training on gold needs gold of at least two classes; all is of one.");
    return AMX_OK;
}

static enum amx_status check_history(const struct amx_data *data, struct amx_error *err)
{
    const size_t cells = data->n_classes * data->n_classes;

    for (size_t a = 0; data->history != NULL && a < data->n_annotators; a++) {
        for (size_t i = 0; i < cells; i++) {
            float x = data->history[a * cells + i];
            if (!isfinite(x) || x < 0.0f)
                return amx_fail(err, AMX_INVALID, "", "The history of annotator %zu has a count below 0 or not finite.",
                                a);
        }
    }
    return AMX_OK;
}

static enum amx_status check_features(const struct amx_data *data, struct amx_error *err)
{
    for (size_t i = 0; i < data->n_instances; i++) {
        const float *row = data->features + i * data->n_features;
        for (size_t j = 0; j < data->n_features; j++) {
            if (!isfinite(row[j]))
                return amx_fail(err, AMX_INVALID, "", "Feature %zu of instance %zu is not a finite number.", j, i);
        }
    }
    return AMX_OK;
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

static const float *row_features(const struct train_data *data, size_t row)
{
    return data->features + (size_t)data->instance[row] * data->D;
}

/* Mean and population deviation in two passes over the kept rows; sums[2 D] is scratch. */
static void measure(struct train_data *out, double *sums)
{
    const size_t D = out->D;
    const double n = (double)out->n_rows;
    double *mean = sums, *square = sums + D;

    for (size_t i = 0; i < out->n_rows; i++) {
        const float *x = row_features(out, i);
        for (size_t j = 0; j < D; j++)
            mean[j] += (double)x[j];
    }
    for (size_t j = 0; j < D; j++)
        mean[j] /= n;
    for (size_t i = 0; i < out->n_rows; i++) {
        const float *x = row_features(out, i);
        for (size_t j = 0; j < D; j++) {
            double d = (double)x[j] - mean[j];
            square[j] += d * d;
        }
    }
    for (size_t j = 0; j < D; j++) {
        double deviation = sqrt(square[j] / n);
        out->mean[j] = (float)mean[j];
        out->scale[j] = deviation < DEVIATION_FLOOR ? 1.0f : (float)deviation;
    }
}

static enum amx_status allocate(struct train_data *out, bool with_gold, bool any_gold)
{
    size_t labels;

    if (!amx_size_mul(&labels, out->n_labels, 2))
        return AMX_NO_MEMORY;
    out->begin = calloc(out->n_rows + 1, sizeof(size_t));
    out->instance = calloc(out->n_rows, sizeof(uint32_t));
    out->mean = calloc(out->D, sizeof(float));
    out->scale = calloc(out->D, sizeof(float));
    out->annotator_labels = calloc(out->A + 1, sizeof(uint64_t)); /* + 1: gold may come without any annotator */
    if (out->begin == NULL || out->instance == NULL || out->mean == NULL ||
        out->scale == NULL || out->annotator_labels == NULL)
        return AMX_NO_MEMORY;
    if (any_gold && (out->gold = calloc(out->n_rows, sizeof(int32_t))) == NULL)
        return AMX_NO_MEMORY;
    if (with_gold && (out->own = calloc(labels + 1, sizeof(uint32_t))) == NULL)
        return AMX_NO_MEMORY;
    return AMX_OK;
}

/* Rows and their labels. Without gold the labels stay where the caller has them: every label is of a kept row. */
static void list_rows(struct train_data *out, const struct amx_data *data, bool with_gold)
{
    size_t at = 0, row = 0, n = 0;

    for (size_t i = 0; i < data->n_instances; i++) {
        size_t first = at, run = run_of(data, i, &at);
        if (!kept(data, with_gold, i, run))
            continue;
        out->instance[row] = (uint32_t)i;
        if (out->gold != NULL)
            out->gold[row] = data->gold[i];
        out->begin[row++] = n;
        for (size_t l = first; l < at; l++, n++) {
            out->annotator_labels[data->label_annotator[l]]++;
            if (out->own != NULL) {
                out->own[n] = data->label_annotator[l];
                out->own[out->n_labels + n] = data->label_class[l];
            }
        }
    }
    out->begin[row] = n;
    out->annotator = out->own != NULL ? out->own : data->label_annotator;
    out->label = out->own != NULL ? out->own + out->n_labels : data->label_class;
}

static enum amx_status find_scale(struct train_data *out)
{
    double *sums = calloc(2 * out->D, sizeof(double));

    if (sums == NULL)
        return AMX_NO_MEMORY;
    measure(out, sums);
    free(sums);
    return AMX_OK;
}

static enum amx_status init(struct train_data *out, const struct amx_data *data, const struct amx_settings *settings,
                            bool with_gold, struct amx_error *err)
{
    struct row_counts counts = {0};
    enum amx_status status;

    memset(out, 0, sizeof *out);
    if ((status = check_sizes(data, err)) != AMX_OK || (status = check_labels(data, err)) != AMX_OK ||
        (status = with_gold ? check_enough_gold(data, err) : check_enough(data, err)) != AMX_OK ||
        (status = check_features(data, err)) != AMX_OK || (status = check_history(data, err)) != AMX_OK)
        return status;
    count_rows(data, with_gold, &counts);
    if (!train_data_count(data, settings, with_gold, &out->n_rows, &out->max_labels))
        return amx_fail_memory(err);
    out->n_labels = counts.n_labels;
    out->D = data->n_features;
    out->Dp = amx_round_up(out->D, PAD);
    out->C = data->n_classes;
    out->A = data->n_annotators;
    out->features = data->features;
    out->history = data->history;
    if (allocate(out, with_gold, data->gold != NULL) != AMX_OK)
        return amx_fail_memory(err);
    list_rows(out, data, with_gold);
    for (size_t j = 0; j < out->D; j++)
        out->scale[j] = 1.0f;
    return settings->standardize && find_scale(out) != AMX_OK ? amx_fail_memory(err) : AMX_OK;
}

enum amx_status train_data_init(struct train_data *out, const struct amx_data *data,
                                const struct amx_settings *settings, struct amx_error *err)
{
    return init(out, data, settings, false, err);
}

enum amx_status train_data_init_gold(struct train_data *out, const struct amx_data *data,
                                     const struct amx_settings *settings, struct amx_error *err)
{
    return init(out, data, settings, true, err);
}

void train_data_done(struct train_data *data)
{
    free(data->annotator_labels);
    free(data->scale);
    free(data->mean);
    free(data->gold);
    free(data->instance);
    free(data->own);
    free(data->begin);
    memset(data, 0, sizeof *data);
}

/* ---- batches ----------------------------------------------------------------------------------------------------- */

void batch_lay_out(struct batch *batch, const struct dims *dims, struct arena *arena)
{
    memset(batch, 0, sizeof *batch);
    batch->x = arena_floats(arena, dims->Bp, dims->Dp);
    batch->begin = arena_u32(arena, dims->B + 1);
    batch->row = arena_u32(arena, dims->Tp);
    batch->partner_row = arena_u32(arena, dims->Tp);
    batch->annotator1 = arena_u32(arena, dims->Tp);
    batch->annotator2 = arena_u32(arena, dims->Tp);
    batch->class1 = arena_u32(arena, dims->Tp);
    batch->class2 = arena_u32(arena, dims->Tp);
    batch->permutation = arena_u32(arena, dims->Tp);
    batch->inverse = arena_u32(arena, dims->Tp);
    batch->lambda = arena_floats(arena, dims->Tp, 1);
    batch->weight1 = arena_floats(arena, dims->Tp, 1);
    batch->weight2 = arena_floats(arena, dims->Tp, 1);
}

/* The triples of row i, which start at t; returns where they end. */
static size_t load_row(struct batch *batch, const struct train_data *data, size_t i, size_t t)
{
    const size_t first = data->begin[batch->source[i]], end = data->begin[batch->source[i] + 1];

    batch->n_given += end - first;
    if (batch->one_per_row) {
        batch->row[t] = (uint32_t)i;
        batch->annotator1[t] = batch->class1[t] = 0;
        return t + 1;
    }
    for (size_t l = first; l < end; l++, t++) {
        batch->row[t] = (uint32_t)i;
        batch->annotator1[t] = data->annotator[l];
        batch->class1[t] = data->label[l];
    }
    return t;
}

void batch_load(struct batch *batch, const struct train_data *data, const uint32_t *order, size_t n)
{
    const struct amx_kernels *kernels = kernels_get();
    size_t t = 0;

    batch->source = order;
    batch->n_given = 0;
    for (size_t i = 0; i < n; i++) {
        size_t source = order[i];
        /* Finite, as train_data_init has found; the pads of x stay as zero as batch_lay_out's caller made them. */
        (void)kernels->standardise(batch->x + i * data->Dp, row_features(data, source), data->mean, data->scale,
                                   data->D);
        batch->begin[i] = (uint32_t)t;
        t = load_row(batch, data, i, t);
    }
    batch->begin[n] = (uint32_t)t;
    batch->n_rows = n;
    batch->n_labels = t;
    batch->Tp = amx_round_up(t, PAD);
    batch->mixed = false;
    for (size_t i = 0; i < t; i++) {
        batch->permutation[i] = batch->inverse[i] = (uint32_t)i;
        batch->lambda[i] = 1.0f;
        batch->weight1[i] = 1.0f / (float)t;
    }
    /* Pads: class 0 with weight 0, so that the loss kernels may run over full vectors. */
    for (size_t i = t; i < batch->Tp; i++) {
        batch->class1[i] = batch->class2[i] = 0;
        batch->weight1[i] = batch->weight2[i] = 0.0f;
    }
}

void batch_plan(struct batch_plan *plan, size_t n_rows, const struct amx_settings *settings)
{
    size_t size = (size_t)settings->batch_size, rest = n_rows % size;

    plan->size = size;
    plan->n_batches = n_rows / size;
    plan->last = size;
    if (plan->n_batches == 0) {
        plan->n_batches = 1;
        plan->last = n_rows;
    } else if (rest == 1 && settings->last_batch == AMX_LAST_BATCH_KEEP) {
        plan->last = size + 1;
    } else if (rest > 1 && settings->last_batch == AMX_LAST_BATCH_KEEP) {
        plan->n_batches++;
        plan->last = rest;
    }
}
