/* writer.h - one thread writes at a time, mostly a thread of its own. Group commit: everything that waits now (at most
 * 512 jobs) becomes one transaction, each job (or jobs that are applied together) in a savepoint; after COMMIT every job
 * learns its own outcome.
 *
 * Why one thread and one connection: no SQLITE_BUSY inside the process, and no way into the WAL-reset bug of SQLite
 * before 3.51.3 (checkpoints run here too). The thread never waits for more jobs: what arrives during a COMMIT is the
 * next group. While it sleeps, another thread may do one job in its place (writer_run_here).
 */
#ifndef WORK_WRITER_H
#define WORK_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "store/db.h"

struct writer;

struct write_job {
    /* Runs in the writer thread (or in its place) inside a savepoint. Any status but AMX_OK undoes this job alone. Must
     * not block. */
    enum amx_status (*apply)(struct db *db, struct write_job *job);
    /* NULL, or the same for n > 1 jobs of one project that wait side by side, first to last by `next`, all with this
     * function: what they share is written once. AMX_OK: each job's status and error tell its own outcome, and one that
     * failed has written nothing. Anything else: all of it is undone, and each job is applied by itself. */
    enum amx_status (*together)(struct db *db, struct write_job *first, size_t n, struct amx_error *err);
    /* Runs in the writer thread (or in its place) when the outcome is durable (or failed): status and error are set. Usually resumes a
     * request; the job may be freed by it. Not called for writer_run. */
    void (*done)(struct write_job *job);
    size_t rows;        /* 0 = a single write; else a batch of a bulk body with so many rows. Batches of a project keep
                         * their order; single writes may overtake them. */
    int64_t project_id; /* whose turn: projects are served in turn when many wait; 0 = the program's own */
    enum amx_status status; /* AMX_OK only after COMMIT said so */
    struct amx_error error;
    struct write_job *next; /* the writer's, like the next one */
    struct writer_wait *wait;
};

enum {
    WRITER_STUCK_SECONDS = 60, /* at one thing for so long: not ready */
    WRITER_GROUP_JOBS = 512, /* jobs in one transaction */
    WRITER_BULK_ROWS =
        16384 /* rows of batches in one transaction: bounds how long a single write waits for its COMMIT */
};

struct writer_stats {
    size_t queue_depth;
    uint64_t groups, jobs;
    double last_commit_seconds, total_commit_seconds;
    int64_t wal_bytes;
    double last_checkpoint_seconds;
    double busy_seconds; /* since the thread last began something; 0 while it sleeps. Large = stuck, see readyz */
    bool read_only;      /* disk full or corrupt: writes are refused with AMX_FULL / AMX_CORRUPT */
    enum amx_status why; /* AMX_OK, AMX_FULL, AMX_CORRUPT, AMX_IO (fsync failed) */
};

/* Starts the thread on the store's write connection; queue_limit jobs may wait (default 10,000). */
AMX_CHECK enum amx_status writer_start(struct db *db, size_t queue_limit, struct writer **out, struct amx_error *err);
/* Takes the job until done() runs. AMX_BUSY: queue full or stopping, AMX_FULL / AMX_CORRUPT / AMX_IO: read-only; then
 * the job is still the caller's and done is not called. Any thread; never blocks. */
AMX_CHECK enum amx_status writer_submit(struct writer *writer, struct write_job *job);
/* Submits and waits; for threads of our own (trainers, start-up), never for HTTP threads or inside apply/done. */
AMX_CHECK enum amx_status writer_run(struct writer *writer, struct write_job *job);
/* Does the job now, in the calling thread, if nobody writes, nothing waits and the disk has been quick of late; done() has
 * run when it returns true. False: nothing has happened, writer_submit it. The caller waits for the disk, so nothing may
 * depend on it meanwhile; never inside apply/done. Any thread. */
AMX_CHECK bool writer_run_here(struct writer *writer, struct write_job *job);
/* Called once, in the writer's thread or in its place, after an fsync error: nothing can be trusted to reach the disk by this process
 * any more. All later writes are refused (AMX_IO). The service ends the process with 75 so that a new one recovers.
 * Before submitting. */
void writer_on_fatal(struct writer *writer, void (*fatal)(void *context), void *context);
/* Work for idle time, in the writer's thread, one job of its own: does a step of at most some 5,000 rows and sets
 * *worked when there is more. The writer has the store's own steps (purges, old keys); this adds one. Before
 * submitting. At most 4. */
typedef enum amx_status writer_idle_fn(struct db *db, void *context, bool *worked, struct amx_error *err);
AMX_CHECK enum amx_status writer_on_idle(struct writer *writer, writer_idle_fn *step, void *context);
/* Read-only for good, because somebody else found that the database is damaged (why: AMX_CORRUPT). Any thread. */
void writer_refuse(struct writer *writer, enum amx_status why);
void writer_get_stats(struct writer *writer, struct writer_stats *out);
/* Finishes what waits, checkpoints, ends the thread. Submitting during or after it gives AMX_BUSY. NULL allowed. */
void writer_halt(struct writer *writer);
void writer_free(struct writer *writer); /* of one that was halted; NULL allowed */

#endif
