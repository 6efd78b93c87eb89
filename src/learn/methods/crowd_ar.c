/* crowd_ar.c - Cao et al., "Learning from Crowds with Annotation Reliability", SIGIR 2023.
 *
 * Beside a matrix W_a per annotator (label logits p W_a) a small network says how reliable one label is, from the
 * difficulty d of the instance and the expertise s of the annotator, both per class:
 *     d = sigmoid(W2 sigmoid(W1 u)),   m = sigmoid(w3 . ((sigmoid(s_a) - d) p) + b3),   w3 >= 0.
 * The label becomes a soft target t = m onehot(z) + (1 - m)/C, so that unreliable labels teach less, and m is taught by
 * whether the class model agrees with the label. Loss of a label: 0.9 CE(t, softmax(p W_a)) + 0.1 BCE(m, agreement).
 *
 * Where gradients flow: through t into m (m falls where the label surprises the matrices), through p into both terms;
 * u is detached, the class model's layers are only reached through p; agreement is a constant.
 * p_perf is m itself, and p_annotation = softmax(p W_a) is not a mixture of softmax rows: see pair_given. */
#include "crowd_ar.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../blas.h"
#include "../class_predictor.h"
#include "../radam.h"

#define LAMBDA 0.9f /* weight of the labels' term; the reliabilities' has the rest */

enum {
    WIDTH = 128 /* of the difficulty network's hidden layer; a multiple of PAD */
};

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

/* Class model and confusion.weight first and in the order of matrix_layout: matrix_initial and matrix_bind rely on it.
 */
static bool lay_out_tensors(struct layout *layout, struct crowd_ar_tensors *x, const struct dims *dims)
{
    const size_t C = dims->C;
    struct class_tensors classes;
    size_t cells;

    layout_init(layout);
    class_model_layout(layout, &classes, dims);
    if (!amx_size_mul(&cells, C, C))
        return false;
    (void)layout_matrix(layout, GROUP_ANNOTATOR, dims->A, cells, dims->A, cells, "confusion.weight");
    x->expertise = layout_matrix(layout, GROUP_ANNOTATOR, dims->A, C, dims->A, C, "expertise");
    x->hidden_weight = layout_matrix(layout, GROUP_ANNOTATOR, WIDTH, dims->H, WIDTH, dims->Hp, "difficulty0.weight");
    x->hidden_bias = layout_vector(layout, GROUP_ANNOTATOR, WIDTH, "difficulty0.bias");
    x->difficulty_weight = layout_matrix(layout, GROUP_ANNOTATOR, C, WIDTH, C, WIDTH, "difficulty1.weight");
    x->difficulty_bias = layout_vector(layout, GROUP_ANNOTATOR, C, "difficulty1.bias");
    x->reliability_weight = layout_vector(layout, GROUP_ANNOTATOR, C, "reliability.weight");
    x->reliability_bias = layout_vector(layout, GROUP_ANNOTATOR, 1, "reliability.bias");
    return layout_finish(layout);
}

static bool layout(struct layout *out, const struct dims *dims)
{
    struct crowd_ar_tensors tensors;

    return lay_out_tensors(out, &tensors, dims);
}

/* Normal numbers of deviation sqrt(2 / (fan in + fan out)): torch.nn.init.xavier_normal_. */
static void xavier_normal(const struct layout *layout_of, int tensor, float *compact, struct rng *rng)
{
    const struct tensor *t = &layout_of->tensor[tensor];
    const double deviation = sqrt(2.0 / (double)(t->rows + t->cols));

    for (size_t i = 0; i < t->rows * t->cols; i++) {
        double radius = sqrt(-2.0 * log(1.0 - rng_uniform(rng))); /* Box and Muller */
        compact[t->compact + i] = (float)(deviation * radius * cos(2.0 * M_PI * rng_uniform(rng)));
    }
}

static enum amx_status initial(const struct layout *layout_of, const struct dims *dims,
                               const struct amx_settings *settings, const struct member_data *member, float *compact,
                               struct rng *rng)
{
    struct layout same;
    struct crowd_ar_tensors x;

