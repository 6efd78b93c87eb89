/* trainers.c - the threads and the queue: claim a run, do it, look for the next; cancel, progress, stop.
 *
 * A thread that finds nothing to claim sleeps until `generation` moves. It moves when a run was queued, when a run
 * ended (a second run of that project may start now) and when the service stops. Trainers run with lower priority
 * than everything else, so that a question never waits for a fit. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "http/http.h"
#include "store/models.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"
#include "work/runs/trainers_int.h"

enum {
    NICENESS = 10,
    LEASE_MS = 60000,
    RETRY_MS = 50,
    TROUBLE_MS = 2000,
    STOP_TRIES = 100,
    START_TRIES = 20,
    STOP_WAIT_MS = 3000,
    STOP_AGAIN_MS = 500 /* asked a second time */
};

bool trainers_stopping(struct trainers *t)
{
    return __atomic_load_n(&t->stopping, __ATOMIC_ACQUIRE);
}

void trainers_wake(struct trainers *t, int64_t run_id)
{
    if (t->config.run_waiters != NULL)
        http_wake(t->config.run_waiters, run_id);
}

/* Sleeps at most ms, or until something changed. */
static void pause_locked(struct trainers *t, int ms)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    (void)pthread_cond_timedwait(&t->changed, &t->mu, &until); /* woken or time over: both are fine */
}

/* most: how often to try while nothing stops; 0: until it is done. */
static enum amx_status write_at_most(struct trainers *t, struct write_job *job, int most, struct amx_error *err)
{
    enum amx_status status;

    for (int tries = 1;; tries++) {
        status = writer_run(t->config.writer, job);
        if (status != AMX_BUSY || (trainers_stopping(t) && tries > STOP_TRIES) || tries == most)
            break;
        (void)pthread_mutex_lock(&t->mu);
        pause_locked(t, RETRY_MS);
        (void)pthread_mutex_unlock(&t->mu);
    }
    if (status != AMX_OK && err != NULL) {
        *err = job->error;
        err->code = status;
        if (err->text[0] == '\0')
            (void)error_set(err, status, "The write failed: %s.", amx_status_text(status));
    }
    return status;
}

enum amx_status trainers_write(struct trainers *t, struct write_job *job, struct amx_error *err)
{
    return write_at_most(t, job, 0, err);
}

enum amx_status trainers_write_end(struct trainers *t, struct write_job *job, struct amx_error *err)
{
    enum amx_status status;

    while (((status = trainers_write(t, job, err)) == AMX_NO_MEMORY || status == AMX_FULL) && !trainers_stopping(t)) {
        (void)pthread_mutex_lock(&t->mu);
        if (!t->stopping)
            pause_locked(t, TROUBLE_MS);
        (void)pthread_mutex_unlock(&t->mu);
    }
    return status;
}

/* ---- one thread ---------------------------------------------------------------------------------------------------
 */

struct claim {
    struct write_job job; /* first */
    struct trainers *trainers;
    struct run_row row;
    bool claimed;
};

/* May run twice, when the group it was in had to be undone. */
static enum amx_status claim_apply(struct db *db, struct write_job *job)
{
    struct claim *claim = (struct claim *)job;
    const char *name = claim->trainers->name;
    struct slice by = {name, strlen(name)};
    enum amx_status status;

    if (claim->claimed)
        run_row_done(&claim->row);
    claim->claimed = false;
    status = runs_claim(db, by, clock_wall_ms(), LEASE_MS, &claim->row, &job->error);
    claim->claimed = status == AMX_OK;
    return status;
}

static void work_on(struct trainers *t, struct run_row *row)
{
    struct run_work work = {.trainers = t, .row = *row, .progress = {.attempt = row->attempts, .loss = (double)NAN}};
    struct run_work **place;

    (void)pthread_mutex_lock(&t->mu);
    work.next = t->working;
    t->working = &work;
    if (t->stopping)
        work.cancel = 1;
    (void)pthread_mutex_unlock(&t->mu);
    trainers_wake(t, work.row.id);

    run_work_do(&work);

    (void)pthread_mutex_lock(&t->mu);
    for (place = &t->working; *place != &work; place = &(*place)->next)
        ;
    *place = work.next;
    t->reserved_bytes -= work.reserved_bytes;
    t->generation++;
    (void)pthread_cond_broadcast(&t->changed);
    (void)pthread_mutex_unlock(&t->mu);
    trainers_wake(t, work.row.id);
    free(work.progress.loss_curve);
    run_row_done(&work.row);
}

