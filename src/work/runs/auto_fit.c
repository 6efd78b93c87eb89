/* auto_fit.c - see auto_fit.h; and a training run whose method is auto (trainers_int.h). */
#include "work/runs/auto_fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "crowd/reliability.h"
#include "util/error.h"
#include "util/size.h"
#include "work/runs/selection_json.h"
#include "work/runs/trainers_int.h"

enum {
    MAX_THREADS = 64
};

/* ---- request to options ------------------------------------------------------------------------------------------ */

static bool is_valid_with_gold(const struct training_set *set, size_t i)
{
    return set->held_split[i] == SPLIT_VALID && set->held_gold[i] >= 0;
}

static enum amx_status copy_valid(struct auto_job *job, const struct training_set *set)
{
    const size_t D = set->n_features;
    size_t n = 0, bytes;

    for (size_t i = 0; i < set->n_held; i++)
        n += is_valid_with_gold(set, i) ? 1 : 0;
    if (n == 0)
        return AMX_OK; /* select_fit says what is missing */
    if (!size_mul(&bytes, n, D * sizeof(float)))
        return AMX_NO_MEMORY;
    job->valid_features = malloc(bytes > 0 ? bytes : 1);
    job->valid_gold = calloc(n, sizeof *job->valid_gold);
    if (job->valid_features == NULL || job->valid_gold == NULL)
        return AMX_NO_MEMORY;
    n = 0;
    for (size_t i = 0; i < set->n_held; i++) {
        if (!is_valid_with_gold(set, i))
            continue;
        memcpy(job->valid_features + n * D, set->held_features + i * D, D * sizeof(float));
        job->valid_gold[n++] = (uint32_t)set->held_gold[i];
    }
    job->options.valid_features = job->valid_features;
    job->options.valid_gold = job->valid_gold;
    job->options.n_valid = n;
    return AMX_OK;
}

enum amx_status auto_job_init(struct auto_job *job, const struct run_request *request, uint64_t seed,
                              const struct training_data *data, int threads, struct amx_error *err)
{
    const struct run_auto *automatic = &request->automatic;

    memset(job, 0, sizeof *job);
    job->options = (struct select_options){
        .seed = seed,
        .ensemble = request->ensemble,
        .folds = request->folds,
        .threads = threads < MAX_THREADS ? threads : MAX_THREADS,
        .clamp_gold = request->gold_use == RUN_GOLD_TRAIN,
        .settings = request->settings,
        .n_methods = automatic->n_methods,
        .budget_seconds = automatic->budget_seconds,
        .budget_fits = automatic->budget_fits,
        .by_valid = automatic->select == RUN_SELECT_VALID,
    };
    memcpy(job->options.methods, automatic->methods, sizeof automatic->methods);
    if (job->options.by_valid && copy_valid(job, &data->set) != AMX_OK)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    return AMX_OK;
}

void auto_job_done(struct auto_job *job)
{
    free(job->valid_gold);
    free(job->valid_features);
    memset(job, 0, sizeof *job);
}

enum amx_status auto_fit(const struct auto_job *job, const struct run_request *request,
                         const struct training_data *data, struct amx_fit_report *report, json_t **selection,
                         struct amx_model **model, struct amx_error *err)
{
    struct select_result result;
    struct amx_model *best = NULL;
    json_t *json;
    enum amx_status status = select_fit(&data->data, &job->options, &result, &best, err);

    if (status != AMX_OK)
        return status;
    json = selection_json(&result, &request->automatic);
    if (json == NULL) {
        amx_model_free(best);
        select_result_done(&result);
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    }
    *report = result.report;
    report->seconds += result.search_seconds;
    result.report.loss_curve = NULL; /* the caller's now */
    select_result_done(&result);
    *selection = json;
    *model = best;
    return AMX_OK;
}

/* ---- a training run ---------------------------------------------------------------------------------------------- */

/* While it searches: candidates instead of epochs. Afterwards: the last fit's epochs and loss. */
static void on_progress(const struct select_progress *p, void *context)
{
    struct run_work *work = context;
    struct trainers *t = work->trainers;
    const struct amx_progress *fit = p->fit;
    bool told = fit != NULL && fit->epoch_ended; /* worth waking those who wait */

    (void)pthread_mutex_lock(&t->mu);
    told = told || work->progress.rung != p->rung || work->progress.candidate != p->candidate;
    work->progress.rung = p->rung;
    work->progress.candidate = p->candidate;
    work->progress.candidates = p->candidates;
    work->progress.fraction = p->fraction;
    work->progress.eta_seconds = p->eta_seconds;
    if (fit != NULL) {
        /* The curve in memory is the first member's, as in every run. */
        bool new_loss = fit->epoch_ended && fit->member == 0 && fit->epoch >= 1;

        if (fit->epoch > work->progress.epoch || fit->member == 0)
            work->progress.epoch = fit->epoch;
        work->progress.epochs = fit->epochs;
        work->progress.labels_per_second = fit->labels_per_second;
        work->progress.loss = fit->loss;
        if (new_loss && work->progress.n_curve < (size_t)work->request.settings.epochs)
            work->progress.loss_curve[work->progress.n_curve++] = fit->loss;
    }
    work->progress.version++;
    (void)pthread_mutex_unlock(&t->mu);
    if (told)
        trainers_wake(t, work->row.id);
    run_work_renew_lease(work);
}

enum amx_status auto_run(struct run_work *work, const struct training_data *data, struct amx_error *err)
{
    struct amx_fit_report report = {0};
    struct amx_model *model = NULL;
    struct auto_job job;
    size_t bytes;
    enum amx_status status =
        auto_job_init(&job, &work->request, work->request.seed, data, run_work_threads(work, MAX_THREADS), err);

    if (status != AMX_OK)
        goto done;
    job.options.progress = on_progress;
    job.options.context = work;
    job.options.cancel = &work->cancel;
    if (!size_add(&bytes, select_memory(&data->data, &job.options), training_data_bytes(data)) ||
        !size_add(&bytes, bytes, reliability_memory(data->data.n_annotators, data->data.n_classes)))
        bytes = SIZE_MAX;
    if ((status = run_work_reserve(work, bytes, err)) != AMX_OK)
        goto done;
    if (run_work_is_cancelled(work)) {
        status = error_set(err, AMX_CANCELLED, "The run was cancelled.");
        goto done;
    }
    status = auto_fit(&job, &work->request, data, &report, &work->selection, &model, err);
    if (status == AMX_OK)
        status = run_model_write(work, data, model, &report, err);
done:
    amx_free(report.loss_curve);
    json_decref(work->selection);
    work->selection = NULL;
    auto_job_done(&job);
    return status;
}
