/* annotator_model.c - embeddings, concatenation, dropout, hidden layer of the annotator model, and their gradients.
 *
 * v = Dropout(concat(Linear(u), embedding of the annotator)): the instance product writes the left halves of v's rows
 * directly (row length 2 Ep), a gather of one or two table rows fills the right halves, so there is no one-hot
 * matrix and no copy. Without mixing the instance product runs once per instance. Dropout (always 1/2) is kept as
 * bits, not read back from v != 0: a kept entry may well be exactly 0.
 *
 * The table's gradient has at most 2 T rows that are not zero. They are remembered and cleared in the next step;
 * RAdam still passes over all rows, because moments decay: the result equals the dense update. */
#include "annotator_model.h"

#include <math.h>
#include <string.h>

#include "blas.h"

void annotator_model_layout(struct layout *layout, struct annotator_tensors *x, const struct dims *dims)
{
    const size_t E = dims->E, Ep = dims->Ep;
    struct tensor *t;

    x->embed_weight = layout_matrix(layout, GROUP_ANNOTATOR, E, dims->A, dims->A, Ep, "annotator_embed.weight");
    t = &layout->tensor[x->embed_weight];
    t->row_stride = 1;
    t->col_stride = Ep;
    x->embed_bias = layout_vector(layout, GROUP_ANNOTATOR, E, "annotator_embed.bias");
    x->instance_weight = layout_matrix(layout, GROUP_ANNOTATOR, E, dims->H, Ep, dims->Hp, "instance_embed.weight");
    x->instance_bias = layout_vector(layout, GROUP_ANNOTATOR, E, "instance_embed.bias");
    x->hidden_weight = layout_matrix(layout, GROUP_ANNOTATOR, E, 2 * E, Ep, 2 * Ep, "ap_hidden.weight");
    t = &layout->tensor[x->hidden_weight];
    t->split = E;
    t->jump = Ep - E;
    x->hidden_bias = layout_vector(layout, GROUP_FIXED, E, "ap_hidden.bias");
    x->gamma = layout_vector(layout, GROUP_ANNOTATOR, E, "ap_bn.weight");
    x->beta = layout_vector(layout, GROUP_ANNOTATOR, E, "ap_bn.bias");
    x->running_mean = layout_vector(layout, GROUP_FIXED, E, "ap_bn.running_mean");
    x->running_var = layout_vector(layout, GROUP_FIXED, E, "ap_bn.running_var");
    x->out_weight = layout_matrix(layout, GROUP_STREAMED, dims->C * dims->C, E, dims->C * dims->C, Ep, "ap_out.weight");
    x->out_bias = layout_vector(layout, GROUP_ANNOTATOR, dims->C * dims->C, "ap_out.bias");
}

void annotator_model_initial(const struct layout *layout, const struct annotator_tensors *x, const struct dims *dims,
                             double eta, float *compact, struct rng *rng)
{
    const size_t E = dims->E, C = dims->C;
    float *prior;

    linear_initial(layout, x->embed_weight, compact, dims->A, rng);
    linear_initial(layout, x->embed_bias, compact, dims->A, rng);
    linear_initial(layout, x->instance_weight, compact, dims->H, rng);
    linear_initial(layout, x->instance_bias, compact, dims->H, rng);
    linear_initial(layout, x->hidden_weight, compact, 2 * E, rng);
    linear_initial(layout, x->hidden_bias, compact, 2 * E, rng);
    constant_initial(layout, x->gamma, compact, 1.0f);
    constant_initial(layout, x->beta, compact, 0.0f);
    constant_initial(layout, x->running_mean, compact, 0.0f);
    constant_initial(layout, x->running_var, compact, 1.0f);
    linear_initial(layout, x->out_weight, compact, E, rng);
    /* Prior: a zero input gives every annotator accuracy eta. */
    constant_initial(layout, x->out_bias, compact, 0.0f);
    prior = compact + layout->tensor[x->out_bias].compact;
    for (size_t k = 0; k < C; k++)
        prior[k * C + k] = (float)log(eta * (double)(C - 1) / (1.0 - eta));
}

void annotator_model_lay_out(struct annotator_model *model, const struct dims *dims, struct arena *arena)
{
    const size_t Ep = dims->Ep;
    size_t elements = SIZE_MAX;

    memset(model, 0, sizeof *model);
    model->dims = dims;
    batch_norm_lay_out(&model->bn, Ep, arena);
    model->ex = arena_floats(arena, dims->Bp, Ep);
    model->v = arena_floats(arena, dims->Tp, 2 * Ep);
    model->z = arena_floats(arena, dims->Tp, Ep);
    model->h = arena_floats(arena, dims->Tp, Ep);
    model->d_h = arena_floats(arena, dims->Tp, Ep);
    model->d_v = model->v; /* the weight product of the hidden layer is v's last use: its memory is warm */
    model->sums_v = arena_floats(arena, 2 * Ep, 1);
    (void)amx_size_mul(&elements, dims->Tp, 2 * Ep); /* v of this size was taken above: the arena knows an overflow */
    model->words = arena_u32(arena, (elements / 512 + 1) * RNG_LANES);
    model->touched = arena_u32(arena, dims->Tp);
    model->sums = arena_take(arena, 2 * Ep, sizeof(double));
}

