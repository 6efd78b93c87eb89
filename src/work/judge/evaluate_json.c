/* evaluate_json.c - metrics as they stand in a run, a model and the last line of `fit --json`. */
#include <math.h>
#include <string.h>

#include "store/instances.h"
#include "util/error.h"
#include "util/jsonx.h"
#include "work/judge/evaluate.h"

static json_t *interval_json(double low, double high)
{
    return json_pack("[f, f]", low, high);
}

/* Share and interval under their names; null when there was nothing to answer. */
static int put_share(json_t *object, const char *name, const char *interval, const char *count, const struct share *s)
{
    int failed = json_object_set_new(object, name, jsonx_real_or_null(s->n > 0 ? s->accuracy : (double)NAN));

    failed |= json_object_set_new(object, interval, s->n > 0 ? interval_json(s->low, s->high) : json_null());
    return failed | json_object_set_new(object, count, json_integer((json_int_t)s->n));
}

json_t *evaluation_json(const struct evaluation *evaluation, enum run_gold_use gold_use)
{
    const struct class_scores *s = &evaluation->classes;
    json_t *object = json_pack("{s:f, s:o, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:s, s:s}", "accuracy", s->accuracy,
                               "accuracy_interval", interval_json(s->accuracy_low, s->accuracy_high),
                               "balanced_accuracy", s->balanced_accuracy, "log_loss", s->log_loss, "brier", s->brier,
                               "ece", s->ece, "ece_debiased", s->ece_debiased, "ece_floor", s->ece_floor, "n",
                               (json_int_t)s->n, "basis", evaluation->basis, "gold_use", run_gold_use_name(gold_use));
    int failed =
        put_share(object, "majority_vote_accuracy", "majority_vote_interval", "majority_vote_n", &evaluation->majority);

    failed |= put_share(object, "consensus_accuracy", "consensus_interval", "consensus_n", &evaluation->consensus);
    if (failed) {
        json_decref(object);
        return NULL;
    }
    return object;
}

json_t *evaluation_annotators_json(const struct evaluation *evaluation, enum run_gold_use gold_use)
{
    const struct binary_scores *s = &evaluation->annotators;

    return json_pack("{s:s, s:s, s:s, s:I, s:o, s:f, s:o, s:o, s:o, s:o, s:f, s:f}", "split", evaluation->split,
                     "basis", evaluation->basis, "gold_use", run_gold_use_name(gold_use), "n", (json_int_t)s->n,
                     "auroc", jsonx_real_or_null(s->auroc), "accuracy", s->accuracy, "accuracy_interval",
                     interval_json(s->accuracy_low, s->accuracy_high), "balanced_accuracy",
                     jsonx_real_or_null(s->balanced_accuracy), "average_precision_right",
                     jsonx_real_or_null(s->average_precision_right), "average_precision_wrong",
                     jsonx_real_or_null(s->average_precision_wrong), "brier", s->brier, "log_loss", s->log_loss);
}

const struct evaluation *evaluation_held_out(const struct evaluation *splits)
{
    static const enum split order[] = {SPLIT_TRAIN, SPLIT_VALID, SPLIT_TEST};

    for (size_t i = 0; i < 3; i++) {
        if (splits[order[i]].labels.n > 0)
            return &splits[order[i]];
    }
    return NULL;
}

static json_t *labels_json(const struct evaluation *evaluation)
{
    if (evaluation->labels.n == 0)
        return json_null();
    return json_pack("{s:f, s:o, s:I}", "label_log_likelihood", grouped_mean_value(&evaluation->labels),
                     "standard_error", jsonx_real_or_null(grouped_mean_error(&evaluation->labels)), "n",
                     (json_int_t)evaluation->labels.n);
}

json_t *evaluation_held_out_json(const struct evaluation *splits)
{
    const struct evaluation *first = evaluation_held_out(splits);
    json_t *object;
    int failed;

    if (first == NULL)
        return json_null();
    object = labels_json(first);
    failed = json_object_set_new(object, "split", json_string(first->split));
    failed |= json_object_set_new(object, "basis", json_string(first->basis));
    failed |= json_object_set_new(object, "valid", labels_json(&splits[SPLIT_VALID]));
    failed |= json_object_set_new(object, "test", labels_json(&splits[SPLIT_TEST]));
    if (failed) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static json_t *metrics_json(const struct evaluation *splits, enum run_gold_use gold_use, double temperature)
{
    json_t *metrics = json_object();
    bool has_annotators = false;
    int failed = json_object_set_new(metrics, "gold_use", json_string(run_gold_use_name(gold_use)));

    failed |= json_object_set_new(metrics, "temperature", jsonx_real_or_null(temperature));
    for (int split = SPLIT_TEST; split >= SPLIT_TRAIN; split--) {
        const struct evaluation *e = &splits[split];

        if (e->has_classes)
            failed |= json_object_set_new(metrics, e->split, evaluation_json(e, gold_use));
        /* Labels of test; without any, of valid; else of train, and `basis` says of which kind they are. */
        if (e->has_annotators && !has_annotators) {
            failed |= json_object_set_new(metrics, "annotator_model", evaluation_annotators_json(e, gold_use));
            has_annotators = true;
        }
    }
    failed |= json_object_set_new(metrics, "held_out", evaluation_held_out_json(splits));
    if (failed) {
        json_decref(metrics);
        return NULL;
    }
    return metrics;
}

enum amx_status evaluate_metrics(const struct amx_model *model, const struct training_data *data,
                                 enum run_gold_use gold_use, double temperature, json_t **out, struct amx_error *err)
{
    struct evaluation splits[3];
    json_t *metrics;

    for (int split = SPLIT_TRAIN; split <= SPLIT_TEST; split++) {
        enum amx_status status = evaluate_split(model, data, (enum split)split, gold_use, &splits[split], err);

        if (status != AMX_OK)
            return status;
    }
    metrics = metrics_json(splits, gold_use, temperature);
    if (metrics == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    *out = metrics;
    return AMX_OK;
}
