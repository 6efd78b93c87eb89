/* geo_reg.c - Ibrahim, Nguyen, Fu, "Deep Learning From Crowdsourced Labels: Coupled Cross-Entropy Minimization,
 * Identifiability, and Regularization", ICLR 2023: trace_reg's model with another regulariser. A large determinant of
 * the Gram matrix means that the class probabilities of some instances (F), or the labels of some annotators (W), are
 * near certain for every class, which is what makes the pair (class model, matrices) identifiable.
 *
 * With G = M M' the gradient of -logdet G by M is -2 G^-1 M: two triangular solutions with the Cholesky factor, no
 * inverse. F: M = P' [C][B]. W: M = all P_a side by side, [C][A C], so that G = sum_a P_a P_a'. The term is dropped for
 * a step where the matrix is singular to double precision or the term is over 100 (the authors' rule): the beginning of
 * a fit, when all classes look alike. */
#include "geo_reg.h"

#include <float.h>
#include <math.h>

#include "../blas.h"

#define LAMBDA    1e-3
#define TERM_MOST 100.0

/* ---- the regulariser --------------------------------------------------------------------------------------------- */

void logdet_lay_out(struct logdet *logdet, size_t C, size_t n, struct arena *arena)
{
    size_t cells;

    logdet->C = C;
    logdet->n = n;
    (void)amx_size_mul(&cells, C, n); /* SIZE_MAX then, which arena_take turns into SIZE_MAX too */
    logdet->columns = arena_take(arena, cells, sizeof(double));
    logdet->gram = arena_take(arena, C * C, sizeof(double));
}

/* Lower triangle in place; false when a pivot is 0 to double precision, next to the diagonal it came from. */
static bool cholesky(double *restrict g, size_t C)
{
    for (size_t i = 0; i < C; i++) {
        const double least = 4.0 * (double)C * DBL_EPSILON * g[i * C + i];
        for (size_t j = 0; j <= i; j++) {
            const double *restrict a = g + i * C, *restrict b = g + j * C;
            double sum = a[j];
            for (size_t k = 0; k < j; k++)
                sum -= a[k] * b[k];
            if (i > j)
                g[i * C + j] = sum / b[j];
            else if (sum > least)
                g[i * C + i] = sqrt(sum);
            else
                return false; /* NaN too */
        }
    }
    return true;
}

bool logdet_term(struct logdet *logdet, size_t n, double *term)
{
    const size_t C = logdet->C;
    double sum = 0.0;

    if (n < C)
        return false;
    gram_double(C, n, logdet->columns, n, logdet->gram, C);
    if (!cholesky(logdet->gram, C))
        return false;
    for (size_t k = 0; k < C; k++)
        sum -= 2.0 * log(logdet->gram[k * C + k]);
    if (!isfinite(sum) || sum > TERM_MOST)
        return false;
    cholesky_solve_double(C, n, logdet->gram, C, logdet->columns, n);
    *term = sum;
    return true;
}

double logdet_of_classes(struct logdet *logdet, struct class_rows *rows, double lambda)
{
    const size_t C = logdet->C, n = rows->n;
    double term;

    if (n < C)
        return 0.0;
    for (size_t k = 0; k < C; k++) {
        for (size_t i = 0; i < n; i++)
            logdet->columns[k * n + i] = (double)rows->p[i * C + k];
    }
    if (!logdet_term(logdet, n, &term))
        return 0.0;
    for (size_t k = 0; k < C; k++) {
        for (size_t i = 0; i < n; i++)
            rows->d_p[i * C + k] -= (float)(2.0 * lambda * logdet->columns[k * n + i]);
    }
    return lambda * term;
}

