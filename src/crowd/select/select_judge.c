/* select_judge.c - one candidate's cross-validation: a member without each fold, then its predictions for that fold
 * against the crowd.
 *
 * An ensemble of as many members as folds is exactly that (amx_fit: member m leaves out fold m mod folds). The folds
 * are this room's own: a permutation of the labelled instances from the seed, dealt out in turn, so that they are of
 * equal size and the same for every candidate; every candidate is trained with the same seed too, so that two of them
 * differ by their settings and not by their luck. Predictions go in chunks of bounded memory straight into the sums. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "learn/batch.h"
#include "learn/rng.h"
#include "learn/status.h"
#include "select_int.h"

enum {
    STREAM_FOLDS = 0x5302, /* purpose of the random stream; not one of a fit's */
    CHUNK_ROWS = 512,
    CHUNK_PAIRS = 2048,
    CHUNK_FLOATS = 1 << 20
};

/* Of a candidate's epochs. */
static const double SHARES[SELECT_RUNGS] = {SELECT_FIRST_SHARE, 0.5, 1.0, 1.0};

/* ---- the ground -------------------------------------------------------------------------------------------------- */

/* amx_fit's own check, so that data that cannot be trained on are refused in the same words. */
static enum amx_status check_data(const struct amx_data *data, const struct amx_settings *settings,
                                  struct amx_error *err)
{
    struct train_data train;
    enum amx_status status;

    memset(&train, 0, sizeof train);
    status = train_data_init(&train, data, settings, err);
    train_data_done(&train);
    return status;
}

static enum amx_status deal_folds(struct select_ground *ground, const struct select_options *options)
{
    const size_t N = ground->data.n_instances;
    uint32_t *order = calloc(N, sizeof *order);
    size_t n = 0;
    struct rng rng;

    if (order == NULL)
        return AMX_NO_MEMORY;
    for (size_t i = 0; i < N; i++) {
        if (ground->begin[i + 1] > ground->begin[i])
            order[n++] = (uint32_t)i;
    }
    ground->folds = n < SELECT_FOLDS ? (int)n : SELECT_FOLDS;
    rng_seed(&rng, options->seed, 0, STREAM_FOLDS);
    for (size_t split = 0; split < SELECT_SPLITS; split++) {
        rng_shuffle(&rng, order, n);
        for (size_t i = 0; i < n; i++)
            ground->fold[split * N + order[i]] = (uint32_t)(i % (size_t)ground->folds);
    }
    free(order);
    return AMX_OK;
}

enum amx_status select_ground_init(struct select_ground *ground, const struct amx_data *data,
                                   const struct select_options *options, struct amx_error *err)
{
    const struct crowd_labels labels = {.n_instances = data->n_instances,
                                        .n_annotators = data->n_annotators,
                                        .n_classes = data->n_classes,
                                        .n_labels = data->n_labels,
                                        .instance = data->label_instance,
                                        .annotator = data->label_annotator,
                                        .class_ = data->label_class};
    enum amx_status status;

    memset(ground, 0, sizeof *ground);
    ground->options = options;
    ground->data = *data;
    if ((status = check_data(data, &options->settings, err)) != AMX_OK)
        return status;
    ground->begin = calloc(data->n_instances + 1, sizeof *ground->begin);
    ground->fold = calloc(data->n_instances, SELECT_SPLITS * sizeof *ground->fold);
    if (ground->begin == NULL || ground->fold == NULL)
        return amx_fail_memory(err);
    for (size_t l = 0; l < data->n_labels; l++)
        ground->begin[data->label_instance[l] + 1]++;
    for (size_t i = 0; i < data->n_instances; i++)
        ground->begin[i + 1] += ground->begin[i];
    if (deal_folds(ground, options) != AMX_OK || risk_votes_init(&labels, &ground->votes) != AMX_OK)
        return amx_fail_memory(err);
    return AMX_OK;
}

void select_ground_done(struct select_ground *ground)
{
    risk_votes_done(&ground->votes);
    free(ground->fold);
    free(ground->begin);
    memset(ground, 0, sizeof *ground);
}

int select_rung_splits(int rung)
{
    return rung == SELECT_RUNGS - 1 ? SELECT_SPLITS : 1;
}

static int rung_members(const struct select_options *options, int rung)
{
    int most = options->ensemble < SELECT_MEMBERS ? options->ensemble : SELECT_MEMBERS;

    return rung == SELECT_RUNGS - 1 ? most : 1;
}

double select_rung_cost(const struct select_options *options, int rung)
{
    return SHARES[rung] * rung_members(options, rung) * select_rung_splits(rung);
}

