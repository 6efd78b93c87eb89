/* run_queue.h - what may happen to a run's row: queued (with coalescing), cancelled. In the writer thread, inside the
 * caller's write job; used by the endpoints and by auto_train, so the rules stand once. */
#ifndef WORK_RUN_QUEUE_H
#define WORK_RUN_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "work/run_request.h"

struct db;

/* Queues a run of the project. A queued run (not a running one) of the same project with the same request is taken instead:
 * *coalesced, *run_id is its id. AMX_NOTHING: no trainable label, naming what is missing; AMX_BUSY: queue_limit runs are
 * queued; AMX_NOT_FOUND: the project is gone. After COMMIT: trainers_poke. */
AMX_CHECK enum amx_status run_queue_add(struct db *db, int64_t project_id, const struct run_request *request,
                                        size_t queue_limit, int64_t *run_id, bool *coalesced, struct amx_error *err);

enum run_cancel {
    RUN_CANCEL_ACCEPTED, /* was queued: is cancelled now; or is running: will stop at the next batch. 202 */
    RUN_CANCEL_ALREADY   /* cancelled before. 200 */
};
/* AMX_NOT_FOUND: no such run in this project; AMX_CONFLICT: it has ended otherwise. After COMMIT: trainers_cancelled. */
AMX_CHECK enum amx_status run_queue_cancel(struct db *db, int64_t project_id, int64_t run_id, enum run_cancel *what,
                                           struct amx_error *err);

#endif
