/* fit_report.h - what `fit` prints: a table for people, one JSON line for programs. */
#ifndef COMMANDS_FIT_REPORT_H
#define COMMANDS_FIT_REPORT_H

#include <stdio.h>

#include "crowd/reliability.h"
#include "files/data_dir.h"
#include "work/judge/evaluate.h"
#include "work/runs/run_request.h"

/* One fit. */
struct fit_result {
    double seconds, labels_per_second;
    struct evaluation splits[3]; /* by enum split */
    double temperature;          /* NaN: not calibrated */
    struct reliability reliability;
    json_t *selection; /* how auto chose (selection_json.h); NULL for other methods */
};
void fit_result_done(struct fit_result *result);

AMX_CHECK enum amx_status fit_report_table(FILE *out, const struct run_request *request,
                                           const struct training_data *data, const struct data_dir *dir,
                                           const struct fit_result *results, size_t n, struct amx_error *err);
/* {"method","repeat","test":{"accuracy":{"mean","std","values"},...}|null,"valid","train":..,"annotator_model":..,
 * "held_out":{"label_log_likelihood":..,"n",..}|null,"temperature":{..}|null,...,"labels_per_second","seconds"}
 * and a newline. labels_per_second: median over fits; seconds: of all fits together. */
AMX_CHECK enum amx_status fit_report_json(FILE *out, const struct run_request *request,
                                          const struct training_data *data, const struct fit_result *results, size_t n,
                                          struct amx_error *err);

#endif
