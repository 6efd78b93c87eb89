/* calibrate.h - the temperature of a finished model: one number that divides the logits of its class model (Guo,
 * Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017). */
#ifndef WORK_JUDGE_CALIBRATE_H
#define WORK_JUDGE_CALIBRATE_H

#include "annotmix.h"
#include "work/runs/run_request.h"
#include "work/runs/training_data.h"

/* Finds and sets it. gold_use calibrate: the least log loss on gold of split valid. Otherwise, or without such gold,
 * and if the model has folds (and data theirs): the greatest log-likelihood of the labels of train, each predicted by
 * members that never saw it; gold plays no part, so that is allowed under gold_use evaluate. Otherwise nothing changes
 * and *temperature is NaN. 0.1 to 10; 1 when no other value is better. The model must not be shared yet.
 * Out-of-fold predictions are never divided by it: labels of every fold have had a part in it. */
AMX_CHECK enum amx_status calibrate_model(struct amx_model *model, const struct training_data *data,
                                          enum run_gold_use gold_use, double *temperature, struct amx_error *err);

#endif
