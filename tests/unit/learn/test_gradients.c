/* test_gradients.c - every gradient of a step against finite differences of the loss, written again in double.
 *
 * The reference below, with reference.h, is the specification read literally: one-hot vectors are mixed, the class
 * model runs over the mixed rows, log p_annot is a logsumexp over true classes. It shares no code with src/learn and
 * knows parameters only by their names in the model file. Central differences in double are exact to about 1e-9. */
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "learn/batch.h"
#include "learn/class_model.h"
#include "learn/method.h"
#include "learn/methods/annot_mix.h"
#include "learn/methods/class_target.h"
#include "learn/mixup.h"
#include "learn/model.h"
#include "learn/workspace.h"
#include "reference.h"

enum {
    MOST = 64
}; /* rows, widths */

struct check {
    const char *method; /* NULL = annot_mix */
    struct toy toy;
    struct amx_settings *settings;
    struct amx_model *model;
    struct train_data train;
    struct member_data member;
    uint32_t rows[MOST];
    struct workspace workspace;
    struct forced_masks forced;
    unsigned char masks[AMX_MAX_HIDDEN + 1][MOST * 2 * MOST];
    float lambda[3 * MOST];
    uint32_t permutation[3 * MOST], order[MOST];
    double *parameters; /* compact */
    size_t slab;        /* 0: the fit's own choice; else as with many classes: slabs of this size, logits twice */
};

/* ---- the loss in double ------------------------------------------------------------ */

static const double *of(const struct check *c, const char *name)
{
    return c->parameters + c->model->layout.tensor[layout_find(&c->model->layout, name)].compact;
}

static const double *of_layer(const struct check *c, const char *kind, int l, const char *part)
{
    char name[32];

    (void)snprintf(name, sizeof name, "%s%d.%s", kind, l, part);
    return of(c, name);
}

/* Class model over `rows` rows x [rows][D]; returns u (caller frees) and fills logits [rows][C]. */
static double *class_forward(const struct check *c, const double *x, size_t rows, double *logits)
{
    const struct dims *d = &c->model->dims;
    double *u = toy_alloc(rows * MOST, sizeof(double)), *next = toy_alloc(rows * MOST, sizeof(double));
    size_t width = d->D;

    memcpy(u, x, rows * d->D * sizeof(double));
    for (int l = 0; l < d->L; l++) {
        reference_linear(next, u, rows, width, d->h[l], of_layer(c, "hidden", l, "weight"),
                         of_layer(c, "hidden", l, "bias"));
        width = d->h[l];
        reference_norm(next, rows, width, of_layer(c, "bn", l, "weight"), of_layer(c, "bn", l, "bias"));
        reference_relu(next, rows * width);
        reference_drop(next, c->masks[l], rows * width, c->settings->dropout);
        memcpy(u, next, rows * width * sizeof(double));
    }
    reference_linear(logits, u, rows, width, d->C, of(c, "class_out.weight"), of(c, "class_out.bias"));
    free(next);
    return u;
}

/* Cross-entropy of the class model over mixed rows with mixed targets: the methods with one target per instance. */
static double target_loss(const struct check *c)
{
    const struct dims *d = &c->model->dims;
    const struct batch *b = &c->workspace.batch;
    const float *targets = ((const struct class_target_state *)c->workspace.state)->targets;
    const size_t n = b->n_rows, D = d->D, C = d->C;
    double *x = toy_alloc(n * D, sizeof(double)), *logits = toy_alloc(n * C, sizeof(double)), loss = 0.0;

    for (size_t i = 0; i < n; i++) {
        size_t q = b->mixed ? c->permutation[i] : i;
        double l = b->mixed ? (double)c->lambda[i] : 1.0;
        for (size_t j = 0; j < D; j++)
            x[i * D + j] = l * (double)b->x[i * d->Dp + j] + (1.0 - l) * (double)b->x[q * d->Dp + j];
    }
    free(class_forward(c, x, n, logits));
    for (size_t i = 0; i < n; i++) {
        size_t q = b->mixed ? c->permutation[i] : i;
        double l = b->mixed ? (double)c->lambda[i] : 1.0;
        reference_log_softmax(logits + i * C, C);
        for (size_t k = 0; k < C; k++)
            loss -= (l * (double)targets[c->order[i] * C + k] + (1.0 - l) * (double)targets[c->order[q] * C + k]) *
                    logits[i * C + k] / (double)n;
    }
    free(logits);
    free(x);
    return loss;
}

