/* union_net.c - Wei et al., "Deep Learning From Multiple Noisy Annotators as a Union", TNNLS 2022 (variant B).
 *
 * All labels of an instance are one event in the union of annotators and classes: a transition matrix leads from the
 * true class to A C outcomes (a, c), S = softmax over those outcomes, q = S p, and the loss adds up -log q of the
 * labels there are. So annotators compete for probability: one that labels little loses some to one that labels much.
 * Within an annotator the columns' common denominator cancels: its confusion matrix, S of (a, c) given k over the sum
 * of S of (a, .) given k, is the row softmax of its own logits, and prediction is that of a fixed table (matrix.h).
 *
 * Gradients, r the posterior of the true class given the label: class logits p - r; logit of (a, c) given k: S times
 * the sum of r_k over all labels of the batch, minus r_k where the label is (a, c). All times 1/B. */
#include "union_net.h"

#include <math.h>
#include <string.h>

#include "../radam.h"

#define SMALL 1e-5f /* probability of an error at the start, as a logit: the article's e */

static enum amx_status initial(const struct layout *layout, const struct dims *dims,
                               const struct amx_settings *settings, const struct member_data *member, float *compact,
                               struct rng *rng)
{
    (void)settings;
    (void)member;
    matrix_initial(layout, dims, 1.0f - SMALL, SMALL / (float)(dims->C - 1), compact, rng);
    return AMX_OK;
}

static void lay_out(struct workspace *workspace, struct arena *arena)
{
    struct union_state counting, *state = workspace->state != NULL ? workspace->state : &counting;

    matrix_lay_out(&state->matrix, &workspace->dims, false, arena);
    state->column = arena_floats(arena, workspace->dims.C, 1);
    state->inverse = arena_floats(arena, workspace->dims.C, 1);
    state->r = arena_floats(arena, workspace->dims.T, workspace->dims.C);
    state->sum = arena_floats(arena, workspace->dims.C, 1);
}

/* gradient <- exp(logit - largest of its true class); column and inverse. */
static void exponents(struct union_state *state)
{
    const size_t C = state->matrix.dims->C, A = state->matrix.dims->A;

    for (size_t k = 0; k < C; k++) {
        float top = -INFINITY;
        double sum = 0.0;
        for (size_t a = 0; a < A; a++) {
            const float *x = state->matrix.logits + (a * C + k) * C;
            for (size_t c = 0; c < C; c++)
                top = x[c] > top ? x[c] : top;
        }
        for (size_t a = 0; a < A; a++) {
            const float *x = state->matrix.logits + (a * C + k) * C;
            float *y = state->matrix.gradient + (a * C + k) * C;
            for (size_t c = 0; c < C; c++) {
                y[c] = expf(x[c] - top);
                sum += (double)y[c];
            }
        }
        state->column[k] = top + (float)log(sum);
        state->inverse[k] = (float)(1.0 / sum);
    }
}

/* Posterior r [C] of the true class of one label, times share; returns log q. logits: the label's, of class 0. */
static float label_posterior(float *restrict r, const float *restrict log_p, const float *restrict logits,
                             const float *restrict column, size_t C, float share)
{
    float top = -INFINITY, sum = 0.0f;

    for (size_t k = 0; k < C; k++) {
        r[k] = log_p[k] + logits[k * C] - column[k];
        top = r[k] > top ? r[k] : top;
    }
    for (size_t k = 0; k < C; k++) {
        r[k] = expf(r[k] - top);
        sum += r[k];
    }
    for (size_t k = 0; k < C; k++)
        r[k] *= share / sum;
    return top + logf(sum);
}

/* Loss and gradient of the class logits. */
static double labels(struct union_state *state, const struct batch *batch)
{
    const size_t C = state->matrix.dims->C;
    const float share = 1.0f / (float)batch->n_rows;
    double total = 0.0;

    memset(state->sum, 0, C * sizeof(float));
    for (size_t i = 0; i < batch->n_rows; i++) {
        const float *p = state->matrix.rows.p + i * C, *log_p = state->matrix.rows.log_p + i * C;
        float *d_z = state->matrix.rows.d_z + i * C;
        for (size_t t = batch->begin[i]; t < batch->begin[i + 1]; t++) {
            const float *logits = state->matrix.logits + batch->annotator1[t] * C * C + batch->class1[t];
            float *r = state->r + t * C;
            total -= (double)label_posterior(r, log_p, logits, state->column, C, share);
            for (size_t k = 0; k < C; k++) {
                d_z[k] += share * p[k] - r[k];
                state->sum[k] += r[k];
            }
        }
    }
    return total / (double)batch->n_rows;
}

/* Exponents in `gradient` -> gradient of the logits. */
static void matrix_gradient(struct union_state *state, const struct batch *batch)
{
    const size_t C = state->matrix.dims->C, A = state->matrix.dims->A;

    for (size_t i = 0; i < A * C; i++) {
        const float factor = state->inverse[i % C] * state->sum[i % C];
        float *d = state->matrix.gradient + i * C;
        for (size_t c = 0; c < C; c++)
            d[c] *= factor;
    }
    for (size_t t = 0; t < batch->n_labels; t++) {
        float *d = state->matrix.gradient + batch->annotator1[t] * C * C + batch->class1[t];
        for (size_t k = 0; k < C; k++)
            d[k * C] -= state->r[t * C + k];
    }
}

static double step(struct workspace *workspace, const struct step_rates *rates)
{
    struct union_state *state = workspace->state;
    struct radam_step annotators;
    double loss;

    matrix_forward(&state->matrix, workspace);
    exponents(state);
    loss = labels(state, &workspace->batch);
    if (!isfinite(loss))
        return loss;
    matrix_gradient(state, &workspace->batch);
    matrix_update(&state->matrix, workspace, rates, &annotators);
    return loss;
}

static const char *const OWN_SETTINGS[] = {"annotator_learning_rate", "annotator_weight_decay", NULL};

const struct amx_method method_union_net = {
    .info = {.name = "union_net",
             .title = "UnionNet",
             .source = "Wei et al., Deep Learning From Multiple Noisy Annotators as a Union, TNNLS 2022",
             .help = "One transition matrix from the true class to the union of all annotators' labels."},
    .own_settings = OWN_SETTINGS,
    .layout = matrix_layout,
    .initial = initial,
    .state_bytes = sizeof(struct union_state),
    .lay_out = lay_out,
    .bind = matrix_bind,
    .draw = matrix_draw,
    .step = step,
    .predictor_new = matrix_table_softmax,
    .predictor_free = matrix_table_free,
    .predictor_bytes = matrix_table_bytes,
    .row_width = matrix_table_row_width,
    .rows = matrix_table_rows,
    .pair_scratch = matrix_table_scratch,
    .pairs = matrix_table_pairs,
};
