/* coin_net.c - Nguyen, Ibrahim, Fu, "Noisy Label Learning with Instance-Dependent Outliers: Identifiability via Crowd
 * Wisdom", NeurIPS 2024: geo_reg_f's model, and for every label a free vector e in R^C that may explain it away. A
 * penalty on the length of each instance's vectors to the power of 0.4 keeps most of them at 0: those that are not are
 * labels that neither the class nor the annotator's matrix explains.
 *
 *     q = sum_k p_k P_a[k, .] + e - mean(e), clamped to [1e-10, 1 - 1e-10], divided by its sum;
 *     loss = mean of -log q[z]  -  1e-2 logdet(P' P)  +  1e-2 sum_i (sum over i's labels |e|^2 + 1e-10)^0.2.
 *
 * q is not a mixture any more, so gradients go through P and p themselves; the clamp passes none outside its bounds.
 * e is updated as if densely: a label that is not in the batch has gradient 0, but its moments decay and still move it.
 * RAdam is elementwise, so it may run over any selection of labels: over strips in place where all of them move, else
 * over copies gathered in a strip of a few thousand floats. Prediction knows no e. */
#include "coin_net.h"

#include <math.h>
#include <string.h>

#define LAMBDA   1e-2
#define MU       1e-2
#define POWER    0.4
#define FLOOR    1e-10
#define CLAMP_LO 1e-10f
#define CLAMP_HI ((float)(1.0 - 1e-10)) /* 1 in float */

enum {
    STRIP_FLOATS = 4096,
    /* Steps after which an absent label is left alone: its first moment is then below 1e-12 of its last gradient, and
     * no step it would still make changes a float. (Later it would be denormal, and slow.) */
    IDLE = 256,
    /* In shorter epochs no label is absent for long enough to matter, and whole strips in place are faster. */
    SHORT_EPOCH = 300
};

static void lay_out(struct workspace *workspace, struct arena *arena)
{
    struct coin_net_state counting, *state = workspace->state != NULL ? workspace->state : &counting;
    const struct dims *dims = &workspace->dims;
    const size_t C = dims->C, few = STRIP_FLOATS / C / PAD * PAD;

    matrix_lay_out(&state->matrix, dims, true, arena);
    logdet_lay_out(&state->logdet, C, dims->Bp, arena);
    state->e = arena_floats(arena, dims->Z, C);
    state->moment1 = arena_floats(arena, dims->Z, C);
    state->moment2 = arena_floats(arena, dims->Z, C);
    state->last = arena_u32(arena, dims->Z);
    state->d_e = arena_floats(arena, dims->T, C);
    state->strip_labels = few < PAD ? PAD : few;
    state->strip_e = arena_floats(arena, state->strip_labels, C);
    state->strip_d = arena_floats(arena, state->strip_labels, C);
    state->strip1 = arena_floats(arena, state->strip_labels, C);
    state->strip2 = arena_floats(arena, state->strip_labels, C);
    state->zeros = arena_floats(arena, state->strip_labels, C);
    state->held = arena_take(arena, state->strip_labels, sizeof(size_t));
    state->q = arena_floats(arena, C, 1);
    state->d_q = arena_floats(arena, C, 1);
}

static enum amx_status prepare(struct workspace *workspace)
{
    struct coin_net_state *state = workspace->state;
    const size_t floats = workspace->dims.Z * workspace->dims.C;

    memset(state->e, 0, floats * sizeof(float));
    memset(state->moment1, 0, floats * sizeof(float));
    memset(state->moment2, 0, floats * sizeof(float));
    memset(state->last, 0, workspace->dims.Z * sizeof(uint32_t));
    state->n_held = 0;
    /* With weight decay every label that was ever in a batch keeps moving. */
    state->dense = workspace->settings->annotator_weight_decay > 0.0 ||
                   workspace->member->n_rows / (size_t)workspace->settings->batch_size <= SHORT_EPOCH;
    return AMX_OK;
}

/* q of one label before the clamp. */
static void explain(float *restrict q, const float *restrict p, const float *restrict P, const float *restrict e,
                    size_t C)
{
    float mean = 0.0f;

    for (size_t c = 0; c < C; c++)
        mean += e[c];
    mean /= (float)C;
    for (size_t c = 0; c < C; c++)
        q[c] = e[c] - mean;
    for (size_t k = 0; k < C; k++) {
        const float x = p[k];
        for (size_t c = 0; c < C; c++)
            q[c] += x * P[k * C + c];
    }
}

