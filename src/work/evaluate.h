/* evaluate.h - metrics of a model against gold, as `metrics` of a run and of a model (wire.md): per split with gold,
 * and annotator_model. Called by the trainers when a run ends, and by `fit`. */
#ifndef WORK_EVALUATE_H
#define WORK_EVALUATE_H

#include <jansson.h>
#include <stdbool.h>

#include "annotmix.h"
#include "crowd/scores.h"
#include "work/training_data.h"

/* {"test": {...}, "annotator_model": {...}}; {} without gold. Caller decrefs. AMX_NO_MEMORY, AMX_NOT_FINITE. */
AMX_CHECK enum amx_status evaluate_metrics(const struct amx_model *model, const struct training_data *data,
                                           json_t **out, struct amx_error *err);
/* The numbers of one split. */
struct evaluation {
    const char *split; /* "test"; static */
    bool has_classes;  /* there are instances with gold: */
    struct class_scores classes;
    double majority_accuracy; /* of the labels of the same instances; NaN: they have none */
    size_t majority_n;        /* instances with gold and labels */
    bool has_annotators;      /* there are labels on them: */
    struct binary_scores annotators;
};
AMX_CHECK enum amx_status evaluate_split(const struct amx_model *model, const struct training_data *data,
                                         enum split split, struct evaluation *out, struct amx_error *err);
json_t *evaluation_json(const struct evaluation *evaluation);            /* class part: one split's object */
json_t *evaluation_annotators_json(const struct evaluation *evaluation); /* annotator_model's object */
/* Majority vote of the training labels against their gold; NaN (and *n = 0) without any. */
AMX_CHECK enum amx_status evaluate_majority(const struct training_data *data, double *accuracy, size_t *n);

#endif
