/* simulate_networks.c - annotators that are small networks, as the article makes them (annot-mix, section on simulated
 * annotators): of every class a random part of the gold train instances is seen, the part's size ~ Beta(a, b) drawn for
 * each class, with a ~ U(0, 1) and b ~ U(.5, 2) drawn for each annotator; 1 to 20 epochs at learning rate 1e-3. So each
 * knows some classes well and others hardly or not at all, and errs where its network errs: in the same places again.
 *
 * The networks are the learner's own class model (one label per instance, method majority_vote). One that saw fewer
 * than two classes cannot be trained: its parts are drawn anew. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simulate.h"
#include "util/error.h"
#include "util/size.h"

enum {
    MOST_EPOCHS = 20,
    TRIES = 200,
    BATCH = 64,
    PREDICT_ROWS = 4096
};
#define LEARNING_RATE 1e-3

struct network {
    struct simulation *s;
    size_t a;                                /* which annotator */
    uint32_t *of_class;                      /* [n_gold] train instances with gold, class by class */
    size_t *first;                           /* [C + 1] into of_class */
    uint32_t *rows;                          /* [n_gold] what this one sees, ascending */
    unsigned char *chosen;                   /* [n_rows] */
    float *features;                         /* [n_gold][D] of rows */
    uint32_t *instance, *annotator, *class_; /* [n_gold] one label per instance */
};

/* ---- what it sees ------------------------------------------------------------------------------------------------ */

static bool is_seen_from(const struct simulation *s, size_t row)
{
    return s->dir->rows[row].split == SPLIT_TRAIN && s->dir->rows[row].feature_row != SIZE_MAX &&
           s->dir->rows[row].gold >= 0;
}

static bool allocate(struct network *net)
{
    const struct simulation *s = net->s;
    size_t n_gold = 0, floats;

    net->first = calloc(s->n_classes + 2, sizeof *net->first);
    net->chosen = calloc(s->n_rows + 1, 1);
    if (net->first == NULL || net->chosen == NULL)
        return false;
    for (size_t i = 0; i < s->n_rows; i++) {
        if (is_seen_from(s, i)) {
            net->first[s->dir->rows[i].gold + 1]++;
            n_gold++;
        }
    }
    for (size_t k = 0; k < s->n_classes; k++)
        net->first[k + 1] += net->first[k];
    if (!size_mul(&floats, n_gold + 1, s->dir->n_features))
        return false;
    net->of_class = calloc(n_gold + 1, sizeof *net->of_class);
    net->rows = calloc(n_gold + 1, sizeof *net->rows);
    net->features = calloc(floats, sizeof *net->features);
    net->instance = calloc(n_gold + 1, sizeof *net->instance);
    net->annotator = calloc(n_gold + 1, sizeof *net->annotator);
    net->class_ = calloc(n_gold + 1, sizeof *net->class_);
    return net->of_class != NULL && net->rows != NULL && net->features != NULL && net->instance != NULL &&
           net->annotator != NULL && net->class_ != NULL;
}

static void release(struct network *net)
{
    free(net->class_);
    free(net->annotator);
    free(net->instance);
    free(net->features);
    free(net->rows);
    free(net->chosen);
    free(net->of_class);
    free(net->first);
}

static void sort_by_class(struct network *net, size_t *at)
{
    const struct simulation *s = net->s;

    memcpy(at, net->first, s->n_classes * sizeof *at);
    for (size_t i = 0; i < s->n_rows; i++) {
        if (is_seen_from(s, i))
            net->of_class[at[s->dir->rows[i].gold]++] = (uint32_t)i;
    }
}

/* Fills rows; how many classes are among them. */
static size_t choose(struct network *net, struct sim_random *random, size_t *n)
{
    const struct simulation *s = net->s;
    double a = sim_uniform(random), b = 0.5 + 1.5 * sim_uniform(random);
    size_t classes = 0;

    a = a > 1e-9 ? a : 1e-9;
    memset(net->chosen, 0, s->n_rows);
    for (size_t k = 0; k < s->n_classes; k++) {
        const size_t members = net->first[k + 1] - net->first[k];
        size_t taken = (size_t)(sim_beta(random, a, b) * (double)members + 0.5);

        sim_shuffle(random, net->of_class + net->first[k], members);
        for (size_t i = 0; i < taken; i++)
            net->chosen[net->of_class[net->first[k] + i]] = 1;
        classes += taken > 0;
    }
    *n = 0;
    for (size_t i = 0; i < s->n_rows; i++) {
        if (net->chosen[i])
            net->rows[(*n)++] = (uint32_t)i;
    }
    return classes;
}

/* ---- one network ------------------------------------------------------------------------------------------------- */

static void tell(const struct amx_progress *p, void *context)
{
    const struct network *net = context;
    const struct sim_options *o = net->s->options;
    char text[96];

    (void)snprintf(text, sizeof text, "network %zu of %zu  epoch %d/%d", net->a + 1, o->n_annotators, p->epoch,
                   p->epochs);
    o->progress(((double)net->a + p->fraction) / (double)o->n_annotators, text, o->context);
}

