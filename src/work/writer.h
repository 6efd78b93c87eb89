/* writer.h - the one thread that writes. Group commit: everything that waits now (at most 512 jobs) becomes one
 * transaction, each job in a savepoint of its own; after COMMIT every job learns its own outcome.
 *
 * Why one thread and one connection: no SQLITE_BUSY inside the process, and no way into the WAL-reset bug of SQLite before
 * 3.51.3 (checkpoints run here too). The thread never waits for more jobs: what arrives during a COMMIT is the next group.
 */
#ifndef WORK_WRITER_H
#define WORK_WRITER_H

#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "store/db.h"

struct writer;

struct write_job {
    /* Runs in the writer thread inside a savepoint. Any status but AMX_OK undoes this job alone. Must not block. */
    enum amx_status (*apply)(struct db *db, struct write_job *job);
    /* Runs in the writer thread when the outcome is durable (or failed): status and error are set. Usually resumes a
     * request; the job may be freed by it. Not called for writer_run. */
    void (*done)(struct write_job *job);
    int64_t project_id;       /* whose turn: projects are served in turn when many wait; 0 = the program's own */
    enum amx_status status;   /* AMX_OK only after COMMIT said so */
    struct amx_error error;
    struct write_job *next;   /* the writer's */
};

struct writer_stats {
    size_t queue_depth;
    uint64_t groups, jobs;
    double last_commit_seconds, total_commit_seconds;
    int64_t wal_bytes;
    bool read_only;           /* disk full or corrupt: writes are refused with AMX_FULL / AMX_CORRUPT */
};

/* Starts the thread on the store's write connection; queue_limit jobs may wait (default 10,000). */
AMX_CHECK enum amx_status writer_start(struct db *db, size_t queue_limit, struct writer **out, struct amx_error *err);
/* Takes the job until done() runs. AMX_BUSY: queue full, AMX_FULL / AMX_CORRUPT: read-only; then the job is still the caller's
 * and done is not called. Any thread; never blocks. */
AMX_CHECK enum amx_status writer_submit(struct writer *writer, struct write_job *job);
/* Submits and waits; for threads of our own (trainers, start-up), never for HTTP threads or inside apply/done. */
AMX_CHECK enum amx_status writer_run(struct writer *writer, struct write_job *job);
void writer_get_stats(struct writer *writer, struct writer_stats *out);
/* Finishes what waits, checkpoints, ends the thread. Submitting during or after it gives AMX_BUSY. */
void writer_stop(struct writer *writer);

#endif
