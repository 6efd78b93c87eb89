/* run_work.c - one training run from claim to end, in a trainer thread.
 *
 * Read (one short read transaction), check, reserve memory, fit with no transaction open, hand the model to
 * run_model.c. Every way out writes the run's end: succeeded, failed with a sentence, cancelled, or back to the queue
 * when the service stops. If even that cannot be written (disk full), the row stays `running` and the next start puts
 * it in order. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/reliability.h"
#include "store/store.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"
#include "util/size.h"
#include "work/face_off/face_off_request.h"
#include "work/metrics.h"
#include "work/runs/label_run.h"
#include "work/runs/trainers_int.h"

enum {
    LEASE_MS = 60000,
    RENEW_MS = 20000
};

/* ---- small write jobs
 * ------------------------------------------------------------------------------------------------ */

struct small_job {
    struct write_job job; /* first */
    int64_t run_id;
    int64_t label_seq, labels_used, instances_used;
    const struct run_end *end;
};

static enum amx_status lease_apply(struct db *db, struct write_job *job)
{
    struct small_job *s = (struct small_job *)job;

    return runs_renew_lease(db, s->run_id, clock_wall_ms() + LEASE_MS, &job->error);
}

static enum amx_status data_apply(struct db *db, struct write_job *job)
{
    struct small_job *s = (struct small_job *)job;

    return runs_set_data(db, s->run_id, s->label_seq, s->labels_used, s->instances_used, &job->error);
}

static enum amx_status requeue_apply(struct db *db, struct write_job *job)
{
    struct small_job *s = (struct small_job *)job;

    return runs_requeue(db, s->run_id, true, &job->error);
}

static enum amx_status finish_apply(struct db *db, struct write_job *job)
{
    struct small_job *s = (struct small_job *)job;

    return runs_finish(db, s->run_id, s->end, &job->error);
}

/* ---- progress
 * --------------------------------------------------------------------------------------------------------- */

void run_work_renew_lease(struct run_work *work)
{
    int64_t now = clock_monotonic_ms();
    struct small_job lease = {.job = {.apply = lease_apply, .project_id = work->row.project_id},
                              .run_id = work->row.id};

    atomic_store(&work->seen_ms, now);
    if (now - work->lease_renewed_ms <= RENEW_MS)
        return;
    work->lease_renewed_ms = now;
    if (writer_run(work->trainers->config.writer, &lease.job) != AMX_OK)
        log_debug("a lease was not renewed", LOG_INT("run", work->row.id)); /* no other process takes runs today */
}

/* In the thread that trains, never two at once for one run. */
static void on_progress(const struct amx_progress *p, void *context)
{
    struct run_work *work = context;
    struct trainers *t = work->trainers;
    /* The curve in memory is the first member's: the mean over members is known at the end. */
    bool new_loss = p->epoch_ended && p->member == 0 && p->epoch >= 1;

    (void)pthread_mutex_lock(&t->mu);
    if (p->epoch > work->progress.epoch || p->member == 0)
        work->progress.epoch = p->epoch;
    work->progress.epochs = p->epochs;
    work->progress.fraction = p->fraction;
    work->progress.labels_per_second = p->labels_per_second;
    work->progress.eta_seconds = p->eta_seconds;
    work->progress.loss = p->loss;
    work->progress.version++;
    if (new_loss && work->progress.n_curve < (size_t)work->request.settings.epochs)
        work->progress.loss_curve[work->progress.n_curve++] = p->loss;
    (void)pthread_mutex_unlock(&t->mu);
    if (p->epoch_ended)
        trainers_wake(t, work->row.id);
    run_work_renew_lease(work);
}

/* ---- steps
 * ------------------------------------------------------------------------------------------------------------- */

bool run_work_is_cancelled(const struct run_work *work)
{
    return __atomic_load_n(&work->cancel, __ATOMIC_ACQUIRE) != 0;
}

enum amx_status run_work_read(struct run_work *work, struct training_data *data, struct amx_error *err)
{
    const struct trainers_config *config = &work->trainers->config;
    struct db *db = NULL;
    struct run_row row;
    enum amx_status status = store_reader_get(config->store, &db, err);

    if (status == AMX_OK)
        status = runs_get_id(db, work->row.id, &row, err);
    if (status == AMX_OK) {
        if (row.cancel_requested)
            status = error_set(err, AMX_CANCELLED, "The run was cancelled.");
        run_row_done(&row);
    }
    if (status == AMX_OK)
        status = training_data_read(db, work->row.project_id, config->run_memory_bytes, data, err);
    store_reader_put(config->store, db);
    return status;
}

enum amx_status run_work_reserve(struct run_work *work, size_t bytes, struct amx_error *err)
{
    struct trainers *t = work->trainers;
    const size_t limit = t->config.run_memory_bytes;

