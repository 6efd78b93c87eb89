/* annot_mix.c - the default method: annot-mix (see include/annotmix.h for the article), put together from the blocks.
 *
 * Training: class model, annotator model and loss as in the specification. Prediction: everything before the output
 * layer splits into a part of the instance and a part of the annotator,
 *   hidden = ReLU(a (Wx (Wi u + bi) + Wa (e_a + ba) + b - mean) + beta),   Wx, Wa the halves of ap_hidden,
 * with a = gamma / sqrt(var + eps). So a (Wx Wi) is one folded matrix [E][H], applied once per instance, the annotator
 * part is a table with one row each, and a pair costs one addition and the output layer. The last row of the table is
 * the population: the embedding table weighted with each annotator's share of the training labels. */
#include "annot_mix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../blas.h"
#include "../class_predictor.h"
#include "../method.h"
#include "../mixup.h"
#include "../model.h"
#include "../radam.h"
#include "../settings.h"

extern const struct amx_method method_annot_mix;

/* ---- training ---------------------------------------------------------------------------------------------------- */

/* prior: index of the constant logits, or -1. They lie transposed, [C C][A + 1], so that a slab reads its own rows. */
static bool lay_out_tensors(struct layout *layout, struct class_tensors *classes, struct annotator_tensors *annotators,
                            int *prior, bool with_prior, const struct dims *dims)
{
    const size_t cells = dims->C * dims->C;

    layout_init(layout);
    class_model_layout(layout, classes, dims);
    annotator_model_layout(layout, annotators, dims);
    *prior = -1;
    if (with_prior) {
        struct tensor *t;
        *prior = layout_matrix(layout, GROUP_FIXED, dims->A + 1, cells, cells, dims->A + 1, ANNOT_MIX_PRIOR_TENSOR);
        t = &layout->tensor[*prior];
        t->row_stride = 1;
        t->col_stride = dims->A + 1;
    }
    return layout_finish(layout);
}

static bool has_prior(const struct layout *layout)
{
    return layout_find(layout, ANNOT_MIX_PRIOR_TENSOR) >= 0;
}

bool annot_mix_layout(struct layout *layout, const struct dims *dims, bool with_prior)
{
    struct class_tensors classes;
    struct annotator_tensors annotators;
    int prior;

    return lay_out_tensors(layout, &classes, &annotators, &prior, with_prior, dims);
}

static bool layout(struct layout *out, const struct dims *dims)
{
    return annot_mix_layout(out, dims, false);
}

enum amx_status annot_mix_initial(const struct layout *layout, const struct dims *dims,
                                  const struct amx_settings *settings, const struct member_data *member, float *compact,
                                  struct rng *rng)
{
    struct layout same;
    struct class_tensors classes;
    struct annotator_tensors annotators;
    int prior;

    (void)member;
    (void)lay_out_tensors(&same, &classes, &annotators, &prior, has_prior(layout), dims); /* succeeded for `layout` */
    class_model_initial(layout, &classes, dims, compact, rng);
    annotator_model_initial(layout, &annotators, dims, settings->eta, compact, rng);
    return AMX_OK;
}

void annot_mix_lay_out(struct workspace *workspace, struct arena *arena)
{
    struct annot_mix_state counting, *state = workspace->state != NULL ? workspace->state : &counting;

    class_model_lay_out(&state->classes, &workspace->dims, arena);
    annotator_model_lay_out(&state->annotators, &workspace->dims, arena);
    loss_lay_out(&state->loss, &workspace->dims, arena);
}

void annot_mix_bind(struct workspace *workspace)
{
    struct annot_mix_state *state = workspace->state;
    struct layout same;
    int prior;

    (void)lay_out_tensors(&same, &state->class_tensors, &state->annotator_tensors, &prior, has_prior(workspace->layout),
                          &workspace->dims);
    class_model_bind(&state->classes, workspace->layout, &state->class_tensors, workspace->parameters,
                     workspace->gradients, workspace->settings->dropout, workspace->kernels);
    annotator_model_bind(&state->annotators, workspace->layout, &state->annotator_tensors, workspace->parameters,
                         workspace->gradients, workspace->kernels);
    loss_bind(&state->loss, workspace->layout, &state->annotator_tensors, workspace->parameters, workspace->gradients,
              workspace->moment1, workspace->moment2, workspace->kernels);
    state->loss.prior = prior < 0 ? NULL : workspace->parameters + workspace->layout->tensor[prior].offset;
}

void annot_mix_draw(struct workspace *workspace)
{
    const struct amx_settings *settings = workspace->settings;

    if (settings->alpha > 0.0)
        mixup_draw(&workspace->batch, settings->alpha, settings->mix_only_annotators, &workspace->lambda,
                   &workspace->partner);
}

