/* test_methods_madl.c - MaDL: golden values, gradients, weights of the annotators, gamma, the limit, predictions. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "deep_check.h"
#include "learn/methods/madl.h"
#include "reference.h"
#include "test.h"

enum {
    E = 16,
    HIDDEN = 128,
    V = 48,
    MOST = 32, /* labels */
    MOST_CLASSES = 8
};

/* x [n][width] through the BatchNorm of these tensors. */
static void norm(const struct deep *d, const char *gamma_name, const char *beta_name, double *x, size_t n, size_t width)
{
    reference_norm(x, n, width, deep_tensor(d, d->parameters, gamma_name), deep_tensor(d, d->parameters, beta_name));
}

static void annotator_embedding(const struct deep *d, const double *block, size_t a, double *out)
{
    double one_hot[16] = {0};

    one_hot[a] = 1.0;
    deep_linear(d, block, "annotator_embed", one_hot, d->model->dims.A, E, out);
}

/* Embeddings detached: those of the start. */
static void weights(const struct deep *d, double *w)
{
    const size_t A = d->model->dims.A;
    const double gamma = deep_tensor(d, d->parameters, "gamma")[0];
    double total = 0.0;

    for (size_t a = 0; a < A; a++) {
        double ea[E], eb[E], n = 0.0;
        annotator_embedding(d, d->start, a, ea);
        for (size_t b = 0; b < A; b++) {
            double distance = 0.0;
            annotator_embedding(d, d->start, b, eb);
            for (size_t e = 0; e < E; e++)
                distance += (ea[e] - eb[e]) * (ea[e] - eb[e]);
            n += exp(-fmax(gamma, 1e-5) * distance);
        }
        w[a] = 1.0 / n;
        total += w[a];
    }
    for (size_t a = 0; a < A; a++)
        w[a] *= (double)A / total;
}

static double reference(const struct deep *d, const double *p, const double *u)
{
    static double v[MOST * V], h1[MOST * HIDDEN], h[MOST * E];
    const struct dims *dims = &d->model->dims;
    const struct batch *b = &d->workspace.batch;
    const size_t C = dims->C, n = b->n_labels;
    const double *outer = deep_tensor(d, d->parameters, "outer.weight");
    const double gamma = fmax(deep_tensor(d, d->parameters, "gamma")[0], 1e-3);
    double w[16], loss = 0.0;

    weights(d, w);
    for (size_t t = 0; t < n; t++) {
        double *x = v + t * V;
        annotator_embedding(d, d->parameters, b->annotator1[t], x);
        deep_linear(d, d->parameters, "instance_embed", u + b->row[t] * dims->H, dims->H, E, x + E);
        for (size_t r = 0; r < E; r++) {
            x[2 * E + r] = 0.0;
            for (size_t i = 0; i < E * E; i++)
                x[2 * E + r] += (x[i / E] + x[E + i / E]) * outer[r * E * E + i] * (x[i % E] + x[E + i % E]);
        }
        deep_linear(d, d->parameters, "ap_hidden0", x, V, HIDDEN, h1 + t * HIDDEN);
    }
    norm(d, "ap_bn0.weight", "ap_bn0.bias", h1, n, HIDDEN);
    reference_relu(h1, n * HIDDEN);
    for (size_t t = 0; t < n; t++)
        deep_linear(d, d->parameters, "ap_hidden1", h1 + t * HIDDEN, HIDDEN, E, h + t * E);
    norm(d, "ap_bn1.weight", "ap_bn1.bias", h, n, E);
    for (size_t t = 0; t < n; t++) {
        double logits[MOST_CLASSES * MOST_CLASSES], q = 0.0;
        for (size_t e = 0; e < E; e++)
            h[t * E + e] = fmax(0.0, h[t * E + e] + v[t * V + e]);
        deep_linear(d, d->parameters, "ap_out", h + t * E, E, C * C, logits);
        for (size_t k = 0; k < C; k++) {
            reference_log_softmax(logits + k * C, C);
            q += p[b->row[t] * C + k] * exp(logits[k * C + b->class1[t]]);
        }
        loss -= w[b->annotator1[t]] * log(q) / (double)n;
    }
    return loss - (1.25 * log(0.25) - lgamma(1.25) + 0.25 * log(gamma) - 0.25 * gamma);
}

