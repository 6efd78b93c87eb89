/* activation.h - whether the model of a run becomes the active one, by the run's `activate`, and why. */
#ifndef WORK_JUDGE_ACTIVATION_H
#define WORK_JUDGE_ACTIVATION_H

#include <jansson.h>
#include <stdbool.h>

#include "annotmix.h"
#include "work/runs/run_request.h"
#include "work/runs/training_data.h"
#include "work/snapshots.h"

/* if_not_worse: activated unless the active model's log-likelihood of the labels of train is higher by more than two
 * paired standard errors, both models out of fold (evaluate_compare). Where the two cannot be compared (there is no
 * active model, it has no folds, or other classes), the new one is activated, and the reason says so.
 * *why: {"rule", "activated", "reason", "active_model", "difference", "standard_error", "n"}, numbers null where
 * nothing was compared; caller decrefs. */
AMX_CHECK enum amx_status activation_decide(enum run_activate rule, const struct amx_model *model,
                                            const struct training_data *data, struct snapshots *snapshots,
                                            int64_t project_id, bool *activate, json_t **why, struct amx_error *err);

#endif