/* False: nothing to claim now. */
static bool claim_and_work(struct trainers *t, bool *trouble)
{
    struct claim claim = {.job = {.apply = claim_apply}, .trainers = t};
    struct amx_error err;
    enum amx_status status = trainers_write(t, &claim.job, &err);

    *trouble = status != AMX_OK && status != AMX_NOT_FOUND;
    if (status == AMX_OK) {
        work_on(t, &claim.row);
        return true;
    }
    if (claim.claimed)
        run_row_done(&claim.row);
    if (*trouble)
        log_warn("no training run can be taken from the queue", LOG_TEXT("reason", err.text));
    return false;
}

static void *trainer_main(void *argument)
{
    struct trainers *t = argument;
    uint64_t seen = 0;

    /* Per thread on Linux; threads that the learner starts inherit it. Refused: then at normal priority. */
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICENESS);
    for (;;) {
        bool trouble = false;

        (void)pthread_mutex_lock(&t->mu);
        while (!t->stopping && t->generation == seen)
            (void)pthread_cond_wait(&t->changed, &t->mu);
        seen = t->generation;
        (void)pthread_mutex_unlock(&t->mu);
        while (!trainers_stopping(t) && claim_and_work(t, &trouble))
            ;
        if (trainers_stopping(t))
            return NULL;
        if (trouble) {
            (void)pthread_mutex_lock(&t->mu);
            if (!t->stopping)
                pause_locked(t, TROUBLE_MS);
            (void)pthread_mutex_unlock(&t->mu);
            seen--; /* and try again */
        }
    }
}

/* ---- start, stop
 * ---------------------------------------------------------------------------------------------------- */

struct recovery {
    struct write_job job; /* first */
    int64_t requeued, failed, deleted;
};

static enum amx_status recovery_apply(struct db *db, struct write_job *job)
{
    struct recovery *r = (struct recovery *)job;
    enum amx_status status = runs_recover(db, clock_wall_ms(), &r->requeued, &r->failed, &job->error);

    return status != AMX_OK ? status : models_recover(db, &r->deleted, &job->error);
}

static enum amx_status recover(struct trainers *t, struct amx_error *err)
{
    struct recovery r = {.job = {.apply = recovery_apply}};
    /* A start that cannot write must say so and end. */
    enum amx_status status = write_at_most(t, &r.job, START_TRIES, err);

    if (status == AMX_OK && r.requeued + r.failed + r.deleted > 0)
        log_info("interrupted training was put in order", LOG_INT("requeued", r.requeued), LOG_INT("failed", r.failed),
                 LOG_INT("half_written_models", r.deleted));
    return status;
}

static bool init_locks(struct trainers *t)
{
    pthread_condattr_t attributes;

    if (pthread_mutex_init(&t->mu, NULL) != 0)
        return false;
    if (pthread_condattr_init(&attributes) != 0) {
        (void)pthread_mutex_destroy(&t->mu);
        return false;
    }
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC); /* cannot fail for this clock */
    if (pthread_cond_init(&t->changed, &attributes) != 0) {
        (void)pthread_condattr_destroy(&attributes);
        (void)pthread_mutex_destroy(&t->mu);
        return false;
    }
    (void)pthread_condattr_destroy(&attributes);
    return true;
}

static enum amx_status start_threads(struct trainers *t, struct amx_error *err)
{
    t->threads = calloc(t->config.threads + 1, sizeof *t->threads);
    if (t->threads == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    for (; t->n_threads < t->config.threads; t->n_threads++) {
        int code = pthread_create(&t->threads[t->n_threads], NULL, trainer_main, t);

        if (code != 0)
            return error_set(err, AMX_IO, "A trainer thread cannot be started: %s.", strerror(code));
    }
    return AMX_OK;
}

enum amx_status trainers_start(const struct trainers_config *config, struct trainers **out, struct amx_error *err)
{
    struct trainers *t = calloc(1, sizeof *t);
    enum amx_status status;

