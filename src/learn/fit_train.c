/* fit_train.c - one training from fresh parameters, and the threads that share them out.
 *
 * One training runs on one thread with single-threaded BLAS; threads take tasks in order. Its random streams come from
 * (seed, stream) alone and tasks share only read-only data, so the number of threads never changes a bit. Workspaces:
 * one per thread, reused from task to task. Threads beyond one per task help with large products and confusion outputs (crew.h).
 *
 * A fit stops at the first failure of any task: cancel is read before every batch, and a loss that is not finite
 * ends it before the parameters are touched. */
#include <math.h>
#include <stdlib.h>

#include "blas.h"
#include "crew.h"
#include "fit.h"
#include "now.h"
#include "radam.h"
#include "settings.h"

#define PROGRESS_SECONDS 0.05

/* ---- progress ---------------------------------------------------------------------------------------------------- */

/* Tells the caller where a task stands; the mutex keeps callbacks from overlapping. */
static void report_locked(struct fit *fit, int task, int epoch, bool epoch_ended, double rate, double time)
{
    const struct amx_fit_options *options = fit->options;
    struct amx_progress progress = {.member = task,
                                    .members = fit->tasks,
                                    .epoch = epoch,
                                    .epochs = fit->settings.epochs,
                                    .epoch_ended = epoch_ended,
                                    .loss = fit->loss[task],
                                    .labels_per_second = rate};

    for (int m = 0; m < fit->tasks; m++)
        progress.fraction += fit->fraction[m] / fit->tasks;
    if (progress.fraction > 0.0)
        progress.eta_seconds = (time - fit->started) * (1.0 - progress.fraction) / progress.fraction;
    fit->last_report = time;
    options->progress(&progress, options->context);
}

/* What an epoch has behind it. */
struct epoch {
    int number;
    double labels; /* of the whole training so far */
    double loop_started;
};

static void after_batch(struct fit *fit, const struct training *training, const struct epoch *epoch, size_t batches)
{
    const size_t n = training->plan->n_batches;
    double time = amx_now();

    if (fit->options->progress == NULL)
        return;
    pthread_mutex_lock(&fit->mutex);
    fit->fraction[training->task] = (epoch->number + (double)batches / (double)n) / fit->settings.epochs;
    if (time - fit->last_report >= PROGRESS_SECONDS && batches < n)
        report_locked(fit, training->task, epoch->number, false, epoch->labels / fmax(time - epoch->loop_started, 1e-9),
                      time);
    pthread_mutex_unlock(&fit->mutex);
}

static void after_epoch(struct fit *fit, const struct training *training, const struct epoch *epoch, double loss)
{
    const int task = training->task;
    double time = amx_now();

    pthread_mutex_lock(&fit->mutex);
    if (task < fit->members)
        fit->curve[(size_t)epoch->number * (size_t)fit->members + (size_t)task] = loss;
    fit->loss[task] = loss;
    fit->fraction[task] = (epoch->number + 1.0) / fit->settings.epochs;
    if (fit->options->progress != NULL)
        report_locked(fit, task, epoch->number + 1, true, epoch->labels / fmax(time - epoch->loop_started, 1e-9), time);
    pthread_mutex_unlock(&fit->mutex);
}

/* ---- one training ------------------------------------------------------------------------------------------------ */

static bool cancelled(const struct fit *fit)
{
    return fit->options->cancel != NULL && __atomic_load_n(fit->options->cancel, __ATOMIC_RELAXED) != 0;
}

static enum amx_status train_epoch(struct fit *fit, struct workspace *workspace, const struct training *training,
                                   struct epoch *epoch)
{
    const struct step_rates rates = {
        .learning_rate = radam_cosine(fit->settings.learning_rate, epoch->number, fit->settings.epochs),
        .annotator_learning_rate =
            radam_cosine(settings_annotator_rate(&fit->settings), epoch->number, fit->settings.epochs)};
    const struct batch_plan *plan = training->plan;
    double sum = 0.0, count = 0.0;

