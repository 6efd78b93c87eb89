/* auto_fit.h - method auto for training runs and for `fit`: from a request to select_fit, and its answer as JSON. */
#ifndef WORK_RUNS_AUTO_FIT_H
#define WORK_RUNS_AUTO_FIT_H

#include <jansson.h>

#include "crowd/select/select.h"
#include "work/runs/run_request.h"
#include "work/runs/training_data.h"

/* What select_fit is asked for. Gold of the valid part goes in only with select: valid, and then into a copy of the
 * rows that have it; gold of test has no way in. */
struct auto_job {
    struct select_options options;
    float *valid_features; /* [n_valid][D] */
    uint32_t *valid_gold;  /* [n_valid] */
};
/* Progress and cancel are the caller's to set. AMX_NO_MEMORY. auto_job_done frees, also after a failure. */
AMX_CHECK enum amx_status auto_job_init(struct auto_job *job, const struct run_request *request, uint64_t seed,
                                        const struct training_data *data, int threads, struct amx_error *err);
void auto_job_done(struct auto_job *job);

/* Chooses and fits; *selection is selection_json's. The caller frees with amx_model_free, json_decref and (the
 * report's loss_curve) amx_free. */
AMX_CHECK enum amx_status auto_fit(const struct auto_job *job, const struct run_request *request,
                                   const struct training_data *data, struct amx_fit_report *report, json_t **selection,
                                   struct amx_model **model, struct amx_error *err);

#endif
