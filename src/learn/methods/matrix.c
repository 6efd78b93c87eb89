/* matrix.c - see matrix.h.
 *
 * The mixture loss needs, of each label, only the column z of its annotator's matrix: with r_k = p_k P_kz / q the
 * posterior of true class k (article on annot-mix, and before it Tanno et al., equation 2),
 *     d(-log q) / d class_logit_k = p_k - r_k,       d(-log q) / d L_kj = r_k (P_kj - 1{j = z}).
 * So a label costs O(C): it adds r to a sum per annotator and subtracts it from one column; the term with P_kj is
 * added once per annotator at the end. All of it is in logarithms: no probability is divided by.
 *
 * P of all annotators is computed in every step. RAdam visits all of them anyway (moments of the absent decay), and
 * the regularisers of trace_reg and geo_reg_w need all. */
#include "matrix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../radam.h"

/* ---- tensors and state ------------------------------------------------------------------------------------------- */

static bool lay_out_tensors(struct layout *layout, struct class_tensors *classes, int *tensor, const struct dims *dims)
{
    size_t cells;

    layout_init(layout);
    class_model_layout(layout, classes, dims);
    if (!amx_size_mul(&cells, dims->C, dims->C))
        return false;
    *tensor = layout_matrix(layout, GROUP_ANNOTATOR, dims->A, cells, dims->A, cells, "confusion.weight");
    return layout_finish(layout);
}

bool matrix_layout(struct layout *layout, const struct dims *dims)
{
    struct class_tensors classes;
    int tensor;

    return lay_out_tensors(layout, &classes, &tensor, dims);
}

void matrix_initial(const struct layout *layout, const struct dims *dims, float diagonal, float other, float *compact,
                    struct rng *rng)
{
    struct layout same;
    struct class_tensors classes;
    int tensor;
    float *matrix;

    (void)lay_out_tensors(&same, &classes, &tensor, dims); /* succeeded before, for `layout` */
    class_model_initial(layout, &classes, dims, compact, rng);
    constant_initial(layout, tensor, compact, other);
    matrix = compact + layout->tensor[tensor].compact;
    for (size_t a = 0; a < dims->A; a++, matrix += dims->C * dims->C) {
        for (size_t k = 0; k < dims->C; k++)
            matrix[k * dims->C + k] = diagonal;
    }
}

enum amx_status matrix_initial_identity(const struct layout *layout, const struct dims *dims,
                                        const struct amx_settings *settings, const struct member_data *member,
                                        float *compact, struct rng *rng)
{
    (void)settings;
    (void)member;
    matrix_initial(layout, dims, 1.0f, 0.0f, compact, rng);
    return AMX_OK;
}

void matrix_lay_out(struct matrix_state *state, const struct dims *dims, bool softmax, struct arena *arena)
{
    const size_t C = dims->C;

    state->dims = dims;
    class_model_lay_out(&state->classes, dims, arena);
    class_rows_lay_out(&state->rows, dims, arena);
    state->p = softmax ? arena_floats(arena, dims->A, C * C) : NULL;
    state->log_sum = softmax ? arena_floats(arena, dims->A, C) : NULL;
    state->posterior = softmax ? arena_floats(arena, dims->A, C) : NULL;
    state->spare = softmax ? arena_floats(arena, 2, amx_round_up(C, PANEL)) : NULL;
}

void matrix_bind(struct workspace *workspace)
{
    struct matrix_state *state = workspace->state;
    struct layout same;
    size_t at;

    (void)lay_out_tensors(&same, &state->class_tensors, &state->tensor, &workspace->dims);
    class_model_bind(&state->classes, workspace->layout, &state->class_tensors, workspace->parameters,
                     workspace->gradients, workspace->settings->dropout, workspace->kernels);
    class_rows_bind(&state->rows, workspace->kernels);
    at = workspace->layout->tensor[state->tensor].offset;
    state->kernels = workspace->kernels;
    state->logits = workspace->parameters + at;
    state->gradient = workspace->gradients + at;
}

