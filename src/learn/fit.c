/* fit.c - amx_fit: checks, memory, row sets, members, and the model they become.
 *
 * Members are the ensemble's and, with folds, one more per fold that never sees a label of its fold; when the ensemble
 * is at least as large as the folds its own members do that instead. All read the caller's one copy of the training
 * data: a member's rows are a list of row numbers, and standardisation, which reads no labels, is over everything.
 * Training itself and its threads are in fit_train.c, the fits behind `prior: consensus` in consensus_prior.c. */
#include "fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "now.h"
#include "settings.h"
#include "status.h"

/* ---- checks and memory ------------------------------------------------------------------------------------------- */

static enum amx_status check_folds(const struct amx_data *data, const struct amx_fit_options *options,
                                   struct amx_error *err)
{
    if (options->folds != 0 && (options->folds < 2 || options->folds > 20))
        return amx_fail(err, AMX_INVALID, "/folds", "folds must be 0 or an integer from 2 to 20; it is %d.",
                        options->folds);
    if (options->folds == 0)
        return AMX_OK;
    if (data->fold == NULL)
        return amx_fail(err, AMX_INVALID, "", "A fit with folds needs the fold of each instance.");
    for (size_t i = 0; i < data->n_instances; i++) {
        if (data->fold[i] >= (uint32_t)options->folds)
            return amx_fail(err, AMX_INVALID, "", "Instance %zu is in fold %u of %d.", i, data->fold[i],
                            options->folds);
    }
    return AMX_OK;
}

static enum amx_status check_options(const struct amx_data *data, const struct amx_fit_options *options,
                                     struct amx_error *err)
{
    const struct amx_method *method = method_find(options->method);
    enum amx_status status;

    if (method == NULL)
        return amx_fail(err, AMX_INVALID, "/method", "There is no method named \"%.60s\".", options->method);
    if (options->seed > (UINT64_C(1) << 53) - 1)
        return amx_fail(err, AMX_INVALID, "/seed", "seed must be an integer from 0 to 2^53-1.");
    if (options->ensemble < 1 || options->ensemble > 100)
        return amx_fail(err, AMX_INVALID, "/ensemble", "ensemble must be an integer from 1 to 100; it is %d.",
                        options->ensemble);
    if (options->threads < 1)
        return amx_fail(err, AMX_INVALID, "", "A fit needs at least one thread.");
    if ((status = check_folds(data, options, err)) != AMX_OK ||
        (status = amx_settings_check(&options->settings, data->n_classes, err)) != AMX_OK)
        return status;
    return method->check != NULL ? method->check(data, &options->settings, err) : AMX_OK;
}

/* Bytes of one thread: the larger of what a member and what a fit of the prior needs. */
static size_t thread_bytes(const struct amx_method *method, const struct layout *layout, const struct dims *dims,
                           const struct amx_settings *settings, size_t n_rows, size_t max_labels, size_t n_labels)
{
    size_t bytes = workspace_bytes(method, layout, dims, settings, n_rows), prior = 0;
    size_t scratch = method->scratch_bytes != NULL ? method->scratch_bytes(dims) : 0;

    if (consensus_prior_wanted(method, settings))
        prior = consensus_prior_thread_bytes(dims, settings, n_rows, max_labels, n_labels);
    if (!amx_size_add(&bytes, bytes, scratch))
        return SIZE_MAX;
    return bytes > prior ? bytes : prior;
}

/* Rows of the sets and, with `prior: consensus`, their posteriors; labels of each annotator in each fold. */
static size_t set_bytes(const struct amx_fit_options *options, const struct amx_method *method, size_t n_rows,
                        const struct amx_data *data)
{
    size_t row = sizeof(uint32_t), folds = (size_t)options->folds, bytes, labels;

    if (consensus_prior_wanted(method, &options->settings))
        row += data->n_classes * sizeof(float);
    if (!amx_size_mul(&bytes, row, folds + 1) || !amx_size_mul(&bytes, bytes, n_rows) ||
        !amx_size_mul(&labels, folds * sizeof(uint64_t), data->n_annotators) || !amx_size_add(&bytes, bytes, labels))
        return SIZE_MAX;
    return bytes;
}