    (void)settings;
    (void)member;
    (void)lay_out_tensors(&same, &x, dims); /* succeeded before, for layout_of */
    matrix_initial(layout_of, dims, 1.0f, 0.0f, compact, rng);
    xavier_normal(layout_of, x.expertise, compact, rng);
    linear_initial(layout_of, x.hidden_weight, compact, dims->H, rng);
    linear_initial(layout_of, x.hidden_bias, compact, dims->H, rng);
    linear_initial(layout_of, x.difficulty_weight, compact, WIDTH, rng);
    linear_initial(layout_of, x.difficulty_bias, compact, WIDTH, rng);
    linear_initial(layout_of, x.reliability_weight, compact, dims->C, rng);
    linear_initial(layout_of, x.reliability_bias, compact, dims->C, rng);
    return AMX_OK;
}

static void lay_out(struct workspace *workspace, struct arena *arena)
{
    struct crowd_ar_state counting, *state = workspace->state != NULL ? workspace->state : &counting;
    const struct dims *dims = &workspace->dims;

    matrix_lay_out(&state->matrix, dims, false, arena);
    state->hidden = arena_floats(arena, dims->Bp, WIDTH);
    state->d_hidden = arena_floats(arena, dims->Bp, WIDTH);
    state->difficulty = arena_floats(arena, dims->Bp, dims->C);
    state->d_difficulty = arena_floats(arena, dims->Bp, dims->C);
    state->s = arena_floats(arena, dims->C, 1);
}

static void bind(struct workspace *workspace)
{
    struct crowd_ar_state *state = workspace->state;
    struct crowd_ar_tensors *x = &state->tensors;
    const struct tensor *t = workspace->layout->tensor;
    float *parameters = workspace->parameters, *gradients = workspace->gradients;
    struct layout same;

    (void)lay_out_tensors(&same, x, &workspace->dims);
    matrix_bind(workspace);
    state->expertise = parameters + t[x->expertise].offset;
    state->w1 = parameters + t[x->hidden_weight].offset;
    state->b1 = parameters + t[x->hidden_bias].offset;
    state->w2 = parameters + t[x->difficulty_weight].offset;
    state->b2 = parameters + t[x->difficulty_bias].offset;
    state->w3 = parameters + t[x->reliability_weight].offset;
    state->b3 = parameters + t[x->reliability_bias].offset;
    state->grad_expertise = gradients + t[x->expertise].offset;
    state->grad_w1 = gradients + t[x->hidden_weight].offset;
    state->grad_b1 = gradients + t[x->hidden_bias].offset;
    state->grad_w2 = gradients + t[x->difficulty_weight].offset;
    state->grad_b2 = gradients + t[x->difficulty_bias].offset;
    state->grad_w3 = gradients + t[x->reliability_weight].offset;
    state->grad_b3 = gradients + t[x->reliability_bias].offset;
}

/* ---- one step ---------------------------------------------------------------------------------------------------- */

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

/* log sigmoid(x), without overflow. */
static float log_sigmoid(float x)
{
    return x < 0.0f ? x - log1pf(expf(x)) : -log1pf(expf(-x));
}

/* x[n][width] = sigmoid(x + bias). */
static void sigmoid_rows(float *x, const float *bias, size_t n, size_t width)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < width; j++)
            x[i * width + j] = sigmoid(x[i * width + j] + bias[j]);
    }
}

/* d <- d y (1 - y), y = sigmoid: gradient before the sigmoid; its column sums in d_bias. */
static void sigmoid_backward(float *d, const float *y, size_t n, size_t width, float *d_bias)
{
    memset(d_bias, 0, width * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < width; j++) {
            float *x = &d[i * width + j];
            *x *= y[i * width + j] * (1.0f - y[i * width + j]);
            d_bias[j] += *x;
        }
    }
}

static void difficulty_forward(struct crowd_ar_state *state, size_t n)
{
    const struct dims *dims = state->matrix.dims;
    const float *u = state->matrix.classes.u;

    gemm_nt(n, WIDTH, dims->H, u, dims->Hp, state->w1, dims->Hp, 0.0f, state->hidden, WIDTH);
    sigmoid_rows(state->hidden, state->b1, n, WIDTH);
    gemm_nt(n, dims->C, WIDTH, state->hidden, WIDTH, state->w2, WIDTH, 0.0f, state->difficulty, dims->C);
    sigmoid_rows(state->difficulty, state->b2, n, dims->C);
}