static enum amx_status fit(struct network *net, size_t n, int epochs, uint64_t seed, struct amx_model **model,
                           struct amx_error *err)
{
    const struct simulation *s = net->s;
    const size_t D = s->dir->n_features;
    struct amx_data data = {.n_instances = n,
                            .n_features = D,
                            .n_classes = s->n_classes,
                            .n_annotators = 1,
                            .n_labels = n,
                            .features = net->features,
                            .label_instance = net->instance,
                            .label_annotator = net->annotator,
                            .label_class = net->class_};
    struct amx_fit_options options = {.method = "majority_vote", .seed = seed, .ensemble = 1, .threads = 1};

    for (size_t i = 0; i < n; i++) {
        const struct training_row *row = &s->dir->rows[net->rows[i]];

        memcpy(net->features + i * D, s->dir->features + row->feature_row * D, D * sizeof(float));
        net->instance[i] = (uint32_t)i;
        net->class_[i] = (uint32_t)row->gold;
    }
    amx_settings_default(D, &options.settings);
    memset(options.settings.hidden, 0, sizeof options.settings.hidden);
    options.settings.n_hidden = s->options->n_hidden;
    memcpy(options.settings.hidden, s->options->hidden, (size_t)s->options->n_hidden * sizeof(int));
    options.settings.dropout = 0;
    options.settings.epochs = epochs;
    options.settings.batch_size = BATCH;
    options.settings.learning_rate = LEARNING_RATE;
    if (s->options->progress != NULL) {
        options.progress = tell;
        options.context = net;
    }
    return amx_fit(&data, &options, NULL, model, err);
}

/* votes of every row with features. */
static enum amx_status vote(const struct simulation *s, const struct amx_model *model, uint32_t *votes,
                            struct amx_error *err)
{
    const size_t D = s->dir->n_features, C = s->n_classes;
    float *x = calloc(PREDICT_ROWS, D * sizeof *x), *p = calloc(PREDICT_ROWS, C * sizeof *p);
    enum amx_status status = x == NULL || p == NULL ? error_set(err, AMX_NO_MEMORY, "Out of memory.") : AMX_OK;

    for (size_t first = 0; first < s->n_rows && status == AMX_OK; first += PREDICT_ROWS) {
        const size_t n = s->n_rows - first < PREDICT_ROWS ? s->n_rows - first : PREDICT_ROWS;
        const struct amx_prediction out = {.p_class = p};

        memset(x, 0, n * D * sizeof *x);
        for (size_t i = 0; i < n; i++) {
            if (s->dir->rows[first + i].feature_row != SIZE_MAX)
                memcpy(x + i * D, s->dir->features + s->dir->rows[first + i].feature_row * D, D * sizeof *x);
        }
        status = amx_predict(model, x, n, NULL, 0, &out, err);
        for (size_t i = 0; i < n && status == AMX_OK; i++) {
            uint32_t best = 0;

            for (uint32_t c = 1; c < C; c++) {
                if (p[i * C + c] > p[i * C + best])
                    best = c;
            }
            votes[first + i] = s->dir->rows[first + i].feature_row != SIZE_MAX ? best : SIM_NO_CLASS;
        }
    }
    free(x);
    free(p);
    return status;
}

static enum amx_status train(struct network *net, struct amx_error *err)
{
    struct simulation *s = net->s;
    struct sim_annotator *annotator = &s->annotators[net->a];
    struct amx_model *model = NULL;
    struct sim_random random;
    size_t n = 0, classes = 0;
    int epochs;
    enum amx_status status;

    sim_random_init(&random, s->options->seed, SIM_FOR_NETWORK, net->a, 0);
    for (int tries = 0; tries < TRIES && (n < 2 || classes < 2); tries++)
        classes = choose(net, &random, &n);
    if (n < 2 || classes < 2)
        return error_set(err, AMX_NOTHING,
                         "There is too little gold in split train: no part of it with two classes was found.");
    epochs = 1 + (int)sim_below(&random, MOST_EPOCHS);
    (void)snprintf(annotator->name, sizeof annotator->name, "network-%zu", net->a + 1);
    annotator->kind = SIM_NETWORK;
    annotator->stream = net->a;
    annotator->votes = calloc(s->n_rows + 1, sizeof *annotator->votes);
    if (annotator->votes == NULL)
        return error_set(err, AMX_NO_MEMORY, "Out of memory.");
    status = fit(net, n, epochs, sim_below(&random, UINT64_C(1) << 53), &model, err);
    if (status == AMX_OK)
        status = vote(s, model, annotator->votes, err);
    amx_model_free(model);
    return status;
}

enum amx_status sim_networks_add(struct simulation *s, struct amx_error *err)
{
    struct network net = {.s = s};
    size_t *at = calloc(s->n_classes + 1, sizeof *at);
    enum amx_status status;

    if (s->dir->n_features == 0) {
        free(at);
        return error_set(err, AMX_INVALID, "Networks need features: the folder has none.");
    }
    status = sim_grow_annotators(s, s->options->n_annotators, err);
    if (status == AMX_OK && (at == NULL || !allocate(&net)))
        status = error_set(err, AMX_NO_MEMORY, "Out of memory.");
    for (net.a = 0; net.a < s->n_annotators && status == AMX_OK; net.a++) {
        /* From one order again for each, so that none depends on how many went before. */
        sort_by_class(&net, at);
        status = train(&net, err);
    }
    release(&net);
    free(at);
    return status;
}
