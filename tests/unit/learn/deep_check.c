/* deep_check.c - see deep_check.h. The reference class model is the specification read literally, in double; it shares
 * no code with src/learn and knows tensors only by their names. */
#include "deep_check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reference.h"
#include "test.h"

const double *deep_tensor(const struct deep *d, const double *block, const char *name)
{
    int i = layout_find(&d->model->layout, name);

    if (i < 0) {
        fprintf(stderr, "deep_check.c: no tensor %s\n", name);
        exit(2);
    }
    return block + d->model->layout.tensor[i].compact;
}

void deep_linear(const struct deep *d, const double *block, const char *name, const double *x, size_t in, size_t width,
                 double *out)
{
    char weight[40], bias[40];

    (void)snprintf(weight, sizeof weight, "%s.weight", name);
    (void)snprintf(bias, sizeof bias, "%s.bias", name);
    reference_linear(out, x, 1, in, width, deep_tensor(d, block, weight), deep_tensor(d, block, bias));
}

/* ---- one step ------------------------------------------------------------ */

void deep_open(struct deep *d, size_t N, size_t D, size_t C, size_t A)
{
    memset(d, 0, sizeof *d);
    toy_init(&d->toy, N, D, C, A, 21);
    d->settings = &d->toy.options.settings;
    d->settings->batch_size = (int)N;
    d->settings->dropout = 0.25;
    d->settings->standardize = false;
}

void deep_close(struct deep *d)
{
    for (int l = 0; l < AMX_MAX_HIDDEN; l++)
        free(d->masks[l]);
    free(d->u_start);
    free(d->start);
    free(d->parameters);
    workspace_done(&d->workspace);
    train_data_done(&d->train);
    amx_model_free(d->model);
    toy_done(&d->toy);
}

static void prepare(struct deep *d, const char *method)
{
    struct amx_error err;

    CHECK_INT(model_new(method_find(method), d->settings, d->toy.data.n_features, d->toy.data.n_classes,
                        d->toy.data.n_annotators, 1, &d->model, &err),
              AMX_OK);
    CHECK_INT(train_data_init(&d->train, &d->toy.data, d->settings, &err), AMX_OK);
    workspace_dims(&d->model->dims, d->model->method, (size_t)d->settings->batch_size, d->train.n_rows,
                   d->train.max_labels, d->train.n_labels);
    CHECK_INT(workspace_init(&d->workspace, d->model->method, &d->model->layout, &d->model->dims, d->settings,
                             d->train.n_rows),
              AMX_OK);
    workspace_seed(&d->workspace, 1, 0, d->train.n_rows);
}

double deep_step(struct deep *d, const char *method, bool exact_start)
{
    const struct step_rates rates = {0.0, 0.0};
    const struct layout *layout;
    uint64_t state = 5;
    struct rng rng;

    prepare(d, method);
    layout = &d->model->layout;
    rng_seed(&rng, 1, 0, RNG_INITIAL);
    CHECK_INT(d->model->method->initial(layout, &d->model->dims, d->settings, NULL, d->model->tensors, &rng), AMX_OK);
    d->parameters = toy_alloc(layout->compact_length, sizeof(double));
    d->start = toy_alloc(layout->compact_length, sizeof(double));
    for (size_t i = 0; i < layout->compact_length; i++) {
        if (!exact_start)
            d->model->tensors[i] += (float)(0.4 * (toy_random(&state) - 0.5));
        d->start[i] = d->parameters[i] = (double)d->model->tensors[i];
    }
    layout_import(layout, d->model->tensors, d->workspace.parameters);
    for (int l = 0; l < d->model->dims.L; l++) {
        size_t n = d->train.n_rows * d->model->dims.h[l];
        d->masks[l] = toy_alloc(n, 1);
        for (size_t i = 0; i < n; i++)
            d->masks[l][i] = toy_random(&state) >= d->settings->dropout;
        d->forced.hidden[l] = d->masks[l];
    }
    d->workspace.forced = &d->forced;
    d->workspace.out_gradient = toy_alloc(d->train.C * d->train.C * 64, sizeof(float));
    for (uint32_t i = 0; i < d->train.n_rows; i++)
        d->order[i] = (uint32_t)d->train.n_rows - 1 - i;
    batch_load(&d->workspace.batch, &d->train, d->order, d->train.n_rows);
    return d->model->method->step(&d->workspace, &rates);
}