/* From d_difficulty; u gets none. */
static void difficulty_backward(struct crowd_ar_state *state, size_t n)
{
    const struct dims *dims = state->matrix.dims;
    const size_t C = dims->C;

    sigmoid_backward(state->d_difficulty, state->difficulty, n, C, state->grad_b2);
    gemm_tn(C, WIDTH, n, state->d_difficulty, C, state->hidden, WIDTH, 0.0f, state->grad_w2, WIDTH);
    gemm_nn(n, WIDTH, C, state->d_difficulty, C, state->w2, WIDTH, 0.0f, state->d_hidden, WIDTH);
    sigmoid_backward(state->d_hidden, state->hidden, n, WIDTH, state->grad_b1);
    gemm_tn(WIDTH, dims->H, n, state->d_hidden, WIDTH, state->matrix.classes.u, dims->Hp, 0.0f, state->grad_w1,
            dims->Hp);
}

/* s <- log softmax(s); returns the sum of the logarithms. */
static float log_softmax(float *s, size_t C)
{
    float top = s[0], sum = 0.0f, total = 0.0f;

    for (size_t c = 1; c < C; c++)
        top = s[c] > top ? s[c] : top;
    for (size_t c = 0; c < C; c++)
        sum += expf(s[c] - top);
    for (size_t c = 0; c < C; c++) {
        s[c] -= top + logf(sum);
        total += s[c];
    }
    return total;
}

/* Gradient g of the reliability's logit, into everything it is made of. */
static void reliability_backward(struct crowd_ar_state *state, size_t i, size_t a, float g)
{
    const size_t C = state->matrix.dims->C;
    const float *p = state->matrix.rows.p + i * C, *d = state->difficulty + i * C;
    float *d_p = state->matrix.rows.d_p + i * C, *d_difficulty = state->d_difficulty + i * C;

    state->grad_b3[0] += g;
    for (size_t c = 0; c < C; c++) {
        const float expertise = sigmoid(state->expertise[a * C + c]), gap = expertise - d[c];
        const float through = g * state->w3[c];
        state->grad_w3[c] += g * gap * p[c];
        d_p[c] += through * gap;
        d_difficulty[c] -= through * p[c];
        state->grad_expertise[a * C + c] += through * p[c] * expertise * (1.0f - expertise);
    }
}

/* Label z of annotator a for row i: loss and gradients of W_a, p and the reliability's parts. */
static double one_label(struct crowd_ar_state *state, size_t i, size_t a, size_t z, bool agrees, float share)
{
    const size_t C = state->matrix.dims->C;
    const float *p = state->matrix.rows.p + i * C, *d = state->difficulty + i * C;
    const float *w = state->matrix.logits + a * C * C;
    float *s = state->s, logit = state->b3[0], m, rest, sum_log, given, d_m;

    for (size_t c = 0; c < C; c++)
        logit += state->w3[c] * (sigmoid(state->expertise[a * C + c]) - d[c]) * p[c];
    m = sigmoid(logit);
    rest = (1.0f - m) / (float)C;
    gemm_nn(1, C, C, p, C, w, C, 0.0f, s, C);
    sum_log = log_softmax(s, C);
    given = s[z];
    d_m = LAMBDA * (sum_log / (float)C - given);
    reliability_backward(state, i, a, share * (d_m * m * (1.0f - m) + (1.0f - LAMBDA) * (m - (agrees ? 1.0f : 0.0f))));
    for (size_t c = 0; c < C; c++)
        s[c] = LAMBDA * share * (expf(s[c]) - rest - (c == z ? m : 0.0f));
    gemm_tn(C, C, 1, p, C, s, C, 1.0f, state->matrix.gradient + a * C * C, C);
    gemm_nt(1, C, C, s, C, w, C, 1.0f, state->matrix.rows.d_p + i * C, C);
    return -(double)(LAMBDA * (m * given + rest * sum_log)) -
           (double)((1.0f - LAMBDA) * log_sigmoid(agrees ? logit : -logit));
}

