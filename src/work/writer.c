/* writer.c - the one thread that writes, and who takes its place for one job.
 *
 * Queue: write_queue.h. Group: one transaction, write_group.h. Nobody is told anything before COMMIT has returned. When
 * COMMIT fails, what the disk holds is not known until ROLLBACK: every job of the group is told AMX_BUSY (send it again)
 * or AMX_FULL.
 *
 * The connection, and all that is marked as going with it, belongs to one thread at a time: to the writer's own while it
 * is awake, to nobody while it sleeps, and then to whoever borrows it for one job (writer_run_here; the writer's thread is
 * not woken, which on an idle machine costs as much as the disk does). Ownership changes hands under w->mu only. What is
 * queued meanwhile waits for the writer's thread, which gets the connection back first: it has been called, and who has
 * been called is not overtaken. A borrower does what the thread does for a group of one, done() included, and nothing
 * else: checkpoints, idle work and the disk's recovery stay with the thread, which is called when they are due.
 *
 * Trouble: a full disk makes the writer read-only; it tries the disk every five seconds and comes back by itself. A
 * corrupt database makes it read-only for good. After a failed fsync nothing more is written by this process (the
 * kernel may have dropped the pages and would call the next fsync a success): `fatal` tells the service to end with 75.
 *
 * Checkpoints run here: PASSIVE when the WAL has grown by 16 MiB, with a short wait for readers when it is over 32 MiB,
 * and TRUNCATE when nothing came for a second. So does the work for idle time (purges), one small transaction at a
 * time.
 *
 * Lock: w->mu, for the queue, the state and the figures; never held while SQL or a job's code runs.
 */
#include "work/writer.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/annotators.h"
#include "store/idempotency.h"
#include "store/meta.h"
#include "store/models.h"
#include "store/projects.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"
#include "work/write_group.h"
#include "work/write_queue.h"

enum {
    QUEUE_DEFAULT = 10000,
    IDLE_MS = 50,        /* quiet this long: time for work that can wait */
    TRUNCATE_MS = 1000,  /* and this long: time to empty the WAL */
    BUSY_STEP_MS = 2000, /* while it is never quiet, one step of it this often */
    OLD_KEYS_MS = 60000, /* how often old idempotency keys are looked for */
    PROBE_MS = 5000,     /* how often a full disk is tried */
    PROBE_BYTES = 256 * 1024,
    LEND_NS = 2000000, /* groups take longer than this: the disk is too slow for others to wait for */
    USUAL_OF = 8,      /* the moving average is of about so many groups: one slow commit among quick ones changes little */
    CHECKPOINT_BYTES = 16 * 1024 * 1024,
    LONG_WAL_BYTES = 32 * 1024 * 1024,
    IDLE_FUNCTIONS = 4
};

struct writer_wait {
    pthread_cond_t ended;
    bool is_over; /* guarded by the writer's mu */
};

struct writer {
    struct db *db; /* of whoever has it: see above */
    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t work;          /* the thread was called, or has been given the connection back */
    struct write_queue queue;     /* guarded by mu */
    size_t limit;                 /* written once */
    bool stopping;                /* guarded by mu */
    bool asleep, called, lent;    /* guarded by mu: the thread has let go of the connection, is to wake up, must wait */
    int64_t wakes_ms;             /* guarded by mu: when it wakes by itself */
    int64_t usual_ns;             /* guarded by mu: how long a group has taken of late */
    struct writer_stats stats;    /* guarded by mu */
    void (*fatal)(void *context); /* guarded by mu */
    void *fatal_context;
    _Atomic int64_t busy_since_ms; /* monotonic; 0 = asleep */
    struct {
        writer_idle_fn *step;
        void *context;
    } idle[IDLE_FUNCTIONS]; /* [n_idle] never changed once counted */
    size_t n_idle;          /* guarded by mu */

    /* Of whoever has the connection. */
    int64_t wal_base; /* size of the WAL at the last checkpoint */
    bool wal_dirty;   /* written since the last TRUNCATE */
    bool idle_due;    /* something was written since the idle work was done */
    int64_t next_old_keys_ms, next_busy_step_ms, next_probe_ms, quiet_since_ms; /* monotonic */
};

