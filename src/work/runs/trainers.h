/* trainers.h - threads that take queued training runs, one each at a time, and turn them into models.
 *
 * The queue is the table of runs: a run is claimed by a write job (lease, attempts), so restarts find it again. A
 * project has at most one run in work, and projects take turns: the one that waited longest since its last run goes
 * first. A trainer copies what it needs in one short read, trains with no transaction open, and keeps progress in
 * memory; only the start, the model's chunks and the end are written. Lock order: src/README.md. */
#ifndef WORK_RUNS_TRAINERS_H
#define WORK_RUNS_TRAINERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "work/runs/run_queue.h"

struct catalog;
struct http_waiters;
struct metrics;
struct snapshots;
struct store;
struct trainers;
struct writer;

struct trainers_config {
    unsigned threads;        /* 0 = none: runs stay queued (for the commands that only write) */
    size_t run_queue;        /* queued runs of all projects; more are refused */
    size_t run_memory_bytes; /* a run that needs more is refused, or fails, with the number */
    struct store *store;
    struct writer *writer;
    struct catalog *catalog;
    struct snapshots *snapshots;
    struct metrics *metrics;          /* may be NULL */
    struct http_waiters *run_waiters; /* woken under the run's row id at every epoch and change of state; may be NULL */
};

/* Puts interrupted runs back into the queue (failed after 3 attempts), removes half-written models, starts the
 * threads. */
AMX_CHECK enum amx_status trainers_start(const struct trainers_config *config, struct trainers **out,
                                         struct amx_error *err);
/* Stops at the next batch; running runs go back to queued without having used up an attempt. Needs the writer alive.
 * All other functions may still be called until trainers_free. NULL allowed in both. False: a thread has not come to its
 * next batch within seconds (a busy machine gives it no time) and lives on; then nothing it uses may be freed, and the
 * next start puts its run in order. */
bool trainers_stop(struct trainers *trainers);
void trainers_free(struct trainers *trainers);

/* There may be something to do: call after the COMMIT that queued a run. Any thread. */
void trainers_poke(struct trainers *trainers);
/* After the COMMIT of run_queue_cancel: stops the run within one batch, wakes those who wait for it. Any thread. */
void trainers_cancelled(struct trainers *trainers, int64_t run_id);
/* After a COMMIT that wrote n new label versions (unchanged ones do not count): drives auto_train. Any thread, never
 * blocks. */
void trainers_labels_written(struct trainers *trainers, int64_t project_id, size_t n);
/* After the COMMIT that deleted a project: stops its running run. */
void trainers_project_deleted(struct trainers *trainers, int64_t project_id);

/* Where a running run stands. */
struct run_progress {
    int attempt;
    int epoch, epochs;
    double fraction, labels_per_second, eta_seconds;
    double loss; /* of the last finished epoch; NaN before the first */
    int rung;                     /* of method auto: see select.h */
    size_t candidate, candidates; /* of this rung that are judged, of how many; 0 for other methods */
    size_t labels_used, instances_used;
    size_t n_curve;
    double *loss_curve; /* [n_curve]; malloc'd copy, run_progress_done frees it */
    uint64_t version;   /* grows with every change */
};
/* False: the run is not in work in this process (look at its row). *out is then untouched. */
bool trainers_progress(struct trainers *trainers, int64_t run_id, struct run_progress *out);
void run_progress_done(struct run_progress *progress);

unsigned trainers_threads(const struct trainers *trainers);
/* Of the run in work that has been silent longest; 0 without one. A run tells of progress at least once an epoch. */
double trainers_silent_seconds(struct trainers *trainers);
struct run_limits trainers_limits(const struct trainers *trainers); /* for run_queue_add */

#endif
