/* madl.c - Herde, Huseljic, Sick, "Multi-annotator Deep Learning: A Modular Probabilistic Framework for
 * Classification", TMLR 2023: annot-mix's predecessor by the same authors.
 *
 * As in annot-mix a network gives a confusion matrix for each pair of instance and annotator, and the loss is
 * -log sum_k p_k P_kz. What differs:
 * - the network: embeddings e_a, e_x of width 16, their interactions o_r = f' K_r f with f = e_a + e_x, two layers with
 *   BatchNorm on (e_a, e_x, o), and e_a added again before the last ReLU;
 * - e_x sends its gradient on into the class model;
 * - every label counts w_a, less for annotators that resemble many others (madl_weights.c; embeddings detached there);
 * - no mixup. gamma, the width of that likeness, has a Gamma(1.25, 0.25) prior and stays at its mode, 1, as in every
 *   published run, unless `train_gamma`.
 * The output layer and the loss are annot-mix's (loss.c), fed with weights w_a / T. */
#include "madl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../blas.h"
#include "../model.h"
#include "../radam.h"
#include "madl_predict.h"

#define SHAPE 1.25
#define RATE  0.25

enum {
    E = MADL_WIDTH,
    HIDDEN = MADL_HIDDEN,
    V = 3 * E, /* e_a, e_x, o */
    VP = 64,   /* V padded */
    MOST_ANNOTATORS = 20000
};

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

static bool lay_out_tensors(struct layout *layout, struct madl_tensors *x, const struct dims *dims)
{
    const size_t cells = dims->C * dims->C; /* C <= 1000 */
    const size_t rows[2] = {HIDDEN, E}, cols[2] = {V, HIDDEN}, padded[2] = {HIDDEN, PAD}, ld[2] = {VP, HIDDEN};

    layout_init(layout);
    class_model_layout(layout, &x->classes, dims);
    embeddings_layout(layout, &x->embed, dims, E);
    x->outer = layout_matrix(layout, GROUP_ANNOTATOR, E, E * E, E, E * E, "outer.weight");
    for (int l = 0; l < 2; l++) {
        x->hidden_weight[l] =
            layout_matrix(layout, GROUP_ANNOTATOR, rows[l], cols[l], padded[l], ld[l], "ap_hidden%d.weight", l);
        x->hidden_bias[l] = layout_vector(layout, GROUP_FIXED, rows[l], "ap_hidden%d.bias", l);
        x->bn_weight[l] = layout_vector(layout, GROUP_ANNOTATOR, rows[l], "ap_bn%d.weight", l);
        x->bn_bias[l] = layout_vector(layout, GROUP_ANNOTATOR, rows[l], "ap_bn%d.bias", l);
        x->bn_mean[l] = layout_vector(layout, GROUP_FIXED, rows[l], "ap_bn%d.running_mean", l);
        x->bn_var[l] = layout_vector(layout, GROUP_FIXED, rows[l], "ap_bn%d.running_var", l);
    }
    x->output.out_weight = layout_matrix(layout, GROUP_STREAMED, cells, E, cells, PAD, "ap_out.weight");
    x->output.out_bias = layout_vector(layout, GROUP_ANNOTATOR, cells, "ap_out.bias");
    x->gamma = layout_vector(layout, GROUP_ANNOTATOR, 1, "gamma");
    return layout_finish(layout);
}

static bool layout(struct layout *out, const struct dims *dims)
{
    struct madl_tensors tensors;

    return lay_out_tensors(out, &tensors, dims);
}

static enum amx_status check(const struct amx_data *data, const struct amx_settings *settings, struct amx_error *err)
{
    const size_t A = data->n_annotators;

    (void)settings;
    if (A > MOST_ANNOTATORS)
        return amx_fail(err, AMX_TOO_LARGE, "",
                        "madl compares every two annotators in every step and takes at most %d of them; %zu are %.1f "
                        "GB of comparisons.",
                        (int)MOST_ANNOTATORS, A, 4e-9 * (double)A * (double)A);
    return AMX_OK;
}

