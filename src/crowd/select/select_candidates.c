/* select_candidates.c - which candidates auto tries, in which order; and which of two is better.
 *
 * First those that are always there: the published defaults of every method, and a linear model (no hidden layer) on
 * Dawid-Skene labels, the plainest thing that could win. Then rounds: round r gives point r of the Sobol sequence to
 * every method in turn, so that each method's settings are spread evenly by themselves. Coordinates are shifted by the
 * seed (exclusive or), in this order:
 *   alpha U(0, 2), eta U(.75, .95), learning rate logU(1e-4, 1e-1), weight decay logU(1e-6, 1e-3), dropout U(0, .5),
 *   batch size 16 32 64 128, epochs 5 30 50, hidden: one of four lists.
 * A setting that the caller has changed from its published default is the caller's wish and the same everywhere; one
 * that a method does not read keeps its default. The annotator model's rate follows the class model's. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "learn/rng.h"
#include "select_int.h"

enum {
    STREAM_SHIFT = 0x5301, /* purpose of the random stream; not one of a fit's */
    MANY_INSTANCES = 10000,
    FEW_FEATURES = 256 /* below this the features are tabular and take two hidden layers */
};

static const char *const DEFAULT_METHODS[] = {"annot_mix", "annot_mix_prior",   "coin_net",           "geo_reg_f",
                                              "madl",      "dawid_skene_mixup", "majority_vote_mixup"};

enum dim {
    DIM_ALPHA,
    DIM_ETA,
    DIM_LEARNING_RATE,
    DIM_WEIGHT_DECAY,
    DIM_DROPOUT,
    DIM_BATCH_SIZE,
    DIM_EPOCHS,
    DIM_HIDDEN
};

const char *const *select_default_methods(size_t *n)
{
    *n = sizeof DEFAULT_METHODS / sizeof DEFAULT_METHODS[0];
    return DEFAULT_METHODS;
}

size_t select_n_always(size_t n_methods)
{
    return n_methods + 1;
}

void select_source_init(struct select_source *source, const struct amx_data *data, const struct select_options *options)
{
    struct rng rng;

    memset(source, 0, sizeof *source);
    source->options = options;
    source->methods = options->methods;
    source->n_methods = options->n_methods;
    if (source->n_methods == 0)
        source->methods = select_default_methods(&source->n_methods);
    source->n_features = data->n_features;
    source->n_instances = data->n_instances;
    source->n_classes = data->n_classes;
    rng_seed(&rng, options->seed, 0, STREAM_SHIFT);
    for (size_t d = 0; d < SOBOL_DIMS; d++)
        source->shift[d] = rng_next(&rng);
}

/* ---- one draw ---------------------------------------------------------------------------------------------------- */

static double uniform(uint32_t x, double low, double high)
{
    return low + (high - low) * ((double)x / 4294967296.0);
}

static double log_uniform(uint32_t x, double low, double high)
{
    return exp(uniform(x, log(low), log(high)));
}

static int choice(uint32_t x, const int *values, unsigned n)
{
    return values[(uint64_t)x * n >> 32];
}

static bool is_large(const struct select_source *source)
{
    return source->n_instances >= MANY_INSTANCES;
}

/* No hidden layer, one, two as published for tabular data, and something wider where there is enough to learn from. */
static void draw_hidden(const struct select_source *source, uint32_t x, struct amx_settings *s)
{
    const bool many = is_large(source), few = source->n_features < FEW_FEATURES;
    const int lists[4][2] = {{0, 0}, {128, 0}, {256, 128}, {many ? 512 : few ? 64 : 256, many ? 256 : 0}};
    const int *list = lists[x >> 30];

    memset(s->hidden, 0, sizeof s->hidden);
    s->n_hidden = 0;
    while (s->n_hidden < 2 && list[s->n_hidden] > 0) {
        s->hidden[s->n_hidden] = list[s->n_hidden];
        s->n_hidden++;
    }
}

