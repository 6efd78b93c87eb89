/* test_methods_matrix.c - crowd_layer, trace_reg, geo_reg_f, geo_reg_w and coin_net against tests/golden/matrix.
 *
 * Two references: PyTorch's numbers (losses, gradients, parameters after several steps, predictions), and the loss
 * written again here in double, whose central differences every gradient of a step must match. Both know parameters
 * only by their names in the model file, and coin_net's vectors as "outliers". */
#include "test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "json_numbers.h"
#include "matrix_case.h"
#include "reference.h"

static const char *const CASES[] = {"crowd_layer", "trace_reg",           "geo_reg_f", "geo_reg_f_few_rows",
                                    "geo_reg_w",   "geo_reg_w_no_hidden", "coin_net",  "coin_net_decay"};
enum {
    N_CASES = sizeof CASES / sizeof CASES[0]
};

/* ---- PyTorch's numbers ------------------------------------------------------------------------------------------- */

/* The rule of golden/README.md. */
static void compare(const struct matrix_case *g, const char *what, const float *ours, const json_t *expected)
{
    struct numbers e = numbers_of(expected);
    double largest = 0.0, worst = 0.0;
    bool within = expected != NULL;
    char text[200];

    for (size_t i = 0; i < e.n; i++)
        largest = fmax(largest, fabs(e.x[i]));
    for (size_t i = 0; i < e.n; i++) {
        double d = fabs((double)ours[i] - e.x[i]);
        worst = test_worst(worst, d);
        within = within && d <= 1e-4 * largest + 1e-6; /* false for NaN */
    }
    (void)snprintf(text, sizeof text, "%s: %s within 1e-4 max|tensor| + 1e-6 (max %g, worst difference %g)", g->name,
                   what, largest, worst);
    test_check(within, __FILE__, __LINE__, text);
    free(e.x);
}

/* Tensors of a block (parameters, or gradients where `trained` alone have one). */
static void compare_tensors(const struct matrix_case *g, const char *what, const float *block, bool trained,
                            const json_t *expected)
{
    const struct layout *layout = &g->model->layout;
    float *compact = toy_alloc(layout->compact_length, sizeof(float));
    char text[100];

    layout_export(layout, block, compact);
    for (int i = 0; i < layout->n; i++) {
        const struct tensor *t = &layout->tensor[i];
        (void)snprintf(text, sizeof text, "%s %s", what, t->name);
        if (!trained || t->group != GROUP_FIXED)
            compare(g, text, compact + t->compact, json_object_get(expected, t->name));
    }
    free(compact);
}

static void compare_gradients(struct matrix_case *g, const json_t *expected)
{
    const struct layout *layout = &g->model->layout;
    float *block = toy_alloc(layout->group_start[N_GROUPS], sizeof(float)), *outliers;

    memcpy(block, g->workspace.gradients, layout->group_start[GROUP_STREAMED] * sizeof(float));
    compare_tensors(g, "gradient of", block, true, expected);
    if ((outliers = matrix_case_outlier_gradient(g)) != NULL)
        compare(g, "gradient of outliers", outliers, json_object_get(expected, "outliers"));
    free(outliers);
    free(block);
}

static void compare_predictions(struct matrix_case *g)
{
    const json_t *predict = json_object_get(g->json, "predict");
    const size_t m = g->A + 1, pairs = g->N * m;
    uint32_t annotators[MOST];
    struct amx_error err;
    struct amx_prediction out = {.p_class = toy_alloc(g->N * g->C, sizeof(float)),
                                 .p_perf = toy_alloc(pairs, sizeof(float)),
                                 .p_annotation = toy_alloc(pairs * g->C, sizeof(float)),
                                 .p_confusion = toy_alloc(pairs * g->C * g->C, sizeof(float))};

    for (uint32_t a = 0; a < g->A; a++)
        annotators[a] = a;
    annotators[g->A] = AMX_UNSEEN;
    layout_export(&g->model->layout, g->workspace.parameters, g->model->tensors);
    memcpy(g->model->annotator_labels, g->train.annotator_labels, g->A * sizeof(uint64_t));
    g->model->labels_used = g->data.n_labels;
    for (size_t j = 0; j < g->D; j++)
        g->model->scale[j] = 1.0f;
    CHECK_INT(model_prepare(g->model, &err), AMX_OK);
    CHECK_INT(amx_predict(g->model, g->features, g->N, annotators, m, &out, &err), AMX_OK);
    compare(g, "p_class", out.p_class, json_object_get(predict, "p_class"));
    compare(g, "p_perf", out.p_perf, json_object_get(predict, "p_perf"));
    compare(g, "p_annotation", out.p_annotation, json_object_get(predict, "p_annotation"));
    compare(g, "p_confusion", out.p_confusion, json_object_get(predict, "p_confusion"));
    free(out.p_confusion);
    free(out.p_annotation);
    free(out.p_perf);
    free(out.p_class);
}

