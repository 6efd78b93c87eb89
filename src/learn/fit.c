/* fit.c - amx_fit: checks, epochs, batches, ensemble members on threads, progress, cancelling.
 *
 * One member is trained by one thread with single-threaded BLAS; threads take members in order. A member's random
 * streams come from (seed, member) alone and members share only read-only data, so the number of threads never
 * changes a bit. Workspaces: one per thread, reused from member to member.
 *
 * A fit stops at the first failure of any member: cancel is read before every batch, and a loss that is not finite
 * ends it before the parameters are touched. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "annotmix.h"
#include "batch.h"
#include "method.h"
#include "model.h"
#include "radam.h"
#include "settings.h"
#include "status.h"
#include "workspace.h"

#define PROGRESS_SECONDS 0.05

struct fit {
    const struct amx_fit_options *options;
    const struct amx_method *method;
    struct amx_settings settings;
    struct train_data data;
    struct dims dims;
    struct batch_plan plan;
    struct amx_model *model;
    double started;
    pthread_mutex_t mutex;
    /* Guarded by mutex. */
    int next_member;
    enum amx_status status; /* first failure */
    double *fraction;       /* [members] of each member */
    double *loss;           /* [members] of the last finished epoch */
    double *curve;          /* [epochs] sum over members */
    double step_seconds;    /* in step loops, all members */
    double step_labels;
    double last_report;
    int stop; /* atomic: another member failed */
};

static double now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail with this clock */
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- progress ---------------------------------------------------------------------------------------------------- */

/* Tells the caller where a member stands; the mutex keeps callbacks from overlapping. */
static void report_locked(struct fit *fit, int member, int epoch, bool epoch_ended, double rate, double time)
{
    const struct amx_fit_options *options = fit->options;
    struct amx_progress progress = {.member = member,
                                    .members = options->ensemble,
                                    .epoch = epoch,
                                    .epochs = fit->settings.epochs,
                                    .epoch_ended = epoch_ended,
                                    .loss = fit->loss[member],
                                    .labels_per_second = rate};

    for (int m = 0; m < options->ensemble; m++)
        progress.fraction += fit->fraction[m] / options->ensemble;
    if (progress.fraction > 0.0)
        progress.eta_seconds = (time - fit->started) * (1.0 - progress.fraction) / progress.fraction;
    fit->last_report = time;
    options->progress(&progress, options->context);
}

static void after_batch(struct fit *fit, int member, int epoch, size_t batches, double labels, double loop_started)
{
    double time = now();

    if (fit->options->progress == NULL)
        return;
    pthread_mutex_lock(&fit->mutex);
    fit->fraction[member] = (epoch + (double)batches / (double)fit->plan.n_batches) / fit->settings.epochs;
    if (time - fit->last_report >= PROGRESS_SECONDS && batches < fit->plan.n_batches)
        report_locked(fit, member, epoch, false, labels / fmax(time - loop_started, 1e-9), time);
    pthread_mutex_unlock(&fit->mutex);
}

static void after_epoch(struct fit *fit, int member, int epoch, double loss, double labels, double loop_started)
{
    double time = now();

    pthread_mutex_lock(&fit->mutex);
    fit->curve[(size_t)epoch * (size_t)fit->options->ensemble + (size_t)member] = loss;
    fit->loss[member] = loss;
    fit->fraction[member] = (epoch + 1.0) / fit->settings.epochs;
    if (fit->options->progress != NULL)
        report_locked(fit, member, epoch + 1, true, labels / fmax(time - loop_started, 1e-9), time);
    pthread_mutex_unlock(&fit->mutex);
}

/* ---- one member -------------------------------------------------------------------------------------------------- */

static bool cancelled(const struct fit *fit)
{
    return fit->options->cancel != NULL && __atomic_load_n(fit->options->cancel, __ATOMIC_RELAXED) != 0;
}

static enum amx_status train_epoch(struct fit *fit, struct workspace *workspace, int member, int epoch, double *labels,
                                   double loop_started)
{
    const struct step_rates rates = {
        .learning_rate = radam_cosine(fit->settings.learning_rate, epoch, fit->settings.epochs),
        .annotator_learning_rate = radam_cosine(settings_annotator_rate(&fit->settings), epoch, fit->settings.epochs)};
    double sum = 0.0, count = 0.0;

    rng_shuffle(&workspace->shuffle, workspace->order, fit->data.n_rows);
    for (size_t b = 0; b < fit->plan.n_batches; b++) {
        size_t size = b + 1 == fit->plan.n_batches ? fit->plan.last : fit->plan.size;
        double loss, n;
        if (cancelled(fit))
            return AMX_CANCELLED;
        if (__atomic_load_n(&fit->stop, __ATOMIC_RELAXED))
            return AMX_OK; /* the member that failed has told why */
        batch_load(&workspace->batch, &fit->data, workspace->order + b * fit->plan.size, size);
        fit->method->draw(workspace);
        loss = fit->method->step(workspace, &rates);
        if (!isfinite(loss))
            return AMX_NOT_FINITE;
        n = (double)workspace->batch.n_labels;
        sum += loss * n;
        count += n;
        *labels += n;
        after_batch(fit, member, epoch, b + 1, *labels, loop_started);
    }
    after_epoch(fit, member, epoch, sum / count, *labels, loop_started);
    return AMX_OK;
}