void annotator_model_bind(struct annotator_model *model, const struct layout *layout, const struct annotator_tensors *x,
                          float *parameters, float *gradients, const struct amx_kernels *kernels)
{
    const struct tensor *t = layout->tensor;

    model->table = parameters + t[x->embed_weight].offset;
    model->table_bias = parameters + t[x->embed_bias].offset;
    model->instance = parameters + t[x->instance_weight].offset;
    model->instance_bias = parameters + t[x->instance_bias].offset;
    model->hidden = parameters + t[x->hidden_weight].offset;
    model->grad_table = gradients + t[x->embed_weight].offset;
    model->grad_table_bias = gradients + t[x->embed_bias].offset;
    model->grad_instance = gradients + t[x->instance_weight].offset;
    model->grad_instance_bias = gradients + t[x->instance_bias].offset;
    model->grad_hidden = gradients + t[x->hidden_weight].offset;
    batch_norm_bind(&model->bn, layout, x->gamma, x->beta, x->hidden_bias, x->running_mean, x->running_var, parameters,
                    gradients);
    model->kernels = kernels;
}

/* Packs a forced mask [T][2E] the way random_bits would have drawn it (layout in rng.c). */
static void pack_forced(struct annotator_model *model, const unsigned char *keep, size_t n, size_t n_words)
{
    const size_t E = model->dims->E, Ep = model->dims->Ep;

    memset(model->words, 0, n_words * sizeof(uint32_t));
    for (size_t t = 0; t < n; t++) {
        for (size_t j = 0; j < 2 * E; j++) {
            size_t element = t * 2 * Ep + (j < E ? j : j - E + Ep);
            size_t run = element / RNG_LANES, lane = element % RNG_LANES;
            if (keep[t * 2 * E + j])
                model->words[run / 32 * RNG_LANES + lane] |= UINT32_C(1) << (run % 32);
        }
    }
}

void annotator_model_forward(struct annotator_model *model, const struct batch *batch, const float *u,
                             struct rng_lanes *rng, const struct forced_masks *forced)
{
    const struct dims *dims = model->dims;
    const struct amx_kernels *kernels = model->kernels;
    const size_t E = dims->E, Ep = dims->Ep, n = batch->n_labels;
    const size_t steps = (n * 2 * Ep + 511) / 512;
    double *sum = model->sums, *sum_sq = sum + Ep;

    if (batch->mixed)
        gemm_nt(n, E, dims->H, u, dims->Hp, model->instance, dims->Hp, 0.0f, model->v, 2 * Ep);
    else
        gemm_nt(batch->n_rows, E, dims->H, u, dims->Hp, model->instance, dims->Hp, 0.0f, model->ex, Ep);
    if (forced != NULL)
        pack_forced(model, forced->annotator, n, steps * RNG_LANES);
    else
        kernels->random_bits(rng, model->words, steps);
    if (batch->mixed)
        kernels->embed(model->v, Ep, n, NULL, NULL, model->instance_bias, model->table, batch->annotator1,
                       batch->annotator2, batch->lambda, model->table_bias, model->words);
    else
        kernels->embed(model->v, Ep, n, model->ex, batch->row, model->instance_bias, model->table, batch->annotator1,
                       NULL, NULL, model->table_bias, model->words);

    gemm_nt(n, E, 2 * Ep, model->v, 2 * Ep, model->hidden, 2 * Ep, 0.0f, model->z, Ep);
    kernels->column_stats(model->z, Ep, Ep, n, sum, sum_sq);
    kernels->bn_fold(&model->bn, model->z, sum, sum_sq, Ep, n, 1.0f);
    kernels->affine_relu(model->h, model->z, model->bn.a, model->bn.c, Ep, n, NULL);
}

void annotator_model_backward(struct annotator_model *model, const struct batch *batch, const float *u)
{
    const struct dims *dims = model->dims;
    const struct amx_kernels *kernels = model->kernels;
    const size_t E = dims->E, Ep = dims->Ep, n = batch->n_labels;
    double *sum = model->sums, *sum_z = sum + Ep;

    kernels->bn_backward_sums(model->d_h, model->h, model->z, model->bn.mean, Ep, n, NULL, sum, sum_z);
    kernels->bn_backward_fold(&model->bn, sum, sum_z, Ep, n, 1.0f);
    kernels->bn_backward_apply(model->d_h, model->z, &model->bn, Ep, n);
    gemm_tn(E, 2 * Ep, n, model->d_h, Ep, model->v, 2 * Ep, 0.0f, model->grad_hidden, 2 * Ep);
    gemm_nn(n, 2 * Ep, E, model->d_h, Ep, model->hidden, 2 * Ep, 0.0f, model->d_v, 2 * Ep);
    kernels->mask_backward(model->d_v, Ep, n, model->words, model->sums_v);
    memcpy(model->grad_instance_bias, model->sums_v, Ep * sizeof(float));
    memcpy(model->grad_table_bias, model->sums_v + Ep, Ep * sizeof(float));

    if (batch->mixed) {
        gemm_tn(E, dims->H, n, model->d_v, 2 * Ep, u, dims->Hp, 0.0f, model->grad_instance, dims->Hp);
    } else {
        kernels->fold_rows(model->ex, Ep, model->d_v, 2 * Ep, Ep, batch->n_rows, batch->begin);
        gemm_tn(E, dims->H, batch->n_rows, model->ex, Ep, u, dims->Hp, 0.0f, model->grad_instance, dims->Hp);
    }

    for (size_t i = 0; i < model->n_touched; i++)
        memset(model->grad_table + model->touched[i] * Ep, 0, Ep * sizeof(float));
    model->n_touched = n;
    memcpy(model->touched, batch->annotator1, n * sizeof(uint32_t)); /* partners are a permutation of the same */
    kernels->embed_backward(model->grad_table, Ep, n, model->d_v, batch->annotator1,
                            batch->mixed ? batch->annotator2 : NULL, batch->lambda);
}
