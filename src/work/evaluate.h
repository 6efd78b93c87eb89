/* evaluate.h - metrics of a model against gold, as `metrics` of a run and of a model (wire.md): per split with gold, and
 * annotator_model. Reliability of every annotator over its training instances is computed here too, when a run ends. */
#ifndef WORK_EVALUATE_H
#define WORK_EVALUATE_H

#include <jansson.h>

#include "annotmix.h"
#include "crowd/reliability.h"
#include "work/training_data.h"

/* Labels that are used only to judge the annotator model. fit passes labels_test.csv's here, the server passes NULL: labels
 * of valid and test instances are in the training_data anyway. */
struct extra_labels {
    const struct data_label *labels;
    size_t n;
};

/* {"test": {...}, "annotator_model": {...}}; {} without gold. Caller decrefs. */
AMX_CHECK enum amx_status evaluate_metrics(const struct amx_model *model, const struct training_data *data,
                                           const struct extra_labels *extra, json_t **out, struct amx_error *err);
/* Every annotator of the model over the train instances it labelled, and the unseen annotator over all train instances.
 * Caller calls reliability_done. */
AMX_CHECK enum amx_status evaluate_reliability(const struct amx_model *model, const struct train_set *set,
                                               struct reliability *out, struct amx_error *err);

#endif