/* -log of the clamped and normalised q[z]; d_q [C] its gradient by q before the clamp, times share. */
static double outcome(float *restrict d_q, const float *restrict q, uint32_t z, size_t C, float share)
{
    float own = q[z] < CLAMP_LO ? CLAMP_LO : q[z] > CLAMP_HI ? CLAMP_HI : q[z], sum = 0.0f;

    for (size_t c = 0; c < C; c++)
        sum += q[c] < CLAMP_LO ? CLAMP_LO : q[c] > CLAMP_HI ? CLAMP_HI : q[c];
    for (size_t c = 0; c < C; c++)
        d_q[c] = q[c] >= CLAMP_LO && q[c] <= CLAMP_HI ? share / sum : 0.0f;
    if (q[z] >= CLAMP_LO && q[z] <= CLAMP_HI)
        d_q[z] -= share / own;
    return (double)(logf(sum) - logf(own));
}

/* One label's share of the gradients by p, by its annotator's P (kept in `gradient` for now) and by e. */
static void spread(float *restrict d_p, float *restrict d_P, float *restrict d_e, const float *restrict p,
                   const float *restrict P, const float *restrict d_q, size_t C)
{
    float mean = 0.0f;

    for (size_t c = 0; c < C; c++)
        mean += d_q[c];
    mean /= (float)C;
    for (size_t c = 0; c < C; c++)
        d_e[c] = d_q[c] - mean;
    for (size_t k = 0; k < C; k++) {
        const float x = p[k];
        float sum = 0.0f;
        for (size_t c = 0; c < C; c++)
            d_P[k * C + c] += x * d_q[c];
        for (size_t c = 0; c < C; c++)
            sum += P[k * C + c] * d_q[c];
        d_p[k] += sum;
    }
}

/* mu (s + 1e-10)^(p/2) of one instance, s the squares of its n vectors, and its gradient. */
static double add_penalty(float *restrict d_e, const float *restrict e, size_t n)
{
    double s = FLOOR;
    float factor;

    for (size_t j = 0; j < n; j++)
        s += (double)e[j] * (double)e[j];
    factor = (float)(MU * POWER * pow(s, POWER / 2.0 - 1.0));
    for (size_t j = 0; j < n; j++)
        d_e[j] += factor * e[j];
    return MU * pow(s, POWER / 2.0);
}

/* Loss of the labels and penalty of the instances, with their gradients. */
static double labels(struct coin_net_state *state, const struct workspace *workspace)
{
    struct matrix_state *matrix = &state->matrix;
    const struct batch *batch = &workspace->batch;
    const struct train_data *data = workspace->member->data;
    const size_t C = matrix->dims->C;
    const float share = 1.0f / (float)batch->n_labels;
    double total = 0.0, penalty = 0.0;

    for (size_t i = 0; i < batch->n_rows; i++) {
        const size_t first = data->begin[batch->source[i]], begin = batch->begin[i], end = batch->begin[i + 1];
        const float *p = matrix->rows.p + i * C, *e = state->e + first * C;
        for (size_t t = begin; t < end; t++) {
            const size_t at = (size_t)batch->annotator1[t] * C * C;
            explain(state->q, p, matrix->p + at, e + (t - begin) * C, C);
            total += outcome(state->d_q, state->q, batch->class1[t], C, share);
            spread(matrix->rows.d_p + i * C, matrix->gradient + at, state->d_e + t * C, p, matrix->p + at, state->d_q,
                   C);
        }
        penalty += add_penalty(state->d_e + begin * C, e, (end - begin) * C);
    }
    return total / (double)batch->n_labels + penalty;
}

/* gradient holds d loss / d P: turns it into d loss / d logits. */
static void through_softmax(struct matrix_state *matrix)
{
    const size_t C = matrix->dims->C;

    for (size_t a = 0; a < matrix->dims->A; a++) {
        for (size_t k = 0; k < C; k++) {
            float *row = matrix->gradient + (a * C + k) * C;
            memcpy(matrix->spare, row, C * sizeof(float));
            memset(row, 0, C * sizeof(float));
            matrix_softmax_backward(matrix, a, k, matrix->spare);
        }
    }
}

/* ---- RAdam over e ------------------------------------------------------------------------------------------------ */

/* Runs the optimiser over the labels held in the strip and puts them back. */
static void flush(struct coin_net_state *state, const struct amx_kernels *kernels, const struct radam_step *update)
{
    const size_t C = state->matrix.dims->C, row = C * sizeof(float);

    kernels->radam(state->strip_e, state->strip_d, state->strip1, state->strip2, amx_round_up(state->n_held * C, PAD),
                   update);
    for (size_t i = 0; i < state->n_held; i++) {
        const size_t at = state->held[i] * C;
        memcpy(state->e + at, state->strip_e + i * C, row);
        memcpy(state->moment1 + at, state->strip1 + i * C, row);
        memcpy(state->moment2 + at, state->strip2 + i * C, row);
    }
    state->n_held = 0;
}

