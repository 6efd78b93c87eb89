/* consensus_prior.c - the posterior behind `prior: consensus`, from fits of annot_mix before the members.
 *
 * For each row set that members train on, its rows are cut into five inner folds. For each fold annot_mix is trained
 * on the others with the run's own settings, and the fold's rows get the posterior over their true class from that
 * fit's class probabilities and confusion matrices and their own labels: neither has seen them. Row sets do not share
 * fits, because a fold of the run must not learn from its own labels through another set's prior. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fit.h"
#include "status.h"

enum {
    LEAST_ROWS = 3,      /* fewer cannot be left out of and still be trained on: their prior stays dawid_skene */
    FIRST_STREAM = 1000, /* beyond every member's */
    STREAMS_PER_SET = 16
};
static const double LEAST = 1e-30; /* float32 may round a probability to 0 */

bool consensus_prior_wanted(const struct amx_method *method, const struct amx_settings *settings)
{
    return settings->prior == AMX_PRIOR_CONSENSUS && amx_setting_applies(method->info.name, "prior");
}

int consensus_prior_tasks(const struct fit *fit)
{
    return consensus_prior_wanted(fit->method, &fit->settings) ? (fit->n_sets - fit->first_set) * CONSENSUS_FOLDS : 0;
}

/* ---- one inner fold ---------------------------------------------------------------------------------------------- */

/* Rows of a set, cut in two. */
struct cut {
    uint32_t *train, *rest; /* ascending; memory of both starts at train */
    size_t n_train, n_rest;
};

/* The same permutation for all folds of a set: position p of it is in fold p mod 5. */
static enum amx_status cut_rows(const struct fit *fit, int set, int fold, struct cut *out)
{
    const struct row_set *all = &fit->sets[set];
    uint32_t *position = malloc(all->n_rows * sizeof *position);
    struct rng rng;

    memset(out, 0, sizeof *out);
    out->train = malloc(2 * all->n_rows * sizeof *out->train);
    if (position == NULL || out->train == NULL) {
        free(position);
        return AMX_NO_MEMORY;
    }
    out->rest = out->train + all->n_rows;
    for (size_t i = 0; i < all->n_rows; i++)
        position[i] = (uint32_t)i;
    rng_seed(&rng, fit->options->seed, (uint32_t)(FIRST_STREAM + set * STREAMS_PER_SET), RNG_PRIOR_FOLDS);
    rng_shuffle(&rng, position, all->n_rows);
    for (size_t i = 0; i < all->n_rows; i++) {
        if (position[i] % CONSENSUS_FOLDS == (uint32_t)fold)
            out->rest[out->n_rest++] = all->rows[i];
        else
            out->train[out->n_train++] = all->rows[i];
    }
    free(position);
    return AMX_OK;
}

/* What row_posterior writes into. */
struct row_scratch {
    float *p_class, *confusion; /* [C], [C][C] */
    double *log_p;              /* [C] */
};

/* Posterior of one row: class probabilities times what its annotators' matrices say of their labels. */
static enum amx_status row_posterior(const struct fit *fit, const struct amx_model *model, size_t row,
                                     const struct row_scratch *scratch, float *posterior)
{
    const struct train_data *data = &fit->data;
    const float *x = fit->given->features + (size_t)data->instance[row] * data->D;
    const struct amx_prediction classes = {.p_class = scratch->p_class}, matrix = {.p_confusion = scratch->confusion};
    const size_t C = data->C;
    double *log_p = scratch->log_p, sum = 0.0, top = -(double)INFINITY;
    enum amx_status status = amx_predict(model, x, 1, NULL, 0, &classes, NULL);

    for (size_t k = 0; k < C && status == AMX_OK; k++)
        log_p[k] = log(fmax((double)scratch->p_class[k], LEAST));
    for (size_t l = data->begin[row]; l < data->begin[row + 1] && status == AMX_OK; l++) {
        status = amx_predict(model, x, 1, &data->annotator[l], 1, &matrix, NULL);
        for (size_t k = 0; k < C && status == AMX_OK; k++)
            log_p[k] += log(fmax((double)scratch->confusion[k * C + data->label[l]], LEAST));
    }
    if (status != AMX_OK)
        return status;
    for (size_t k = 0; k < C; k++)
        top = fmax(top, log_p[k]);
    for (size_t k = 0; k < C; k++)
        sum += log_p[k] = exp(log_p[k] - top);
    for (size_t k = 0; k < C; k++)
        posterior[k] = (float)(log_p[k] / sum);
    return AMX_OK;
}