void select_fit_options(const struct select_ground *ground, const struct select_candidate *candidate, int rung,
                        struct amx_fit_options *out)
{
    memset(out, 0, sizeof *out);
    out->method = candidate->method;
    out->seed = ground->options->seed;
    out->ensemble = ground->folds * rung_members(ground->options, rung);
    out->folds = ground->folds;
    out->threads = 1;
    out->clamp_gold = ground->options->clamp_gold;
    out->settings = candidate->settings;
    out->settings.epochs = (int)ceil(SHARES[rung] * candidate->settings.epochs);
}

/* ---- held-out predictions ---------------------------------------------------------------------------------------- */

/* Some instances of one fold with some of their labels. */
struct chunk {
    size_t max_rows, max_pairs, n_rows, n_pairs;
    float *x;                          /* [max_rows][D] */
    uint32_t *instance;                /* [max_rows] */
    bool *first;                       /* [max_rows] not a continuation of the chunk before */
    uint32_t *row, *annotator, *label; /* [max_pairs] */
    float *p, *given;                  /* [max_rows][C], [max_pairs][C] */
    const volatile int *cancel;        /* NULL = never */
};

static bool is_cancelled(const volatile int *cancel)
{
    return cancel != NULL && __atomic_load_n(cancel, __ATOMIC_RELAXED) != 0;
}

static size_t at_most(size_t limit, size_t width)
{
    size_t n = CHUNK_FLOATS / (width > 0 ? width : 1);

    return n < 1 ? 1 : n < limit ? n : limit;
}

static void chunk_done(struct chunk *c)
{
    free(c->x);
    free(c->instance);
    free(c->first);
    free(c->row);
    free(c->annotator);
    free(c->label);
    free(c->p);
    free(c->given);
}

static enum amx_status chunk_init(struct chunk *c, size_t D, size_t C)
{
    memset(c, 0, sizeof *c);
    c->max_rows = at_most(CHUNK_ROWS, D > C ? D : C);
    c->max_pairs = at_most(CHUNK_PAIRS, C);
    c->x = calloc(c->max_rows * (D > 0 ? D : 1), sizeof *c->x);
    c->instance = calloc(c->max_rows, sizeof *c->instance);
    c->first = calloc(c->max_rows, sizeof *c->first);
    c->row = calloc(c->max_pairs, sizeof *c->row);
    c->annotator = calloc(c->max_pairs, sizeof *c->annotator);
    c->label = calloc(c->max_pairs, sizeof *c->label);
    c->p = calloc(c->max_rows * C, sizeof *c->p);
    c->given = calloc(c->max_pairs * C, sizeof *c->given);
    if (c->x == NULL || c->instance == NULL || c->first == NULL || c->row == NULL || c->annotator == NULL ||
        c->label == NULL || c->p == NULL || c->given == NULL) {
        chunk_done(c);
        return AMX_NO_MEMORY;
    }
    return AMX_OK;
}

/* Predicts what the chunk holds, adds it to the sums and empties it. */
static enum amx_status chunk_flush(struct chunk *c, const struct select_ground *ground, const struct amx_model *model,
                                   int fold, struct risk_tally *tally, struct amx_error *err)
{
    const size_t C = ground->data.n_classes;
    const struct amx_pairs_prediction out = {.p_class = c->p, .p_annotation = c->given};
    enum amx_status status;

    if (c->n_rows == 0)
        return AMX_OK;
    if (is_cancelled(c->cancel))
        return AMX_CANCELLED;
    status = amx_predict_pairs(model, fold, c->x, c->n_rows, c->row, c->annotator, c->n_pairs, &out, err);
    if (status != AMX_OK)
        return status;
    for (size_t r = 0; r < c->n_rows; r++) {
        if (c->first[r])
            risk_tally_instance(tally, &ground->votes, c->instance[r], c->p + r * C, C);
    }
    for (size_t t = 0; t < c->n_pairs; t++)
        risk_tally_label(tally, &ground->votes, c->annotator[t], c->label[t], c->given + t * C, C);
    c->n_rows = c->n_pairs = 0;
    return AMX_OK;
}

static void chunk_row(struct chunk *c, const struct amx_data *data, size_t instance, bool first)
{
    const size_t D = data->n_features;

    if (D > 0)
        memcpy(c->x + c->n_rows * D, data->features + instance * D, D * sizeof *c->x);
    c->instance[c->n_rows] = (uint32_t)instance;
    c->first[c->n_rows++] = first;
}

