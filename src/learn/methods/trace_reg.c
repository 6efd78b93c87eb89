/* trace_reg.c - Tanno et al., "Learning from Noisy Labels by Regularized Estimation of Annotator Confusion", CVPR
 * 2019: a confusion matrix per annotator, learned beside the class model by maximum likelihood, and a penalty on its
 * trace. Without the penalty the pair (class model, matrices) is not identified: the matrices may stay diagonal and the
 * class model learn the noise. The penalty prefers the least trustful annotators that explain the labels. */
#include "trace_reg.h"

#include <math.h>

#include "matrix.h"

#define LAMBDA 0.01f

static enum amx_status initial(const struct layout *layout, const struct dims *dims,
                               const struct amx_settings *settings, const struct member_data *member, float *compact,
                               struct rng *rng)
{
    (void)settings;
    (void)member;
    matrix_initial(layout, dims, 1.0f, -5.0f, compact, rng);
    return AMX_OK;
}

static void lay_out(struct workspace *workspace, struct arena *arena)
{
    struct matrix_state counting, *state = workspace->state != NULL ? workspace->state : &counting;

    matrix_lay_out(state, &workspace->dims, true, arena);
}

/* Mean trace of all annotators' matrices. d trace / d L_kc = P_kk (1{c = k} - P_kc). */
static double add_trace(struct matrix_state *state)
{
    const size_t A = state->dims->A, C = state->dims->C;
    const float weight = LAMBDA / (float)A;
    double sum = 0.0;

    for (size_t a = 0; a < A; a++) {
        for (size_t k = 0; k < C; k++) {
            const float *restrict p = state->p + (a * C + k) * C;
            float *restrict d = state->gradient + (a * C + k) * C;
            const float factor = weight * p[k];
            for (size_t c = 0; c < C; c++)
                d[c] -= factor * p[c];
            d[k] += factor;
            sum += (double)p[k];
        }
    }
    return sum / (double)A;
}

static double step(struct workspace *workspace, const struct step_rates *rates)
{
    struct matrix_state *state = workspace->state;
    struct radam_step annotators;
    double loss;

    matrix_forward(state, workspace);
    loss = matrix_mixture(state, &workspace->batch);
    loss += (double)LAMBDA * add_trace(state);
    if (isfinite(loss))
        matrix_update(state, workspace, rates, &annotators);
    return loss;
}

static const char *const OWN_SETTINGS[] = {"annotator_learning_rate", "annotator_weight_decay", NULL};

const struct amx_method method_trace_reg = {
    .info = {.name = "trace_reg",
             .title = "Trace regularisation",
             .source = "Tanno et al., Learning from Noisy Labels by Regularized Estimation of Annotator Confusion, "
                       "CVPR 2019",
             .help = "A confusion matrix per annotator with a penalty on its trace."},
    .own_settings = OWN_SETTINGS,
    .layout = matrix_layout,
    .initial = initial,
    .state_bytes = sizeof(struct matrix_state),
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
