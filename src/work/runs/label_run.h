/* label_run.h - a training run on labels alone: what a run of a project without features does in place of a fit. */
#ifndef WORK_RUNS_LABEL_RUN_H
#define WORK_RUNS_LABEL_RUN_H

#include "work/runs/trainers_int.h"

/* Bytes that label_run will hold besides the data; SIZE_MAX when it does not fit in size_t. */
size_t label_run_memory(const struct training_data *data);
/* Runs work->request.method (crowd/aggregate/aggregate.h) over the data, and writes the result as a model of the project
 * (label_model.h; run_result.h). Gold is only used under gold_use train. progress [0..1] goes to `progress`.
 * AMX_CANCELLED, AMX_INVALID (the method cannot answer for these labels), AMX_TOO_LARGE, AMX_NO_MEMORY. */
AMX_CHECK enum amx_status label_run(struct run_work *work, const struct training_data *data,
                                    void (*progress)(double fraction, void *context), struct amx_error *err);

#endif