/* torch.nn.init.xavier_uniform_ of a tensor [16][16][16]: fan in = fan out = 256. */
static void xavier_uniform(const struct layout *layout_of, int tensor, float *compact, struct rng *rng)
{
    const struct tensor *t = &layout_of->tensor[tensor];
    const double bound = sqrt(6.0 / (2.0 * E * E));

    for (size_t i = 0; i < t->rows * t->cols; i++)
        compact[t->compact + i] = (float)(bound * (2.0 * rng_uniform(rng) - 1.0));
}

static enum amx_status initial(const struct layout *layout_of, const struct dims *dims,
                               const struct amx_settings *settings, const struct member_data *member, float *compact,
                               struct rng *rng)
{
    const double C = (double)dims->C;
    struct layout same;
    struct madl_tensors x;

    (void)member;
    (void)lay_out_tensors(&same, &x, dims); /* succeeded before, for layout_of */
    class_model_initial(layout_of, &x.classes, dims, compact, rng);
    embeddings_initial(layout_of, &x.embed, dims, compact, rng);
    xavier_uniform(layout_of, x.outer, compact, rng);
    for (int l = 0; l < 2; l++) {
        linear_initial(layout_of, x.hidden_weight[l], compact, l == 0 ? V : HIDDEN, rng);
        linear_initial(layout_of, x.hidden_bias[l], compact, l == 0 ? V : HIDDEN, rng);
        constant_initial(layout_of, x.bn_weight[l], compact, 1.0f);
        constant_initial(layout_of, x.bn_bias[l], compact, 0.0f);
        constant_initial(layout_of, x.bn_mean[l], compact, 0.0f);
        constant_initial(layout_of, x.bn_var[l], compact, 1.0f);
    }
    linear_initial(layout_of, x.output.out_weight, compact, E, rng);
    constant_initial(layout_of, x.output.out_bias, compact, 0.0f);
    for (size_t k = 0; k < dims->C; k++)
        compact[layout_of->tensor[x.output.out_bias].compact + k * dims->C + k] =
            (float)log(settings->eta * (C - 1.0) / (1.0 - settings->eta));
    constant_initial(layout_of, x.gamma, compact, (float)((SHAPE - 1.0) / RATE));
    return AMX_OK;
}

static void lay_out(struct workspace *workspace, struct arena *arena)
{
    struct madl_state counting, *state = workspace->state != NULL ? workspace->state : &counting;
    const size_t Tp = workspace->dims.Tp;

    state->dims = workspace->dims;
    state->dims.E = E;
    state->dims.Ep = PAD;
    class_model_lay_out(&state->classes, &state->dims, arena);
    embeddings_lay_out(&state->embed, &state->dims, E, arena);
    loss_lay_out(&state->loss, &state->dims, arena);
    madl_weights_lay_out(&state->weights, state->dims.A, PAD, arena);
    batch_norm_lay_out(&state->bn[0], HIDDEN, arena);
    batch_norm_lay_out(&state->bn[1], PAD, arena);
    state->head.h = arena_floats(arena, Tp, PAD);
    state->head.d_h = arena_floats(arena, Tp, PAD);
    state->f = arena_floats(arena, Tp, PAD);
    state->d_f = arena_floats(arena, Tp, PAD);
    state->kf = arena_floats(arena, Tp, E * E);
    state->d_kf = arena_floats(arena, Tp, E * E);
    state->v = arena_floats(arena, Tp, VP);
    state->d_v = arena_floats(arena, Tp, VP);
    state->z1 = arena_floats(arena, Tp, HIDDEN);
    state->h1 = arena_floats(arena, Tp, HIDDEN);
    state->d_h1 = arena_floats(arena, Tp, HIDDEN);
    state->z2 = arena_floats(arena, Tp, PAD);
    state->sums = arena_take(arena, 2 * HIDDEN, sizeof(double));
}

