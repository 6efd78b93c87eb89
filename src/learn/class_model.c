/* class_model.c - forward and backward pass of the class model.
 *
 * Rows are triples while mixing and instances without (specification, "One training step"). Because the first Linear
 * is linear in x, it always runs over the B instances. Its rows are mixed wherever they are read (statistics, ReLU,
 * backward pass) and never written: two rows of a small matrix that stays in the cache instead of one of a large one.
 * The backward pass sums gradients back to B rows before the weight product. That is most of the work on wide data.
 *
 * BatchNorm, dropout scale and ReLU are one affine pass, y = max(0, a z + c); its backward pass is affine too,
 * dz = da dy + db z + dc. ReLU and dropout masks are read from y > 0. The bias before a BatchNorm cancels in training
 * (gradient exactly 0) and appears only in the running mean. Without hidden layers u is the (mixed) row itself. */
#include "class_model.h"

#include <math.h>
#include <string.h>

#include "blas.h"

/* ---- parameters -------------------------------------------------------------------------------------------------- */

void class_model_layout(struct layout *layout, struct class_tensors *x, const struct dims *dims)
{
    memset(x, 0, sizeof *x);
    for (int l = 0; l < dims->L; l++) {
        size_t in = l > 0 ? dims->h[l - 1] : dims->D, in_p = l > 0 ? dims->hp[l - 1] : dims->Dp;
        size_t h = dims->h[l], hp = dims->hp[l];
        x->weight[l] = layout_matrix(layout, GROUP_CLASS, h, in, hp, in_p, "hidden%d.weight", l);
        x->bias[l] = layout_vector(layout, GROUP_FIXED, h, "hidden%d.bias", l);
        x->gamma[l] = layout_vector(layout, GROUP_CLASS, h, "bn%d.weight", l);
        x->beta[l] = layout_vector(layout, GROUP_CLASS, h, "bn%d.bias", l);
        x->running_mean[l] = layout_vector(layout, GROUP_FIXED, h, "bn%d.running_mean", l);
        x->running_var[l] = layout_vector(layout, GROUP_FIXED, h, "bn%d.running_var", l);
    }
    x->out_weight = layout_matrix(layout, GROUP_CLASS, dims->C, dims->H, dims->C, dims->Hp, "class_out.weight");
    x->out_bias = layout_vector(layout, GROUP_CLASS, dims->C, "class_out.bias");
}

void linear_initial(const struct layout *layout, int tensor, float *compact, size_t fan_in, struct rng *rng)
{
    const struct tensor *t = &layout->tensor[tensor];
    double bound = 1.0 / sqrt((double)fan_in);

    for (size_t i = 0; i < t->rows * t->cols; i++)
        compact[t->compact + i] = (float)(bound * (2.0 * rng_uniform(rng) - 1.0));
}

void constant_initial(const struct layout *layout, int tensor, float *compact, float value)
{
    const struct tensor *t = &layout->tensor[tensor];

    for (size_t i = 0; i < t->rows * t->cols; i++)
        compact[t->compact + i] = value;
}

void class_model_initial(const struct layout *layout, const struct class_tensors *x, const struct dims *dims,
                         float *compact, struct rng *rng)
{
    for (int l = 0; l < dims->L; l++) {
        size_t in = l > 0 ? dims->h[l - 1] : dims->D;
        linear_initial(layout, x->weight[l], compact, in, rng);
        linear_initial(layout, x->bias[l], compact, in, rng);
        constant_initial(layout, x->gamma[l], compact, 1.0f);
        constant_initial(layout, x->beta[l], compact, 0.0f);
        constant_initial(layout, x->running_mean[l], compact, 0.0f);
        constant_initial(layout, x->running_var[l], compact, 1.0f);
    }
    linear_initial(layout, x->out_weight, compact, dims->H, rng);
    linear_initial(layout, x->out_bias, compact, dims->H, rng);
}

void batch_norm_lay_out(struct batch_norm *bn, size_t width, struct arena *arena)
{
    bn->mean = arena_floats(arena, width, 1);
    bn->inverse = arena_floats(arena, width, 1);
    bn->a = arena_floats(arena, width, 1);
    bn->c = arena_floats(arena, width, 1);
    bn->da = arena_floats(arena, width, 1);
    bn->db = arena_floats(arena, width, 1);
    bn->dc = arena_floats(arena, width, 1);
}

