/* conal.c - Chu, Ma, Wang, "Learning from Crowds by Modeling Common Confusions", AAAI 2021.
 *
 * Labels come from two noise layers: G, shared by all annotators, and W_a, the annotator's own. Which of the two is at
 * work depends on the instance and the annotator:
 *     r = sigmoid(cos(e_x, e_a)),   label logits s = r (p G) + (1 - r) (p W_a),
 * and a small reward for W_a that differ from G keeps the two apart. G and W_a are logits without a scale of their
 * own: p_annotation = softmax(s) is not a mixture of the rows of the confusion matrix, softmax(r G_k + (1 - r) W_a,k).
 *
 * The embedding of the instance sends its gradient on into the class model, as in the article: easy instances are
 * where the class model and the crowd agree. An unseen annotator has the average embedding and, as own matrix, the
 * logarithm of the average of the normalised own matrices: a constant per row of logits changes nothing. */
#include "conal.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../blas.h"
#include "../radam.h"

#define LAMBDA   1e-5
#define SHORTEST 1e-12f /* embeddings are divided by their length or this, as torch.nn.functional.normalize does */

enum {
    WIDTH = 20
};

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

/* Class model and confusion.weight first and in the order of matrix_layout: matrix_initial and matrix_bind rely on it.
 */
static bool lay_out_tensors(struct layout *layout, struct embedding_tensors *embed, int *common,
                            const struct dims *dims)
{
    struct class_tensors classes;
    size_t cells;

    layout_init(layout);
    class_model_layout(layout, &classes, dims);
    if (!amx_size_mul(&cells, dims->C, dims->C))
        return false;
    (void)layout_matrix(layout, GROUP_ANNOTATOR, dims->A, cells, dims->A, cells, "confusion.weight");
    *common = layout_matrix(layout, GROUP_ANNOTATOR, dims->C, dims->C, dims->C, dims->C, "common.weight");
    embeddings_layout(layout, embed, dims, WIDTH);
    return layout_finish(layout);
}

static bool layout(struct layout *out, const struct dims *dims)
{
    struct embedding_tensors embed;
    int common;

    return lay_out_tensors(out, &embed, &common, dims);
}

static enum amx_status initial(const struct layout *layout_of, const struct dims *dims,
                               const struct amx_settings *settings, const struct member_data *member, float *compact,
                               struct rng *rng)
{
    struct layout same;
    struct embedding_tensors embed;
    int common;

    (void)settings;
    (void)member;
    (void)lay_out_tensors(&same, &embed, &common, dims); /* succeeded before, for layout_of */
    matrix_initial(layout_of, dims, 2.0f, 0.0f, compact, rng);
    constant_initial(layout_of, common, compact, 0.0f);
    for (size_t k = 0; k < dims->C; k++)
        compact[layout_of->tensor[common].compact + k * dims->C + k] = 2.0f;
    embeddings_initial(layout_of, &embed, dims, compact, rng);
    return AMX_OK;
}

static void lay_out(struct workspace *workspace, struct arena *arena)
{
    struct conal_state counting, *state = workspace->state != NULL ? workspace->state : &counting;
    const struct dims *dims = &workspace->dims;

    matrix_lay_out(&state->matrix, dims, false, arena);
    embeddings_lay_out(&state->embed, dims, WIDTH, arena);
    state->shared = arena_floats(arena, dims->B, dims->C);
    state->d_shared = arena_floats(arena, dims->B, dims->C);
    state->norm_x = arena_floats(arena, dims->B, 1);
    state->norm_a = arena_floats(arena, dims->T, 1);
    state->own = arena_floats(arena, dims->C, 1);
    state->d_own = arena_floats(arena, dims->C, 1);
    state->s = arena_floats(arena, dims->C, 1);
}

static void bind(struct workspace *workspace)
{
    struct conal_state *state = workspace->state;
    struct layout same;

    (void)lay_out_tensors(&same, &state->embed_tensors, &state->tensor, &workspace->dims);
    matrix_bind(workspace);
    embeddings_bind(&state->embed, workspace->layout, &state->embed_tensors, workspace->parameters,
                    workspace->gradients);
    state->common = workspace->parameters + workspace->layout->tensor[state->tensor].offset;
    state->grad_common = workspace->gradients + workspace->layout->tensor[state->tensor].offset;
}

/* ---- one step ---------------------------------------------------------------------------------------------------- */