static enum amx_status add_instance(struct chunk *c, const struct select_ground *ground, const struct amx_model *model,
                                    int fold, size_t instance, struct risk_tally *tally, struct amx_error *err)
{
    enum amx_status status = AMX_OK;

    if (c->n_rows == c->max_rows && (status = chunk_flush(c, ground, model, fold, tally, err)) != AMX_OK)
        return status;
    chunk_row(c, &ground->data, instance, true);
    for (size_t l = ground->begin[instance]; l < ground->begin[instance + 1]; l++) {
        if (c->n_pairs == c->max_pairs) {
            if ((status = chunk_flush(c, ground, model, fold, tally, err)) != AMX_OK)
                return status;
            chunk_row(c, &ground->data, instance, false);
        }
        c->row[c->n_pairs] = (uint32_t)(c->n_rows - 1);
        c->annotator[c->n_pairs] = ground->data.label_annotator[l];
        c->label[c->n_pairs++] = ground->data.label_class[l];
    }
    return status;
}

static enum amx_status add_held_out(const struct select_ground *ground, const struct amx_model *model,
                                    const uint32_t *folds, const volatile int *cancel, struct risk_tally *tally,
                                    struct amx_error *err)
{
    struct chunk chunk;
    enum amx_status status = AMX_OK;

    if (chunk_init(&chunk, ground->data.n_features, ground->data.n_classes) != AMX_OK)
        return amx_fail_memory(err);
    chunk.cancel = cancel;
    for (int fold = 0; fold < ground->folds && status == AMX_OK; fold++) {
        for (size_t i = 0; i < ground->data.n_instances && status == AMX_OK; i++) {
            if ((int)folds[i] == fold && ground->begin[i + 1] > ground->begin[i])
                status = add_instance(&chunk, ground, model, fold, i, tally, err);
        }
        if (status == AMX_OK)
            status = chunk_flush(&chunk, ground, model, fold, tally, err);
    }
    chunk_done(&chunk);
    return status;
}

static enum amx_status valid_error(const struct select_ground *ground, const struct amx_model *model,
                                   const volatile int *cancel, double *out, struct amx_error *err)
{
    const struct select_options *o = ground->options;
    const size_t D = ground->data.n_features, C = ground->data.n_classes, step = at_most(CHUNK_ROWS, C);
    float *p = calloc(step * C, sizeof *p);
    size_t wrong = 0;
    enum amx_status status = AMX_OK;

    if (p == NULL)
        return amx_fail_memory(err);
    for (size_t first = 0; first < o->n_valid && status == AMX_OK; first += step) {
        size_t n = o->n_valid - first < step ? o->n_valid - first : step;
        const struct amx_prediction prediction = {.p_class = p};

        status = is_cancelled(cancel) ? AMX_CANCELLED
                                      : amx_predict(model, o->valid_features + first * D, n, NULL, 0, &prediction, err);
        for (size_t i = 0; i < n && status == AMX_OK; i++) {
            size_t best = 0;

            for (size_t k = 1; k < C; k++)
                best = p[i * C + k] > p[i * C + best] ? k : best;
            wrong += best != o->valid_gold[first + i] ? 1 : 0;
        }
    }
    free(p);
    if (status == AMX_OK)
        *out = (double)wrong / (double)o->n_valid;
    return status;
}

enum amx_status select_judge(const struct select_ground *ground, int rung, const struct amx_fit_options *fit,
                             struct select_candidate *candidate, struct amx_error *err)
{
    const int splits = select_rung_splits(rung);
    const uint64_t seeds = UINT64_C(1) << 53;
    struct risk_tally tally = {{0}, {0}};
    double wrong = 0.0;
    enum amx_status status = AMX_OK;

    for (int split = 0; split < splits && status == AMX_OK; split++) {
        struct amx_fit_options options = *fit;
        struct amx_data data = ground->data;
        struct amx_model *model = NULL;
        double error = (double)NAN;

        data.fold = ground->fold + (size_t)split * data.n_instances;
        options.seed = (fit->seed + (uint64_t)split) % seeds;
        status = amx_fit(&data, &options, NULL, &model, err);
        if (status == AMX_OK)
            status = add_held_out(ground, model, data.fold, fit->cancel, &tally, err);
        if (status == AMX_OK && ground->options->by_valid)
            status = valid_error(ground, model, fit->cancel, &error, err);
        wrong += error / splits;
        amx_model_free(model);
    }
    if (status != AMX_OK)
        return status;
    risk_tally_end(&tally, candidate->risks);
    candidate->valid_error = wrong;
    candidate->rung = rung;
    candidate->epochs = fit->settings.epochs;
    candidate->members = fit->ensemble / fit->folds;
    candidate->splits = splits;
    return AMX_OK;
}