size_t amx_fit_memory(const struct amx_data *data, const struct amx_fit_options *options)
{
    const struct amx_method *method = method_find(options->method);
    struct amx_settings settings = options->settings;
    struct layout layout;
    struct dims dims;
    size_t n_rows, max_labels, bytes, total;
    int members, tasks;

    if (method == NULL || amx_settings_check(&settings, data->n_classes, NULL) != AMX_OK)
        return SIZE_MAX;
    settings_normalise(&settings, options->method, data->n_features);
    if (!train_data_count(data, &settings, method->info.needs_gold, &n_rows, &max_labels))
        return SIZE_MAX;
    members = model_members(options->ensemble, options->folds);
    tasks = consensus_prior_wanted(method, &settings) ? CONSENSUS_FOLDS * (1 + options->folds) : 0;
    tasks = tasks > members ? tasks : members;
    dims_init(&dims, &settings, data->n_features, data->n_classes, data->n_annotators);
    if (!method->layout(&layout, &dims))
        return SIZE_MAX;
    workspace_dims(&dims, method, (size_t)settings.batch_size, n_rows, max_labels, data->n_labels);
    bytes = thread_bytes(method, &layout, &dims, &settings, n_rows, max_labels, data->n_labels);
    if (bytes == SIZE_MAX ||
        !amx_size_mul(&total, bytes, (size_t)(options->threads < tasks ? options->threads : tasks)) ||
        !amx_size_add(&total, total, model_bytes(&layout, &dims, members)) ||
        !amx_size_add(&total, total, train_data_bytes(data, method->info.needs_gold, n_rows)) ||
        !amx_size_add(&total, total, set_bytes(options, method, n_rows, data)))
        return SIZE_MAX;
    return total;
}

/* ---- row sets ---------------------------------------------------------------------------------------------------- */

static int set_of_member(const struct fit *fit, int member)
{
    return 1 + model_member_fold(fit->options->ensemble, fit->options->folds, member); /* AMX_NO_FOLD: set 0 */
}

static enum amx_status make_sets(struct fit *fit, struct amx_error *err)
{
    const size_t n = fit->data.n_rows;
    size_t cells;
    uint32_t *next;

    fit->n_sets = 1 + fit->options->folds;
    fit->first_set = set_of_member(fit, 0) > 0 ? 1 : 0;
    fit->sets = calloc((size_t)fit->n_sets, sizeof *fit->sets);
    if (fit->sets == NULL || !amx_size_mul(&cells, n, (size_t)fit->n_sets) ||
        (fit->rows = calloc(cells, sizeof *fit->rows)) == NULL)
        return amx_fail_memory(err);
    next = fit->rows;
    for (int s = 0; s < fit->n_sets; s++) {
        struct row_set *set = &fit->sets[s];
        set->rows = next;
        for (size_t i = 0; i < n; i++) {
            if (s == 0 || fit->given->fold[fit->data.instance[i]] != (uint32_t)(s - 1))
                next[set->n_rows++] = (uint32_t)i;
        }
        next += set->n_rows;
        if (set->n_rows < 2)
            return amx_fail(err, AMX_NOTHING, "/folds",
                            "Without the instances of fold %d fewer than two are left to train on; fewer folds or more "
                            "labelled instances would help.",
                            s - 1);
        batch_plan(&set->plan, set->n_rows, &fit->settings);
    }
    return AMX_OK;
}

/* ---- the fit ----------------------------------------------------------------------------------------------------- */

static enum amx_status train_member(struct fit *fit, struct workspace *workspace, int member)
{
    const struct row_set *set = &fit->sets[set_of_member(fit, member)];
    const struct member_data own = {.data = &fit->data,
                                    .rows = set->rows,
                                    .n_rows = set->n_rows,
                                    .posterior = set->posterior,
                                    .clamp_gold = fit->options->clamp_gold,
                                    .cancel = fit->options->cancel};
    const struct training training = {.member = &own,
                                      .plan = &set->plan,
                                      .stream = (uint32_t)member,
                                      .task = member,
                                      .compact =
                                          fit->model->tensors + (size_t)member * fit->model->layout.compact_length};

    return fit_train(fit, workspace, &training);
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
    if (fit->status == AMX_TOO_LARGE)
        return amx_fail(err, AMX_TOO_LARGE, "", "The method %s cannot be trained on data of this size.",
                        fit->method->info.name);
    if (fit->status != AMX_OK)
        return amx_fail(err, fit->status, "", "The method %s found nothing to train on.", fit->method->info.name);
    return AMX_OK;
}

static void count_fold_labels(const struct fit *fit)
{
    const struct train_data *data = &fit->data;

    for (size_t i = 0; i < data->n_rows && fit->model->folds > 0; i++) {
        size_t fold = fit->given->fold[data->instance[i]];
        for (size_t l = data->begin[i]; l < data->begin[i + 1]; l++)
            fit->model->fold_labels[fold * data->A + data->annotator[l]]++;
    }
}

