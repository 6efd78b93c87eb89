/* madl_predict.c - confusion matrices of MaDL for pairs of instance and annotator, PANEL pairs at a time.
 *
 * Instances and annotators give their embeddings; everything after that depends on the pair. BatchNorm with running
 * statistics is folded into the weights before it. Products go through the kernel `panel`, whose chains of
 * multiply-adds do not depend on the other lanes, so a pair's answer does not depend on who else is asked about. The
 * unseen annotator has the embedding of the training labels' average (embeddings.h). */
#include "madl_predict.h"

#include <math.h>
#include <stdlib.h>

#include "../model.h"
#include "embeddings.h"

enum {
    E = MADL_WIDTH,
    HIDDEN = MADL_HIDDEN,
    V = 3 * E
};

struct predictor {
    struct embedding_tables embed;
    size_t C;
    const float *outer, *out_weight, *out_bias; /* [256][16], [C C][16], [C C]: the model's own tensors */
    float hidden0[HIDDEN * V], bias0[HIDDEN];   /* with BatchNorm folded in */
    float hidden1[E * HIDDEN], bias1[E];
};

void madl_predictor_free(void *pointer)
{
    struct predictor *predictor = pointer;

    if (predictor == NULL)
        return;
    embedding_tables_done(&predictor->embed);
    free(predictor);
}

static const float *tensor(const struct amx_model *model, const float *compact, const char *name)
{
    return compact + model->layout.tensor[layout_find(&model->layout, name)].compact;
}

/* weight [rows][cols] and bias as BatchNorm leaves them: gamma (W x + b - mean) / sqrt(var + eps) + beta. */
static void fold(float *weight, float *bias, size_t rows, size_t cols, const float *from, const float *from_bias,
                 const float *gamma, const float *beta, const float *mean, const float *var)
{
    for (size_t r = 0; r < rows; r++) {
        const double factor = (double)gamma[r] / sqrt((double)var[r] + 1e-5);
        for (size_t c = 0; c < cols; c++)
            weight[r * cols + c] = (float)(factor * (double)from[r * cols + c]);
        bias[r] = (float)(factor * ((double)from_bias[r] - (double)mean[r]) + (double)beta[r]);
    }
}

void *madl_predictor_new(const struct amx_model *model, const float *compact)
{
    struct predictor *x = calloc(1, sizeof *x);

    if (x == NULL)
        return NULL;
    if (!embedding_tables_init(&x->embed, model, compact, E)) {
        madl_predictor_free(x);
        return NULL;
    }
    x->C = model->dims.C;
    x->outer = tensor(model, compact, "outer.weight");
    x->out_weight = tensor(model, compact, "ap_out.weight");
    x->out_bias = tensor(model, compact, "ap_out.bias");
    fold(x->hidden0, x->bias0, HIDDEN, V, tensor(model, compact, "ap_hidden0.weight"),
         tensor(model, compact, "ap_hidden0.bias"), tensor(model, compact, "ap_bn0.weight"),
         tensor(model, compact, "ap_bn0.bias"), tensor(model, compact, "ap_bn0.running_mean"),
         tensor(model, compact, "ap_bn0.running_var"));
    fold(x->hidden1, x->bias1, E, HIDDEN, tensor(model, compact, "ap_hidden1.weight"),
         tensor(model, compact, "ap_hidden1.bias"), tensor(model, compact, "ap_bn1.weight"),
         tensor(model, compact, "ap_bn1.bias"), tensor(model, compact, "ap_bn1.running_mean"),
         tensor(model, compact, "ap_bn1.running_var"));
    return x;
}

size_t madl_predictor_bytes(const void *pointer)
{
    const struct predictor *predictor = pointer;

    return sizeof *predictor + predictor->embed.bytes;
}

size_t madl_row_width(const void *predictor)
{
    return ((const struct predictor *)predictor)->embed.Ep;
}

void madl_rows(const void *predictor, const float *u, size_t n, float *rows)
{
    embedding_tables_rows(&((const struct predictor *)predictor)->embed, u, n, rows);
}

size_t madl_pair_scratch(const void *pointer)
{
    const struct predictor *predictor = pointer;

    return (V + E + E * E + HIDDEN + E + predictor->C) * PANEL;
}

/* v [V][PANEL] = (e_a, e_x, o); f [E][PANEL] and kf [E E][PANEL] are scratch. */
static void interactions(const struct predictor *x, const float *const row[], const uint32_t annotator[], float *v,
                         float *f, float *kf)
{
    for (size_t lane = 0; lane < PANEL; lane++) {
        const float *ea = x->embed.table + annotator[lane] * x->embed.Ep;
        for (size_t e = 0; e < E; e++) {
            v[e * PANEL + lane] = ea[e];
            v[(E + e) * PANEL + lane] = row[lane][e];
            f[e * PANEL + lane] = ea[e] + row[lane][e];
        }
    }
    kernels_get()->panel(x->outer, E, E * E, f, E, kf, PANEL);
    for (size_t r = 0; r < E; r++) {
        float *o = v + (2 * E + r) * PANEL;
        for (size_t lane = 0; lane < PANEL; lane++)
            o[lane] = 0.0f;
        for (size_t e = 0; e < E; e++) {
            const float *g = kf + (r * E + e) * PANEL, *h = f + e * PANEL;
            for (size_t lane = 0; lane < PANEL; lane++)
                o[lane] += g[lane] * h[lane];
        }
    }
}

void madl_pairs(const void *pointer, const float *const row[], const uint32_t annotator[], float *scratch,
                void (*use)(void *context, size_t k, const float *p), void *context)
{
    const struct predictor *x = pointer;
    const struct amx_kernels *kernels = kernels_get();
    const size_t C = x->C;
    float *v = scratch, *f = v + V * PANEL, *kf = f + E * PANEL, *h1 = kf + E * E * PANEL, *h = h1 + HIDDEN * PANEL;
    float *p = h + E * PANEL;

    interactions(x, row, annotator, v, f, kf);
    kernels->panel(x->hidden0, V, HIDDEN, v, V, h1, PANEL);
    for (size_t i = 0; i < HIDDEN * PANEL; i++) {
        float y = h1[i] + x->bias0[i / PANEL];
        h1[i] = y < 0.0f ? 0.0f : y;
    }
    kernels->panel(x->hidden1, HIDDEN, E, h1, HIDDEN, h, PANEL);
    for (size_t i = 0; i < E * PANEL; i++) {
        float y = h[i] + x->bias1[i / PANEL] + v[i]; /* v starts with e_a: the residual */
        h[i] = y < 0.0f ? 0.0f : y;
    }
    for (size_t k = 0; k < C; k++) {
        kernels->panel(x->out_weight + k * C * E, E, C, h, E, p, PANEL);
        kernels->softmax_panel(p, x->out_bias + k * C, C);
        use(context, k, p);
    }
}
