/* crowd_layer.c - Rodrigues & Pereira, "Deep Learning from Crowds", AAAI 2018 (their "MW" layer): each annotator has a
 * matrix W_a, start identity, that turns the class probabilities into logits of the label, s = p W_a.
 *
 * W_a is no confusion matrix: only softmax(p W_a) is a distribution, and it is not linear in p. So the label an
 * annotator would give and p_perf are the method's own (pair_given); as confusion matrix we show what the layer gives
 * for a certain class k, softmax of row k. Adding a constant to a row of W_a does not change softmax(p W_a), so
 * log P_a stands for W_a as well, and the population's row, the logarithm of the mean P_a, is used like any W_a. */
#include "crowd_layer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "matrix.h"

struct crowd_layer_state {
    struct matrix_state matrix;
    float *s;     /* [C] logits of one label */
    float *y;     /* [C] their softmax, then the gradient */
    float *spare; /* see matrix_softmax_row */
};

static void lay_out(struct workspace *workspace, struct arena *arena)
{
    struct crowd_layer_state counting, *state = workspace->state != NULL ? workspace->state : &counting;
    const size_t C = workspace->dims.C;

    matrix_lay_out(&state->matrix, &workspace->dims, false, arena);
    state->s = arena_floats(arena, C, 1);
    state->y = arena_floats(arena, C, 1);
    state->spare = arena_floats(arena, 2, amx_round_up(C, PANEL));
}

/* s [C] = p W */
static void product(float *restrict s, const float *restrict p, const float *restrict W, size_t C)
{
    memset(s, 0, C * sizeof(float));
    for (size_t k = 0; k < C; k++) {
        const float x = p[k];
        for (size_t c = 0; c < C; c++)
            s[c] += x * W[k * C + c];
    }
}

/* d_p [C] += W d, gradient += p d' */
static void product_backward(float *restrict d_p, float *restrict gradient, const float *restrict p,
                             const float *restrict W, const float *restrict d, size_t C)
{
    for (size_t k = 0; k < C; k++) {
        const float x = p[k];
        float sum = 0.0f;
        for (size_t c = 0; c < C; c++)
            gradient[k * C + c] += x * d[c];
        for (size_t c = 0; c < C; c++)
            sum += W[k * C + c] * d[c];
        d_p[k] += sum;
    }
}

/* Mean cross-entropy of softmax(p W_a) with the label, and its gradients. */
static double cross_entropy(struct crowd_layer_state *state, const struct batch *batch)
{
    struct matrix_state *matrix = &state->matrix;
    const size_t C = matrix->dims->C;
    const float share = 1.0f / (float)batch->n_labels;
    double total = 0.0;

    for (size_t i = 0; i < batch->n_rows; i++) {
        const float *p = matrix->rows.p + i * C;
        for (uint32_t t = batch->begin[i]; t < batch->begin[i + 1]; t++) {
            const size_t at = (size_t)batch->annotator1[t] * C * C;
            const uint32_t z = batch->class1[t];
            product(state->s, p, matrix->logits + at, C);
            total += (double)(matrix_softmax_row(state->y, state->s, C, state->spare, matrix->kernels) - state->s[z]);
            state->y[z] -= 1.0f;
            for (size_t c = 0; c < C; c++)
                state->y[c] *= share;
            product_backward(matrix->rows.d_p + i * C, matrix->gradient + at, p, matrix->logits + at, state->y, C);
        }
    }
    return total / (double)batch->n_labels;
}

static double step(struct workspace *workspace, const struct step_rates *rates)
{
    struct crowd_layer_state *state = workspace->state;
    struct radam_step annotators;
    double loss;

    matrix_forward(&state->matrix, workspace);
    loss = cross_entropy(state, &workspace->batch);
    if (isfinite(loss))
        matrix_update(&state->matrix, workspace, rates, &annotators);
    return loss;
}

/* ---- prediction: the table holds W_a, and for the population log P ----------------------------------------------- */

static void *predictor_new(const struct amx_model *model, const float *compact)
{
    const size_t C = model->dims.C, cells = model->dims.A * C * C;
    struct matrix_table *table = matrix_table_softmax(model, compact);
    float *population;

    if (table == NULL)
        return NULL;
    memcpy(table->p, compact + model->layout.tensor[layout_find(&model->layout, "confusion.weight")].compact,
           cells * sizeof(float));
    population = table->p + cells;
    for (size_t i = 0; i < C * C; i++)
        population[i] = logf(population[i] > 1e-37f ? population[i] : 1e-37f);
    return table;
}

/* C lanes, and C zeros: the bias that the kernel wants. pair_given: a row of logits, and zeros. */
static size_t pair_scratch(const void *table)
{
    const size_t C = ((const struct matrix_table *)table)->C;

    return C * PANEL + 2 * amx_round_up(C, PANEL);
}

static void pairs(const void *pointer, const float *const row[], const uint32_t annotator[], float *scratch,
                  void (*use)(void *context, size_t k, const float *p), void *context)
{
    const struct matrix_table *table = pointer;
    const struct amx_kernels *kernels = kernels_get();
    const size_t C = table->C;
    float *zeros = scratch + C * PANEL;

    (void)row;
    memset(zeros, 0, C * sizeof(float));
    for (size_t k = 0; k < C; k++) {
        for (size_t lane = 0; lane < PANEL; lane++) {
            const float *W = table->p + ((size_t)annotator[lane] * C + k) * C;
            for (size_t c = 0; c < C; c++)
                scratch[c * PANEL + lane] = W[c];
        }
        kernels->softmax_panel(scratch, zeros, C);
        use(context, k, scratch);
    }
}

static void pair_given(const void *pointer, const float *p, const float *row, uint32_t annotator, float *scratch,
                       float *p_annotation, float *p_perf)
{
    const struct matrix_table *table = pointer;
    const size_t C = table->C;
    float *s = scratch, *spare = scratch + C * PANEL, perf = 0.0f;

    (void)row;
    memset(spare, 0, 2 * amx_round_up(C, PANEL) * sizeof(float));
    product(s, p, table->p + (size_t)annotator * C * C, C);
    (void)matrix_softmax_row(p_annotation, s, C, spare, kernels_get());
    for (size_t k = 0; k < C; k++)
        perf += p[k] * p_annotation[k];
    *p_perf = perf;
}

static const char *const OWN_SETTINGS[] = {"annotator_learning_rate", "annotator_weight_decay", NULL};

const struct amx_method method_crowd_layer = {
    .info = {.name = "crowd_layer",
             .title = "Crowd layer",
             .source = "Rodrigues & Pereira, Deep Learning from Crowds, AAAI 2018",
             .help = "A matrix per annotator that turns class probabilities into logits of the label."},
    .own_settings = OWN_SETTINGS,
    .layout = matrix_layout,
    .initial = matrix_initial_identity,
    .state_bytes = sizeof(struct crowd_layer_state),
    .lay_out = lay_out,
    .bind = matrix_bind,
    .draw = matrix_draw,
    .step = step,
    .predictor_new = predictor_new,
    .predictor_free = matrix_table_free,
    .predictor_bytes = matrix_table_bytes,
    .row_width = matrix_table_row_width,
    .rows = matrix_table_rows,
    .pair_scratch = pair_scratch,
    .pairs = pairs,
    .pair_given = pair_given,
};
