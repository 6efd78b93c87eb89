/* evaluate.h - metrics of a model, as `metrics` of a run and of a model (wire.md). Called by the trainers when a run
 * ends, and by `fit`.
 *
 * With gold, per split: the class model, majority vote of the labels of the same instances, consensus of model and
 * labels; and how well the annotator model tells right labels from wrong ones. Without gold: the log-likelihood of
 * labels the model has not seen, log p_annotation of the class given, mean over labels.
 *
 * basis of a figure: held_out (instances of valid and test were never trained on), out_of_fold (train instances, each
 * predicted by members that never saw its labels), in_sample (train instances of a model without folds).
 * Gold that the fit has seen (gold_use train, and the method ground_truth) leaves every metric of split train. */
#ifndef WORK_JUDGE_EVALUATE_H
#define WORK_JUDGE_EVALUATE_H

#include <jansson.h>
#include <stdbool.h>

#include "annotmix.h"
#include "crowd/scores.h"
#include "work/runs/run_request.h"
#include "work/runs/training_data.h"

/* A share of right answers. n = 0: there was nothing to answer; accuracy is NaN. */
struct share {
    size_t n;
    double accuracy, low, high; /* Wilson, 95 % */
};

/* The numbers of one split. */
struct evaluation {
    const char *split, *basis; /* "test", "held_out"; static */
    bool has_classes;          /* there are instances with gold: */
    struct class_scores classes;
    struct share majority;  /* of the instances with gold that have labels */
    struct share consensus; /* of the same; posterior from p(k|x) and the labels */
    bool has_annotators;    /* there are labels on them: */
    struct binary_scores annotators;
    struct grouped_mean labels; /* log-likelihood of the split's labels, unless the basis is in_sample */
};
/* data: what the model was trained on, with its folds (training_data_fold) if it has any. AMX_NO_MEMORY,
 * AMX_NOT_FINITE. */
AMX_CHECK enum amx_status evaluate_split(const struct amx_model *model, const struct training_data *data,
                                         enum split split, enum run_gold_use gold_use, struct evaluation *out,
                                         struct amx_error *err);
/* Whether the fit has seen gold of split train. */
bool evaluate_saw_gold(const char *method, enum run_gold_use gold_use);

/* {"gold_use", "temperature", "test": {...}, "annotator_model": {...}, "held_out": {...}|null}; splits without gold are
 * left out. temperature: NaN = not calibrated. Caller decrefs. AMX_NO_MEMORY, AMX_NOT_FINITE. */
AMX_CHECK enum amx_status evaluate_metrics(const struct amx_model *model, const struct training_data *data,
                                           enum run_gold_use gold_use, double temperature, json_t **out,
                                           struct amx_error *err);
/* One split's object, annotator_model's, held_out's of the three splits [by enum split]; NULL: memory is out. */
json_t *evaluation_json(const struct evaluation *evaluation, enum run_gold_use gold_use);
json_t *evaluation_annotators_json(const struct evaluation *evaluation, enum run_gold_use gold_use);
json_t *evaluation_held_out_json(const struct evaluation *splits);
/* Whose labels held_out speaks of first: train when it is out of fold, else valid, else test; NULL: there are none. */
const struct evaluation *evaluation_held_out(const struct evaluation *splits);

/* Majority vote of the training labels against their gold; NaN (and *n = 0) without any. */
AMX_CHECK enum amx_status evaluate_majority(const struct training_data *data, double *accuracy, size_t *n);

/* Both models on the labels of train, each out of fold for every one of them. */
struct label_comparison {
    size_t n;              /* labels */
    double difference;     /* mean log-likelihood of `model` minus that of `other`; NaN: nothing to compare */
    double standard_error; /* of the paired differences, labels of one instance in groups; NaN: unknown */
};
/* model was trained on data, with folds; other is any model of the project with folds, its annotators found by name. */
AMX_CHECK enum amx_status evaluate_compare(const struct amx_model *model, const struct amx_model *other,
                                           const struct training_data *data, struct label_comparison *out,
                                           struct amx_error *err);

#endif