/* Constant logits of annot_mix_prior: the row of each (mixed) annotator. */
static void add_prior(const struct check *c, const double *a, double *confusion)
{
    const size_t T = c->workspace.batch.n_labels, A = c->model->dims.A, cells = c->model->dims.C * c->model->dims.C;
    const double *prior;

    if (layout_find(&c->model->layout, ANNOT_MIX_PRIOR_TENSOR) < 0)
        return;
    prior = of(c, ANNOT_MIX_PRIOR_TENSOR);
    for (size_t t = 0; t < T; t++) {
        for (size_t i = 0; i < A * cells; i++)
            confusion[t * cells + i % cells] += a[t * A + i / cells] * prior[i];
    }
}

/* stop: the embedding that the annotator model sees [T][H], fixed while class parameters move; NULL = the current. */
static double loss_of(const struct check *c, const double *stop, double *u_out)
{
    const struct dims *d = &c->model->dims;
    const struct batch *b = &c->workspace.batch;
    const size_t T = b->n_labels, D = d->D, C = d->C, E = d->E, A = d->A, H = d->H;
    const bool mixed = c->settings->alpha > 0.0;
    const size_t rows = mixed ? T : b->n_rows;
    double *x = toy_alloc(T * D, sizeof(double)), *a = toy_alloc(T * A, sizeof(double));
    double *z = toy_alloc(T * C, sizeof(double)), *row_logits = toy_alloc(T * C, sizeof(double));
    double *logits = toy_alloc(T * C, sizeof(double)), *u = toy_alloc(T * H, sizeof(double));
    double *v = toy_alloc(T * 2 * E, sizeof(double)), *half = toy_alloc(T * E, sizeof(double));
    double *hidden = toy_alloc(T * E, sizeof(double)), *confusion = toy_alloc(T * C * C, sizeof(double)), *row_u;
    double loss = 0.0;

    for (size_t t = 0; t < T; t++) {
        size_t q = mixed ? c->permutation[t] : t;
        double l = mixed ? (double)c->lambda[t] : 1.0;
        a[t * A + b->annotator1[t]] += l;
        a[t * A + b->annotator1[q]] += 1.0 - l;
        z[t * C + b->class1[t]] += l;
        z[t * C + b->class1[q]] += 1.0 - l;
        for (size_t j = 0; j < D && mixed; j++)
            x[t * D + j] = l * (double)b->x[b->row[t] * d->Dp + j] + (1.0 - l) * (double)b->x[b->row[q] * d->Dp + j];
    }
    for (size_t i = 0; i < rows && !mixed; i++) {
        for (size_t j = 0; j < D; j++)
            x[i * D + j] = (double)b->x[i * d->Dp + j];
    }
    row_u = class_forward(c, x, rows, row_logits);
    for (size_t t = 0; t < T; t++) {
        size_t r = mixed ? t : b->row[t];
        memcpy(logits + t * C, row_logits + r * C, C * sizeof(double));
        memcpy(u + t * H, row_u + r * H, H * sizeof(double));
        reference_log_softmax(logits + t * C, C);
    }
    if (u_out != NULL)
        memcpy(u_out, u, T * H * sizeof(double));
    reference_linear(half, stop != NULL ? stop : u, T, H, E, of(c, "instance_embed.weight"),
                     of(c, "instance_embed.bias"));
    for (size_t t = 0; t < T; t++)
        memcpy(v + t * 2 * E, half + t * E, E * sizeof(double));
    reference_linear(half, a, T, A, E, of(c, "annotator_embed.weight"), of(c, "annotator_embed.bias"));
    for (size_t t = 0; t < T; t++)
        memcpy(v + t * 2 * E + E, half + t * E, E * sizeof(double));
    reference_drop(v, c->masks[d->L], T * 2 * E, 0.5);
    reference_linear(hidden, v, T, 2 * E, E, of(c, "ap_hidden.weight"), of(c, "ap_hidden.bias"));
    reference_norm(hidden, T, E, of(c, "ap_bn.weight"), of(c, "ap_bn.bias"));
    reference_relu(hidden, T * E);
    reference_linear(confusion, hidden, T, E, C * C, of(c, "ap_out.weight"), of(c, "ap_out.bias"));
    add_prior(c, a, confusion);
    for (size_t t = 0; t < T; t++) {
        for (size_t k = 0; k < C; k++)
            reference_log_softmax(confusion + (t * C + k) * C, C);
        for (size_t j = 0; j < C; j++) {
            double q = 0.0;
            for (size_t k = 0; k < C; k++)
                q += exp(logits[t * C + k] + confusion[(t * C + k) * C + j]);
            loss -= z[t * C + j] * log(q) / (double)T;
        }
    }
    free(row_u);
    free(confusion);
    free(hidden);
    free(half);
    free(v);
    free(u);
    free(logits);
    free(row_logits);
    free(z);
    free(a);
    free(x);
    return loss;
}