static void bind(struct workspace *workspace)
{
    struct madl_state *state = workspace->state;
    struct madl_tensors *x = &state->tensors;
    const struct layout *of = workspace->layout;
    float *parameters = workspace->parameters, *gradients = workspace->gradients;
    struct layout same;

    (void)lay_out_tensors(&same, x, &workspace->dims);
    class_model_bind(&state->classes, of, &x->classes, parameters, gradients, workspace->settings->dropout,
                     workspace->kernels);
    embeddings_bind(&state->embed, of, &x->embed, parameters, gradients);
    loss_bind(&state->loss, of, &x->output, parameters, gradients, workspace->moment1, workspace->moment2,
              workspace->kernels);
    for (int l = 0; l < 2; l++) {
        batch_norm_bind(&state->bn[l], of, x->bn_weight[l], x->bn_bias[l], x->hidden_bias[l], x->bn_mean[l],
                        x->bn_var[l], parameters, gradients);
        state->hidden[l] = parameters + of->tensor[x->hidden_weight[l]].offset;
        state->grad_hidden[l] = gradients + of->tensor[x->hidden_weight[l]].offset;
    }
    state->outer = parameters + of->tensor[x->outer].offset;
    state->grad_outer = gradients + of->tensor[x->outer].offset;
    state->gamma = parameters + of->tensor[x->gamma].offset;
    state->grad_gamma = gradients + of->tensor[x->gamma].offset;
    state->weights.table = state->embed.table;
}

static void draw(struct workspace *workspace)
{
    (void)workspace; /* nothing is mixed */
}

/* ---- one step ---------------------------------------------------------------------------------------------------- */

/* v = (e_a, e_x, o) of every label. */
static void interactions(struct madl_state *state, const struct batch *batch)
{
    const size_t n = batch->n_labels;

    for (size_t t = 0; t < n; t++) {
        const float *ea = state->embed.ea + t * PAD, *ex = state->embed.ex + batch->row[t] * PAD;
        float *v = state->v + t * VP, *f = state->f + t * PAD;
        for (size_t e = 0; e < E; e++) {
            v[e] = ea[e];
            v[E + e] = ex[e];
            f[e] = ea[e] + ex[e];
        }
    }
    gemm_nt(n, E * E, E, state->f, PAD, state->outer, E, 0.0f, state->kf, E * E);
    for (size_t t = 0; t < n; t++) {
        const float *f = state->f + t * PAD, *kf = state->kf + t * E * E;
        for (size_t r = 0; r < E; r++) {
            float sum = 0.0f;
            for (size_t e = 0; e < E; e++)
                sum += f[e] * kf[r * E + e];
            state->v[t * VP + 2 * E + r] = sum;
        }
    }
}

/* head.h from u. */
static void head_forward(struct madl_state *state, const struct batch *batch, const struct amx_kernels *kernels)
{
    const size_t n = batch->n_labels;
    struct batch_norm *bn = state->bn;
    double *sum = state->sums, *sum_sq = sum + HIDDEN;

    embeddings_forward(&state->embed, batch, state->classes.u);
    interactions(state, batch);
    gemm_nt(n, HIDDEN, V, state->v, VP, state->hidden[0], VP, 0.0f, state->z1, HIDDEN);
    kernels->column_stats(state->z1, HIDDEN, HIDDEN, n, sum, sum_sq);
    kernels->bn_fold(&bn[0], state->z1, sum, sum_sq, HIDDEN, n, 1.0f);
    kernels->affine_relu(state->h1, state->z1, bn[0].a, bn[0].c, HIDDEN, n, NULL);
    gemm_nt(n, E, HIDDEN, state->h1, HIDDEN, state->hidden[1], HIDDEN, 0.0f, state->z2, PAD);
    kernels->column_stats(state->z2, PAD, PAD, n, sum, sum_sq);
    kernels->bn_fold(&bn[1], state->z2, sum, sum_sq, PAD, n, 1.0f);
    for (size_t t = 0; t < n; t++) {
        const float *z = state->z2 + t * PAD, *ea = state->embed.ea + t * PAD;
        float *h = state->head.h + t * PAD;
        for (size_t e = 0; e < E; e++) {
            float x = bn[1].a[e] * z[e] + bn[1].c[e] + ea[e];
            h[e] = x < 0.0f ? 0.0f : x;
        }
    }
}