    if (limit > 0 && bytes > limit)
        return error_set(err, AMX_TOO_LARGE, "The run needs %zu MiB of memory; the limit is %zu MiB (--run-memory).",
                         (bytes >> 20) + 1, limit >> 20);
    (void)pthread_mutex_lock(&t->mu);
    while (limit > 0 && t->reserved_bytes > 0 && bytes > limit - t->reserved_bytes && !run_work_is_cancelled(work))
        (void)pthread_cond_wait(&t->changed, &t->mu);
    work->reserved_bytes = bytes;
    t->reserved_bytes += bytes;
    (void)pthread_mutex_unlock(&t->mu);
    return AMX_OK;
}

int run_work_threads(struct run_work *work, int most)
{
    struct trainers *t = work->trainers;
    unsigned busy = 0;
    int threads;

    (void)pthread_mutex_lock(&t->mu);
    for (const struct run_work *other = t->working; other != NULL; other = other->next)
        busy++;
    (void)pthread_mutex_unlock(&t->mu);
    threads = t->config.threads > busy ? (int)(t->config.threads - busy) + 1 : 1;
    return threads < most ? threads : most;
}

enum amx_status run_work_note_data(struct run_work *work, const struct training_data *data, int epochs,
                                   struct amx_error *err)
{
    struct trainers *t = work->trainers;
    struct small_job note = {.job = {.apply = data_apply, .project_id = work->row.project_id},
                             .run_id = work->row.id,
                             .label_seq = data->set.label_seq,
                             .labels_used = (int64_t)data->set.n_labels,
                             .instances_used = (int64_t)data->set.n_instances};
    double *curve = calloc((size_t)epochs + 1, sizeof *curve);

    if (curve == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    (void)pthread_mutex_lock(&t->mu);
    work->progress.loss_curve = curve;
    work->progress.epochs = epochs;
    work->progress.labels_used = data->set.n_labels;
    work->progress.instances_used = data->set.n_instances;
    work->progress.version++;
    (void)pthread_mutex_unlock(&t->mu);
    return trainers_write(t, &note.job, err);
}

enum amx_status run_work_finish(struct run_work *work, const struct run_end *end, struct amx_error *err)
{
    struct small_job finish = {
        .job = {.apply = finish_apply, .project_id = work->row.project_id}, .run_id = work->row.id, .end = end};

    return trainers_write_end(work->trainers, &finish.job, err);
}

/* Training and everything after it. */
static enum amx_status fit(struct run_work *work, const struct training_data *data, struct amx_error *err)
{
    const struct run_request *r = &work->request;
    /* Members of an ensemble and of folds train side by side, and one of many classes may take a thread more. */
    const int members = r->ensemble >= r->folds ? r->ensemble : r->ensemble + r->folds;
    struct amx_fit_options options = {
        .method = work->request.method,
        .seed = work->request.seed,
        .ensemble = work->request.ensemble,
        .threads = run_work_threads(work, 2 * members),
        .folds = work->request.folds,
        .clamp_gold = work->request.gold_use == RUN_GOLD_TRAIN,
        .settings = work->request.settings,
        .progress = on_progress,
        .context = work,
        .cancel = &work->cancel,
    };
    struct amx_fit_report report = {0};
    struct amx_model *model = NULL;
    size_t bytes;
    enum amx_status status;

    errno = 0; /* see amx_fit_memory */
    if (!size_add(&bytes, amx_fit_memory(&data->data, &options), training_data_bytes(data)) ||
        !size_add(&bytes, bytes, reliability_memory(data->data.n_annotators, data->data.n_classes)))
        bytes = SIZE_MAX;
    if (bytes == SIZE_MAX && errno == ENOMEM)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    if ((status = run_work_reserve(work, bytes, err)) != AMX_OK)
        return status;
    if (run_work_is_cancelled(work))
        return error_set(err, AMX_CANCELLED, "The run was cancelled.");
    status = amx_fit(&data->data, &options, &report, &model, err);
    if (status == AMX_OK)
        status = run_model_write(work, data, model, &report, err);
    amx_free(report.loss_curve);
    return status;
}

/* Rounds of a method on labels alone, as if it all were one epoch without a loss. */
static void on_fraction(double fraction, void *context)
{
    const struct amx_progress p = {.members = 1,
                                   .epochs = 1,
                                   .fraction = fraction,
                                   .loss = (double)NAN,
                                   .labels_per_second = (double)NAN,
                                   .eta_seconds = (double)NAN};

    on_progress(&p, context);
}

static enum amx_status run_labels(struct run_work *work, const struct training_data *data, struct amx_error *err)
{
    size_t bytes;
    enum amx_status status;