    rng_shuffle(&workspace->shuffle, workspace->order, training->member->n_rows);
    for (size_t b = 0; b < plan->n_batches; b++) {
        size_t size = b + 1 == plan->n_batches ? plan->last : plan->size;
        double loss, n;
        if (cancelled(fit))
            return AMX_CANCELLED;
        if (__atomic_load_n(&fit->stop, __ATOMIC_RELAXED))
            return AMX_OK; /* the task that failed has told why */
        batch_load(&workspace->batch, &fit->data, workspace->order + b * plan->size, size);
        workspace->method->draw(workspace);
        loss = workspace->method->step(workspace, &rates);
        if (!isfinite(loss))
            return AMX_NOT_FINITE;
        n = (double)workspace->batch.n_labels;
        sum += loss * n;
        count += n;
        epoch->labels += (double)workspace->batch.n_given;
        after_batch(fit, training, epoch, b + 1);
    }
    after_epoch(fit, training, epoch, sum / count);
    return AMX_OK;
}

enum amx_status fit_train(struct fit *fit, struct workspace *workspace, const struct training *training)
{
    const struct layout *layout = workspace->layout;
    const struct amx_method *method = workspace->method;
    struct epoch epoch = {.number = 0};
    enum amx_status status;
    struct rng rng;

    workspace->member = training->member;
    rng_seed(&rng, fit->options->seed, training->stream, RNG_INITIAL);
    status = method->initial(layout, &workspace->dims, &fit->settings, training->member, training->compact, &rng);
    if (status != AMX_OK)
        return status;
    layout_import(layout, training->compact, workspace->parameters);
    workspace_seed(workspace, fit->options->seed, training->stream, training->member->n_rows);
    if (method->prepare != NULL && (status = method->prepare(workspace)) != AMX_OK)
        return status;
    epoch.loop_started = amx_now();
    for (; epoch.number < fit->settings.epochs && status == AMX_OK; epoch.number++) {
        if (__atomic_load_n(&fit->stop, __ATOMIC_RELAXED))
            break;
        status = train_epoch(fit, workspace, training, &epoch);
    }
    if (training->task < fit->members) {
        pthread_mutex_lock(&fit->mutex);
        fit->step_seconds += amx_now() - epoch.loop_started;
        fit->step_labels += epoch.labels;
        pthread_mutex_unlock(&fit->mutex);
    }
    layout_export(layout, workspace->parameters, training->compact);
    return status;
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

static void *run_tasks(void *argument)
{
    struct fit *fit = argument;
    struct phase *phase = fit->phase;
    struct workspace workspace;
    enum amx_status status =
        workspace_init(&workspace, phase->method, phase->layout, &phase->dims, &fit->settings, fit->data.n_rows);
    bool helped;

    pthread_mutex_lock(&fit->mutex);
    helped = phase->spare-- > 0 && blas_is_parallel();
    pthread_mutex_unlock(&fit->mutex);
    if (status == AMX_OK && helped)
        workspace.crew = crew_new(); /* NULL only takes longer */
    blas_share(workspace.crew);
    for (;;) {
        int task;
        pthread_mutex_lock(&fit->mutex);
        if (status != AMX_OK && fit->status == AMX_OK) {
            fit->status = status;
            __atomic_store_n(&fit->stop, 1, __ATOMIC_RELAXED);
        }
        task = fit->status == AMX_OK ? phase->next++ : phase->n;
        pthread_mutex_unlock(&fit->mutex);
        if (task >= phase->n)
            break;
        status = phase->run(fit, &workspace, task);
    }
    blas_share(NULL);
    crew_free(workspace.crew);
    workspace_done(&workspace);
    return NULL;
}

/* Fewer threads than wished only take longer. */
bool fit_run(struct fit *fit, struct phase *phase)
{
    int wanted = (fit->options->threads < phase->n ? fit->options->threads : phase->n) - 1, started = 0;
    pthread_t *threads = wanted > 0 ? calloc((size_t)wanted, sizeof *threads) : NULL;

    phase->next = 0;
    phase->spare = fit->options->threads - phase->n;
    fit->phase = phase;
    while (threads != NULL && started < wanted && pthread_create(&threads[started], NULL, run_tasks, fit) == 0)
        started++;
    (void)run_tasks(fit);
    for (int i = 0; i < started; i++)
        (void)pthread_join(threads[i], NULL); /* joinable and ours */
    free(threads);
    return fit->status == AMX_OK;
}
