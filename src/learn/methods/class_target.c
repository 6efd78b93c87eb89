/* class_target.c - ground_truth, majority_vote and dawid_skene, the latter two with mixup or without: a class model
 * trained on one target per instance, made from the labels (or gold) before training.
 *
 * Loss: mean cross-entropy of the class model with the target; targets are the most likely class (lowest index on
 * ties), or with `soft` the distribution. *_mixup: one lambda ~ Beta(1, 1) per instance and one permutation of the
 * batch; features and targets are mixed, features by the class model's own mixed path.
 *
 * These methods have no annotator model, but are asked the same questions. Each annotator's confusion matrix is
 * counted from the posterior behind the targets and smoothed with the population's (strength 2), kept in a tensor that
 * is never trained. */
#include "class_target.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../label_posterior.h"
#include "../method.h"
#include "../mixup.h"
#include "../radam.h"
#include "matrix.h"

extern const struct amx_method method_ground_truth, method_majority_vote, method_majority_vote_mixup,
    method_dawid_skene, method_dawid_skene_mixup;

static const double STRENGTH = 2.0;

/* ---- tensors and state ------------------------------------------------------------------------------------------- */

static bool lay_out_tensors(struct layout *layout, struct class_tensors *classes, int *confusion,
                            const struct dims *dims)
{
    const size_t cells = dims->C * dims->C;

    layout_init(layout);
    class_model_layout(layout, classes, dims);
    *confusion = layout_matrix(layout, GROUP_FIXED, dims->A, cells, dims->A, cells, "confusion.weight");
    return layout_finish(layout);
}

static bool layout(struct layout *out, const struct dims *dims)
{
    struct class_tensors classes;
    int confusion;

    return lay_out_tensors(out, &classes, &confusion, dims);
}

static enum amx_status initial(const struct layout *layout_of, const struct dims *dims,
                               const struct amx_settings *settings, const struct member_data *member, float *compact,
                               struct rng *rng)
{
    struct layout same;
    struct class_tensors classes;
    int confusion;

    (void)settings;
    (void)member;
    (void)lay_out_tensors(&same, &classes, &confusion, dims); /* succeeded before, for layout_of */
    class_model_initial(layout_of, &classes, dims, compact, rng);
    constant_initial(layout_of, confusion, compact, 0.0f); /* prepare() fills it: it has the posterior */
    return AMX_OK;
}

static void lay_out(struct workspace *workspace, struct arena *arena)
{
    struct class_target_state counting, *state = workspace->state != NULL ? workspace->state : &counting;

    class_model_lay_out(&state->classes, &workspace->dims, arena);
    class_rows_lay_out(&state->rows, &workspace->dims, arena);
    state->targets = arena_floats(arena, workspace->dims.N, workspace->dims.C);
}

static void bind(struct workspace *workspace)
{
    struct class_target_state *state = workspace->state;
    struct layout same;

    (void)lay_out_tensors(&same, &state->class_tensors, &state->confusion, &workspace->dims);
    class_model_bind(&state->classes, workspace->layout, &state->class_tensors, workspace->parameters,
                     workspace->gradients, workspace->settings->dropout, workspace->kernels);
    class_rows_bind(&state->rows, workspace->kernels);
}

/* ---- targets ----------------------------------------------------------------------------------------------------- */

/* The most likely class of each row, lowest index on ties. */
static void harden(const struct member_data *member, float *targets)
{
    const size_t C = member->data->C;

    for (size_t i = 0; i < member->n_rows; i++) {
        float *q = targets + member->rows[i] * C;
        size_t best = 0;
        for (size_t k = 1; k < C; k++)
            best = q[k] > q[best] ? k : best;
        memset(q, 0, C * sizeof(float));
        q[best] = 1.0f;
    }
}

static void store_matrices(struct workspace *workspace, const struct class_target_state *state, double *table,
                           double *work)
{
    const size_t C = workspace->dims.C, A = workspace->dims.A;
    float *out = workspace->parameters + workspace->layout->tensor[state->confusion].offset;

    matrices_smoothed(workspace->member, state->targets, STRENGTH, table, table + A * C * C, work);
    for (size_t a = 0; a < A; a++) {
        for (size_t i = 0; i < C * C; i++)
            out[a * C * C + i] = (float)exp(table[a * C * C + i % C * C + i / C]);
    }
}

/* Targets from `kind`, and the matrices that their posterior gives. */
enum kind {
    GOLD,
    MAJORITY,
    DAWID_SKENE
};

static enum amx_status prepare(struct workspace *workspace, enum kind kind)
{
    struct class_target_state *state = workspace->state;
    const struct member_data *member = workspace->member;
    const size_t C = workspace->dims.C;
    double *table = malloc((workspace->dims.A + 1) * C * C * sizeof *table); /* fits: twice the tensor and a matrix */
    double *work = malloc(matrices_work(C) * sizeof *work);
    enum amx_status status = table != NULL && work != NULL ? AMX_OK : AMX_NO_MEMORY;

    if (status == AMX_OK) {
        if (kind == GOLD)
            posterior_gold(member, state->targets);
        else if (kind == MAJORITY)
            posterior_majority(member, state->targets);
        else
            status = posterior_dawid_skene(member, state->targets, table, work);
    }
    if (status == AMX_OK) {
        store_matrices(workspace, state, table, work);
        if (!workspace->settings->soft)
            harden(member, state->targets);
    }
    free(work);
    free(table);
    return status;
}

static enum amx_status prepare_gold(struct workspace *workspace)
{
    return prepare(workspace, GOLD);
}

static enum amx_status prepare_majority(struct workspace *workspace)
{
    return prepare(workspace, MAJORITY);
}

static enum amx_status prepare_dawid_skene(struct workspace *workspace)
{
    return prepare(workspace, DAWID_SKENE);
}