static double forward_backward(struct crowd_ar_state *state, const struct batch *batch)
{
    const size_t C = state->matrix.dims->C, B = batch->n_rows;
    double total = 0.0;

    difficulty_forward(state, B);
    memset(state->d_difficulty, 0, B * C * sizeof(float));
    memset(state->grad_expertise, 0, state->matrix.dims->A * C * sizeof(float));
    memset(state->grad_w3, 0, C * sizeof(float));
    state->grad_b3[0] = 0.0f;
    for (size_t i = 0; i < B; i++) {
        const float *p = state->matrix.rows.p + i * C;
        size_t likeliest = 0;
        for (size_t c = 1; c < C; c++)
            likeliest = p[c] > p[likeliest] ? c : likeliest;
        for (size_t t = batch->begin[i]; t < batch->begin[i + 1]; t++)
            total += one_label(state, i, batch->annotator1[t], batch->class1[t], batch->class1[t] == likeliest,
                               1.0f / (float)batch->n_labels);
    }
    return total / (double)batch->n_labels;
}

static double step(struct workspace *workspace, const struct step_rates *rates)
{
    struct crowd_ar_state *state = workspace->state;
    struct radam_step annotators;
    double loss;

    matrix_forward(&state->matrix, workspace);
    loss = forward_backward(state, &workspace->batch);
    if (!isfinite(loss))
        return loss;
    difficulty_backward(state, workspace->batch.n_rows);
    matrix_update(&state->matrix, workspace, rates, &annotators);
    for (size_t c = 0; c < state->matrix.dims->C; c++)
        state->w3[c] = state->w3[c] < 0.0f ? 0.0f : state->w3[c]; /* more expertise never makes less reliable */
    return loss;
}

/* ---- prediction -------------------------------------------------------------------------------------------------- */

struct predictor {
    struct matrix_table *table; /* confusion matrices: row softmax of W_a */
    const struct dims *dims;
    const float *own, *b1, *b2, *w3, *b3; /* the model's own tensors; own [A][C C] */
    float *population;                    /* [C C] W of an unseen annotator: log of its confusion matrix */
    float *expertise;                     /* [A + 1][C] sigmoid(s); row A: the mean over the training labels */
    float *zeros;                         /* [C padded] */
    float *panels1, *panels2;             /* W1 and W2, packed */
    size_t bytes;
};

static void predictor_free(void *pointer)
{
    struct predictor *predictor = pointer;

    if (predictor == NULL)
        return;
    matrix_table_free(predictor->table);
    free(predictor->population);
    free(predictor->expertise);
    free(predictor->zeros);
    free(predictor->panels1);
    free(predictor->panels2);
    free(predictor);
}

static const float *tensor(const struct amx_model *model, const float *compact, const char *name)
{
    return compact + model->layout.tensor[layout_find(&model->layout, name)].compact;
}

static void fill_expertise(struct predictor *predictor, const struct amx_model *model, const float *expertise)
{
    const size_t C = model->dims.C, A = model->dims.A;

    for (size_t c = 0; c < C; c++) {
        double sum = 0.0;
        for (size_t a = 0; a < A; a++) {
            predictor->expertise[a * C + c] = sigmoid(expertise[a * C + c]);
            sum += (double)model->annotator_labels[a] * (double)predictor->expertise[a * C + c];
        }
        predictor->expertise[A * C + c] = model->labels_used > 0 ? (float)(sum / (double)model->labels_used) : 0.5f;
    }
}

