/* run_memory.h - can a run do with its memory? Asked before it is queued, of what the database says without being read;
 * run_work.c asks again, exactly, when the data are there. */
#ifndef WORK_RUNS_RUN_MEMORY_H
#define WORK_RUNS_RUN_MEMORY_H

#include "work/runs/training_data.h"

/* Bytes that a request takes besides its data, as far as they do not depend on what is read: `least` has the project's
 * features, classes and annotators, but two instances with a label and gold each, and one of split test. n_train: so many
 * are trained on at least. SIZE_MAX: it does not fit in size_t, or, with errno ENOMEM, could not be said. */
typedef size_t run_memory_least(const struct training_data *least, size_t n_train, const void *request);

/* A request and what says its bytes. */
struct run_need {
    run_memory_least *bytes;
    const void *request;
};
/* For a struct run_request: methods of all kinds, and auto. */
run_memory_least run_memory_of_request;

/* AMX_TOO_LARGE with the number when it needs more than limit (0 = none) in any case; AMX_NOT_FOUND; in the writer thread
 * or on a reader. */
AMX_CHECK enum amx_status run_memory_check(struct db *db, int64_t project_id, const struct run_need *need, size_t limit,
                                           struct amx_error *err);

#endif