/* Evidence and scaling, then the posteriors of the rows left out. */
static enum amx_status fill_posterior(const struct fit *fit, struct amx_model *model, const struct cut *cut,
                                      float *posterior)
{
    const struct train_data *data = &fit->data;
    const size_t C = data->C;
    struct row_scratch scratch = {.p_class = malloc(C * sizeof(float)),
                                  .confusion = malloc(C * C * sizeof(float)),
                                  .log_p = malloc(C * sizeof(double))};
    bool made = scratch.p_class != NULL && scratch.confusion != NULL && scratch.log_p != NULL;
    enum amx_status status = made ? AMX_OK : AMX_NO_MEMORY;

    for (size_t i = 0; i < cut->n_train; i++) {
        for (size_t l = data->begin[cut->train[i]]; l < data->begin[cut->train[i] + 1]; l++) {
            model->annotator_labels[data->annotator[l]]++;
            model->labels_used++;
        }
    }
    memcpy(model->mean, data->mean, data->D * sizeof(float));
    memcpy(model->scale, data->scale, data->D * sizeof(float));
    if (status == AMX_OK)
        status = model_prepare(model, NULL);
    for (size_t i = 0; i < cut->n_rest && status == AMX_OK; i++)
        status = row_posterior(fit, model, cut->rest[i], &scratch, posterior + cut->rest[i] * C);
    free(scratch.log_p);
    free(scratch.confusion);
    free(scratch.p_class);
    return status;
}

static enum amx_status run_fold(struct fit *fit, struct workspace *workspace, int task)
{
    const int set = fit->first_set + task / CONSENSUS_FOLDS, fold = task % CONSENSUS_FOLDS;
    struct amx_model *model = NULL;
    struct cut cut;
    enum amx_status status;

    if (fit->sets[set].n_rows < LEAST_ROWS)
        return AMX_OK;
    status = cut_rows(fit, set, fold, &cut);
    if (status == AMX_OK && cut.n_rest > 0)
        status = model_new(workspace->method, &fit->settings, fit->data.D, fit->data.C, fit->data.A, 1, &model, NULL);
    if (status == AMX_OK && cut.n_rest > 0) {
        const struct member_data own = {.data = &fit->data, .rows = cut.train, .n_rows = cut.n_train};
        struct batch_plan plan;
        const struct training training = {.member = &own,
                                          .plan = &plan,
                                          .stream = (uint32_t)(FIRST_STREAM + set * STREAMS_PER_SET + fold),
                                          .task = fit->phase->first + task,
                                          .compact = model->tensors};
        batch_plan(&plan, cut.n_train, &fit->settings);
        status = fit_train(fit, workspace, &training);
        if (status == AMX_OK && !__atomic_load_n(&fit->stop, __ATOMIC_RELAXED))
            status = fill_posterior(fit, model, &cut, fit->sets[set].posterior);
    }
    amx_model_free(model);
    free(cut.train);
    return status;
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

bool consensus_prior_run(struct fit *fit)
{
    struct phase phase = {
        .method = method_find("annot_mix"), .first = fit->members, .n = consensus_prior_tasks(fit), .run = run_fold};
    struct layout layout;
    size_t cells;

    if (phase.n == 0)
        return true;
    dims_init(&phase.dims, &fit->settings, fit->data.D, fit->data.C, fit->data.A);
    if (!phase.method->layout(&layout, &phase.dims) || !amx_size_mul(&cells, fit->data.n_rows, fit->data.C))
        goto no_memory;
    phase.layout = &layout;
    workspace_dims(&phase.dims, phase.method, (size_t)fit->settings.batch_size, fit->data.n_rows, fit->data.max_labels,
                   fit->data.n_labels);
    for (int s = fit->first_set; s < fit->n_sets; s++) {
        if (fit->sets[s].n_rows >= LEAST_ROWS && (fit->sets[s].posterior = calloc(cells, sizeof(float))) == NULL)
            goto no_memory;
    }
    return fit_run(fit, &phase);
no_memory:
    fit->status = AMX_NO_MEMORY;
    return false;
}

size_t consensus_prior_thread_bytes(const struct dims *dims, const struct amx_settings *settings, size_t n_rows,
                                    size_t max_labels, size_t n_labels)
{
    const struct amx_method *method = method_find("annot_mix");
    struct dims own = *dims;
    struct layout layout;
    size_t bytes, model, rows;

    if (!method->layout(&layout, &own))
        return SIZE_MAX;
    workspace_dims(&own, method, (size_t)settings->batch_size, n_rows, max_labels, n_labels);
    bytes = workspace_bytes(method, &layout, &own, settings, n_rows);
    model = model_bytes(&layout, &own, 1);
    if (bytes == SIZE_MAX || model == SIZE_MAX || !amx_size_mul(&rows, n_rows, 3 * sizeof(uint32_t)) ||
        !amx_size_add(&bytes, bytes, model) || !amx_size_add(&bytes, bytes, rows) ||
        !amx_size_add(&bytes, bytes, dims->C * dims->C * sizeof(float)))
        return SIZE_MAX;
    return bytes;
}