/* ---- engine against reference ------------------------------------------------------------ */

static void check_init(struct check *c, size_t N, size_t D, size_t C, size_t A)
{
    toy_init(&c->toy, N, D, C, A, 21);
    c->settings = &c->toy.options.settings;
    c->settings->batch_size = (int)N;
    c->settings->annotator_embedding = 6;
    c->settings->dropout = 0.25;
    c->settings->standardize = false;
}

static void draw_masks(struct check *c, uint64_t *state)
{
    const struct dims *d = &c->model->dims;

    for (int l = 0; l <= d->L; l++) {
        double p = l < d->L ? c->settings->dropout : 0.5;
        for (size_t i = 0; i < sizeof c->masks[l]; i++)
            c->masks[l][i] = toy_random(state) >= p;
        c->forced.hidden[l < d->L ? l : 0] = c->masks[l < d->L ? l : 0];
    }
    c->forced.annotator = c->masks[d->L];
}

/* One engine step with learning rate 0, so that parameters stay; returns its loss. out_gradient [C C][Ep]. */
static double engine_step(struct check *c, float *out_gradient)
{
    const struct step_rates rates = {0.0, 0.0};
    uint64_t state = 5;
    struct amx_error err;
    struct rng rng;
    size_t T;

    CHECK_INT(model_new(method_find(c->method), c->settings, c->toy.data.n_features, c->toy.data.n_classes,
                        c->toy.data.n_annotators, 1, &c->model, &err),
              AMX_OK);
    CHECK_INT(train_data_init(&c->train, &c->toy.data, c->settings, &err), AMX_OK);
    workspace_dims(&c->model->dims, c->model->method, (size_t)c->settings->batch_size, c->train.n_rows,
                   c->train.max_labels, c->train.n_labels);
    CHECK_INT(workspace_init(&c->workspace, c->model->method, &c->model->layout, &c->model->dims, c->settings,
                             c->train.n_rows),
              AMX_OK);
    if (c->slab > 0) {
        struct annot_mix_state *state_of = c->workspace.state;
        CHECK(state_of->loss.keep_logits && state_of->loss.slab >= c->slab);
        state_of->loss.keep_logits = false;
        state_of->loss.slab = c->slab;
    }
    for (uint32_t i = 0; i < c->train.n_rows; i++)
        c->rows[i] = i;
    c->member = (struct member_data){.data = &c->train, .rows = c->rows, .n_rows = c->train.n_rows};
    c->workspace.member = &c->member;
    rng_seed(&rng, 1, 0, RNG_INITIAL);
    CHECK_INT(
        c->model->method->initial(&c->model->layout, &c->model->dims, c->settings, &c->member, c->model->tensors, &rng),
        AMX_OK);
    /* BatchNorm away from 1 and 0, so that its gradients are not special. */
    c->parameters = toy_alloc(c->model->layout.compact_length, sizeof(double));
    for (size_t i = 0; i < c->model->layout.compact_length; i++) {
        c->model->tensors[i] += (float)(0.2 * (toy_random(&state) - 0.5));
        c->parameters[i] = (double)c->model->tensors[i];
    }
    layout_import(&c->model->layout, c->model->tensors, c->workspace.parameters);
    workspace_seed(&c->workspace, 1, 0, c->train.n_rows);
    if (c->model->method->prepare != NULL)
        CHECK_INT(c->model->method->prepare(&c->workspace), AMX_OK);
    draw_masks(c, &state);
    c->workspace.forced = &c->forced;
    c->workspace.out_gradient = out_gradient;
    for (uint32_t i = 0; i < c->train.n_rows; i++)
        c->order[i] = (uint32_t)c->train.n_rows - 1 - i;
    batch_load(&c->workspace.batch, &c->train, c->order, c->train.n_rows);
    T = c->workspace.batch.n_labels;
    for (size_t t = 0; t < T; t++) {
        c->lambda[t] = (float)toy_random(&state);
        c->permutation[t] = (uint32_t)((2 * T + 2 - t) % T);
    }
    if (c->settings->alpha > 0.0)
        mixup_set(&c->workspace.batch, c->lambda, c->permutation);
    return c->model->method->step(&c->workspace, &rates);
}

