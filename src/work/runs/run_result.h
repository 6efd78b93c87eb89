/* run_result.h - what a good run leaves behind, written as rows: the model's bytes in chunks, what it says of every
 * annotator, and the one small job that makes model, activation and the run's success true at the same moment. Models
 * and results of labels alone are written by the same code.
 *
 * Everything before that job is invisible to readers; kill -9 anywhere leaves the old state. */
#ifndef WORK_RUNS_RUN_RESULT_H
#define WORK_RUNS_RUN_RESULT_H

#include <stdbool.h>

#include "crowd/reliability.h"
#include "work/runs/trainers_int.h"

struct run_result {
    /* What was trained: auto's choice, not its request. Borrowed. */
    const char *method;
    uint64_t seed;
    int ensemble, folds;
    size_t labels_used, instances_used;
    unsigned char *bytes; /* the model file, or a label model (label_model.h) */
    size_t n_bytes;
    struct reliability reliability;
    char *settings, *metrics, *curve; /* JSON; settings and metrics objects, curve an array */
    bool activate;
};

/* When it becomes active the snapshots are told, and get *model to answer from (it is then NULL); *model may be NULL
 * before. AMX_CANCELLED: somebody asked before it counted. The result stays the caller's. */
AMX_CHECK enum amx_status run_result_write(struct run_work *work, const struct training_data *data,
                                           const struct run_result *result, struct amx_model **model,
                                           struct amx_error *err);
void run_result_done(struct run_result *result); /* frees bytes (amx_free), reliability and texts */

#endif
