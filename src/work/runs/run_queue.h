/* run_queue.h - what may happen to a run's row: queued (with coalescing), cancelled. In the writer thread, inside the
 * caller's write job; used by the endpoints and by auto_train, so the rules stand once. */
#ifndef WORK_RUNS_RUN_QUEUE_H
#define WORK_RUNS_RUN_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "work/runs/run_memory.h"
#include "work/runs/run_request.h"

struct db;

struct run_queued {
    int64_t number; /* what clients call it: /training-runs/NUMBER */
    int64_t id;     /* the row's: key of run_waiters, trainers_progress, trainers_cancelled */
    bool coalesced; /* an equal run was queued already: this is it */
};
struct run_limits {
    size_t queue;        /* runs that may wait */
    size_t memory_bytes; /* of a run; 0 = none */
};
/* Queues a run of the project; a queued run (not a running one) of the same project with the same request is taken
 * instead. AMX_NOTHING: nothing to train on, naming what is missing; AMX_BUSY: so many runs are queued; AMX_TOO_LARGE:
 * with this many instances, classes and annotators it cannot do with the memory, and how much it needs at least;
 * AMX_NOT_FOUND: the project is gone. After COMMIT: trainers_poke. by_rule: auto_train asked for it. */
AMX_CHECK enum amx_status run_queue_add(struct db *db, int64_t project_id, const struct run_request *request,
                                        const struct run_limits *limits, bool by_rule, struct run_queued *out,
                                        struct amx_error *err);
/* The same for a run of another kind, as the store keeps it, and what it needs. */
AMX_CHECK enum amx_status run_queue_add_spec(struct db *db, int64_t project_id, const struct run_spec *spec,
                                             const struct run_need *need, const struct run_limits *limits,
                                             struct run_queued *out, struct amx_error *err);

enum run_cancel {
    RUN_CANCEL_ACCEPTED, /* was queued: is cancelled now; or is running: will stop at the next batch. 202 */
    RUN_CANCEL_ALREADY   /* cancelled before. 200 */
};
/* AMX_NOT_FOUND: no such run in this project; AMX_CONFLICT: it has ended otherwise. After COMMIT:
 * trainers_cancelled(id). */
AMX_CHECK enum amx_status run_queue_cancel(struct db *db, int64_t project_id, int64_t number, int64_t *id,
                                           enum run_cancel *what, struct amx_error *err);

#endif