    if (!size_add(&bytes, label_run_memory(data), training_data_bytes(data)))
        bytes = SIZE_MAX;
    if ((status = run_work_reserve(work, bytes, err)) != AMX_OK)
        return status;
    if (run_work_is_cancelled(work))
        return error_set(err, AMX_CANCELLED, "The run was cancelled.");
    return label_run(work, data, on_fraction, err);
}

static enum amx_status train(struct run_work *work, struct amx_error *err)
{
    struct training_data data;
    enum amx_status status;

    if (face_off_is(&work->row.spec))
        return face_off_run(work, err);
    if ((status = run_request_of_spec(&work->row.spec, &work->request, err)) != AMX_OK ||
        (status = run_work_read(work, &data, err)) != AMX_OK)
        return status;
    if ((status = training_data_check(&data, err)) == AMX_OK &&
        (status = training_data_fold(&data, work->request.seed, work->request.folds, err)) == AMX_OK) {
        auto_train_read(work->trainers->auto_train, work->row.project_id);
        status =
            run_work_note_data(work, &data, work->request.label_only ? 1 : work->request.settings.epochs, err);
    }
    if (status == AMX_OK)
        status = work->request.label_only              ? run_labels(work, &data, err)
                 : run_request_is_auto(&work->request) ? auto_run(work, &data, err)
                                                       : fit(work, &data, err);
    training_data_done(&data);
    return status;
}

/* ---- the end
 * --------------------------------------------------------------------------------------------------------------- */

static void write_end(struct run_work *work, enum run_state state, const char *error)
{
    struct trainers *t = work->trainers;
    char *curve = run_curve_text(work->progress.loss_curve, work->progress.n_curve);
    struct run_end end = {
        .state = state,
        .label_seq = -1,
        .labels_used = work->progress.labels_used > 0 ? (int64_t)work->progress.labels_used : -1,
        .instances_used = work->progress.instances_used > 0 ? (int64_t)work->progress.instances_used : -1,
        .activated = -1,
        .loss_curve = {curve, curve != NULL ? strlen(curve) : 0},
        .error = {error, error != NULL ? strlen(error) : 0},
        .now_ms = clock_wall_ms(),
    };
    struct amx_error err;
    enum amx_status status = run_work_finish(work, &end, &err);

    if (status != AMX_OK && status != AMX_NOT_FOUND && status != AMX_CONFLICT)
        log_error("the end of a training run could not be written", LOG_INT("run", work->row.id),
                  LOG_TEXT("reason", err.text));
    free(curve);
    metrics_run_ended(t->config.metrics, run_state_name(state), (double)(clock_monotonic_ms() - work->begun_ms) / 1000,
                      work->progress.labels_used);
}

/* Was it a client who cancelled, or is the service stopping? The row knows. */
static bool cancel_was_requested(struct run_work *work)
{
    struct store *store = work->trainers->config.store;
    struct db *db = NULL;
    struct run_row row;
    bool requested = false;

    if (store_reader_get(store, &db, NULL) == AMX_OK && runs_get_id(db, work->row.id, &row, NULL) == AMX_OK) {
        requested = row.cancel_requested;
        run_row_done(&row);
    }
    store_reader_put(store, db);
    return requested;
}

static void end_cancelled(struct run_work *work)
{
    struct small_job back = {.job = {.apply = requeue_apply, .project_id = work->row.project_id},
                             .run_id = work->row.id};
    struct amx_error err;

    if (!trainers_stopping(work->trainers) || cancel_was_requested(work)) {
        write_end(work, RUN_CANCELLED, NULL);
        return;
    }
    if (trainers_write(work->trainers, &back.job, &err) != AMX_OK)
        log_warn("a training run could not be put back; the next start does it", LOG_TEXT("reason", err.text));
}

void run_work_do(struct run_work *work)
{
    struct amx_error err;
    enum amx_status status;

    memset(&err, 0, sizeof err);
    work->begun_ms = work->lease_renewed_ms = clock_monotonic_ms();
    atomic_store(&work->seen_ms, work->begun_ms);
    status = train(work, &err);
    if (status == AMX_OK) {
        metrics_run_ended(work->trainers->config.metrics, run_state_name(RUN_SUCCEEDED),
                          (double)(clock_monotonic_ms() - work->begun_ms) / 1000, work->progress.labels_used);
        log_info("training run succeeded", LOG_INT("run", work->row.id),
                 LOG_INT("ms", clock_monotonic_ms() - work->begun_ms));
        return;
    }
    if (status == AMX_CANCELLED) {
        end_cancelled(work);
        log_info("training run stopped", LOG_INT("run", work->row.id));
        return;
    }
    log_warn("training run failed", LOG_INT("run", work->row.id), LOG_TEXT("status", amx_status_text(status)));
    write_end(work, RUN_FAILED, err.text[0] != '\0' ? err.text : amx_status_text(status));
}