static float dot(const float *restrict a, const float *restrict b, size_t n)
{
    float sum = 0.0f;

    for (size_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Divides by the length; returns the divisor. */
static float normalise(float *x, size_t n)
{
    float length = sqrtf(dot(x, x, n));

    length = length < SHORTEST ? SHORTEST : length;
    for (size_t i = 0; i < n; i++)
        x[i] /= length;
    return length;
}

/* Gradient through the normalisation: d <- (d - x (x . d)) / length, x normalised. */
static void normalise_backward(float *restrict d, const float *restrict x, float length, size_t n)
{
    const float along = dot(x, d, n);

    for (size_t i = 0; i < n; i++)
        d[i] = (d[i] - x[i] * along) / length;
}

/* -lambda sum_a ||W_a - G||, and its gradients, which start those of W and G. */
static double keep_apart(struct conal_state *state)
{
    const size_t cells = state->matrix.dims->C * state->matrix.dims->C, A = state->matrix.dims->A;
    double total = 0.0;

    memset(state->grad_common, 0, cells * sizeof(float));
    for (size_t a = 0; a < A; a++) {
        const float *restrict w = state->matrix.logits + a * cells, *restrict g = state->common;
        float *restrict d_w = state->matrix.gradient + a * cells, *restrict d_g = state->grad_common;
        double square = 0.0;
        float factor;
        for (size_t i = 0; i < cells; i++)
            square += (double)(w[i] - g[i]) * (double)(w[i] - g[i]);
        if (square == 0.0)
            continue; /* no direction to go: the gradient is 0 there, as in torch */
        total += sqrt(square);
        factor = (float)(LAMBDA / sqrt(square));
        for (size_t i = 0; i < cells; i++) {
            d_w[i] = -factor * (w[i] - g[i]);
            d_g[i] += factor * (w[i] - g[i]);
        }
    }
    return -LAMBDA * total;
}

/* s <- (softmax(s) - one-hot of z) share; returns -log softmax(s)_z. */
static double cross_entropy(float *s, size_t C, size_t z, float share)
{
    const float given = s[z];
    float top = s[0], sum = 0.0f;

    for (size_t c = 1; c < C; c++)
        top = s[c] > top ? s[c] : top;
    for (size_t c = 0; c < C; c++) {
        s[c] = expf(s[c] - top);
        sum += s[c];
    }
    for (size_t c = 0; c < C; c++)
        s[c] *= share / sum;
    s[z] -= share;
    return (double)(top - given) + log((double)sum);
}

/* Label t of row i: loss, and gradients of W_a, p (its way through W_a), p G and both embeddings. */
static double one_label(struct conal_state *state, const struct batch *batch, size_t i, size_t t)
{
    const size_t C = state->matrix.dims->C, Ep = state->embed.Ep, a = batch->annotator1[t];
    const float *p = state->matrix.rows.p + i * C, *shared = state->shared + i * C;
    const float *w = state->matrix.logits + a * C * C, *ex = state->embed.ex + i * Ep;
    float *ea = state->embed.ea + t * Ep, *d_ea = state->embed.d_ea + t * Ep, *d_ex = state->embed.d_ex + i * Ep;
    float r, d_r = 0.0f, d_cosine;
    double loss;

    state->norm_a[t] = normalise(ea, WIDTH);
    r = 1.0f / (1.0f + expf(-dot(ex, ea, WIDTH)));
    gemm_nn(1, C, C, p, C, w, C, 0.0f, state->own, C);
    for (size_t c = 0; c < C; c++)
        state->s[c] = r * shared[c] + (1.0f - r) * state->own[c];
    loss = cross_entropy(state->s, C, batch->class1[t], 1.0f / (float)batch->n_labels);
    for (size_t c = 0; c < C; c++) {
        d_r += state->s[c] * (shared[c] - state->own[c]);
        state->d_own[c] = (1.0f - r) * state->s[c];
        state->d_shared[i * C + c] += r * state->s[c];
    }
    gemm_tn(C, C, 1, p, C, state->d_own, C, 1.0f, state->matrix.gradient + a * C * C, C);
    gemm_nt(1, C, C, state->d_own, C, w, C, 1.0f, state->matrix.rows.d_p + i * C, C);
    d_cosine = d_r * r * (1.0f - r);
    for (size_t e = 0; e < WIDTH; e++) {
        d_ea[e] = d_cosine * ex[e];
        d_ex[e] += d_cosine * ea[e];
    }
    normalise_backward(d_ea, ea, state->norm_a[t], WIDTH);
    return loss;
}

static double forward_backward(struct conal_state *state, const struct batch *batch)
{
    const size_t C = state->matrix.dims->C, Ep = state->embed.Ep, B = batch->n_rows;
    const float *p = state->matrix.rows.p;
    double total = 0.0;

    embeddings_forward(&state->embed, batch, state->matrix.classes.u);
    gemm_nn(B, C, C, p, C, state->common, C, 0.0f, state->shared, C);
    memset(state->d_shared, 0, B * C * sizeof(float));
    memset(state->embed.d_ex, 0, B * Ep * sizeof(float));
    for (size_t i = 0; i < B; i++) {
        float *ex = state->embed.ex + i * Ep;
        state->norm_x[i] = normalise(ex, WIDTH);
        for (size_t t = batch->begin[i]; t < batch->begin[i + 1]; t++)
            total += one_label(state, batch, i, t);
        normalise_backward(state->embed.d_ex + i * Ep, ex, state->norm_x[i], WIDTH);
    }
    gemm_tn(C, C, B, p, C, state->d_shared, C, 1.0f, state->grad_common, C);
    gemm_nt(B, C, C, state->d_shared, C, state->common, C, 1.0f, state->matrix.rows.d_p, C);
    return total / (double)batch->n_labels;
}

static double step(struct workspace *workspace, const struct step_rates *rates)
{
    struct conal_state *state = workspace->state;
    const struct amx_settings *settings = workspace->settings;
    struct class_model *classes = &state->matrix.classes;
    struct radam_step of_classes, of_annotators;
    double loss;

    matrix_forward(&state->matrix, workspace);
    loss = keep_apart(state);
    loss += forward_backward(state, &workspace->batch);
    if (!isfinite(loss))
        return loss;
    embeddings_backward(&state->embed, &workspace->batch, classes->u);
    class_rows_backward(&state->matrix.rows, classes);
    class_model_backward_with(classes, &workspace->batch, state->matrix.rows.d_logits, state->embed.d_u);
    workspace->n_steps++;
    radam_prepare(&of_classes, workspace->n_steps, rates->learning_rate, settings->weight_decay);
    radam_prepare(&of_annotators, workspace->n_steps, rates->annotator_learning_rate, settings->annotator_weight_decay);
    workspace_update(workspace, &of_classes, &of_annotators);
    return loss;
}

/* ---- prediction -------------------------------------------------------------------------------------------------- */

struct predictor {
    struct embedding_tables embed; /* table rows normalised */
    size_t C, A;
    const float *common, *own; /* [C][C], [A][C C]: the model's own tensors */
    float *population;         /* [C C] own matrix of an unseen annotator */
    float *zeros;              /* [C padded] */
};

static void predictor_free(void *pointer)
{
    struct predictor *predictor = pointer;

    if (predictor == NULL)
        return;
    embedding_tables_done(&predictor->embed);
    free(predictor->population);
    free(predictor->zeros);
    free(predictor);
}

static const float *tensor(const struct amx_model *model, const float *compact, const char *name)
{
    return compact + model->layout.tensor[layout_find(&model->layout, name)].compact;
}

static void *predictor_new(const struct amx_model *model, const float *compact)
{
    const size_t C = model->dims.C, A = model->dims.A;
    struct predictor *predictor = calloc(1, sizeof *predictor);
    struct matrix_table *table;

    if (predictor == NULL)
        return NULL;
    predictor->C = C;
    predictor->A = A;
    predictor->common = tensor(model, compact, "common.weight");
    predictor->own = tensor(model, compact, "confusion.weight");
    predictor->population = calloc(C * C, sizeof(float));
    predictor->zeros = calloc(amx_round_up(C, PANEL), sizeof(float));
    table = matrix_table_softmax(model, compact);
    if (!embedding_tables_init(&predictor->embed, model, compact, WIDTH) || predictor->population == NULL ||
        predictor->zeros == NULL || table == NULL) {
        matrix_table_free(table);
        predictor_free(predictor);
        return NULL;
    }
    for (size_t a = 0; a <= A; a++)
        (void)normalise(predictor->embed.table + a * predictor->embed.Ep, WIDTH);
    for (size_t i = 0; i < C * C; i++)
        predictor->population[i] = logf(fmaxf(table->p[A * C * C + i], FLT_MIN));
    matrix_table_free(table);
    return predictor;
}

static size_t predictor_bytes(const void *pointer)
{
    const struct predictor *predictor = pointer;

    return sizeof *predictor + predictor->embed.bytes +
           (predictor->C * predictor->C + amx_round_up(predictor->C, PANEL)) * sizeof(float);
}

static size_t row_width(const void *predictor)
{
    return ((const struct predictor *)predictor)->embed.Ep;
}

static void rows(const void *pointer, const float *u, size_t n, float *out)
{
    const struct predictor *predictor = pointer;

    embedding_tables_rows(&predictor->embed, u, n, out);
    for (size_t i = 0; i < n; i++)
        (void)normalise(out + i * predictor->embed.Ep, WIDTH);
}

static size_t pair_scratch(const void *pointer)
{
    const struct predictor *predictor = pointer;

    return (predictor->C + 2) * PANEL; /* also holds pair_given's two padded rows of C */
}

static float rate(const struct predictor *predictor, const float *row, uint32_t annotator)
{
    return 1.0f / (1.0f + expf(-dot(row, predictor->embed.table + annotator * predictor->embed.Ep, WIDTH)));
}

static const float *own_matrix(const struct predictor *predictor, uint32_t annotator)
{
    return annotator == predictor->A ? predictor->population : predictor->own + annotator * predictor->C * predictor->C;
}

static void pairs(const void *pointer, const float *const row[], const uint32_t annotator[], float *scratch,
                  void (*use)(void *context, size_t k, const float *p), void *context)
{
    const struct predictor *predictor = pointer;
    const struct amx_kernels *kernels = kernels_get();
    const size_t C = predictor->C;
    float r[PANEL];

    for (size_t lane = 0; lane < PANEL; lane++)
        r[lane] = rate(predictor, row[lane], annotator[lane]);
    for (size_t k = 0; k < C; k++) {
        const float *g = predictor->common + k * C;
        for (size_t lane = 0; lane < PANEL; lane++) {
            const float *w = own_matrix(predictor, annotator[lane]) + k * C;
            for (size_t c = 0; c < C; c++)
                scratch[c * PANEL + lane] = r[lane] * g[c] + (1.0f - r[lane]) * w[c];
        }
        kernels->softmax_panel(scratch, predictor->zeros, C);
        use(context, k, scratch);
    }
}

static void pair_given(const void *pointer, const float *p, const float *row, uint32_t annotator, float *scratch,
                       float *p_annotation, float *p_perf)
{
    const struct predictor *predictor = pointer;
    const struct amx_kernels *kernels = kernels_get();
    const size_t C = predictor->C, padded = amx_round_up(C, PANEL);
    const float r = rate(predictor, row, annotator), *w = own_matrix(predictor, annotator);
    float *s = scratch, *x = scratch + padded, perf = 0.0f;

    memset(s, 0, padded * sizeof(float));
    for (size_t k = 0; k < C; k++) {
        for (size_t c = 0; c < C; c++) {
            x[c] = r * predictor->common[k * C + c] + (1.0f - r) * w[k * C + c];
            s[c] += p[k] * x[c];
        }
        kernels->softmax_row(p_annotation, x, predictor->zeros, C, 1.0f);
        perf += p[k] * p_annotation[k]; /* the diagonal of the confusion matrix */
    }
    kernels->softmax_row(p_annotation, s, predictor->zeros, C, 1.0f);
    *p_perf = perf;
}

static const char *const OWN_SETTINGS[] = {"annotator_learning_rate", "annotator_weight_decay", NULL};

const struct amx_method method_conal = {
    .info = {.name = "conal",
             .title = "CoNAL",
             .source = "Chu, Ma, Wang, Learning from Crowds by Modeling Common Confusions, AAAI 2021",
             .help = "A confusion matrix all annotators share, one of each annotator's own, and a learned choice "
                     "between the two."},
    .own_settings = OWN_SETTINGS,
    .layout = layout,
    .initial = initial,
    .state_bytes = sizeof(struct conal_state),
    .lay_out = lay_out,
    .bind = bind,
    .draw = matrix_draw,
    .step = step,
    .predictor_new = predictor_new,
    .predictor_free = predictor_free,
    .predictor_bytes = predictor_bytes,
    .row_width = row_width,
    .rows = rows,
    .pair_scratch = pair_scratch,
    .pairs = pairs,
    .pair_given = pair_given,
};