/* ---- the loss in double ------------------------------------------------------------ */

/* One hidden layer in place of x [n][*], which has room for the width. */
static void hidden_layer(const struct deep *d, int l, double *x, size_t n, size_t in)
{
    const size_t h = d->model->dims.h[l];
    double *z = toy_alloc(n * h, sizeof(double));
    char name[32], gamma[32], beta[32];

    (void)snprintf(name, sizeof name, "hidden%d", l);
    (void)snprintf(gamma, sizeof gamma, "bn%d.weight", l);
    (void)snprintf(beta, sizeof beta, "bn%d.bias", l);
    for (size_t i = 0; i < n; i++)
        deep_linear(d, d->parameters, name, x + i * in, in, h, z + i * h);
    reference_norm(z, n, h, deep_tensor(d, d->parameters, gamma), deep_tensor(d, d->parameters, beta));
    reference_relu(z, n * h);
    reference_drop(z, d->masks[l], n * h, d->settings->dropout);
    memcpy(x, z, n * h * sizeof(double));
    free(z);
}

/* p [B][C]; returns u [B][H], which the caller frees. */
static double *class_forward(const struct deep *d, double *p)
{
    const struct dims *dims = &d->model->dims;
    const struct batch *b = &d->workspace.batch;
    size_t width = dims->D, widest = dims->D;
    double *u;

    for (int l = 0; l < dims->L; l++)
        widest = dims->h[l] > widest ? dims->h[l] : widest;
    u = toy_alloc(b->n_rows * widest, sizeof(double));
    for (size_t i = 0; i < b->n_rows; i++) {
        for (size_t j = 0; j < dims->D; j++)
            u[i * dims->D + j] = (double)b->x[i * dims->Dp + j];
    }
    for (int l = 0; l < dims->L; l++) {
        hidden_layer(d, l, u, b->n_rows, width);
        width = dims->h[l];
    }
    for (size_t i = 0; i < b->n_rows; i++) {
        deep_linear(d, d->parameters, "class_out", u + i * width, width, dims->C, p + i * dims->C);
        reference_softmax(p + i * dims->C, dims->C);
    }
    return u;
}

static double loss_of(const struct deep *d, deep_loss reference)
{
    double *p = toy_alloc(d->workspace.batch.n_rows * d->model->dims.C, sizeof(double)), *u = class_forward(d, p);
    double loss = reference(d, p, u);

    free(u);
    free(p);
    return loss;
}

static void compare_tensor(struct deep *d, const struct tensor *t, const float *gradient, deep_loss reference)
{
    /* Of a big tensor about a hundred elements, evenly spread. */
    const size_t n = t->rows * t->cols, stride = n > 300 ? 1 + n / 100 : 1;
    const double step = 1e-6;
    double largest = 0.0, worst = 0.0;
    char text[160];

    for (size_t i = 0; i < n; i += stride) {
        double *p = &d->parameters[t->compact + i], kept = *p, up, down, expected;
        *p = kept + step;
        up = loss_of(d, reference);
        *p = kept - step;
        down = loss_of(d, reference);
        *p = kept;
        expected = (up - down) / (2.0 * step);
        largest = fmax(largest, fabs(expected));
        worst = test_worst(worst, fabs(expected - (double)gradient[t->compact + i]));
    }
    (void)snprintf(text, sizeof text, "gradient of %s against finite differences (max %g, worst difference %g)",
                   t->name, largest, worst);
    test_check(worst <= 1e-4 * largest + 1e-6, __FILE__, __LINE__, text);
}

void deep_gradients(struct deep *d, double loss, deep_loss reference)
{
    const struct layout *layout = &d->model->layout;
    float *block = toy_alloc(layout->group_start[N_GROUPS], sizeof(float));
    float *compact = toy_alloc(layout->compact_length, sizeof(float));
    double *p = toy_alloc(d->workspace.batch.n_rows * d->model->dims.C, sizeof(double));
    int streamed = layout_find(layout, "ap_out.weight");

    d->u_start = class_forward(d, p);
    free(p);
    memcpy(block, d->workspace.gradients, layout->group_start[GROUP_STREAMED] * sizeof(float));
    if (streamed >= 0) {
        const struct tensor *t = &layout->tensor[streamed];
        memcpy(block + t->offset, d->workspace.out_gradient, t->rows * t->row_stride * sizeof(float));
    }
    layout_export(layout, block, compact);
    CHECK_NEAR(loss, loss_of(d, reference), 1e-5);
    for (int i = 0; i < layout->n; i++) {
        const struct tensor *t = &layout->tensor[i];
        bool kept = strcmp(t->name, "gamma") == 0 && !d->settings->train_gamma;
        if (t->group != GROUP_FIXED && !kept)
            compare_tensor(d, t, compact, reference);
    }
    free(d->workspace.out_gradient);
    free(compact);
    free(block);
}