/* lambda times the term of all matrices, M [C][A C] with M[k][a C + c] = P_a[k][c]. */
static double logdet_of_matrices(struct geo_reg_state *state, double lambda)
{
    struct matrix_state *matrix = &state->matrix;
    const size_t C = matrix->dims->C, A = matrix->dims->A, n = A * C;
    double *columns = state->logdet.columns, term;
    float *d = matrix->spare;

    for (size_t a = 0; a < A; a++) {
        for (size_t k = 0; k < C; k++) {
            const float *p = matrix->p + (a * C + k) * C;
            for (size_t c = 0; c < C; c++)
                columns[k * n + a * C + c] = (double)p[c];
        }
    }
    if (!logdet_term(&state->logdet, n, &term))
        return 0.0;
    for (size_t a = 0; a < A; a++) {
        for (size_t k = 0; k < C; k++) {
            for (size_t c = 0; c < C; c++)
                d[c] = (float)(-2.0 * lambda * columns[k * n + a * C + c]);
            matrix_softmax_backward(matrix, a, k, d);
        }
    }
    return lambda * term;
}

/* ---- the methods ------------------------------------------------------------------------------------------------- */

static void lay_out_f(struct workspace *workspace, struct arena *arena)
{
    struct geo_reg_state counting, *state = workspace->state != NULL ? workspace->state : &counting;

    matrix_lay_out(&state->matrix, &workspace->dims, true, arena);
    logdet_lay_out(&state->logdet, workspace->dims.C, workspace->dims.Bp, arena);
}

static void lay_out_w(struct workspace *workspace, struct arena *arena)
{
    struct geo_reg_state counting, *state = workspace->state != NULL ? workspace->state : &counting;
    size_t columns;

    matrix_lay_out(&state->matrix, &workspace->dims, true, arena);
    (void)amx_size_mul(&columns, workspace->dims.A, workspace->dims.C);
    logdet_lay_out(&state->logdet, workspace->dims.C, columns, arena);
}

static double finish(struct workspace *workspace, const struct step_rates *rates, double loss)
{
    struct geo_reg_state *state = workspace->state;
    struct radam_step annotators;

    if (isfinite(loss))
        matrix_update(&state->matrix, workspace, rates, &annotators);
    return loss;
}

static double step_f(struct workspace *workspace, const struct step_rates *rates)
{
    struct geo_reg_state *state = workspace->state;
    double loss;

    matrix_forward(&state->matrix, workspace);
    loss = matrix_mixture(&state->matrix, &workspace->batch);
    return finish(workspace, rates, loss + logdet_of_classes(&state->logdet, &state->matrix.rows, LAMBDA));
}

static double step_w(struct workspace *workspace, const struct step_rates *rates)
{
    struct geo_reg_state *state = workspace->state;
    double loss;

    matrix_forward(&state->matrix, workspace);
    loss = matrix_mixture(&state->matrix, &workspace->batch);
    return finish(workspace, rates, loss + logdet_of_matrices(state, LAMBDA));
}

static const char *const OWN_SETTINGS[] = {"annotator_learning_rate", "annotator_weight_decay", NULL};

#define SOURCE                                                                                                         \
    "Ibrahim, Nguyen, Fu, Deep Learning From Crowdsourced Labels: Coupled Cross-Entropy Minimization, "                \
    "Identifiability, and Regularization, ICLR 2023"
#define GEO_REG(name_, title_, help_, lay_out_, step_)                                                                 \
    {                                                                                                                  \
        .info = {.name = name_, .title = title_, .source = SOURCE, .help = help_}, .own_settings = OWN_SETTINGS,       \
        .layout = matrix_layout, .initial = matrix_initial_identity, .state_bytes = sizeof(struct geo_reg_state),      \
        .lay_out = lay_out_, .bind = matrix_bind, .draw = matrix_draw, .step = step_,                                  \
        .predictor_new = matrix_table_softmax, .predictor_free = matrix_table_free,                                    \
        .predictor_bytes = matrix_table_bytes, .row_width = matrix_table_row_width, .rows = matrix_table_rows,         \
        .pair_scratch = matrix_table_scratch, .pairs = matrix_table_pairs                                              \
    }

const struct amx_method method_geo_reg_f = GEO_REG(
    "geo_reg_f", "GeoCrowdNet (F)",
    "A confusion matrix per annotator; rewards near certain class probabilities of every class.", lay_out_f, step_f);
const struct amx_method method_geo_reg_w = GEO_REG(
    "geo_reg_w", "GeoCrowdNet (W)",
    "A confusion matrix per annotator; rewards annotators that are near certain for every class.", lay_out_w, step_w);