TEST(learn_matrix_golden)
{
    for (size_t i = 0; i < N_CASES; i++) {
        struct matrix_case g;
        const struct coin_net_state *coin;
        const json_t *steps;
        matrix_case_open(&g, CASES[i]);
        coin = matrix_case_coin(&g);
        steps = json_object_get(g.json, "steps");
        CHECK_INT(json_array_size(steps), 7);
        for (size_t s = 0; s < json_array_size(steps); s++) {
            const json_t *step = json_array_get(steps, s), *after = json_object_get(step, "parameters_after");
            const struct step_rates rates = {number_at(step, "lr"), number_at(step, "lr_annotator")};
            float loss;
            char what[40];
            matrix_case_load(&g, step);
            loss = (float)g.model->method->step(&g.workspace, &rates);
            compare(&g, "loss", &loss, json_object_get(step, "loss"));
            if (json_object_get(step, "gradients") != NULL)
                compare_gradients(&g, json_object_get(step, "gradients"));
            (void)snprintf(what, sizeof what, "after step %zu", s + 1);
            if (after != NULL)
                compare_tensors(&g, what, g.workspace.parameters, false, after);
            if (after != NULL && coin != NULL)
                compare(&g, "outliers", coin->e, json_object_get(after, "outliers"));
        }
        compare_predictions(&g);
        matrix_case_close(&g);
    }
}

/* ---- the loss in double ------------------------------------------------------------------------------------------ */

static const double *of(const struct matrix_case *g, const char *kind, int l, const char *part)
{
    char name[64];

    if (l < 0)
        (void)snprintf(name, sizeof name, "%s.%s", kind, part);
    else
        (void)snprintf(name, sizeof name, "%s%d.%s", kind, l, part);
    return g->parameters + g->model->layout.tensor[layout_find(&g->model->layout, name)].compact;
}

/* One hidden layer over the batch: x [B][in] -> y [B][out]. */
static void hidden_layer(const struct matrix_case *g, int l, const double *x, size_t in, double *y, size_t out)
{
    const size_t B = g->workspace.batch.n_rows;

    reference_linear(y, x, B, in, out, of(g, "hidden", l, "weight"), of(g, "hidden", l, "bias"));
    reference_norm(y, B, out, of(g, "bn", l, "weight"), of(g, "bn", l, "bias"));
    reference_relu(y, B * out);
    reference_drop(y, g->masks[l], B * out, g->settings.dropout);
}

/* Class probabilities [B][C] of the batch. */
static void class_probabilities(const struct matrix_case *g, double *p)
{
    const struct batch *b = &g->workspace.batch;
    const struct dims *d = &g->model->dims;
    double *x = toy_alloc(MOST * MOST, sizeof(double)), *y = toy_alloc(MOST * MOST, sizeof(double));
    size_t width = d->D;

    for (size_t i = 0; i < b->n_rows; i++) {
        for (size_t j = 0; j < d->D; j++)
            x[i * d->D + j] = (double)b->x[i * d->Dp + j];
    }
    for (int l = 0; l < d->L; l++) {
        hidden_layer(g, l, x, width, y, d->h[l]);
        width = d->h[l];
        memcpy(x, y, b->n_rows * width * sizeof(double));
    }
    reference_linear(p, x, b->n_rows, width, d->C, of(g, "class_out", -1, "weight"), of(g, "class_out", -1, "bias"));
    for (size_t i = 0; i < b->n_rows; i++)
        reference_softmax(p + i * d->C, d->C);
    free(y);
    free(x);
}