/* d_ea, d_ex from d_v: v's three parts, the interactions through f. */
static void interactions_backward(struct madl_state *state, const struct batch *batch)
{
    const size_t n = batch->n_labels;

    for (size_t t = 0; t < n; t++) {
        const float *f = state->f + t * PAD, *d_o = state->d_v + t * VP + 2 * E, *kf = state->kf + t * E * E;
        float *d_f = state->d_f + t * PAD, *d_kf = state->d_kf + t * E * E;
        memset(d_f, 0, E * sizeof(float));
        for (size_t r = 0; r < E; r++) {
            for (size_t e = 0; e < E; e++) {
                d_kf[r * E + e] = d_o[r] * f[e];
                d_f[e] += d_o[r] * kf[r * E + e];
            }
        }
    }
    gemm_tn(E * E, E, n, state->d_kf, E * E, state->f, PAD, 0.0f, state->grad_outer, E);
    gemm_nn(n, E, E * E, state->d_kf, E * E, state->outer, E, 1.0f, state->d_f, PAD);
    memset(state->embed.d_ex, 0, batch->n_rows * PAD * sizeof(float));
    for (size_t t = 0; t < n; t++) {
        const float *d_v = state->d_v + t * VP, *d_f = state->d_f + t * PAD;
        float *d_ea = state->embed.d_ea + t * PAD, *d_ex = state->embed.d_ex + batch->row[t] * PAD;
        for (size_t e = 0; e < E; e++) {
            d_ea[e] += d_v[e] + d_f[e]; /* what came through the residual is there already */
            d_ex[e] += d_v[E + e] + d_f[e];
        }
    }
}

/* From head.d_h; fills all gradients of the head and the embeddings, and embed.d_u. */
static void head_backward(struct madl_state *state, const struct batch *batch, const struct amx_kernels *kernels)
{
    const size_t n = batch->n_labels;
    struct batch_norm *bn = state->bn;
    float *d_h = state->head.d_h;
    double *sum = state->sums, *sum_z = sum + HIDDEN;

    for (size_t i = 0; i < n * PAD; i++)
        state->embed.d_ea[i] = state->head.h[i] > 0.0f ? d_h[i] : 0.0f;
    kernels->bn_backward_sums(d_h, state->head.h, state->z2, bn[1].mean, PAD, n, NULL, sum, sum_z);
    kernels->bn_backward_fold(&bn[1], sum, sum_z, PAD, n, 1.0f);
    kernels->bn_backward_apply(d_h, state->z2, &bn[1], PAD, n);
    gemm_tn(E, HIDDEN, n, d_h, PAD, state->h1, HIDDEN, 0.0f, state->grad_hidden[1], HIDDEN);
    gemm_nn(n, HIDDEN, E, d_h, PAD, state->hidden[1], HIDDEN, 0.0f, state->d_h1, HIDDEN);
    kernels->bn_backward_sums(state->d_h1, state->h1, state->z1, bn[0].mean, HIDDEN, n, NULL, sum, sum_z);
    kernels->bn_backward_fold(&bn[0], sum, sum_z, HIDDEN, n, 1.0f);
    kernels->bn_backward_apply(state->d_h1, state->z1, &bn[0], HIDDEN, n);
    gemm_tn(HIDDEN, V, n, state->d_h1, HIDDEN, state->v, VP, 0.0f, state->grad_hidden[0], VP);
    gemm_nn(n, V, HIDDEN, state->d_h1, HIDDEN, state->hidden[0], VP, 0.0f, state->d_v, VP);
    interactions_backward(state, batch);
    embeddings_backward(&state->embed, batch, state->classes.u);
}