/* ---- queue ---- */

/* The thread shall look: at once, or when the connection is given back. */
static void call_locked(struct writer *w)
{
    if (!w->asleep || w->called)
        return;
    w->called = true;
    if (!w->lent)
        (void)pthread_cond_signal(&w->work);
}

static enum amx_status enqueue(struct writer *w, struct write_job *job, struct writer_wait *wait)
{
    enum amx_status status = AMX_OK;

    (void)pthread_mutex_lock(&w->mu);
    if (w->stats.why != AMX_OK) {
        status = w->stats.why;
    } else if (w->stopping || w->queue.n >= w->limit) {
        status = AMX_BUSY;
    } else {
        job->status = AMX_OK;
        job->error = (struct amx_error){.code = AMX_OK};
        job->wait = wait;
        write_queue_push(&w->queue, job);
        call_locked(w);
    }
    (void)pthread_mutex_unlock(&w->mu);
    return status;
}

enum amx_status writer_submit(struct writer *writer, struct write_job *job)
{
    return enqueue(writer, job, NULL);
}

enum amx_status writer_run(struct writer *writer, struct write_job *job)
{
    struct writer_wait wait = {.is_over = false};
    enum amx_status status;

    (void)pthread_cond_init(&wait.ended, NULL); /* cannot fail with default attributes on Linux */
    status = enqueue(writer, job, &wait);
    if (status == AMX_OK) {
        (void)pthread_mutex_lock(&writer->mu);
        while (!wait.is_over)
            (void)pthread_cond_wait(&wait.ended, &writer->mu);
        (void)pthread_mutex_unlock(&writer->mu);
        status = job->status;
    } else {
        job->status = error_set(&job->error, status, "the database takes no writes at the moment");
    }
    (void)pthread_cond_destroy(&wait.ended);
    return status;
}

/* ---- one group ---- */

static void finish_jobs(struct writer *w, struct write_job *job)
{
    while (job != NULL) {
        struct write_job *next = job->next; /* done may free the job */
        if (job->wait != NULL) {
            (void)pthread_mutex_lock(&w->mu);
            job->wait->is_over = true;
            (void)pthread_cond_signal(&job->wait->ended);
            (void)pthread_mutex_unlock(&w->mu);
        } else if (job->done != NULL) {
            job->done(job);
        }
        job = next;
    }
}

/* Every job that has not failed by itself. */
static void fail_jobs(struct write_job *job, const struct amx_error *why)
{
    for (; job != NULL; job = job->next) {
        if (job->status == AMX_OK) {
            job->error = *why;
            job->status = why->code;
        }
    }
}

/* What the others of a group are told when it failed: full stays full, anything else is "send it again". After a failed
 * fsync the COMMIT may stand all the same when the file is opened again, so nothing is promised. */
static void word_failure(const struct db *db, enum amx_status status, struct amx_error *err)
{
    if (db_must_stop(db))
        (void)error_set(err, AMX_IO, "an fsync failed: it is not known whether this was written; send it again");
    else if (status == AMX_FULL)
        (void)error_set(err, AMX_FULL, "the disk is full; nothing was written");
    else
        (void)error_set(err, AMX_BUSY, "the database could not commit; nothing was written, send it again");
}

/* Enters the state that a failure calls for. */
static void note_failure(struct writer *w, enum amx_status status, const struct amx_error *err)
{
    enum amx_status why = AMX_OK;

    if (db_must_stop(w->db))
        why = AMX_IO;
    else if (status == AMX_FULL || status == AMX_CORRUPT)
        why = status;
    if (why == AMX_OK) {
        log_error("writing failed", LOG_TEXT("why", err->text));
        return;
    }
    (void)pthread_mutex_lock(&w->mu);
    bool is_new = w->stats.why == AMX_OK || (why == AMX_IO && w->stats.why != AMX_IO);
    if (is_new) {
        w->stats.why = why;
        w->stats.read_only = true;
    }
    void (*fatal)(void *context) = w->fatal;
    void *context = w->fatal_context;
    (void)pthread_mutex_unlock(&w->mu);
    w->next_probe_ms = clock_monotonic_ms() + PROBE_MS;
    if (!is_new)
        return;
    if (why == AMX_FULL)
        log_error("disk full: read-only until there is room", LOG_TEXT("why", err->text));
    else if (why == AMX_CORRUPT)
        log_error("database corrupt: read-only for good; restore a backup", LOG_TEXT("why", err->text));
    else
        log_error("fsync failed: nothing more will be written by this process", LOG_TEXT("why", err->text));
    if (why == AMX_IO && fatal != NULL)
        fatal(context);
}