void matrix_draw(struct workspace *workspace)
{
    (void)workspace;
}

/* ---- one step ---------------------------------------------------------------------------------------------------- */

/* The log of the sum comes from the largest entry, whose p is at least 1/C. */
float matrix_softmax_row(float *restrict p, const float *restrict x, size_t C, float *restrict spare,
                         const struct amx_kernels *kernels)
{
    size_t top = 0;

    memcpy(spare, x, C * sizeof(float));
    for (size_t c = 1; c < C; c++)
        top = x[c] > x[top] ? c : top;
    kernels->softmax_row(p, spare, spare + amx_round_up(C, PANEL), C, 1.0f);
    return x[top] - logf(p[top]);
}

void matrix_forward(struct matrix_state *state, struct workspace *workspace)
{
    const size_t C = state->dims->C, A = state->dims->A;

    class_model_forward(&state->classes, &workspace->batch, workspace->class_dropout, workspace->forced);
    class_rows_forward(&state->rows, &workspace->batch, &state->classes);
    memset(state->gradient, 0, A * C * C * sizeof(float));
    if (state->p == NULL)
        return;
    for (size_t i = 0; i < A * C; i++)
        state->log_sum[i] =
            matrix_softmax_row(state->p + i * C, state->logits + i * C, C, state->spare, state->kernels);
}

/* Posterior r [C] of the true class of one label, and log q. column: the label's column of the logits. */
static float label_posterior(float *restrict r, const float *restrict log_p, const float *restrict column,
                             const float *restrict log_sum, size_t C)
{
    float top = -INFINITY, sum = 0.0f;

    for (size_t k = 0; k < C; k++) {
        r[k] = log_p[k] + column[k * C] - log_sum[k];
        top = r[k] > top ? r[k] : top;
    }
    for (size_t k = 0; k < C; k++) {
        r[k] = expf(r[k] - top);
        sum += r[k];
    }
    for (size_t k = 0; k < C; k++)
        r[k] /= sum;
    return top + logf(sum);
}

double matrix_mixture(struct matrix_state *state, const struct batch *batch)
{
    const size_t C = state->dims->C, A = state->dims->A;
    const float share = 1.0f / (float)batch->n_labels;
    float *r = state->spare;
    double total = 0.0;

    memset(state->posterior, 0, A * C * sizeof(float));
    for (size_t i = 0; i < batch->n_rows; i++) {
        const float *p = state->rows.p + i * C, *log_p = state->rows.log_p + i * C;
        float *d_z = state->rows.d_z + i * C;
        for (uint32_t t = batch->begin[i]; t < batch->begin[i + 1]; t++) {
            const size_t a = batch->annotator1[t], at = a * C * C + batch->class1[t];
            float *sum = state->posterior + a * C;
            total -= (double)label_posterior(r, log_p, state->logits + at, state->log_sum + a * C, C);
            for (size_t k = 0; k < C; k++) {
                d_z[k] += share * (p[k] - r[k]);
                sum[k] += share * r[k];
                state->gradient[at + k * C] -= share * r[k];
            }
        }
    }
    for (size_t i = 0; i < A * C; i++) {
        const float sum = state->posterior[i];
        const float *restrict p = state->p + i * C;
        float *restrict d = state->gradient + i * C;
        for (size_t c = 0; c < C && sum > 0.0f; c++)
            d[c] += sum * p[c];
    }
    return total / (double)batch->n_labels;
}

void matrix_softmax_backward(struct matrix_state *state, size_t a, size_t k, const float *d)
{
    const size_t C = state->dims->C;
    const float *restrict p = state->p + (a * C + k) * C;
    float *restrict out = state->gradient + (a * C + k) * C;
    float mean = 0.0f;

    for (size_t c = 0; c < C; c++)
        mean += p[c] * d[c];
    for (size_t c = 0; c < C; c++)
        out[c] += p[c] * (d[c] - mean);
}