    if (t == NULL || !init_locks(t)) {
        free(t);
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    t->config = *config;
    t->generation = 1; /* what was queued before is looked for at once */
    (void)snprintf(t->name, sizeof t->name, "pid %ld", (long)getpid());
    if ((status = recover(t, err)) != AMX_OK || (status = auto_train_new(t, &t->auto_train, err)) != AMX_OK ||
        (status = start_threads(t, err)) != AMX_OK) {
        if (trainers_stop(t))
            trainers_free(t);
        return status;
    }
    *out = t;
    return AMX_OK;
}

bool trainers_stop(struct trainers *t)
{
    const struct timespec nap = {.tv_nsec = 5000000};
    int64_t end_ms = clock_monotonic_ms();

    if (t == NULL)
        return true;
    end_ms += trainers_stopping(t) ? STOP_AGAIN_MS : STOP_WAIT_MS;
    (void)pthread_mutex_lock(&t->mu);
    __atomic_store_n(&t->stopping, true, __ATOMIC_RELEASE);
    for (struct run_work *work = t->working; work != NULL; work = work->next)
        __atomic_store_n(&work->cancel, 1, __ATOMIC_RELEASE);
    (void)pthread_cond_broadcast(&t->changed);
    (void)pthread_mutex_unlock(&t->mu);
    while (t->n_threads > 0) {
        if (pthread_tryjoin_np(t->threads[t->n_threads - 1], NULL) == 0)
            t->n_threads--;
        else if (clock_monotonic_ms() >= end_ms)
            return false;
        else
            (void)nanosleep(&nap, NULL); /* a signal only makes it shorter */
    }
    return true;
}

void trainers_free(struct trainers *t)
{
    if (t == NULL)
        return;
    auto_train_free(t->auto_train);
    free(t->threads);
    (void)pthread_cond_destroy(&t->changed);
    (void)pthread_mutex_destroy(&t->mu);
    free(t);
}

/* ---- from outside
 * ---------------------------------------------------------------------------------------------------- */

void trainers_poke(struct trainers *t)
{
    (void)pthread_mutex_lock(&t->mu);
    t->generation++;
    (void)pthread_cond_broadcast(&t->changed);
    (void)pthread_mutex_unlock(&t->mu);
}

void trainers_cancelled(struct trainers *t, int64_t run_id)
{
    (void)pthread_mutex_lock(&t->mu);
    for (struct run_work *work = t->working; work != NULL; work = work->next) {
        if (work->row.id == run_id)
            __atomic_store_n(&work->cancel, 1, __ATOMIC_RELEASE);
    }
    (void)pthread_cond_broadcast(&t->changed); /* it may wait for memory */
    (void)pthread_mutex_unlock(&t->mu);
    trainers_wake(t, run_id);
}

void trainers_project_deleted(struct trainers *t, int64_t project_id)
{
    (void)pthread_mutex_lock(&t->mu);
    for (struct run_work *work = t->working; work != NULL; work = work->next) {
        if (work->row.project_id == project_id)
            __atomic_store_n(&work->cancel, 1, __ATOMIC_RELEASE);
    }
    (void)pthread_cond_broadcast(&t->changed);
    (void)pthread_mutex_unlock(&t->mu);
    auto_train_forget(t->auto_train, project_id);
}

void trainers_labels_written(struct trainers *t, int64_t project_id, size_t n)
{
    if (n > 0 && !trainers_stopping(t))
        auto_train_written(t->auto_train, project_id, n);
}

bool trainers_progress(struct trainers *t, int64_t run_id, struct run_progress *out)
{
    struct run_work *work;
    struct run_progress copy;
    bool found = false;

    (void)pthread_mutex_lock(&t->mu);
    for (work = t->working; work != NULL && work->row.id != run_id; work = work->next)
        ;
    if (work != NULL && work->progress.epochs > 0) { /* not while it still reads its data: then the row knows more */
        copy = work->progress;
        copy.loss_curve = malloc((copy.n_curve + 1) * sizeof *copy.loss_curve);
        if (copy.loss_curve != NULL && copy.n_curve > 0)
            memcpy(copy.loss_curve, work->progress.loss_curve, copy.n_curve * sizeof *copy.loss_curve);
        if (copy.loss_curve == NULL)
            copy.n_curve = 0; /* the numbers still tell */
        found = true;
    }
    (void)pthread_mutex_unlock(&t->mu);
    if (found)
        *out = copy;
    return found;
}

void run_progress_done(struct run_progress *progress)
{
    free(progress->loss_curve);
    progress->loss_curve = NULL;
    progress->n_curve = 0;
}

unsigned trainers_threads(const struct trainers *t)
{
    return t->config.threads;
}

double trainers_silent_seconds(struct trainers *t)
{
    int64_t now = clock_monotonic_ms(), oldest = now;
    (void)pthread_mutex_lock(&t->mu);
    for (struct run_work *work = t->working; work != NULL; work = work->next) {
        int64_t seen = atomic_load(&work->seen_ms);
        if (seen != 0 && seen < oldest)
            oldest = seen;
    }
    (void)pthread_mutex_unlock(&t->mu);
    return (double)(now - oldest) / 1000;
}

struct run_limits trainers_limits(const struct trainers *t)
{
    return (struct run_limits){t->config.run_queue, t->config.run_memory_bytes};
}