static void run_group(struct writer *w, struct write_job *jobs, size_t n)
{
    struct amx_error err = {.code = AMX_OK};
    int64_t began = clock_monotonic_ns(), committing = began;
    enum amx_status status = db_begin(w->db, &err);

    if (status == AMX_OK)
        status = write_group_apply(w->db, jobs, n, &err);
    committing = clock_monotonic_ns();
    if (status == AMX_OK && n == 1 && jobs->status != AMX_OK)
        db_rollback(w->db); /* the job's own failure; nobody else is concerned */
    else if (status == AMX_OK)
        status = db_commit(w->db, &err);
    int64_t now = clock_monotonic_ns();
    double seconds = (double)(now - committing) / 1e9;
    if (status != AMX_OK) {
        struct amx_error told;
        db_rollback(w->db);
        note_failure(w, status, &err);
        word_failure(w->db, status, &told);
        fail_jobs(jobs, &told);
    }
    w->wal_dirty = true;
    w->idle_due = true;
    (void)pthread_mutex_lock(&w->mu);
    w->stats.groups++;
    w->stats.jobs += n;
    w->stats.last_commit_seconds = seconds;
    w->stats.total_commit_seconds += seconds;
    w->stats.wal_bytes = db_wal_used(w->db);
    w->usual_ns += (now - began - w->usual_ns) / USUAL_OF;
    (void)pthread_mutex_unlock(&w->mu);
    finish_jobs(w, jobs);
}

/* ---- work beside ---- */

static void checkpoint(struct writer *w, bool truncate)
{
    struct amx_error err = {.code = AMX_OK};
    int64_t began = clock_monotonic_ns();
    enum amx_status status = db_checkpoint(w->db, truncate, &err);

    w->wal_base = db_wal_used(w->db);
    if (status != AMX_OK)
        note_failure(w, status, &err);
    (void)pthread_mutex_lock(&w->mu);
    w->stats.last_checkpoint_seconds = (double)(clock_monotonic_ns() - began) / 1e9;
    w->stats.wal_bytes = w->wal_base;
    (void)pthread_mutex_unlock(&w->mu);
}

static bool wal_is_long(struct writer *w)
{
    int64_t used = db_wal_used(w->db);

    if (used < w->wal_base)
        w->wal_base = 0; /* it began anew */
    return used - w->wal_base >= CHECKPOINT_BYTES;
}

static void checkpoint_when_long(struct writer *w)
{
    if (wal_is_long(w))
        checkpoint(w, db_wal_used(w->db) >= LONG_WAL_BYTES);
}

static enum amx_status purge_annotators(struct db *db, void *context, bool *worked, struct amx_error *err)
{
    (void)context;
    return annotators_purge_step(db, clock_wall_ms(), worked, err);
}

static enum amx_status purge_projects(struct db *db, void *context, bool *worked, struct amx_error *err)
{
    (void)context;
    return projects_purge_step(db, worked, err);
}

static enum amx_status purge_models(struct db *db, void *context, bool *worked, struct amx_error *err)
{
    (void)context;
    return models_purge_step(db, worked, err);
}

static enum amx_status purge_keys(struct db *db, void *context, bool *worked, struct amx_error *err)
{
    struct writer *w = context;
    enum amx_status status;

    *worked = false;
    if (clock_monotonic_ms() < w->next_old_keys_ms)
        return AMX_OK;
    status = idempotency_rows_purge_step(db, clock_wall_ms(), worked, err);
    if (!*worked)
        w->next_old_keys_ms = clock_monotonic_ms() + OLD_KEYS_MS;
    return status;
}

