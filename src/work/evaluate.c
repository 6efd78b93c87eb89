/* evaluate.c - a model against gold: class model by split, annotator model on labels of instances with gold.
 *
 * Everything is predicted in chunks, so memory stays bounded whatever the project's size. Gold never reaches a fit
 * from here: the model is finished when this runs. */
#include "work/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/majority.h"
#include "store/instances.h"
#include "util/error.h"
#include "util/jsonx.h"

enum {
    CHUNK_ROWS = 1024,
    CHUNK_PAIRS = 4096
};

/* The instances of one split that have gold, as positions in one of the two halves of a training_set. */
struct part {
    const float *features; /* [n][D] */
    const int32_t *gold;   /* [n] class or -1 */
    size_t first, n;       /* rows [first, n) */
    const uint32_t *label_row, *label_annotator, *label_class;
    size_t n_labels;
    size_t n_features, n_classes;
};

static struct part part_of(const struct training_set *set, enum split split)
{
    struct part part = {.n_features = set->n_features, .n_classes = set->n_classes};

    if (split == SPLIT_TRAIN) {
        part.features = set->features;
        part.gold = set->instance_gold;
        part.n = set->n_instances;
        part.label_row = set->label_instance;
        part.label_annotator = set->label_annotator;
        part.label_class = set->label_class;
        part.n_labels = set->n_labels;
        return part;
    }
    part.features = set->held_features;
    part.gold = set->held_gold;
    part.label_row = set->held_label_held;
    part.label_annotator = set->held_label_annotator;
    part.label_class = set->held_label_class;
    part.n_labels = set->n_held_labels;
    /* Held instances are sorted by split. */
    while (part.first < set->n_held && set->held_split[part.first] < (int8_t)split)
        part.first++;
    part.n = part.first;
    while (part.n < set->n_held && set->held_split[part.n] == (int8_t)split)
        part.n++;
    return part;
}

static enum amx_status score_classes(const struct amx_model *model, const struct part *part, struct evaluation *out,
                                     struct amx_error *err)
{
    struct class_tally tally;
    const size_t C = part->n_classes;
    float *p = malloc(CHUNK_ROWS * C * sizeof *p);
    enum amx_status status = class_tally_init(&tally, C);

    if (p == NULL || status != AMX_OK) {
        status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
        goto done;
    }
    for (size_t first = part->first; first < part->n && status == AMX_OK; first += CHUNK_ROWS) {
        size_t n = part->n - first < CHUNK_ROWS ? part->n - first : CHUNK_ROWS;
        const struct amx_prediction wanted = {.p_class = p};

        status = amx_predict(model, part->features + first * part->n_features, n, NULL, 0, &wanted, err);
        for (size_t i = 0; status == AMX_OK && i < n; i++) {
            if (part->gold[first + i] >= 0)
                class_tally_add(&tally, p + i * C, (uint32_t)part->gold[first + i]);
        }
    }
    if (status == AMX_OK && tally.n > 0) {
        out->has_classes = true;
        class_tally_scores(&tally, &out->classes);
    }
done:
    class_tally_done(&tally);
    free(p);
    return status;
}

static enum amx_status score_majority(const struct part *part, double *accuracy, size_t *n_scored,
                                      struct amx_error *err)
{
    uint32_t *counts = calloc(part->n_classes + 1, sizeof *counts);
    size_t right = 0, n = 0, l = 0;

    if (counts == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    while (l < part->n_labels) {
        size_t first = l, row = part->label_row[l];

        while (l < part->n_labels && part->label_row[l] == row)
            l++;
        if (row < part->first || row >= part->n || part->gold[row] < 0)
            continue;
        n++;
        right +=
            majority_of(part->label_class + first, l - first, part->n_classes, counts) == (uint32_t)part->gold[row];
    }
    free(counts);
    *accuracy = n > 0 ? (double)right / (double)n : (double)NAN;
    *n_scored = n;
    return AMX_OK;
}

/* p_perf of every label on an instance with gold, beside whether it is right. */
static enum amx_status score_annotators(const struct amx_model *model, const struct part *part, struct evaluation *out,
                                        struct amx_error *err)
{
    float *score = malloc((part->n_labels + 1) * sizeof *score);
    unsigned char *right = malloc(part->n_labels + 1);
    uint32_t *pair_row = malloc(CHUNK_PAIRS * sizeof *pair_row);
    enum amx_status status = AMX_OK;
    size_t n = 0;

