/* calibrate.c - see calibrate.h. A search by golden section over the logarithm of the temperature. Each point is a
 * prediction with that temperature set (exact for ensembles too, whose members are averaged after the division), on at
 * most some thousand instances, evenly spaced in the order of names: one number needs no more. */
#include "work/judge/calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "store/instances.h"
#include "util/error.h"
#include "util/size.h"
#include "work/judge/evaluate_int.h"

enum {
    MOST_ROWS = 10000,
    LEAST_ROWS = 500,
    STEPS = 24 /* of the section: the last interval is 4.6 * 0.618^24 = 5e-5 wide */
};
#define MOST_CELLS 20000000.0        /* of confusion matrices per point */
#define LOG_RANGE  2.302585092994046 /* ln 10 */

/* The rows and labels looked at, copied together. */
struct sample {
    struct part part;
    float *features;
    int32_t *gold;
    uint32_t *fold, *label_row, *label_annotator, *label_class;
    bool by_gold;
};

static void *take(size_t n, size_t width, size_t size)
{
    size_t bytes;

    return size_mul(&bytes, n, width) && size_mul(&bytes, bytes, size) ? malloc(bytes + size) : NULL;
}

static void sample_done(struct sample *s)
{
    free(s->features);
    free(s->gold);
    free(s->fold);
    free(s->label_row);
    free(s->label_annotator);
    free(s->label_class);
}

/* How many rows of the part a point may cost. */
static size_t rows_of(const struct part *part, const struct amx_model_info *info, bool by_gold)
{
    const double C = (double)part->n_classes, n = (double)(part->n - part->first);
    double most =
        (double)MOST_ROWS / (by_gold || info->folds == 0 ? info->ensemble : fmax(1, info->ensemble / info->folds));
    double labels = (double)(part->n_labels - part->first_label) / fmax(1, n);

    if (!by_gold)
        most = fmin(most, MOST_CELLS / (C * C * fmax(1, labels)));
    return (size_t)fmin(n, fmax(most, fmin(LEAST_ROWS, MOST_CELLS / (C * C))));
}

static bool sample_take(struct sample *s, const struct part *from, const uint32_t *fold, size_t n)
{
    const size_t D = from->n_features, all = from->n - from->first;
    size_t rows = 0, labels = 0, l = from->first_label;

    s->features = take(n, D, sizeof *s->features);
    s->gold = take(n, 1, sizeof *s->gold);
    s->fold = take(n, 1, sizeof *s->fold);
    s->label_row = take(from->n_labels - l, 1, sizeof *s->label_row);
    s->label_annotator = take(from->n_labels - l, 1, sizeof *s->label_annotator);
    s->label_class = take(from->n_labels - l, 1, sizeof *s->label_class);
    if (s->features == NULL || s->gold == NULL || s->fold == NULL || s->label_row == NULL ||
        s->label_annotator == NULL || s->label_class == NULL)
        return false;
    for (size_t i = 0; i < n; i++) {
        size_t row = from->first + (size_t)((double)i * (double)all / (double)n);

        memcpy(s->features + rows * D, from->features + row * D, D * sizeof(float));
        s->gold[rows] = from->gold != NULL ? from->gold[row] : -1;
        s->fold[rows] = fold != NULL ? fold[row] : 0;
        while (l < from->n_labels && from->label_row[l] < row)
            l++;
        for (; l < from->n_labels && from->label_row[l] == row; l++) {
            s->label_row[labels] = (uint32_t)rows;
            s->label_annotator[labels] = from->label_annotator[l];
            s->label_class[labels++] = from->label_class[l];
        }
        rows++;
    }
    s->part = (struct part){.features = s->features,
                            .gold = s->gold,
                            .n = rows,
                            .label_row = s->label_row,
                            .label_annotator = s->label_annotator,
                            .label_class = s->label_class,
                            .n_labels = s->by_gold ? 0 : labels,
                            .n_features = D,
                            .n_classes = from->n_classes};
    return true;
}