void batch_norm_bind(struct batch_norm *bn, const struct layout *layout, int gamma, int beta, int bias,
                     int running_mean, int running_var, float *parameters, float *gradients)
{
    bn->gamma = parameters + layout->tensor[gamma].offset;
    bn->beta = parameters + layout->tensor[beta].offset;
    bn->bias = parameters + layout->tensor[bias].offset;
    bn->running_mean = parameters + layout->tensor[running_mean].offset;
    bn->running_var = parameters + layout->tensor[running_var].offset;
    bn->grad_gamma = gradients + layout->tensor[gamma].offset;
    bn->grad_beta = gradients + layout->tensor[beta].offset;
}

void class_model_lay_out(struct class_model *model, const struct dims *dims, struct arena *arena)
{
    size_t widest = 0, rows = dims->Tp > dims->Bp ? dims->Tp : dims->Bp;

    memset(model, 0, sizeof *model);
    model->dims = dims;
    for (int l = 0; l < dims->L; l++) {
        widest = dims->hp[l] > widest ? dims->hp[l] : widest;
        model->z[l] = arena_floats(arena, l == 0 ? dims->Bp : rows, dims->hp[l]);
        model->y[l] = arena_floats(arena, rows, dims->hp[l]);
        batch_norm_lay_out(&model->bn[l], dims->hp[l], arena);
    }
    if (dims->L > 0) {
        model->d[0] = arena_floats(arena, rows, widest);
        model->d[1] = arena_floats(arena, rows, widest);
        model->sums = arena_take(arena, 2 * widest, sizeof(double));
        model->u = model->y[dims->L - 1];
    } else {
        model->u_mixed = arena_floats(arena, dims->Tp, dims->Dp);
    }
    model->logits = arena_floats(arena, dims->C, dims->Tp);
}

void class_model_bind(struct class_model *model, const struct layout *layout, const struct class_tensors *x,
                      float *parameters, float *gradients, double dropout, const struct amx_kernels *kernels)
{
    for (int l = 0; l < model->dims->L; l++) {
        model->weight[l] = parameters + layout->tensor[x->weight[l]].offset;
        model->grad_weight[l] = gradients + layout->tensor[x->weight[l]].offset;
        batch_norm_bind(&model->bn[l], layout, x->gamma[l], x->beta[l], x->bias[l], x->running_mean[l],
                        x->running_var[l], parameters, gradients);
    }
    model->out_weight = parameters + layout->tensor[x->out_weight].offset;
    model->out_bias = parameters + layout->tensor[x->out_bias].offset;
    model->grad_out_weight = gradients + layout->tensor[x->out_weight].offset;
    model->grad_out_bias = gradients + layout->tensor[x->out_bias].offset;
    model->threshold = (uint32_t)lround(65536.0 * dropout);
    model->scale = (float)(1.0 / (1.0 - dropout));
    model->kernels = kernels;
}

/* ---- passes ------------------------------------------------------------------------------------------------------ */

static size_t rows_of(const struct batch *batch)
{
    return batch->mixed ? batch->n_labels : batch->n_rows;
}

static void apply_forced(float *y, const unsigned char *keep, size_t n, size_t width, size_t ld)
{
    for (size_t t = 0; t < n; t++) {
        for (size_t j = 0; j < width; j++) {
            if (!keep[t * width + j])
                y[t * ld + j] = 0.0f;
        }
    }
}

/* Products of layer l and the statistics of its rows. */
static void layer_product(struct class_model *model, const struct batch *batch, int l, const struct mix_rows *mix)
{
    const struct dims *dims = model->dims;
    const size_t n = rows_of(batch), hp = dims->hp[l];
    struct batch_norm *bn = &model->bn[l];
    double *sum = model->sums, *sum_sq = sum + hp;

    if (l == 0)
        gemm_nt(batch->n_rows, dims->h[0], dims->D, batch->x, dims->Dp, model->weight[0], dims->Dp, 0.0f, model->z[0],
                hp);
    else
        gemm_nt(n, dims->h[l], dims->h[l - 1], model->y[l - 1], dims->hp[l - 1], model->weight[l], dims->hp[l - 1], 0.0f,
                model->z[l], hp);
    if (mix != NULL)
        model->kernels->mixed_stats(model->z[0], hp, n, mix, bn->mean, sum, sum_sq);
    else
        model->kernels->column_stats(model->z[l], hp, hp, n, sum, sum_sq);
    model->kernels->bn_fold(bn, mix != NULL ? bn->mean : model->z[l], sum, sum_sq, hp, n, model->scale);
}

