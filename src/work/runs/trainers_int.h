/* trainers_int.h - what the trainers' files share: threads and queue (trainers.c), one run (run_work.c), the writing
 * of a model (run_model.c), the rule that queues runs by itself (auto_train.c). */
#ifndef WORK_RUNS_TRAINERS_INT_H
#define WORK_RUNS_TRAINERS_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "store/runs.h"
#include "work/runs/run_request.h"
#include "work/runs/trainers.h"
#include "work/runs/training_data.h"
#include "work/writer.h"

/* A run in work. Lives on the stack of its trainer thread. */
struct run_work {
    struct trainers *trainers;
    struct run_row row; /* as it was claimed */
    struct run_request request;
    json_t *selection;            /* of method auto, once it has chosen; NULL otherwise */
    volatile int cancel;          /* atomic: stop at the next batch */
    struct run_progress progress; /* guarded by trainers->mu; loss_curve has room for progress.epochs */
    size_t reserved_bytes;        /* guarded by trainers->mu: part of trainers->reserved_bytes */
    int64_t lease_renewed_ms;     /* monotonic */
    int64_t begun_ms;             /* monotonic */
    _Atomic int64_t seen_ms;      /* monotonic: the last sign of life */
    struct run_work *next;        /* guarded by trainers->mu: runs in work */
};

struct auto_train;

struct trainers {
    struct trainers_config config; /* written once before start */
    char name[64];                 /* claimed_by; written once before start */
    pthread_t *threads;
    unsigned n_threads; /* started */
    struct auto_train *auto_train;
    pthread_mutex_t mu;
    pthread_cond_t changed;   /* with mu: stopping, generation or reserved_bytes */
    bool stopping;            /* guarded by mu; read atomically elsewhere */
    uint64_t generation;      /* guarded by mu: grows when there may be something to claim */
    struct run_work *working; /* guarded by mu */
    size_t reserved_bytes;    /* guarded by mu: memory of the runs in work */
};

/* ---- trainers.c ---- */
bool trainers_stopping(struct trainers *t);
void trainers_wake(struct trainers *t, int64_t run_id); /* requests that wait for the run */
/* A write job with its context; tried again while the writer's queue is full. The outcome is job->status. */
enum amx_status trainers_write(struct trainers *t, struct write_job *job, struct amx_error *err);
/* The same for how a run ended: while memory or the disk is full it waits, for else the run would be running for ever. */
enum amx_status trainers_write_end(struct trainers *t, struct write_job *job, struct amx_error *err);

/* ---- run_work.c ---- */
/* Does the run and writes how it ended. */
void run_work_do(struct run_work *work);
/* Pieces of it, for every kind of run. */
/* The rows; AMX_CANCELLED: somebody cancelled between the claim and the moment this run could be found in memory. */
AMX_CHECK enum amx_status run_work_read(struct run_work *work, struct training_data *data, struct amx_error *err);
/* Waits until this run fits beside those in work; too large for any time is AMX_TOO_LARGE with the numbers. Once. */
AMX_CHECK enum amx_status run_work_reserve(struct run_work *work, size_t bytes, struct amx_error *err);
int run_work_threads(struct run_work *work, int most); /* trainers idle now + 1, at most so many */
bool run_work_is_cancelled(const struct run_work *work);
void run_work_renew_lease(struct run_work *work); /* call often; does something every 20 s */
/* Progress in memory (room for a curve of `epochs`) and in the row: what the run trains on. */
AMX_CHECK enum amx_status run_work_note_data(struct run_work *work, const struct training_data *data, int epochs,
                                             struct amx_error *err);
AMX_CHECK enum amx_status run_work_finish(struct run_work *work, const struct run_end *end, struct amx_error *err);

/* ---- face_off_run.c ---- */
/* A run whose method is "face_off": compares, and writes the table as the run's end. */
AMX_CHECK enum amx_status face_off_run(struct run_work *work, struct amx_error *err);

/* ---- auto_fit.c ---- */
/* A run whose method is "auto": chooses, fits, and writes the model with how it was chosen. */
AMX_CHECK enum amx_status auto_run(struct run_work *work, const struct training_data *data, struct amx_error *err);

/* ---- run_model.c ---- */
/* The last steps of a good run: metrics, reliability, bytes, one transaction that makes it count. Takes the model.
 * AMX_CANCELLED: somebody asked before it counted. */
AMX_CHECK enum amx_status run_model_write(struct run_work *work, const struct training_data *data,
                                          struct amx_model *model, const struct amx_fit_report *report,
                                          struct amx_error *err);
char *run_curve_text(const double *curve, size_t n); /* JSON array; NULL when memory is out; free() it */

/* ---- auto_train.c ---- */
AMX_CHECK enum amx_status auto_train_new(struct trainers *t, struct auto_train **out, struct amx_error *err);
void auto_train_free(struct auto_train *rule);
void auto_train_written(struct auto_train *rule, int64_t project_id, size_t n);
void auto_train_read(struct auto_train *rule, int64_t project_id); /* a run took the labels in: count from here */
void auto_train_forget(struct auto_train *rule, int64_t project_id);

#endif