static enum amx_status train_member(struct fit *fit, struct workspace *workspace, int member)
{
    float *compact = fit->model->tensors + (size_t)member * fit->model->layout.compact_length;
    enum amx_status status = AMX_OK;
    double labels = 0.0, loop_started;
    struct rng rng;

    rng_seed(&rng, fit->options->seed, (uint32_t)member, RNG_INITIAL);
    fit->method->initial(&fit->model->layout, &fit->dims, &fit->settings, compact, &rng);
    layout_import(&fit->model->layout, compact, workspace->parameters);
    workspace_seed(workspace, fit->options->seed, (uint32_t)member, fit->data.n_rows);
    loop_started = now();
    for (int epoch = 0; epoch < fit->settings.epochs && status == AMX_OK; epoch++) {
        if (__atomic_load_n(&fit->stop, __ATOMIC_RELAXED))
            break;
        status = train_epoch(fit, workspace, member, epoch, &labels, loop_started);
    }
    pthread_mutex_lock(&fit->mutex);
    fit->step_seconds += now() - loop_started;
    fit->step_labels += labels;
    pthread_mutex_unlock(&fit->mutex);
    layout_export(&fit->model->layout, workspace->parameters, compact);
    return status;
}

static void *train_members(void *argument)
{
    struct fit *fit = argument;
    struct workspace workspace;
    enum amx_status status =
        workspace_init(&workspace, fit->method, &fit->model->layout, &fit->dims, &fit->settings, fit->data.n_rows);

    for (;;) {
        int member;
        pthread_mutex_lock(&fit->mutex);
        if (status != AMX_OK && fit->status == AMX_OK) {
            fit->status = status;
            __atomic_store_n(&fit->stop, 1, __ATOMIC_RELAXED);
        }
        member = fit->status == AMX_OK ? fit->next_member++ : fit->options->ensemble;
        pthread_mutex_unlock(&fit->mutex);
        if (member >= fit->options->ensemble)
            break;
        status = train_member(fit, &workspace, member);
    }
    workspace_done(&workspace);
    return NULL;
}

/* ---- the fit ----------------------------------------------------------------------------------------------------- */

static enum amx_status check_options(const struct amx_data *data, const struct amx_fit_options *options,
                                     struct amx_error *err)
{
    if (method_find(options->method) == NULL)
        return amx_fail(err, AMX_INVALID, "/method", "There is no method named \"%.60s\".", options->method);
    if (options->seed > (UINT64_C(1) << 53) - 1)
        return amx_fail(err, AMX_INVALID, "/seed", "seed must be an integer from 0 to 2^53-1.");
    if (options->ensemble < 1 || options->ensemble > 100)
        return amx_fail(err, AMX_INVALID, "/ensemble", "ensemble must be an integer from 1 to 100; it is %d.",
                        options->ensemble);
    if (options->threads < 1)
        return amx_fail(err, AMX_INVALID, "", "A fit needs at least one thread.");
    return amx_settings_check(&options->settings, data->n_classes, err);
}

static int thread_count(const struct amx_fit_options *options)
{
    return options->threads < options->ensemble ? options->threads : options->ensemble;
}

size_t amx_fit_memory(const struct amx_data *data, const struct amx_fit_options *options)
{
    const struct amx_method *method = method_find(options->method);
    struct layout layout;
    struct dims dims;
    size_t n_rows, max_labels, bytes, total;

    if (method == NULL || amx_settings_check(&options->settings, data->n_classes, NULL) != AMX_OK ||
        !train_data_count(data, &options->settings, &n_rows, &max_labels))
        return SIZE_MAX;
    dims_init(&dims, &options->settings, data->n_features, data->n_classes, data->n_annotators);
    if (!method->layout(&layout, &dims))
        return SIZE_MAX;
    workspace_dims(&dims, (size_t)options->settings.batch_size, n_rows, max_labels);
    bytes = workspace_bytes(method, &layout, &dims, n_rows);
    if (bytes == SIZE_MAX || !amx_size_mul(&total, bytes, (size_t)thread_count(options)) ||
        !amx_size_add(&total, total, model_bytes(&layout, &dims, options->ensemble)) ||
        !amx_size_add(&total, total, train_data_bytes(data, n_rows)))
        return SIZE_MAX;
    return total;
}