void class_model_forward(struct class_model *model, const struct batch *batch, struct rng_lanes *rng,
                         const struct forced_masks *forced)
{
    const struct dims *dims = model->dims;
    const struct amx_kernels *kernels = model->kernels;
    const struct mix_rows mixing = {batch->row, batch->partner_row, batch->lambda};
    const size_t n = rows_of(batch);

    for (int l = 0; l < dims->L; l++) {
        const size_t hp = dims->hp[l];
        const struct mix_rows *mix = l == 0 && batch->mixed ? &mixing : NULL;
        const struct batch_norm *bn = &model->bn[l];
        layer_product(model, batch, l, mix);
        if (forced == NULL && model->threshold > 0) {
            kernels->affine_relu_dropout(model->y[l], model->z[l], bn->a, bn->c, hp, n, mix, model->threshold, &rng[l]);
            continue;
        }
        kernels->affine_relu(model->y[l], model->z[l], bn->a, bn->c, hp, n, mix);
        if (forced != NULL)
            apply_forced(model->y[l], forced->hidden[l], n, dims->h[l], hp);
    }
    if (dims->L == 0) {
        model->u = batch->mixed ? model->u_mixed : batch->x;
        if (batch->mixed)
            kernels->mix(model->u_mixed, batch->x, dims->Dp, dims->Dp, n, &mixing);
    }
    gemm_nt(dims->C, amx_round_up(n, 16), dims->H, model->out_weight, dims->Hp, model->u, dims->Hp, 0.0f, model->logits,
            dims->Tp);
}

void class_model_backward(struct class_model *model, const struct batch *batch, const float *d_logits)
{
    class_model_backward_with(model, batch, d_logits, NULL);
}

void class_model_backward_with(struct class_model *model, const struct batch *batch, const float *d_logits,
                               const float *d_u)
{
    const struct dims *dims = model->dims;
    const struct amx_kernels *kernels = model->kernels;
    const struct mix_rows mixing = {batch->row, batch->partner_row, batch->lambda};
    const size_t n = rows_of(batch);
    float *d = model->d[0], *next = model->d[1];

    gemm_nn(dims->C, dims->H, n, d_logits, dims->Tp, model->u, dims->Hp, 0.0f, model->grad_out_weight, dims->Hp);
    if (dims->L == 0)
        return;
    if (d_u != NULL)
        memcpy(d, d_u, n * dims->Hp * sizeof(float));
    gemm_tn(n, dims->H, dims->C, d_logits, dims->Tp, model->out_weight, dims->Hp, d_u != NULL ? 1.0f : 0.0f, d,
            dims->Hp);
    for (int l = dims->L - 1; l >= 0; l--) {
        const size_t h = dims->h[l], hp = dims->hp[l];
        struct batch_norm *bn = &model->bn[l];
        double *sum = model->sums, *sum_z = sum + hp;
        float *kept = d;
        kernels->bn_backward_sums(d, model->y[l], model->z[l], bn->mean, hp, n,
                                  l == 0 && batch->mixed ? &mixing : NULL, sum, sum_z);
        kernels->bn_backward_fold(bn, sum, sum_z, hp, n, model->scale);
        if (l > 0) {
            size_t in = dims->h[l - 1], in_p = dims->hp[l - 1];
            kernels->bn_backward_apply(d, model->z[l], bn, hp, n);
            gemm_tn(h, in, n, d, hp, model->y[l - 1], in_p, 0.0f, model->grad_weight[l], in_p);
            gemm_nn(n, in, h, d, hp, model->weight[l], in_p, 0.0f, next, in_p);
            d = next;
            next = kept;
        } else if (batch->mixed) {
            kernels->bn_backward_unmix(next, d, model->z[0], bn, hp, batch->n_rows, batch->begin, batch->inverse,
                                       &mixing);
            gemm_tn(h, dims->D, batch->n_rows, next, hp, batch->x, dims->Dp, 0.0f, model->grad_weight[0],
                    dims->Dp);
        } else {
            kernels->bn_backward_apply(d, model->z[0], bn, hp, n);
            gemm_tn(h, dims->D, n, d, hp, batch->x, dims->Dp, 0.0f, model->grad_weight[0], dims->Dp);
        }
    }
}
