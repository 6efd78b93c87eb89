/* batch.c - checks the caller's arrays, keeps the labelled instances standardised, and cuts epochs into batches.
 *
 * Only instances with a label are copied: features [n][Dp], padded with zeros to full vectors. Mean and deviation are
 * taken over these rows in double and rounded to float once, and rows are scaled as (x - mean) / scale in float: the
 * predictors do the very same, so training and prediction see the same numbers.
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

bool train_data_count(const struct amx_data *data, const struct amx_settings *settings, size_t *n_rows,
                      size_t *max_labels)
{
    size_t rows = 0, largest = 0, run = 0;
    uint32_t *counts;

    for (size_t i = 0; i < data->n_labels; i++) {
        bool same = i > 0 && data->label_instance[i] == data->label_instance[i - 1];
        run = same ? run + 1 : 1;
        rows += !same;
        largest = run > largest ? run : largest;
    }
    counts = calloc(largest + 1, sizeof *counts);
    if (counts == NULL)
        return false;
    run = 0;
    for (size_t i = 0; i < data->n_labels; i++) {
        bool last = i + 1 == data->n_labels || data->label_instance[i + 1] != data->label_instance[i];
        run++;
        if (last) {
            counts[run]++;
            run = 0;
        }
    }
    *n_rows = rows;
    *max_labels = sum_of_largest(counts, largest, most_rows(rows, settings));
    free(counts);
    return true;
}

size_t train_data_bytes(const struct amx_data *data, size_t n_rows)
{
    struct arena arena = {0};

    (void)arena_floats(&arena, n_rows, amx_round_up(data->n_features, PAD));
    (void)arena_take(&arena, n_rows + 1, sizeof(size_t));
    (void)arena_floats(&arena, 4, data->n_features); /* mean, scale, and their sums in double */
    (void)arena_take(&arena, data->n_annotators, sizeof(uint64_t));
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
    bool several = false;
    size_t n_rows = 0;

    for (size_t i = 0; i < data->n_labels; i++) {
        if (data->label_instance[i] >= data->n_instances || data->label_annotator[i] >= data->n_annotators ||
            data->label_class[i] >= data->n_classes)
            return amx_fail(err, AMX_INVALID, "",
                            "Label %zu names an instance, annotator or class that does not exist.", i);
        if (i > 0 && data->label_instance[i] < data->label_instance[i - 1])
            return amx_fail(err, AMX_INVALID, "", "Labels must be ordered by instance; label %zu is not.", i);
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

/* ---- copying ----------------------------------------------------------------------------------------------------- */

/* Mean and population deviation in two passes over the kept rows; sums[2 D] is scratch. */
static void measure(struct train_data *out, double *sums)
{
    const size_t D = out->D;
    const double n = (double)out->n_rows;
    double *mean = sums, *square = sums + D;

    for (size_t i = 0; i < out->n_rows; i++) {
        for (size_t j = 0; j < D; j++)
            mean[j] += (double)out->features[i * out->Dp + j];
    }
    for (size_t j = 0; j < D; j++)
        mean[j] /= n;
    for (size_t i = 0; i < out->n_rows; i++) {
        for (size_t j = 0; j < D; j++) {
            double d = (double)out->features[i * out->Dp + j] - mean[j];
            square[j] += d * d;
        }
    }
    for (size_t j = 0; j < D; j++) {
        double deviation = sqrt(square[j] / n);
        out->mean[j] = (float)mean[j];
        out->scale[j] = deviation < DEVIATION_FLOOR ? 1.0f : (float)deviation;
    }
}

enum amx_status train_data_init(struct train_data *out, const struct amx_data *data,
                                const struct amx_settings *settings, struct amx_error *err)
{
    enum amx_status status;
    size_t row = 0, cells;
    double *sums = NULL;

    memset(out, 0, sizeof *out);
    if ((status = check_sizes(data, err)) != AMX_OK || (status = check_labels(data, err)) != AMX_OK ||
        (status = check_features(data, err)) != AMX_OK)
        return status;
    if (!train_data_count(data, settings, &out->n_rows, &out->max_labels))
        return amx_fail_memory(err);
    out->n_labels = data->n_labels;
    out->D = data->n_features;
    out->Dp = amx_round_up(out->D, PAD);
    out->C = data->n_classes;
    out->A = data->n_annotators;
    out->annotator = data->label_annotator;
    out->label = data->label_class;
    if (!amx_size_mul(&cells, out->n_rows, out->Dp))
        return amx_fail_memory(err);
    out->features = calloc(cells, sizeof(float));
    out->begin = calloc(out->n_rows + 1, sizeof(size_t));
    out->mean = calloc(out->D, sizeof(float));
    out->scale = calloc(out->D, sizeof(float));
    out->annotator_labels = calloc(out->A, sizeof(uint64_t));
    sums = calloc(2 * out->D, sizeof(double));
    if (out->features == NULL || out->begin == NULL || out->mean == NULL || out->scale == NULL ||
        out->annotator_labels == NULL || sums == NULL) {
        free(sums);
        return amx_fail_memory(err);
    }

    for (size_t i = 0; i < data->n_labels; i++) {
        out->annotator_labels[data->label_annotator[i]]++;
        if (i > 0 && data->label_instance[i] == data->label_instance[i - 1])
            continue;
        memcpy(out->features + row * out->Dp, data->features + (size_t)data->label_instance[i] * out->D,
               out->D * sizeof(float));
        out->begin[row++] = i;
    }
    out->begin[row] = data->n_labels;

    for (size_t j = 0; j < out->D; j++)
        out->scale[j] = 1.0f;
    if (settings->standardize) {
        measure(out, sums);
        for (size_t i = 0; i < out->n_rows; i++) {
            for (size_t j = 0; j < out->D; j++) {
                float *x = &out->features[i * out->Dp + j];
                *x = (*x - out->mean[j]) / out->scale[j];
            }
        }
    }
    free(sums);
    return AMX_OK;
}

void train_data_done(struct train_data *data)
{
    free(data->annotator_labels);
    free(data->scale);
    free(data->mean);
    free(data->begin);
    free(data->features);
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

void batch_load(struct batch *batch, const struct train_data *data, const uint32_t *order, size_t n)
{
    size_t t = 0;

    for (size_t i = 0; i < n; i++) {
        size_t source = order[i];
        memcpy(batch->x + i * data->Dp, data->features + source * data->Dp, data->Dp * sizeof(float));
        batch->begin[i] = (uint32_t)t;
        for (size_t l = data->begin[source]; l < data->begin[source + 1]; l++, t++) {
            batch->row[t] = (uint32_t)i;
            batch->annotator1[t] = data->annotator[l];
            batch->class1[t] = data->label[l];
        }
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