/* One step in a transaction of its own. True: there is more to do. */
static bool run_step(struct writer *w, writer_idle_fn *step, void *context)
{
    struct amx_error err = {.code = AMX_OK};
    bool worked = false;
    enum amx_status status = db_begin(w->db, &err);

    if (status == AMX_OK)
        status = step(w->db, context, &worked, &err);
    if (status == AMX_OK)
        status = db_commit(w->db, &err);
    if (status != AMX_OK) {
        db_rollback(w->db);
        note_failure(w, status, &err);
        return false; /* the next write makes it due again */
    }
    w->wal_dirty = w->wal_dirty || worked;
    checkpoint_when_long(w);
    return worked;
}

/* One step of whatever has one to do. False: nothing is left. */
static bool idle_step(struct writer *w)
{
    bool worked = run_step(w, purge_annotators, w) || run_step(w, purge_projects, w) || run_step(w, purge_models, w) ||
                  run_step(w, purge_keys, w);

    (void)pthread_mutex_lock(&w->mu);
    size_t n = w->n_idle; /* those below it never change again */
    (void)pthread_mutex_unlock(&w->mu);
    for (size_t i = 0; !worked && i < n; i++)
        worked = run_step(w, w->idle[i].step, w->idle[i].context);
    w->idle_due = worked;
    w->next_busy_step_ms = clock_monotonic_ms() + BUSY_STEP_MS;
    return worked;
}

/* Writes some, to see whether the disk takes it again. */
static void probe_disk(struct writer *w)
{
    struct amx_error err = {.code = AMX_OK};
    char *blanks = malloc(PROBE_BYTES);
    enum amx_status status = blanks != NULL ? db_begin(w->db, &err) : AMX_NO_MEMORY;

    w->next_probe_ms = clock_monotonic_ms() + PROBE_MS;
    if (blanks != NULL)
        memset(blanks, ' ', PROBE_BYTES);
    if (status == AMX_OK)
        status = meta_set(w->db, "disk_probe", (struct slice){blanks, PROBE_BYTES}, &err);
    if (status == AMX_OK)
        status = db_commit(w->db, &err);
    if (status == AMX_OK)
        status = db_begin(w->db, &err);
    if (status == AMX_OK)
        status = meta_set(w->db, "disk_probe", (struct slice){"", 0}, &err);
    if (status == AMX_OK)
        status = db_commit(w->db, &err);
    free(blanks);
    if (status != AMX_OK) {
        db_rollback(w->db);
        return;
    }
    (void)pthread_mutex_lock(&w->mu);
    bool back = w->stats.why == AMX_FULL;
    if (back) {
        w->stats.why = AMX_OK;
        w->stats.read_only = false;
    }
    (void)pthread_mutex_unlock(&w->mu);
    if (back)
        log_info("the disk takes writes again");
}

/* ---- the thread ---- */

/* Something begins: whoever has the connection. */
static void beat(struct writer *w)
{
    atomic_store(&w->busy_since_ms, clock_monotonic_ms());
}

static enum amx_status why_of(struct writer *w)
{
    enum amx_status why;

    (void)pthread_mutex_lock(&w->mu);
    why = w->stats.why;
    (void)pthread_mutex_unlock(&w->mu);
    return why;
}

/* Lets go of the connection until the thread is called or timeout_ms are over. */
static void sleep_locked(struct writer *w, int64_t timeout_ms)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_MONOTONIC, &until); /* always there on Linux */
    until.tv_sec += (time_t)(timeout_ms / 1000);
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    atomic_store(&w->busy_since_ms, 0);
    w->wakes_ms = clock_monotonic_ms() + timeout_ms;
    w->called = false;
    w->asleep = true;
    while (!w->called && pthread_cond_timedwait(&w->work, &w->mu, &until) == 0)
        ;
    w->called = true; /* nobody borrows it from now on */
    while (w->lent)
        (void)pthread_cond_wait(&w->work, &w->mu);
    w->asleep = false;
    beat(w);
}