/* ---- one step ---------------------------------------------------------------------------------------------------- */

static void draw_nothing(struct workspace *workspace)
{
    (void)workspace;
}

static void draw_mixup(struct workspace *workspace)
{
    mixup_draw(&workspace->batch, 1.0, false, &workspace->lambda, &workspace->partner);
}

/* Mean cross-entropy of the rows; its gradient by the logits goes to rows.d_z. */
static double cross_entropy(struct class_target_state *state, const struct batch *batch, size_t C)
{
    const float share = 1.0f / (float)batch->n_labels;
    double total = 0.0;

    for (size_t t = 0; t < batch->n_labels; t++) {
        const float *own = state->targets + (size_t)batch->source[t] * C;
        const float *other = batch->mixed ? state->targets + (size_t)batch->source[batch->partner_row[t]] * C : own;
        const float *p = state->rows.p + t * C, *log_p = state->rows.log_p + t * C;
        float *d_z = state->rows.d_z + t * C, lambda = batch->lambda[t];
        for (size_t k = 0; k < C; k++) {
            float target = lambda * own[k] + (1.0f - lambda) * other[k];
            if (target > 0.0f)
                total -= (double)target * (double)log_p[k];
            d_z[k] += share * (p[k] - target);
        }
    }
    return total / (double)batch->n_labels;
}

static double step(struct workspace *workspace, const struct step_rates *rates)
{
    struct class_target_state *state = workspace->state;
    const struct batch *batch = &workspace->batch;
    const struct radam_step none = {.step = 0.0f};
    struct radam_step classes;
    double loss;

    class_model_forward(&state->classes, batch, workspace->class_dropout, workspace->forced);
    class_rows_forward(&state->rows, batch, &state->classes);
    loss = cross_entropy(state, batch, workspace->dims.C);
    if (!isfinite(loss))
        return loss;
    class_rows_backward(&state->rows, &state->classes);
    class_model_backward(&state->classes, batch, state->rows.d_logits);
    workspace->n_steps++;
    radam_prepare(&classes, workspace->n_steps, rates->learning_rate, workspace->settings->weight_decay);
    workspace_update(workspace, &classes, &none); /* there is no annotator group */
    return loss;
}

/* ---- prediction -------------------------------------------------------------------------------------------------- */

static void *predictor_new(const struct amx_model *model, const float *compact)
{
    struct matrix_table *table = matrix_table_new(model);
    const size_t C = model->dims.C;

    if (table == NULL)
        return NULL;
    if (table->A > 0)
        memcpy(table->p, compact + model->layout.tensor[layout_find(&model->layout, "confusion.weight")].compact,
               table->A * C * C * sizeof(float));
    matrix_table_population(table, model);
    return table;
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

static const char *const NO_SETTINGS[] = {NULL};
static const char *const OWN_SETTINGS[] = {"soft", NULL};

#define HOOKS                                                                                                          \
    .one_triple_per_row = true, .layout = layout, .initial = initial,                                                  \
    .state_bytes = sizeof(struct class_target_state), .lay_out = lay_out, .bind = bind,                                \
    .scratch_bytes = label_posterior_bytes, .step = step, .predictor_new = predictor_new,                              \
    .predictor_free = matrix_table_free, .predictor_bytes = matrix_table_bytes, .row_width = matrix_table_row_width,   \
    .rows = matrix_table_rows, .pair_scratch = matrix_table_scratch, .pairs = matrix_table_pairs

const struct amx_method method_ground_truth = {
    .info = {.name = "ground_truth",
             .title = "Ground truth",
             .source = "the upper bound of annot-mix's tables, ECAI 2024",
             .help = "Class model trained on gold labels alone: what crowd labels could reach at best.",
             .needs_gold = true},
    .own_settings = NO_SETTINGS,
    .prepare = prepare_gold,
    .draw = draw_nothing,
    HOOKS,
};

const struct amx_method method_majority_vote = {
    .info = {.name = "majority_vote",
             .title = "Majority vote",
             .source = "the lower baseline of annot-mix's tables, ECAI 2024",
             .help = "Class model trained on the class that most annotators gave each instance."},
    .own_settings = OWN_SETTINGS,
    .prepare = prepare_majority,
    .draw = draw_nothing,
    HOOKS,
};

const struct amx_method method_majority_vote_mixup = {
    .info = {.name = "majority_vote_mixup",
             .title = "Majority vote with mixup",
             .source = "Zhang, Cisse, Dauphin, Lopez-Paz: mixup, ICLR 2018",
             .help = "majority_vote trained on mixtures of two instances and of their classes."},
    .own_settings = OWN_SETTINGS,
    .prepare = prepare_majority,
    .draw = draw_mixup,
    HOOKS,
};

const struct amx_method method_dawid_skene = {
    .info = {.name = "dawid_skene",
             .title = "Dawid-Skene",
             .source = "Dawid, Skene: Maximum Likelihood Estimation of Observer Error-Rates, Applied Statistics 1979",
             .help = "Class model trained on the class that expectation maximisation finds for each instance."},
    .own_settings = OWN_SETTINGS,
    .prepare = prepare_dawid_skene,
    .draw = draw_nothing,
    HOOKS,
};

const struct amx_method method_dawid_skene_mixup = {
    .info = {.name = "dawid_skene_mixup",
             .title = "Dawid-Skene with mixup",
             .source = "Dawid, Skene 1979, and mixup, ICLR 2018; the strongest rival in annot-mix, ECAI 2024",
             .help = "dawid_skene trained on mixtures of two instances and of their classes."},
    .own_settings = OWN_SETTINGS,
    .prepare = prepare_dawid_skene,
    .draw = draw_mixup,
    HOOKS,
};