/* -log of gamma's prior density, gamma no smaller than 1e-3. */
static double minus_log_prior(double gamma)
{
    double x = gamma < 1e-3 ? 1e-3 : gamma;
    int sign; /* lgamma would leave it in a variable that all threads share */

    return -(SHAPE * log(RATE) - lgamma_r(SHAPE, &sign) + (SHAPE - 1.0) * log(x) - RATE * x);
}

/* Gradient of gamma: of the labels' weights, and of its prior. Both are clamped, with no gradient beyond the bounds. */
static double gamma_gradient(const struct madl_state *state, const struct batch *batch)
{
    const double gamma = (double)state->gamma[0];
    double sum = 0.0;

    if (gamma >= 1e-5) {
        for (size_t t = 0; t < batch->n_labels; t++)
            sum -= (double)state->weights.slope[batch->annotator1[t]] * (double)state->loss.log_q1[t];
        sum /= (double)batch->n_labels;
    }
    return gamma >= 1e-3 ? sum - ((SHAPE - 1.0) / gamma - RATE) : sum;
}

static double step(struct workspace *workspace, const struct step_rates *rates)
{
    struct madl_state *state = workspace->state;
    struct batch *batch = &workspace->batch;
    const struct amx_settings *settings = workspace->settings;
    const struct amx_kernels *kernels = workspace->kernels;
    const float gamma = state->gamma[0];
    struct radam_step classes, annotators;
    double loss;

    class_model_forward(&state->classes, batch, workspace->class_dropout, workspace->forced);
    madl_weights_compute(&state->weights, fmax((double)gamma, 1e-5), settings->train_gamma, kernels);
    for (size_t t = 0; t < batch->n_labels; t++)
        batch->weight1[t] = state->weights.weight[batch->annotator1[t]] / (float)batch->n_labels;
    head_forward(state, batch, kernels);
    state->loss.crew = workspace->crew;
    loss = loss_forward(&state->loss, batch, &state->classes, &state->head) + minus_log_prior((double)gamma);
    if (!isfinite(loss))
        return loss;
    state->grad_gamma[0] = settings->train_gamma ? (float)gamma_gradient(state, batch) : 0.0f;
    workspace->n_steps++;
    radam_prepare(&classes, workspace->n_steps, rates->learning_rate, settings->weight_decay);
    radam_prepare(&annotators, workspace->n_steps, rates->annotator_learning_rate, settings->annotator_weight_decay);
    loss_backward(&state->loss, batch, &state->classes, &state->head, &annotators, workspace->out_gradient);
    head_backward(state, batch, kernels);
    class_model_backward_with(&state->classes, batch, state->loss.d_logits, state->embed.d_u);
    workspace_update(workspace, &classes, &annotators);
    if (!settings->train_gamma)
        state->gamma[0] = gamma; /* weight decay must not move it either */
    return loss;
}

static const char *const OWN_SETTINGS[] = {"eta", "train_gamma", "annotator_learning_rate", "annotator_weight_decay",
                                           NULL};

const struct amx_method method_madl = {
    .info = {.name = "madl",
             .title = "MaDL",
             .source = "Herde, Huseljic, Sick, Multi-annotator Deep Learning: A Modular Probabilistic Framework for "
                       "Classification, TMLR 2023",
             .help = "A confusion matrix for each pair of instance and annotator; annotators that answer alike count "
                     "less."},
    .own_settings = OWN_SETTINGS,
    .check = check,
    .layout = layout,
    .initial = initial,
    .state_bytes = sizeof(struct madl_state),
    .lay_out = lay_out,
    .bind = bind,
    .draw = draw,
    .step = step,
    .predictor_new = madl_predictor_new,
    .predictor_free = madl_predictor_free,
    .predictor_bytes = madl_predictor_bytes,
    .row_width = madl_row_width,
    .rows = madl_rows,
    .pair_scratch = madl_pair_scratch,
    .pairs = madl_pairs,
};