static double loss_with(const struct check *c, const double *stop, double *u_out)
{
    return c->model->method->one_triple_per_row ? target_loss(c) : loss_of(c, stop, u_out);
}

static void compare_tensor(struct check *c, const struct tensor *t, const float *gradient, const double *stop)
{
    double largest = 0.0, worst = 0.0;
    char text[160];

    for (size_t i = 0; i < t->rows * t->cols; i++) {
        double *p = &c->parameters[t->compact + i], kept = *p, up, down, expected;
        const double step = 1e-6;
        *p = kept + step;
        up = loss_with(c, stop, NULL);
        *p = kept - step;
        down = loss_with(c, stop, NULL);
        *p = kept;
        expected = (up - down) / (2.0 * step);
        largest = fmax(largest, fabs(expected));
        worst = test_worst(worst, fabs(expected - (double)gradient[t->compact + i]));
    }
    (void)snprintf(text, sizeof text, "gradient of %s against finite differences (max %g, worst difference %g)",
                   t->name, largest, worst);
    test_check(worst <= 1e-4 * largest + 1e-6, __FILE__, __LINE__, text);
}

static void check_gradients(struct check *c)
{
    const size_t out_floats = c->toy.data.n_classes * c->toy.data.n_classes * 32;
    float *out_gradient = toy_alloc(out_floats, sizeof(float)), *block, *compact;
    double loss = engine_step(c, out_gradient), *stop;
    const struct layout *layout = &c->model->layout;

    block = toy_alloc(layout->group_start[N_GROUPS], sizeof(float));
    compact = toy_alloc(layout->compact_length, sizeof(float));
    memcpy(block, c->workspace.gradients, layout->group_start[GROUP_STREAMED] * sizeof(float));
    if (layout_find(layout, "ap_out.weight") >= 0)
        memcpy(block + layout->tensor[layout_find(layout, "ap_out.weight")].offset, out_gradient,
               out_floats * sizeof(float));
    layout_export(layout, block, compact);
    stop = toy_alloc(c->workspace.batch.n_labels * c->model->dims.H, sizeof(double));
    CHECK_NEAR(loss, loss_with(c, NULL, stop), 2e-6);
    for (int i = 0; i < layout->n; i++) {
        /* Fixed tensors: the bias before BatchNorm has no gradient (test below), running statistics no role. */
        if (layout->tensor[i].group != GROUP_FIXED)
            compare_tensor(c, &layout->tensor[i], compact, stop);
    }
    free(stop);
    free(compact);
    free(block);
    free(out_gradient);
    free(c->parameters);
    workspace_done(&c->workspace);
    train_data_done(&c->train);
    amx_model_free(c->model);
    toy_done(&c->toy);
}