/* Runs train_members on the calling thread and threads - 1 more. Fewer threads than wished only take longer. */
static void run_threads(struct fit *fit)
{
    int wanted = thread_count(fit->options) - 1, started = 0;
    pthread_t *threads = wanted > 0 ? calloc((size_t)wanted, sizeof *threads) : NULL;

    while (threads != NULL && started < wanted && pthread_create(&threads[started], NULL, train_members, fit) == 0)
        started++;
    (void)train_members(fit);
    for (int i = 0; i < started; i++)
        (void)pthread_join(threads[i], NULL); /* joinable and ours */
    free(threads);
}

static enum amx_status fit_status(const struct fit *fit, struct amx_error *err)
{
    if (fit->status == AMX_NO_MEMORY)
        return amx_fail_memory(err);
    if (fit->status == AMX_CANCELLED)
        return amx_fail(err, AMX_CANCELLED, "", "The fit was cancelled.");
    if (fit->status == AMX_NOT_FINITE)
        return amx_fail(err, AMX_NOT_FINITE, "",
                        "The loss became infinite or not a number; a smaller learning rate or standardised features "
                        "would help.");
    return AMX_OK;
}

static enum amx_status fill_model(struct fit *fit, const struct amx_data *data, struct amx_error *err)
{
    struct amx_model *model = fit->model;

    model->seed = fit->options->seed;
    model->labels_used = fit->data.n_labels;
    memcpy(model->annotator_labels, fit->data.annotator_labels, fit->data.A * sizeof(uint64_t));
    memcpy(model->mean, fit->data.mean, fit->data.D * sizeof(float));
    memcpy(model->scale, fit->data.scale, fit->data.D * sizeof(float));
    if (model_copy_names(&model->class_names, data->class_names, fit->data.C) != AMX_OK ||
        model_copy_names(&model->annotator_names, data->annotator_names, fit->data.A) != AMX_OK)
        return amx_fail_memory(err);
    if (data->data_hash != NULL && (model->data_hash = strdup(data->data_hash)) == NULL)
        return amx_fail_memory(err);
    return AMX_OK;
}

static void fill_report(const struct fit *fit, struct amx_fit_report *report)
{
    /* The curve lies [epochs][members]; averaged in member order, so threads do not change its bits. */
    const int members = fit->options->ensemble;

    for (int e = 0; e < fit->settings.epochs; e++) {
        double sum = 0.0;
        for (int m = 0; m < members; m++)
            sum += fit->curve[(size_t)e * (size_t)members + (size_t)m];
        fit->curve[e] = sum / members;
    }
    report->labels_used = fit->data.n_labels;
    report->instances_used = fit->data.n_rows;
    report->labels_per_second = fit->step_labels / fmax(fit->step_seconds, 1e-9);
    report->seconds = now() - fit->started;
    report->epochs = fit->settings.epochs;
    report->loss_curve = fit->curve;
}

enum amx_status amx_fit(const struct amx_data *data, const struct amx_fit_options *options,
                        struct amx_fit_report *report, struct amx_model **out, struct amx_error *err)
{
    struct fit fit;
    size_t members;
    enum amx_status status = check_options(data, options, err);

    if (status != AMX_OK)
        return status;
    memset(&fit, 0, sizeof fit);
    fit.started = now();
    fit.options = options;
    fit.method = method_find(options->method);
    fit.settings = options->settings;
    settings_normalise(&fit.settings);
    if (pthread_mutex_init(&fit.mutex, NULL) != 0)
        return amx_fail_memory(err);
    status = train_data_init(&fit.data, data, &fit.settings, err);
    if (status == AMX_OK)
        status = model_new(fit.method, &fit.settings, data->n_features, data->n_classes, data->n_annotators,
                           options->ensemble, &fit.model, err);
    if (status != AMX_OK)
        goto done;
    fit.dims = fit.model->dims;
    workspace_dims(&fit.dims, (size_t)fit.settings.batch_size, fit.data.n_rows, fit.data.max_labels);
    batch_plan(&fit.plan, fit.data.n_rows, &fit.settings);
    members = (size_t)options->ensemble;
    fit.fraction = calloc(members, sizeof(double));
    fit.loss = calloc(members, sizeof(double));
    fit.curve = calloc(members * (size_t)fit.settings.epochs, sizeof(double));
    if (fit.fraction == NULL || fit.loss == NULL || fit.curve == NULL) {
        status = amx_fail_memory(err);
        goto done;
    }
    for (size_t m = 0; m < members; m++)
        fit.loss[m] = (double)NAN;

    run_threads(&fit);
    if ((status = fit_status(&fit, err)) != AMX_OK || (status = fill_model(&fit, data, err)) != AMX_OK ||
        (status = model_prepare(fit.model, err)) != AMX_OK)
        goto done;
    if (report != NULL) {
        fill_report(&fit, report);
        fit.curve = NULL; /* the caller's now */
    }
    *out = fit.model;
    fit.model = NULL;
done:
    free(fit.curve);
    free(fit.loss);
    free(fit.fraction);
    amx_model_free(fit.model);
    train_data_done(&fit.data);
    (void)pthread_mutex_destroy(&fit.mutex); /* nobody holds it any more */
    return status;
}