    if (score == NULL || right == NULL || pair_row == NULL)
        status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
    for (size_t l = 0; l < part->n_labels && status == AMX_OK;) {
        size_t base = part->label_row[l], count = 0, last = base;

        while (count < CHUNK_PAIRS && l + count < part->n_labels && part->label_row[l + count] - base < CHUNK_ROWS) {
            last = part->label_row[l + count];
            pair_row[count++] = (uint32_t)(last - base);
        }
        if (last >= part->first && base < part->n) {
            const struct amx_pairs_prediction wanted = {.p_perf = score + n};

            status = amx_predict_pairs(model, AMX_NO_FOLD, part->features + base * part->n_features, last - base + 1,
                                       pair_row, part->label_annotator + l, count, &wanted, err);
        }
        /* Labels outside the split or without gold are dropped after the prediction: they are few. */
        for (size_t j = 0, base_n = n; status == AMX_OK && j < count; j++) {
            size_t row = base + pair_row[j];

            if (row < part->first || row >= part->n || part->gold[row] < 0)
                continue;
            score[n] = score[base_n + j];
            right[n++] = part->label_class[l + j] == (uint32_t)part->gold[row];
        }
        l += count;
    }
    if (status == AMX_OK && n > 0) {
        status = binary_scores_of(score, right, n, &out->annotators);
        out->has_annotators = status == AMX_OK;
        if (status != AMX_OK)
            (void)error_set(err, status, "Out of memory.");
    }
    free(pair_row);
    free(right);
    free(score);
    return status;
}

enum amx_status evaluate_split(const struct amx_model *model, const struct training_data *data, enum split split,
                               struct evaluation *out, struct amx_error *err)
{
    const struct part part = part_of(&data->set, split);
    struct evaluation result = {.split = split_name(split), .majority_accuracy = (double)NAN};
    enum amx_status status;

    if ((status = score_classes(model, &part, &result, err)) != AMX_OK ||
        (status = score_majority(&part, &result.majority_accuracy, &result.majority_n, err)) != AMX_OK ||
        (status = score_annotators(model, &part, &result, err)) != AMX_OK)
        return status;
    *out = result;
    return AMX_OK;
}

enum amx_status evaluate_majority(const struct training_data *data, double *accuracy, size_t *n)
{
    const struct part part = part_of(&data->set, SPLIT_TRAIN);

    return score_majority(&part, accuracy, n, NULL);
}

static json_t *interval_json(double low, double high)
{
    return json_pack("[f, f]", low, high);
}

json_t *evaluation_json(const struct evaluation *evaluation)
{
    const struct class_scores *s = &evaluation->classes;

    return json_pack("{s:f, s:o, s:o, s:f, s:f, s:f, s:f, s:I}", "accuracy", s->accuracy, "accuracy_interval",
                     interval_json(s->accuracy_low, s->accuracy_high), "majority_vote_accuracy",
                     jsonx_real_or_null(evaluation->majority_accuracy), "balanced_accuracy", s->balanced_accuracy,
                     "log_loss", s->log_loss, "brier", s->brier, "ece", s->ece, "n", (json_int_t)s->n);
}

json_t *evaluation_annotators_json(const struct evaluation *evaluation)
{
    const struct binary_scores *s = &evaluation->annotators;

    return json_pack("{s:s, s:I, s:o, s:f, s:o, s:o, s:o, s:o, s:f, s:f}", "split", evaluation->split, "n",
                     (json_int_t)s->n, "auroc", jsonx_real_or_null(s->auroc), "accuracy", s->accuracy,
                     "accuracy_interval", interval_json(s->accuracy_low, s->accuracy_high), "balanced_accuracy",
                     jsonx_real_or_null(s->balanced_accuracy), "average_precision_right",
                     jsonx_real_or_null(s->average_precision_right), "average_precision_wrong",
                     jsonx_real_or_null(s->average_precision_wrong), "brier", s->brier, "log_loss", s->log_loss);
}

enum amx_status evaluate_metrics(const struct amx_model *model, const struct training_data *data, json_t **out,
                                 struct amx_error *err)
{
    static const enum split splits[] = {SPLIT_TEST, SPLIT_VALID, SPLIT_TRAIN};
    json_t *metrics = json_object();
    enum amx_status status = AMX_OK;
    bool has_annotators = false;
    int failed = metrics == NULL;

    for (size_t i = 0; i < 3 && status == AMX_OK && !failed; i++) {
        struct evaluation evaluation;

        status = evaluate_split(model, data, splits[i], &evaluation, err);
        if (status != AMX_OK)
            break;
        if (evaluation.has_classes)
            failed |= json_object_set_new(metrics, evaluation.split, evaluation_json(&evaluation));
        /* Labels of test; without any, of valid; else of train, in sample, and `split` says so. */
        if (evaluation.has_annotators && !has_annotators) {
            failed |= json_object_set_new(metrics, "annotator_model", evaluation_annotators_json(&evaluation));
            has_annotators = true;
        }
    }
    if (status == AMX_OK && failed)
        status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
    if (status != AMX_OK) {
        json_decref(metrics);
        return status;
    }
    *out = metrics;
    return AMX_OK;
}