/* Nothing is queued: what can be done meanwhile, and how long to sleep otherwise. Returns 0 when something was done. */
static int64_t while_quiet(struct writer *w)
{
    int64_t now = clock_monotonic_ms(), quiet_ms = now - w->quiet_since_ms;
    enum amx_status why = why_of(w);

    if (why == AMX_FULL) {
        if (now < w->next_probe_ms)
            return w->next_probe_ms - now;
        probe_disk(w);
        return 0;
    }
    if (why != AMX_OK)
        return OLD_KEYS_MS;
    checkpoint_when_long(w); /* by jobs that others did */
    if (w->idle_due || now >= w->next_old_keys_ms) {
        if (quiet_ms < IDLE_MS && now < w->next_busy_step_ms)
            return IDLE_MS - quiet_ms;
        (void)idle_step(w); /* idle_due says whether there is more */
        return 0;
    }
    if (w->wal_dirty) {
        if (quiet_ms < TRUNCATE_MS)
            return TRUNCATE_MS - quiet_ms;
        w->wal_dirty = false;
        checkpoint(w, true);
        return 0;
    }
    return w->next_old_keys_ms - now;
}

static void refuse_all(struct writer *w, enum amx_status why)
{
    struct write_job *jobs = NULL;
    struct amx_error err;

    (void)pthread_mutex_lock(&w->mu);
    (void)write_queue_take(&w->queue, true, &jobs);
    (void)pthread_mutex_unlock(&w->mu);
    (void)error_set(&err, why,
                    why == AMX_FULL ? "the disk is full; nothing was written"
                                    : "the database is read-only after an error; nothing was written");
    fail_jobs(jobs, &err);
    finish_jobs(w, jobs);
}

static void *writer_main(void *argument)
{
    struct writer *w = argument;
    struct write_job *jobs;
    bool stopping = false;

    while (!stopping) {
        beat(w);
        int64_t sleep_ms = while_quiet(w);
        (void)pthread_mutex_lock(&w->mu);
        if (w->queue.n == 0 && !w->stopping && sleep_ms > 0)
            sleep_locked(w, sleep_ms);
        if (w->stats.why != AMX_OK) { /* by a job that another thread did: what was queued behind it */
            enum amx_status why = w->stats.why;
            (void)pthread_mutex_unlock(&w->mu);
            refuse_all(w, why);
            (void)pthread_mutex_lock(&w->mu);
        }
        size_t n = write_queue_take(&w->queue, false, &jobs);
        stopping = w->stopping && n == 0;
        (void)pthread_mutex_unlock(&w->mu);
        while (n > 0) {
            beat(w);
            run_group(w, jobs, n);
            checkpoint_when_long(w);
            enum amx_status why = why_of(w);
            if (why != AMX_OK)
                refuse_all(w, why);
            else if (w->idle_due && clock_monotonic_ms() >= w->next_busy_step_ms)
                (void)idle_step(w);
            (void)pthread_mutex_lock(&w->mu);
            n = write_queue_take(&w->queue, false, &jobs);
            (void)pthread_mutex_unlock(&w->mu);
            w->quiet_since_ms = clock_monotonic_ms();
        }
    }
    if (why_of(w) == AMX_OK)
        checkpoint(w, true);
    return NULL;
}

/* ---- another thread in its place ---- */

static bool borrow(struct writer *w)
{
    (void)pthread_mutex_lock(&w->mu);
    bool may = w->asleep && !w->called && !w->lent && !w->stopping && w->stats.why == AMX_OK && w->usual_ns <= LEND_NS;
    w->lent = w->lent || may;
    if (may)
        beat(w);
    (void)pthread_mutex_unlock(&w->mu);
    return may;
}

/* The thread is called when there is something for it to do before it would wake. */
static void give_back(struct writer *w)
{
    int64_t now = clock_monotonic_ms();
    bool long_wal = wal_is_long(w);

    w->quiet_since_ms = now;
    (void)pthread_mutex_lock(&w->mu);
    w->lent = false;
    if (w->called)
        (void)pthread_cond_signal(&w->work);
    else if (long_wal || w->stats.why != AMX_OK || w->wakes_ms > now + IDLE_MS)
        call_locked(w);
    else
        atomic_store(&w->busy_since_ms, 0);
    (void)pthread_mutex_unlock(&w->mu);
}