/* ---- predictions ------------------------------------------------------------ */

struct answers {
    float *p_class, *p_perf, *p_annotation, *p_confusion;
};

static void answers_init(struct answers *a, size_t n, size_t m, size_t C)
{
    a->p_class = toy_alloc(n * C, sizeof(float));
    a->p_perf = toy_alloc(n * m, sizeof(float));
    a->p_annotation = toy_alloc(n * m * C, sizeof(float));
    a->p_confusion = toy_alloc(n * m * C * C, sizeof(float));
}

static void answers_done(struct answers *a)
{
    free(a->p_confusion);
    free(a->p_annotation);
    free(a->p_perf);
    free(a->p_class);
}

static void check_pair(const float *p, float perf, const float *annotation, const float *confusion, size_t C,
                       bool mixture)
{
    double sum = 0.0, trace = 0.0;

    for (size_t c = 0; c < C; c++) {
        double mixed = 0.0, row = 0.0;
        for (size_t k = 0; k < C; k++) {
            mixed += (double)p[k] * (double)confusion[k * C + c];
            row += (double)confusion[c * C + k];
        }
        CHECK_NEAR(row, 1.0, 1e-5);
        trace += (double)p[c] * (double)confusion[c * C + c];
        sum += (double)annotation[c];
        if (mixture)
            CHECK_NEAR(annotation[c], mixed, 1e-5);
    }
    CHECK_NEAR(sum, 1.0, 1e-5);
    CHECK(perf > 0.0f && perf < 1.0f);
    if (mixture)
        CHECK_NEAR(perf, trace, 1e-5);
}

void deep_predictions(const char *method, bool mixture)
{
    enum {
        N = 40,
        A = 5,
        C = 3
    };
    /* Annotator A of the model has no labels: to the model it is unseen. */
    const uint32_t who[] = {0, 1, 2, 3, 4, A, AMX_UNSEEN};
    struct toy toy;
    struct amx_model *model;
    struct answers all, one;
    struct amx_error err;

    toy_init(&toy, N, 4, C, A, 3);
    toy.data.n_annotators = A + 1;
    toy.data.annotator_names = NULL;
    toy.options.method = method;
    toy.options.ensemble = 2;
    answers_init(&all, N, 7, C);
    answers_init(&one, 1, 1, C);
    model = toy_fit(&toy);
    if (model != NULL) {
        const struct amx_prediction out = {all.p_class, all.p_perf, all.p_annotation, all.p_confusion};
        const struct amx_prediction single = {one.p_class, one.p_perf, one.p_annotation, one.p_confusion};
        CHECK_INT(amx_predict(model, toy.features, N, who, 7, &out, &err), AMX_OK);
        for (size_t i = 0; i < N * 7; i++)
            check_pair(all.p_class + i / 7 * C, all.p_perf[i], all.p_annotation + i * C, all.p_confusion + i * C * C, C,
                       mixture);
        for (size_t i = 0; i < N; i++)
            CHECK(all.p_perf[i * 7 + 5] == all.p_perf[i * 7 + 6]);
        /* A pair's answer does not depend on who else is asked about. */
        CHECK_INT(amx_predict(model, toy.features + 7 * 4, 1, who + 2, 1, &single, &err), AMX_OK);
        CHECK(one.p_perf[0] == all.p_perf[7 * 7 + 2]);
        CHECK(memcmp(one.p_annotation, all.p_annotation + (7 * 7 + 2) * C, sizeof(float) * C) == 0);
        CHECK(memcmp(one.p_confusion, all.p_confusion + (7 * 7 + 2) * C * C, sizeof(float) * C * C) == 0);
    }
    amx_model_free(model);
    answers_done(&one);
    answers_done(&all);
    toy_done(&toy);
}