void matrix_update(struct matrix_state *state, struct workspace *workspace, const struct step_rates *rates,
                   struct radam_step *annotators)
{
    const struct amx_settings *settings = workspace->settings;
    struct radam_step classes;

    class_rows_backward(&state->rows, &state->classes);
    class_model_backward(&state->classes, &workspace->batch, state->rows.d_logits);
    workspace->n_steps++;
    radam_prepare(&classes, workspace->n_steps, rates->learning_rate, settings->weight_decay);
    radam_prepare(annotators, workspace->n_steps, rates->annotator_learning_rate, settings->annotator_weight_decay);
    workspace_update(workspace, &classes, annotators);
}

/* ---- prediction -------------------------------------------------------------------------------------------------- */

void matrix_table_free(void *pointer)
{
    struct matrix_table *table = pointer;

    if (table == NULL)
        return;
    free(table->p);
    free(table);
}

struct matrix_table *matrix_table_new(const struct amx_model *model)
{
    const size_t C = model->dims.C;
    struct matrix_table *table = calloc(1, sizeof *table);
    size_t cells;

    if (table == NULL || !amx_size_mul(&cells, model->dims.A + 1, C * C) ||
        (table->p = calloc(cells, sizeof(float))) == NULL) {
        free(table);
        return NULL;
    }
    table->A = model->dims.A;
    table->C = C;
    table->bytes = sizeof *table + cells * sizeof(float);
    return table;
}

void matrix_table_population(struct matrix_table *table, const struct amx_model *model)
{
    const size_t cells = table->C * table->C;
    float *population = table->p + table->A * cells;

    for (size_t i = 0; i < cells; i++) {
        double sum = 0.0;
        for (size_t a = 0; a < table->A; a++)
            sum += (double)model->annotator_labels[a] * (double)table->p[a * cells + i];
        population[i] = model->labels_used > 0 ? (float)(sum / (double)model->labels_used) : 1.0f / (float)table->C;
    }
}

void *matrix_table_softmax(const struct amx_model *model, const float *compact)
{
    const size_t C = model->dims.C;
    const float *logits = compact + model->layout.tensor[layout_find(&model->layout, "confusion.weight")].compact;
    struct matrix_table *table = matrix_table_new(model);
    float *spare = calloc(2 * amx_round_up(C, PANEL), sizeof(float));

    if (table == NULL || spare == NULL) {
        free(spare);
        matrix_table_free(table);
        return NULL;
    }
    for (size_t i = 0; i < table->A * C; i++)
        (void)matrix_softmax_row(table->p + i * C, logits + i * C, C, spare, kernels_get());
    free(spare);
    matrix_table_population(table, model);
    return table;
}

size_t matrix_table_bytes(const void *table)
{
    return ((const struct matrix_table *)table)->bytes;
}

size_t matrix_table_row_width(const void *table)
{
    (void)table;
    return 0;
}

void matrix_table_rows(const void *table, const float *u, size_t n, float *rows)
{
    (void)table;
    (void)u;
    (void)n;
    (void)rows;
}

size_t matrix_table_scratch(const void *table)
{
    return ((const struct matrix_table *)table)->C * PANEL;
}

void matrix_table_pairs(const void *pointer, const float *const row[], const uint32_t annotator[], float *scratch,
                        void (*use)(void *context, size_t k, const float *p), void *context)
{
    const struct matrix_table *table = pointer;
    const size_t C = table->C;

    (void)row;
    for (size_t k = 0; k < C; k++) {
        for (size_t lane = 0; lane < PANEL; lane++) {
            const float *p = table->p + ((size_t)annotator[lane] * C + k) * C;
            for (size_t c = 0; c < C; c++)
                scratch[c * PANEL + lane] = p[c];
        }
        use(context, k, scratch);
    }
}