/* -logdet of M' M, M [n][C], by elimination with pivots; 0 where the methods drop it. */
static double minus_logdet(const double *M, size_t n, size_t C)
{
    double G[MOST][MOST] = {{0.0}}, term = 0.0;

    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < C; j++) {
            for (size_t k = 0; k < C; k++)
                G[j][k] += M[i * C + j] * M[i * C + k];
        }
    }
    for (size_t j = 0; j < C; j++) {
        size_t best = j;
        for (size_t i = j + 1; i < C; i++)
            best = fabs(G[i][j]) > fabs(G[best][j]) ? i : best;
        for (size_t k = 0; k < C; k++) {
            double kept = G[j][k];
            G[j][k] = G[best][k];
            G[best][k] = kept;
        }
        term -= log(fabs(G[j][j]));
        for (size_t i = j + 1; i < C; i++) {
            double factor = G[i][j] / G[j][j];
            for (size_t k = j; k < C; k++)
                G[i][k] -= factor * G[j][k];
        }
    }
    return isfinite(term) && term <= 100.0 ? term : 0.0;
}

static double clamp(double x)
{
    return x < 1e-10 ? 1e-10 : x > 1.0 - 1e-10 ? 1.0 - 1e-10 : x;
}

/* -log of the label's probability under the method of the case. M: the annotator's matrix as kept, P its softmax. */
static double label_loss(const struct matrix_case *g, const double *p, const double *M, const double *P, size_t z,
                         const double *e)
{
    const size_t C = g->C;
    const bool layered = strcmp(g->model->method->info.name, "crowd_layer") == 0;
    double q[MOST] = {0.0}, mean = 0.0, sum = 0.0;

    for (size_t k = 0; k < C; k++) {
        for (size_t c = 0; c < C; c++)
            q[c] += p[k] * (layered ? M : P)[k * C + c];
        mean += e == NULL ? 0.0 : e[k] / (double)C;
    }
    if (layered)
        reference_softmax(q, C);
    for (size_t c = 0; c < C && e != NULL; c++) {
        q[c] = clamp(q[c] + e[c] - mean);
        sum += q[c];
    }
    return -log(e == NULL ? q[z] : q[z] / sum);
}

static double regulariser(const struct matrix_case *g, const double *p, const double *P)
{
    const char *method = g->model->method->info.name;
    const size_t C = g->C, A = g->A, B = g->workspace.batch.n_rows;
    double out = 0.0, *Q;

    if (strcmp(method, "trace_reg") == 0) {
        for (size_t i = 0; i < A * C; i++)
            out += 0.01 / (double)A * P[i * C + i % C];
    } else if (strcmp(method, "geo_reg_f") == 0) {
        out = B < C ? 0.0 : 1e-3 * minus_logdet(p, B, C);
    } else if (strcmp(method, "coin_net") == 0) {
        out = B < C ? 0.0 : 1e-2 * minus_logdet(p, B, C);
    } else if (strcmp(method, "geo_reg_w") == 0) {
        Q = toy_alloc(A * C * C, sizeof(double)); /* row (a, c), column k */
        for (size_t a = 0; a < A; a++) {
            for (size_t k = 0; k < C; k++) {
                for (size_t c = 0; c < C; c++)
                    Q[(a * C + c) * C + k] = P[(a * C + k) * C + c];
            }
        }
        out = 1e-3 * minus_logdet(Q, A * C, C);
        free(Q);
    }
    return out;
}

static double loss_of(struct matrix_case *g)
{
    const struct batch *b = &g->workspace.batch;
    const size_t C = g->C, cells = g->A * C * C;
    const double *M = of(g, "confusion", -1, "weight");
    double *p = toy_alloc(MOST * C, sizeof(double)), *P = toy_alloc(cells, sizeof(double)), loss = 0.0, all;
    const bool coin = matrix_case_coin(g) != NULL;

    class_probabilities(g, p);
    memcpy(P, M, cells * sizeof(double));
    for (size_t i = 0; i < g->A * C; i++)
        reference_softmax(P + i * C, C);
    for (size_t i = 0; i < b->n_rows; i++) {
        double squares = 0.0;
        size_t first = g->train.begin[b->source[i]];
        for (size_t t = b->begin[i]; t < b->begin[i + 1]; t++) {
            const size_t at = b->annotator1[t] * C * C;
            const double *e = coin ? g->outliers + (first + t - b->begin[i]) * C : NULL;
            loss += label_loss(g, p + i * C, M + at, P + at, b->class1[t], e) / (double)b->n_labels;
            for (size_t c = 0; c < C && coin; c++)
                squares += e[c] * e[c];
        }
        loss += coin ? 1e-2 * pow(squares + 1e-10, 0.2) : 0.0;
    }
    all = loss + regulariser(g, p, P);
    free(P);
    free(p);
    return all;
}