/* Bit-equal on purpose: has the caller touched it? */
static bool same(double a, double b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

static void draw(const struct select_source *source, const struct amx_settings *standard, const char *method,
                 const uint32_t *x, struct amx_settings *s)
{
    static const int BATCHES[] = {16, 32, 64, 128}, EPOCHS[] = {5, 30, 50};

    if (same(s->alpha, standard->alpha) && amx_setting_applies(method, "alpha"))
        s->alpha = uniform(x[DIM_ALPHA], 0.0, 2.0);
    if (same(s->eta, standard->eta) && amx_setting_applies(method, "eta"))
        s->eta = uniform(x[DIM_ETA], 0.75, 0.95);
    if (same(s->learning_rate, standard->learning_rate)) {
        s->learning_rate = log_uniform(x[DIM_LEARNING_RATE], 1e-4, 1e-1);
        if (same(s->annotator_learning_rate, standard->annotator_learning_rate))
            s->annotator_learning_rate = s->learning_rate;
    }
    if (same(s->weight_decay, standard->weight_decay))
        s->weight_decay = log_uniform(x[DIM_WEIGHT_DECAY], 1e-6, 1e-3);
    if (same(s->dropout, standard->dropout))
        s->dropout = uniform(x[DIM_DROPOUT], 0.0, 0.5);
    if (s->batch_size == standard->batch_size)
        s->batch_size = choice(x[DIM_BATCH_SIZE], BATCHES, 4);
    if (s->epochs == standard->epochs)
        s->epochs = choice(x[DIM_EPOCHS], EPOCHS, 3);
    if (s->n_hidden == standard->n_hidden && memcmp(s->hidden, standard->hidden, sizeof s->hidden) == 0)
        draw_hidden(source, x[DIM_HIDDEN], s);
}

/* ---- candidates -------------------------------------------------------------------------------------------------- */

void select_candidate_at(const struct select_source *source, size_t index, struct select_candidate *out)
{
    const size_t n_always = select_n_always(source->n_methods);
    struct amx_settings standard;

    memset(out, 0, sizeof *out);
    out->settings = source->options->settings;
    out->always = index < n_always;
    out->state = SELECT_UNJUDGED;
    out->rung = -1;
    out->valid_error = (double)NAN;
    for (size_t r = 0; r < RISKS; r++)
        out->risks[r] = out->ranks[r] = (double)NAN;
    out->score = out->deviation = (double)NAN;
    if (index == source->n_methods) {
        out->method = "dawid_skene";
        out->settings.n_hidden = 0;
        memset(out->settings.hidden, 0, sizeof out->settings.hidden);
        return;
    }
    amx_settings_default(source->n_features, &standard);
    out->method = source->methods[(index < n_always ? index : index - n_always) % source->n_methods];
    if (index >= n_always) {
        uint32_t point[SOBOL_DIMS];

        sobol_point((uint32_t)((index - n_always) / source->n_methods), point);
        for (size_t d = 0; d < SOBOL_DIMS; d++)
            point[d] ^= source->shift[d];
        draw(source, &standard, out->method, point, &out->settings);
    } else if (strcmp(out->method, "madl") == 0 && same(out->settings.eta, standard.eta)) {
        out->settings.eta = 0.8; /* as its article has it */
    }
}

void select_largest(const struct select_source *source, size_t method, struct select_candidate *out)
{
    struct amx_settings standard;
    uint32_t point[SOBOL_DIMS];

    select_candidate_at(source, method, out);
    amx_settings_default(source->n_features, &standard);
    for (size_t d = 0; d < SOBOL_DIMS; d++)
        point[d] = UINT32_MAX;
    point[DIM_HIDDEN] = is_large(source) ? UINT32_MAX : UINT32_C(2) << 30;
    draw(source, &standard, out->method, point, &out->settings);
}

/* ---- order ------------------------------------------------------------------------------------------------------- */

int select_compare(const struct select_candidate *a, const struct select_candidate *b)
{
    const double keys[][2] = {{a->valid_error, b->valid_error}, {a->score, b->score}, {a->deviation, b->deviation}};

    if ((a->state == SELECT_FAILED) != (b->state == SELECT_FAILED))
        return a->state == SELECT_FAILED ? 1 : -1;
    if (a->rung != b->rung)
        return a->rung > b->rung ? -1 : 1;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (keys[i][0] < keys[i][1])
            return -1;
        if (keys[i][0] > keys[i][1])
            return 1;
    }
    return 0;
}

struct placed {
    const struct select_candidate *candidate;
    uint32_t index;
};

static int compare_placed(const void *a, const void *b)
{
    const struct placed *x = a, *y = b;
    int order = select_compare(x->candidate, y->candidate);

    return order != 0 ? order : (x->index > y->index) - (x->index < y->index);
}

enum amx_status select_sort(const struct select_candidate *candidates, size_t n, uint32_t *order)
{
    struct placed *placed = calloc(n > 0 ? n : 1, sizeof *placed);

    if (placed == NULL)
        return AMX_NO_MEMORY;
    for (size_t i = 0; i < n; i++)
        placed[i] = (struct placed){&candidates[i], (uint32_t)i};
    qsort(placed, n, sizeof *placed, compare_placed);
    for (size_t i = 0; i < n; i++)
        order[i] = placed[i].index;
    free(placed);
    return AMX_OK;
}