bool writer_run_here(struct writer *writer, struct write_job *job)
{
    if (!borrow(writer))
        return false;
    job->status = AMX_OK;
    job->error = (struct amx_error){.code = AMX_OK};
    job->next = NULL;
    job->wait = NULL;
    run_group(writer, job, 1);
    give_back(writer);
    return true;
}

/* ---- from outside ---- */

enum amx_status writer_start(struct db *db, size_t queue_limit, struct writer **out, struct amx_error *err)
{
    pthread_condattr_t attributes;
    pthread_mutexattr_t adaptive;
    struct writer *w = calloc(1, sizeof(*w));

    if (w == NULL)
        return error_set(err, AMX_NO_MEMORY, "no memory for the writer");
    w->db = db;
    w->limit = queue_limit == 0 ? QUEUE_DEFAULT : queue_limit;
    w->idle_due = true; /* what the last process left */
    w->wal_dirty = true;
    w->quiet_since_ms = clock_monotonic_ms();
    w->next_busy_step_ms = w->quiet_since_ms + BUSY_STEP_MS;
    /* Initialisers that cannot fail on Linux with these attributes. Adaptive: whoever queues a job wakes the thread with
     * the lock held, which it then waits for, and a moment's turning is cheaper than to sleep again. */
    (void)pthread_mutexattr_init(&adaptive);
    (void)pthread_mutexattr_settype(&adaptive, PTHREAD_MUTEX_ADAPTIVE_NP);
    (void)pthread_mutex_init(&w->mu, &adaptive);
    (void)pthread_mutexattr_destroy(&adaptive);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&w->work, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    int rc = pthread_create(&w->thread, NULL, writer_main, w);
    if (rc != 0) {
        (void)pthread_cond_destroy(&w->work);
        (void)pthread_mutex_destroy(&w->mu);
        free(w);
        return error_set(err, AMX_NO_MEMORY, "cannot start the writer's thread: %s", strerror(rc));
    }
    *out = w;
    return AMX_OK;
}

void writer_on_fatal(struct writer *writer, void (*fatal)(void *context), void *context)
{
    (void)pthread_mutex_lock(&writer->mu);
    writer->fatal = fatal;
    writer->fatal_context = context;
    (void)pthread_mutex_unlock(&writer->mu);
}

enum amx_status writer_on_idle(struct writer *writer, writer_idle_fn *step, void *context)
{
    enum amx_status status = AMX_TOO_LARGE;

    (void)pthread_mutex_lock(&writer->mu);
    if (writer->n_idle < IDLE_FUNCTIONS) {
        writer->idle[writer->n_idle].step = step;
        writer->idle[writer->n_idle].context = context;
        writer->n_idle++;
        status = AMX_OK;
    }
    (void)pthread_mutex_unlock(&writer->mu);
    return status;
}

void writer_refuse(struct writer *writer, enum amx_status why)
{
    (void)pthread_mutex_lock(&writer->mu);
    if (writer->stats.why == AMX_OK || writer->stats.why == AMX_FULL) {
        writer->stats.why = why;
        writer->stats.read_only = true;
    }
    (void)pthread_mutex_unlock(&writer->mu);
}

void writer_get_stats(struct writer *writer, struct writer_stats *out)
{
    int64_t since = atomic_load(&writer->busy_since_ms); /* first: what it has done since is in the figures then */
    (void)pthread_mutex_lock(&writer->mu);
    *out = writer->stats;
    out->queue_depth = writer->queue.n;
    (void)pthread_mutex_unlock(&writer->mu);
    out->busy_seconds = since != 0 ? (double)(clock_monotonic_ms() - since) / 1000 : 0;
}

void writer_halt(struct writer *writer)
{
    if (writer == NULL)
        return;
    (void)pthread_mutex_lock(&writer->mu);
    writer->stopping = true;
    call_locked(writer);
    (void)pthread_mutex_unlock(&writer->mu);
    (void)pthread_join(writer->thread, NULL); /* fails only for a thread that is not there */
}

void writer_free(struct writer *writer)
{
    if (writer == NULL)
        return;
    (void)pthread_cond_destroy(&writer->work);
    (void)pthread_mutex_destroy(&writer->mu);
    free(writer);
}