static void check_gradient(struct matrix_case *g, const char *what, double *parameters, const float *gradient, size_t n)
{
    double largest = 0.0, worst = 0.0;
    char text[200];

    for (size_t i = 0; i < n; i++) {
        const double kept = parameters[i], step = fabs(kept) < 1e-3 ? 1e-8 : 1e-6;
        double up, down;
        parameters[i] = kept + step;
        up = loss_of(g);
        parameters[i] = kept - step;
        down = loss_of(g);
        parameters[i] = kept;
        largest = fmax(largest, fabs((up - down) / (2.0 * step)));
        worst = test_worst(worst, fabs((up - down) / (2.0 * step) - (double)gradient[i]));
    }
    (void)snprintf(text, sizeof text, "%s: gradient of %s against finite differences (max %g, worst difference %g)",
                   g->name, what, largest, worst);
    test_check(worst <= 1e-4 * largest + 1e-6, __FILE__, __LINE__, text);
}

TEST(learn_matrix_gradients)
{
    const struct step_rates rates = {0.0, 0.0};

    for (size_t i = 0; i < N_CASES; i++) {
        struct matrix_case g;
        const struct layout *layout;
        float *block, *compact, *outliers;
        double loss;
        matrix_case_open(&g, CASES[i]);
        layout = &g.model->layout;
        block = toy_alloc(layout->group_start[N_GROUPS], sizeof(float));
        compact = toy_alloc(layout->compact_length, sizeof(float));
        matrix_case_load(&g, json_array_get(json_object_get(g.json, "steps"), 0));
        loss = g.model->method->step(&g.workspace, &rates);
        CHECK_NEAR(loss, loss_of(&g), 5e-6);
        memcpy(block, g.workspace.gradients, layout->group_start[GROUP_STREAMED] * sizeof(float));
        layout_export(layout, block, compact);
        for (int t = 0; t < layout->n; t++) {
            const struct tensor *x = &layout->tensor[t];
            if (x->group != GROUP_FIXED)
                check_gradient(&g, x->name, g.parameters + x->compact, compact + x->compact, x->rows * x->cols);
        }
        if ((outliers = matrix_case_outlier_gradient(&g)) != NULL)
            check_gradient(&g, "outliers", g.outliers, outliers, g.data.n_labels * g.C);
        free(outliers);
        free(compact);
        free(block);
        matrix_case_close(&g);
    }
}

/* ---- the rest ---------------------------------------------------------------------------------------------------- */

/* A batch whose class probabilities are all the same has no determinant: the step is one without the term. */
TEST(learn_matrix_singular_term_is_dropped)
{
    struct matrix_case g;
    const struct step_rates rates = {0.0, 0.0};
    const struct tensor *weight;
    double loss;

    matrix_case_open(&g, "geo_reg_f");
    weight = &g.model->layout.tensor[layout_find(&g.model->layout, "class_out.weight")];
    memset(g.model->tensors + weight->compact, 0, weight->rows * weight->cols * sizeof(float));
    for (size_t i = 0; i < weight->rows * weight->cols; i++)
        g.parameters[weight->compact + i] = 0.0;
    layout_import(&g.model->layout, g.model->tensors, g.workspace.parameters);
    matrix_case_load(&g, json_array_get(json_object_get(g.json, "steps"), 0));
    loss = g.model->method->step(&g.workspace, &rates);
    CHECK(g.workspace.batch.n_rows >= g.C);
    {
        const double *M = of(&g, "confusion", -1, "weight");
        double *p = toy_alloc(MOST * g.C, sizeof(double)), expected = 0.0;
        const struct batch *b = &g.workspace.batch;
        class_probabilities(&g, p);
        for (size_t t = 0; t < b->n_labels; t++) {
            double P[MOST];
            memcpy(P, M + b->annotator1[t] * g.C * g.C, g.C * g.C * sizeof(double));
            for (size_t k = 0; k < g.C; k++)
                reference_softmax(P + k * g.C, g.C);
            expected += label_loss(&g, p + b->row[t] * g.C, P, P, b->class1[t], NULL) / (double)b->n_labels;
        }
        CHECK_NEAR(loss, expected, 5e-6);
        free(p);
    }
    matrix_case_close(&g);
}