double annot_mix_step(struct workspace *workspace, const struct step_rates *rates)
{
    struct annot_mix_state *state = workspace->state;
    struct batch *batch = &workspace->batch;
    const struct amx_settings *settings = workspace->settings;
    struct radam_step classes, annotators;
    double loss;

    state->loss.crew = workspace->crew;
    class_model_forward(&state->classes, batch, workspace->class_dropout, workspace->forced);
    annotator_model_forward(&state->annotators, batch, state->classes.u, &workspace->annotator_dropout,
                            workspace->forced);
    loss = loss_forward(&state->loss, batch, &state->classes, &state->annotators);
    if (!isfinite(loss))
        return loss;
    workspace->n_steps++;
    radam_prepare(&classes, workspace->n_steps, rates->learning_rate, settings->weight_decay);
    radam_prepare(&annotators, workspace->n_steps, rates->annotator_learning_rate, settings->annotator_weight_decay);
    loss_backward(&state->loss, batch, &state->classes, &state->annotators, &annotators, workspace->out_gradient);
    annotator_model_backward(&state->annotators, batch, state->classes.u);
    class_model_backward(&state->classes, batch, state->loss.d_logits);
    workspace_update(workspace, &classes, &annotators);
    return loss;
}

/* ---- prediction -------------------------------------------------------------------------------------------------- */

struct predictor {
    const struct dims *dims;
    float *panels;           /* folded instance matrix [E][H], packed */
    float *table;            /* [A + 1][Ep] annotator part of the hidden layer; row A = population */
    const float *out_weight; /* [C C][E], the model's own tensor */
    const float *out_bias;   /* [C C] */
    const float *prior;      /* [A + 1][C C] constant logits of annot_mix_prior, or NULL */
    size_t bytes;
};

void annot_mix_predictor_free(void *pointer)
{
    struct predictor *predictor = pointer;

    if (predictor == NULL)
        return;
    free(predictor->table);
    free(predictor->panels);
    free(predictor);
}

static const float *tensor(const struct amx_model *model, const float *compact, const char *name)
{
    return compact + model->layout.tensor[layout_find(&model->layout, name)].compact;
}

/* Annotator part of all annotators: table = (embeddings' Wa'), then the population row, then a (.) + constants.
 * constant [E] = a (Wx bi + Wa ba + b - mean) + beta. */
static void fill_table(struct predictor *predictor, const struct amx_model *model, const float *compact,
                       const double *factor, const double *constant)
{
    const size_t E = model->dims.E, Ep = model->dims.Ep, A = model->dims.A;
    const float *hidden = tensor(model, compact, "ap_hidden.weight");      /* [E][2E] */
    const float *embed = tensor(model, compact, "annotator_embed.weight"); /* [E][A] */
    float *population = predictor->table + A * Ep;

    gemm_tt(A, E, E, embed, A, hidden + E, 2 * E, 0.0f, predictor->table, Ep);
    for (size_t e = 0; e < E; e++) {
        double sum = 0.0;
        for (size_t a = 0; a < A; a++)
            sum += (double)model->annotator_labels[a] * (double)predictor->table[a * Ep + e];
        population[e] = model->labels_used > 0 ? (float)(sum / (double)model->labels_used) : 0.0f;
    }
    for (size_t a = 0; a <= A; a++) {
        for (size_t e = 0; e < E; e++) {
            float *x = &predictor->table[a * Ep + e];
            *x = (float)(factor[e] * (double)*x + constant[e]);
        }
    }
}

void *annot_mix_predictor_new(const struct amx_model *model, const float *compact)
{
    const struct dims *dims = &model->dims;
    const size_t E = dims->E, Ep = dims->Ep, H = dims->H;
    const float *hidden = tensor(model, compact, "ap_hidden.weight"), *bias = tensor(model, compact, "ap_hidden.bias");
    const float *instance = tensor(model, compact, "instance_embed.weight");
    const float *instance_bias = tensor(model, compact, "instance_embed.bias");
    const float *embed_bias = tensor(model, compact, "annotator_embed.bias");
    const float *gamma = tensor(model, compact, "ap_bn.weight"), *beta = tensor(model, compact, "ap_bn.bias");
    const float *mean = tensor(model, compact, "ap_bn.running_mean"),
                *var = tensor(model, compact, "ap_bn.running_var");
    struct predictor *predictor = calloc(1, sizeof *predictor);
    double *factor = calloc(2 * E, sizeof(double)), *constant = factor + E;
    float *product = calloc(E * H, sizeof(float)), *scale = calloc(E, sizeof(float));
    bool done = false;

    if (predictor == NULL || factor == NULL || product == NULL || scale == NULL)
        goto done;
    predictor->dims = dims;
    predictor->panels = calloc(panels_floats(E, H), sizeof(float));
    predictor->table = calloc((dims->A + 1) * Ep, sizeof(float));
    predictor->bytes = sizeof *predictor + (panels_floats(E, H) + (dims->A + 1) * Ep) * sizeof(float);
    if (predictor->panels == NULL || predictor->table == NULL)
        goto done;
    predictor->out_weight = tensor(model, compact, "ap_out.weight");
    predictor->out_bias = tensor(model, compact, "ap_out.bias");
    if (has_prior(&model->layout))
        predictor->prior = tensor(model, compact, ANNOT_MIX_PRIOR_TENSOR);
    for (size_t e = 0; e < E; e++) {
        double sum = (double)bias[e] - (double)mean[e];
        for (size_t i = 0; i < E; i++)
            sum += (double)hidden[e * 2 * E + i] * (double)instance_bias[i] +
                   (double)hidden[e * 2 * E + E + i] * (double)embed_bias[i];
        factor[e] = (double)gamma[e] / sqrt((double)var[e] + 1e-5);
        constant[e] = factor[e] * sum + (double)beta[e];
        scale[e] = (float)factor[e];
    }
    gemm_nn(E, H, E, hidden, 2 * E, instance, H, 0.0f, product, H);
    panels_pack(predictor->panels, product, E, H, scale);
    fill_table(predictor, model, compact, factor, constant);
    done = true;
done:
    free(scale);
    free(product);
    free(factor);
    if (!done) {
        annot_mix_predictor_free(predictor);
        return NULL;
    }
    return predictor;
}