static void *predictor_new(const struct amx_model *model, const float *compact)
{
    const struct dims *dims = &model->dims;
    const size_t C = dims->C, A = dims->A;
    const size_t packed1 = panels_floats(WIDTH, dims->H), packed2 = panels_floats(C, WIDTH);
    struct predictor *x = calloc(1, sizeof *x);

    if (x == NULL)
        return NULL;
    x->dims = dims;
    x->own = tensor(model, compact, "confusion.weight");
    x->b1 = tensor(model, compact, "difficulty0.bias");
    x->b2 = tensor(model, compact, "difficulty1.bias");
    x->w3 = tensor(model, compact, "reliability.weight");
    x->b3 = tensor(model, compact, "reliability.bias");
    x->table = matrix_table_softmax(model, compact);
    x->population = calloc(C * C, sizeof(float));
    x->expertise = calloc((A + 1) * C, sizeof(float));
    x->zeros = calloc(amx_round_up(C, PANEL), sizeof(float));
    x->panels1 = calloc(packed1, sizeof(float));
    x->panels2 = calloc(packed2, sizeof(float));
    if (x->table == NULL || x->population == NULL || x->expertise == NULL || x->zeros == NULL || x->panels1 == NULL ||
        x->panels2 == NULL) {
        predictor_free(x);
        return NULL;
    }
    for (size_t i = 0; i < C * C; i++)
        x->population[i] = logf(fmaxf(x->table->p[A * C * C + i], FLT_MIN));
    fill_expertise(x, model, tensor(model, compact, "expertise"));
    panels_pack(x->panels1, tensor(model, compact, "difficulty0.weight"), WIDTH, dims->H, NULL);
    panels_pack(x->panels2, tensor(model, compact, "difficulty1.weight"), C, WIDTH, NULL);
    x->bytes = sizeof *x + matrix_table_bytes(x->table) +
               (C * C + (A + 1) * C + amx_round_up(C, PANEL) + packed1 + packed2) * sizeof(float);
    return x;
}

static size_t predictor_bytes(const void *predictor)
{
    return ((const struct predictor *)predictor)->bytes;
}

static size_t row_width(const void *predictor)
{
    return amx_round_up(((const struct predictor *)predictor)->dims->C, PANEL);
}

/* d of each instance. */
static void rows(const void *pointer, const float *u, size_t n, float *out)
{
    const struct predictor *x = pointer;
    const size_t C = x->dims->C, ld = row_width(x), Hp = x->dims->Hp;
    float hidden[WIDTH];

    for (size_t i = 0; i < n; i++) {
        panels_product(hidden, WIDTH, u + i * Hp, Hp, 1, x->panels1, WIDTH, x->dims->H);
        sigmoid_rows(hidden, x->b1, 1, WIDTH);
        panels_product(out + i * ld, ld, hidden, WIDTH, 1, x->panels2, C, WIDTH);
        sigmoid_rows(out + i * ld, x->b2, 1, C);
    }
}

static size_t pair_scratch(const void *pointer)
{
    return matrix_table_scratch(((const struct predictor *)pointer)->table);
}

static void pairs(const void *pointer, const float *const row[], const uint32_t annotator[], float *scratch,
                  void (*use)(void *context, size_t k, const float *p), void *context)
{
    matrix_table_pairs(((const struct predictor *)pointer)->table, row, annotator, scratch, use, context);
}

static void pair_given(const void *pointer, const float *p, const float *row, uint32_t annotator, float *scratch,
                       float *p_annotation, float *p_perf)
{
    const struct predictor *x = pointer;
    const size_t C = x->dims->C;
    const float *w = annotator == x->dims->A ? x->population : x->own + annotator * C * C;
    const float *expertise = x->expertise + annotator * C;
    float logit = x->b3[0];

    memset(scratch, 0, amx_round_up(C, PANEL) * sizeof(float));
    for (size_t k = 0; k < C; k++) {
        logit += x->w3[k] * (expertise[k] - row[k]) * p[k];
        for (size_t c = 0; c < C; c++)
            scratch[c] += p[k] * w[k * C + c];
    }
    kernels_get()->softmax_row(p_annotation, scratch, x->zeros, C, 1.0f);
    *p_perf = sigmoid(logit);
}

static const char *const OWN_SETTINGS[] = {"annotator_learning_rate", "annotator_weight_decay", NULL};

const struct amx_method method_crowd_ar = {
    .info = {.name = "crowd_ar",
             .title = "CrowdAR",
             .source = "Cao et al., Learning from Crowds with Annotation Reliability, SIGIR 2023",
             .help = "A matrix per annotator, and a network that says how reliable each single label is."},
    .own_settings = OWN_SETTINGS,
    .layout = layout,
    .initial = initial,
    .state_bytes = sizeof(struct crowd_ar_state),
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