static struct check check; /* large: masks */

TEST(learn_gradients_mixup_two_layers)
{
    memset(&check, 0, sizeof check);
    check_init(&check, 9, 5, 3, 4);
    check.settings->n_hidden = 2;
    check.settings->hidden[0] = 7;
    check.settings->hidden[1] = 5;
    check_gradients(&check);
}

TEST(learn_gradients_no_mixup)
{
    memset(&check, 0, sizeof check);
    check_init(&check, 9, 5, 3, 4);
    check.settings->alpha = 0.0;
    check_gradients(&check);
}

TEST(learn_gradients_logits_computed_twice)
{
    for (size_t slab = 1; slab <= 2; slab++) {
        for (int mixed = 0; mixed < 2; mixed++) {
            memset(&check, 0, sizeof check);
            check_init(&check, 10, 4, 5, 3);
            check.slab = slab; /* 2 does not divide 5 classes: the last slab is smaller */
            check.settings->alpha = mixed;
            check_gradients(&check);
        }
    }
}

TEST(learn_gradients_no_hidden)
{
    memset(&check, 0, sizeof check);
    check_init(&check, 8, 4, 2, 3);
    check.settings->n_hidden = 0;
    check_gradients(&check);
    memset(&check, 0, sizeof check);
    check_init(&check, 8, 4, 2, 3);
    check.settings->n_hidden = 0;
    check.settings->alpha = 0.0;
    check_gradients(&check);
}

TEST(learn_gradients_one_annotator)
{
    memset(&check, 0, sizeof check);
    check_init(&check, 10, 3, 4, 1);
    check_gradients(&check);
}

TEST(learn_gradients_prior)
{
    for (int mixed = 0; mixed < 2; mixed++) {
        for (size_t slab = 0; slab <= 2; slab++) {
            memset(&check, 0, sizeof check);
            check_init(&check, 10, 4, 3, 4);
            check.method = "annot_mix_prior";
            check.slab = slab; /* 1, 2: logits, and with them the prior, computed twice */
            check.settings->alpha = mixed;
            check_gradients(&check);
        }
    }
}

TEST(learn_gradients_targets)
{
    static const struct {
        const char *method;
        bool mixed, soft;
        int n_hidden;
    } cases[] = {
        {"majority_vote", false, false, 2},    {"majority_vote_mixup", true, true, 1}, {"dawid_skene", false, true, 1},
        {"dawid_skene_mixup", true, false, 2}, {"dawid_skene_mixup", true, true, 0},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memset(&check, 0, sizeof check);
        check_init(&check, 20, 5, 3, 4);
        check.method = cases[i].method;
        check.settings->alpha = cases[i].mixed;
        check.settings->soft = cases[i].soft;
        check.settings->n_hidden = cases[i].n_hidden;
        check.settings->hidden[0] = 7;
        check.settings->hidden[1] = 5;
        check_gradients(&check);
    }
}

TEST(learn_gradients_bias_before_norm_is_zero)
{
    double before, *bias;

    memset(&check, 0, sizeof check);
    check_init(&check, 9, 5, 3, 4);
    (void)engine_step(&check, NULL);
    before = loss_of(&check, NULL, NULL);
    bias = check.parameters + check.model->layout.tensor[layout_find(&check.model->layout, "hidden0.bias")].compact;
    for (size_t i = 0; i < check.model->dims.h[0]; i++)
        bias[i] += 3.0;
    CHECK_NEAR(loss_of(&check, NULL, NULL), before, 1e-12);
    free(check.parameters);
    workspace_done(&check.workspace);
    train_data_done(&check.train);
    amx_model_free(check.model);
    toy_done(&check.toy);
}