size_t annot_mix_predictor_bytes(const void *predictor)
{
    return ((const struct predictor *)predictor)->bytes;
}

size_t annot_mix_row_width(const void *predictor)
{
    return ((const struct predictor *)predictor)->dims->Ep;
}

void annot_mix_rows(const void *pointer, const float *u, size_t n, float *out)
{
    const struct predictor *predictor = pointer;
    const struct dims *dims = predictor->dims;

    panels_product(out, dims->Ep, u, dims->Hp, n, predictor->panels, dims->E, dims->H);
}

size_t annot_mix_pair_scratch(const void *pointer)
{
    const struct dims *dims = ((const struct predictor *)pointer)->dims;

    return (dims->E + dims->C) * PANEL;
}

/* Adds row k of the pairs' constant logits to p [C][PANEL]. */
static void add_prior(const struct predictor *predictor, const uint32_t annotator[], size_t k, float *p)
{
    const size_t C = predictor->dims->C;

    for (size_t lane = 0; lane < PANEL && predictor->prior != NULL; lane++) {
        const float *row = predictor->prior + (annotator[lane] * C + k) * C;
        for (size_t c = 0; c < C; c++)
            p[c * PANEL + lane] += row[c];
    }
}

void annot_mix_pairs(const void *pointer, const float *const row[], const uint32_t annotator[], float *scratch,
                     void (*use)(void *context, size_t k, const float *p), void *context)
{
    const struct predictor *predictor = pointer;
    const struct dims *dims = predictor->dims;
    const struct amx_kernels *kernels = kernels_get();
    const size_t C = dims->C, E = dims->E;
    float *h = scratch, *p = scratch + E * PANEL; /* [E][PANEL], [C][PANEL] */

    for (size_t lane = 0; lane < PANEL; lane++) {
        const float *own = predictor->table + annotator[lane] * dims->Ep;
        for (size_t e = 0; e < E; e++) {
            float x = row[lane][e] + own[e];
            h[e * PANEL + lane] = x < 0.0f ? 0.0f : x;
        }
    }
    for (size_t k = 0; k < C; k++) {
        kernels->panel(predictor->out_weight + k * C * E, E, C, h, E, p, PANEL);
        add_prior(predictor, annotator, k, p);
        kernels->softmax_panel(p, predictor->out_bias + k * C, C);
        use(context, k, p);
    }
}

static const char *const OWN_SETTINGS[] = {
    "alpha", "eta", "annotator_embedding", "annotator_learning_rate", "annotator_weight_decay", "mix_only_annotators",
    NULL};

const struct amx_method method_annot_mix = {
    .info = {.name = "annot_mix",
             .title = "annot-mix",
             .source = "Herde, Lührs, Huseljic, Sick: Annot-Mix, ECAI 2024",
             .help = "Class model and a confusion matrix per annotator and instance, trained on mixtures of labels."},
    .own_settings = OWN_SETTINGS,
    .layout = layout,
    .initial = annot_mix_initial,
    .state_bytes = sizeof(struct annot_mix_state),
    .lay_out = annot_mix_lay_out,
    .bind = annot_mix_bind,
    .draw = annot_mix_draw,
    .step = annot_mix_step,
    .predictor_new = annot_mix_predictor_new,
    .predictor_free = annot_mix_predictor_free,
    .predictor_bytes = annot_mix_predictor_bytes,
    .row_width = annot_mix_row_width,
    .rows = annot_mix_rows,
    .pair_scratch = annot_mix_pair_scratch,
    .pairs = annot_mix_pairs,
};