TEST(learn_madl_golden)
{
    deep_golden("madl");
    deep_golden("madl_gamma");
}

TEST(learn_madl_gradients)
{
    struct deep d;

    deep_open(&d, 9, 5, 3, 4);
    deep_gradients(&d, deep_step(&d, "madl", false), reference);
    deep_close(&d);
    deep_open(&d, 8, 4, 2, 3);
    d.settings->n_hidden = 0;
    d.settings->train_gamma = true;
    deep_gradients(&d, deep_step(&d, "madl", false), reference);
    deep_close(&d);
}

/* Against the definition, over several blocks of annotators; twins count half. */
TEST(learn_madl_weights)
{
    enum {
        A = 75,
        EP = 32
    };
    struct madl_weights weights_of = {0};
    struct arena arena = {0};
    float *table = toy_alloc(A * EP, sizeof(float));
    double expected[A], total = 0.0, sum = 0.0;
    uint64_t state = 9;
    void *memory = NULL;

    for (size_t a = 0; a < A; a++) {
        for (size_t e = 0; e < E; e++)
            table[a * EP + e] = a == 1 ? table[e] : (float)(toy_random(&state) - 0.5);
    }
    madl_weights_lay_out(&weights_of, A, EP, &arena);
    CHECK_INT(posix_memalign(&memory, 64, arena.used), 0);
    if (memory == NULL)
        return;
    memset(memory, 0, arena.used);
    arena = (struct arena){.base = memory};
    madl_weights_lay_out(&weights_of, A, EP, &arena);
    weights_of.table = table;
    madl_weights_compute(&weights_of, 3.0, false, kernels_get());
    for (size_t a = 0; a < A; a++) {
        double n = 0.0;
        for (size_t b = 0; b < A; b++) {
            double distance = 0.0;
            for (size_t e = 0; e < E; e++) {
                double x = (double)table[a * EP + e] - (double)table[b * EP + e];
                distance += x * x;
            }
            n += exp(-3.0 * distance);
        }
        expected[a] = 1.0 / n;
        total += expected[a];
    }
    for (size_t a = 0; a < A; a++) {
        CHECK_NEAR((double)weights_of.weight[a], A * expected[a] / total, 1e-5);
        sum += (double)weights_of.weight[a];
    }
    CHECK_NEAR(sum, A, 1e-3);
    CHECK(weights_of.weight[0] == weights_of.weight[1]);
    CHECK(weights_of.weight[0] < weights_of.weight[2]);
    free(memory);
    free(table);
}

static float gamma_after(bool train_gamma)
{
    struct toy toy;
    struct amx_model *model;
    float gamma = -1.0f;

    toy_init(&toy, 60, 4, 3, 5, 3);
    toy.options.method = "madl";
    toy.options.settings.train_gamma = train_gamma;
    toy.options.settings.annotator_weight_decay = 0.1;
    model = toy_fit(&toy);
    if (model != NULL)
        gamma = model->tensors[model->layout.tensor[layout_find(&model->layout, "gamma")].compact];
    amx_model_free(model);
    toy_done(&toy);
    return gamma;
}

/* Not even weight decay moves it. */
TEST(learn_madl_gamma_stays)
{
    CHECK(gamma_after(false) == 1.0f);
    CHECK(gamma_after(true) != 1.0f);
}

TEST(learn_madl_refuses_many_annotators)
{
    const volatile int cancelled = 1;
    struct toy toy;
    struct amx_model *model = NULL;
    struct amx_error err = {0};

    toy_init(&toy, 20, 3, 2, 3, 3);
    toy.data.annotator_names = NULL;
    toy.data.n_annotators = 20001;
    toy.options.method = "madl";
    CHECK_INT(amx_fit(&toy.data, &toy.options, NULL, &model, &err), AMX_TOO_LARGE);
    CHECK(strstr(err.text, "20001") != NULL && strstr(err.text, "1.6 GB") != NULL);
    toy.data.n_annotators = 20000;
    toy.options.cancel = &cancelled; /* not refused; a step with so many takes a while */
    CHECK_INT(amx_fit(&toy.data, &toy.options, NULL, &model, &err), AMX_CANCELLED);
    toy_done(&toy);
}

TEST(learn_madl_predictions)
{
    deep_predictions("madl", true);
}