static enum amx_status fill_model(struct fit *fit, const struct amx_data *data, struct amx_error *err)
{
    struct amx_model *model = fit->model;

    model->seed = fit->options->seed;
    model->labels_used = fit->data.n_labels;
    memcpy(model->annotator_labels, fit->data.annotator_labels, fit->data.A * sizeof(uint64_t));
    count_fold_labels(fit);
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
    /* The curve lies [epochs][members]; averaged over the ensemble in member order, so threads do not change its
     * bits. */
    const int members = fit->options->ensemble;

    for (int e = 0; e < fit->settings.epochs; e++) {
        double sum = 0.0;
        for (int m = 0; m < members; m++)
            sum += fit->curve[(size_t)e * (size_t)fit->members + (size_t)m];
        fit->curve[e] = sum / members;
    }
    report->labels_used = fit->data.n_labels;
    report->instances_used = fit->data.n_rows;
    report->labels_per_second = fit->step_labels / fmax(fit->step_seconds, 1e-9);
    report->seconds = amx_now() - fit->started;
    report->epochs = fit->settings.epochs;
    report->loss_curve = fit->curve;
}

/* Data, row sets, an empty model and the tables of progress. */
static enum amx_status fit_prepare(struct fit *fit, struct amx_error *err)
{
    const struct amx_data *data = fit->given;
    enum amx_status status = fit->method->info.needs_gold ? train_data_init_gold(&fit->data, data, &fit->settings, err)
                                                          : train_data_init(&fit->data, data, &fit->settings, err);

    if (status != AMX_OK || (status = make_sets(fit, err)) != AMX_OK)
        return status;
    status = model_new_folds(fit->method, &fit->settings, data->n_features, data->n_classes, data->n_annotators,
                             fit->options->ensemble, fit->options->folds, &fit->model, err);
    if (status != AMX_OK)
        return status;
    fit->members = fit->model->members;
    fit->tasks = fit->members + consensus_prior_tasks(fit);
    fit->fraction = calloc((size_t)fit->tasks, sizeof(double));
    fit->loss = calloc((size_t)fit->tasks, sizeof(double));
    fit->curve = calloc((size_t)fit->members * (size_t)fit->settings.epochs, sizeof(double));
    if (fit->fraction == NULL || fit->loss == NULL || fit->curve == NULL)
        return amx_fail_memory(err);
    for (int m = 0; m < fit->tasks; m++)
        fit->loss[m] = (double)NAN;
    return AMX_OK;
}

static void fit_run_all(struct fit *fit)
{
    struct phase members = {.method = fit->method,
                            .layout = &fit->model->layout,
                            .dims = fit->model->dims,
                            .n = fit->members,
                            .run = train_member};

    workspace_dims(&members.dims, fit->method, (size_t)fit->settings.batch_size, fit->data.n_rows, fit->data.max_labels,
                   fit->data.n_labels);
    if (consensus_prior_run(fit))
        (void)fit_run(fit, &members); /* fit_status reads how it went */
}

static void fit_done(struct fit *fit)
{
    for (int s = 0; fit->sets != NULL && s < fit->n_sets; s++)
        free(fit->sets[s].posterior);
    free(fit->sets);
    free(fit->rows);
    free(fit->curve);
    free(fit->loss);
    free(fit->fraction);
    amx_model_free(fit->model);
    train_data_done(&fit->data);
    (void)pthread_mutex_destroy(&fit->mutex); /* nobody holds it any more */
}

enum amx_status amx_fit(const struct amx_data *data, const struct amx_fit_options *options,
                        struct amx_fit_report *report, struct amx_model **out, struct amx_error *err)
{
    struct fit fit;
    enum amx_status status = check_options(data, options, err);

    if (status != AMX_OK)
        return status;
    memset(&fit, 0, sizeof fit);
    fit.started = amx_now();
    fit.given = data;
    fit.options = options;
    fit.method = method_find(options->method);
    fit.settings = options->settings;
    settings_normalise(&fit.settings, options->method, data->n_features);
    if (pthread_mutex_init(&fit.mutex, NULL) != 0)
        return amx_fail_memory(err);
    if ((status = fit_prepare(&fit, err)) == AMX_OK) {
        fit_run_all(&fit);
        status = fit_status(&fit, err);
    }
    if (status == AMX_OK && (status = fill_model(&fit, data, err)) == AMX_OK &&
        (status = model_prepare(fit.model, err)) == AMX_OK) {
        if (report != NULL) {
            fill_report(&fit, report);
            fit.curve = NULL; /* the caller's now */
        }
        *out = fit.model;
        fit.model = NULL;
    }
    fit_done(&fit);
    return status;
}