/* Takes label l into the strip, with gradient d (NULL: 0). */
static void hold(struct coin_net_state *state, size_t l, const float *d, const struct amx_kernels *kernels,
                 const struct radam_step *update)
{
    const size_t C = state->matrix.dims->C, row = C * sizeof(float), to = state->n_held * C;

    memcpy(state->strip_e + to, state->e + l * C, row);
    memcpy(state->strip1 + to, state->moment1 + l * C, row);
    memcpy(state->strip2 + to, state->moment2 + l * C, row);
    memcpy(state->strip_d + to, d != NULL ? d : state->zeros, row);
    state->held[state->n_held++] = l;
    if (state->n_held == state->strip_labels)
        flush(state, kernels, update);
}

/* Labels of the batch: moments that were left alone for a while catch up first. */
static void update_batch(struct coin_net_state *state, const struct workspace *workspace, uint32_t now,
                         const struct radam_step *update)
{
    const struct batch *batch = &workspace->batch;
    const size_t C = state->matrix.dims->C;

    for (size_t i = 0; i < batch->n_rows; i++) {
        const size_t first = workspace->member->data->begin[batch->source[i]];
        for (uint32_t t = batch->begin[i]; t < batch->begin[i + 1]; t++) {
            const size_t l = first + (t - batch->begin[i]);
            const uint32_t away = now - state->last[l];
            if (state->last[l] > 0 && away > IDLE + 1 && !state->dense) {
                const float decay = powf(update->beta2, (float)(away - 1 - IDLE));
                memset(state->moment1 + l * C, 0, C * sizeof(float));
                for (size_t c = 0; c < C; c++)
                    state->moment2[l * C + c] *= decay;
            }
            state->last[l] = now;
            hold(state, l, state->d_e + t * C, workspace->kernels, update);
        }
    }
    flush(state, workspace->kernels, update);
}

/* A label that its moments still move: a batch had it within the last IDLE steps, but not this one. */
static bool moves(const struct coin_net_state *state, size_t l, uint32_t now)
{
    const uint32_t away = now - state->last[l];

    return state->last[l] > 0 && away > 0 && (state->dense || away <= IDLE);
}

static void update_absent(struct coin_net_state *state, const struct workspace *workspace, uint32_t now,
                          const struct radam_step *update)
{
    const size_t C = state->matrix.dims->C, Z = state->matrix.dims->Z;

    for (size_t l0 = 0; l0 < Z; l0 += state->strip_labels) {
        const size_t n = Z - l0 < state->strip_labels ? Z - l0 : state->strip_labels;
        size_t moving = 0;
        for (size_t l = l0; l < l0 + n; l++)
            moving += moves(state, l, now);
        if (moving == state->strip_labels) { /* all of it: in place */
            workspace->kernels->radam(state->e + l0 * C, state->zeros, state->moment1 + l0 * C, state->moment2 + l0 * C,
                                      n * C, update);
            continue;
        }
        for (size_t l = l0; l < l0 + n && moving > 0; l++) {
            if (moves(state, l, now))
                hold(state, l, NULL, workspace->kernels, update);
        }
    }
    flush(state, workspace->kernels, update);
}

static double step(struct workspace *workspace, const struct step_rates *rates)
{
    struct coin_net_state *state = workspace->state;
    struct radam_step annotators;
    double loss;

    matrix_forward(&state->matrix, workspace);
    loss = labels(state, workspace);
    loss += logdet_of_classes(&state->logdet, &state->matrix.rows, LAMBDA);
    if (!isfinite(loss))
        return loss;
    through_softmax(&state->matrix);
    matrix_update(&state->matrix, workspace, rates, &annotators);
    update_batch(state, workspace, (uint32_t)workspace->n_steps, &annotators);
    update_absent(state, workspace, (uint32_t)workspace->n_steps, &annotators);
    return loss;
}

static const char *const OWN_SETTINGS[] = {"annotator_learning_rate", "annotator_weight_decay", NULL};

const struct amx_method method_coin_net = {
    .info = {.name = "coin_net",
             .title = "COINNet",
             .source =
                 "Nguyen, Ibrahim, Fu, Noisy Label Learning with Instance-Dependent Outliers: Identifiability via "
                 "Crowd Wisdom, NeurIPS 2024",
             .help = "A confusion matrix per annotator, and a sparse vector per label that explains outliers away."},
    .own_settings = OWN_SETTINGS,
    .layout = matrix_layout,
    .initial = matrix_initial_identity,
    .state_bytes = sizeof(struct coin_net_state),
    .lay_out = lay_out,
    .bind = matrix_bind,
    .prepare = prepare,
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