/* Mean loss at one temperature: of gold, or of the labels. */
static enum amx_status loss_at(struct amx_model *model, const struct sample *s, double log_temperature, double *out,
                               struct amx_error *err)
{
    const size_t C = s->part.n_classes;
    const struct pieces_of of = {model, &s->part, s->by_gold ? 0 : PIECE_ANNOTATION, NULL, s->by_gold ? NULL : s->fold};
    struct pieces *pieces = NULL;
    const struct piece *piece = NULL;
    double sum = 0, n = 0;
    enum amx_status status;

    if (s->by_gold)
        amx_model_set_temperature(model, exp(log_temperature));
    else
        amx_model_set_fold_temperature(model, exp(log_temperature));
    status = pieces_new(&of, &pieces, err);
    if (status == AMX_OK)
        status = pieces_next(pieces, &piece, err);
    while (status == AMX_OK && piece != NULL) {
        for (size_t i = 0; s->by_gold && i < piece->n_rows; i++) {
            int32_t gold = s->gold[piece->row + i];

            if (gold >= 0) {
                sum -= evaluate_log(piece->p_class[i * C + (size_t)gold]);
                n++;
            }
        }
        for (size_t j = 0; j < piece->n_labels; j++) {
            sum -= evaluate_log(piece->p_annotation[j * C + s->label_class[piece->label + j]]);
            n++;
        }
        status = pieces_next(pieces, &piece, err);
    }
    pieces_free(pieces);
    if (status == AMX_OK)
        *out = n > 0 ? sum / n : 0;
    return status;
}

/* The least loss over [-LOG_RANGE, LOG_RANGE], where it has one valley. */
static enum amx_status search(struct amx_model *model, const struct sample *s, double *log_temperature,
                              struct amx_error *err)
{
    const double section = (sqrt(5) - 1) / 2;
    double low = -LOG_RANGE, high = LOG_RANGE, a = high - section * (high - low), b = low + section * (high - low);
    double loss_a = 0, loss_b = 0, plain = 0;
    enum amx_status status = loss_at(model, s, 0, &plain, err);

    if (status == AMX_OK)
        status = loss_at(model, s, a, &loss_a, err);
    if (status == AMX_OK)
        status = loss_at(model, s, b, &loss_b, err);
    for (int i = 0; status == AMX_OK && i < STEPS; i++) {
        if (loss_a <= loss_b) {
            high = b;
            b = a;
            loss_b = loss_a;
            a = high - section * (high - low);
            status = loss_at(model, s, a, &loss_a, err);
        } else {
            low = a;
            a = b;
            loss_a = loss_b;
            b = low + section * (high - low);
            status = loss_at(model, s, b, &loss_b, err);
        }
    }
    if (status == AMX_OK)
        *log_temperature = fmin(loss_a, loss_b) < plain ? (loss_a <= loss_b ? a : b) : 0;
    return status;
}

static bool has_gold(const struct part *part)
{
    for (size_t i = part->first; i < part->n; i++) {
        if (part->gold[i] >= 0)
            return true;
    }
    return false;
}

enum amx_status calibrate_model(struct amx_model *model, const struct training_data *data, enum run_gold_use gold_use,
                                double *temperature, struct amx_error *err)
{
    struct part part = part_of(&data->set, SPLIT_VALID);
    struct amx_model_info info;
    struct sample sample = {.by_gold = gold_use == RUN_GOLD_CALIBRATE && has_gold(&part)};
    double found = 0;
    enum amx_status status;

    amx_model_info(model, &info);
    if (!sample.by_gold && (info.folds == 0 || data->data.fold == NULL)) {
        *temperature = (double)NAN;
        return AMX_OK;
    }
    if (!sample.by_gold)
        part = part_of(&data->set, SPLIT_TRAIN);
    if (!sample_take(&sample, &part, sample.by_gold ? NULL : data->data.fold, rows_of(&part, &info, sample.by_gold)))
        status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
    else
        status = search(model, &sample, &found, err);
    sample_done(&sample);
    amx_model_set_fold_temperature(model, 1);
    if (status != AMX_OK)
        return status;
    amx_model_set_temperature(model, exp(found));
    *temperature = exp(found);
    return AMX_OK;
}
