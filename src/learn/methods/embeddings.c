/* embeddings.c - see embeddings.h. A one-hot product is a gather and its gradient a scatter; the table is cleared as a
 * whole in every step, since RAdam passes over all of it anyway. Sums over training labels for the unseen annotator
 * are in double: their order is the annotators', so equal data give equal bits. */
#include "embeddings.h"

#include <stdlib.h>
#include <string.h>

#include "../blas.h"
#include "../class_predictor.h"
#include "../model.h"

void embeddings_layout(struct layout *layout, struct embedding_tensors *x, const struct dims *dims, size_t E)
{
    const size_t Ep = amx_round_up(E, PAD);
    struct tensor *t;

    x->annotator_weight = layout_matrix(layout, GROUP_ANNOTATOR, E, dims->A, dims->A, Ep, "annotator_embed.weight");
    t = &layout->tensor[x->annotator_weight];
    t->row_stride = 1;
    t->col_stride = Ep;
    x->annotator_bias = layout_vector(layout, GROUP_ANNOTATOR, E, "annotator_embed.bias");
    x->instance_weight = layout_matrix(layout, GROUP_ANNOTATOR, E, dims->H, Ep, dims->Hp, "instance_embed.weight");
    x->instance_bias = layout_vector(layout, GROUP_ANNOTATOR, E, "instance_embed.bias");
}

void embeddings_initial(const struct layout *layout, const struct embedding_tensors *x, const struct dims *dims,
                        float *compact, struct rng *rng)
{
    linear_initial(layout, x->annotator_weight, compact, dims->A, rng);
    linear_initial(layout, x->annotator_bias, compact, dims->A, rng);
    linear_initial(layout, x->instance_weight, compact, dims->H, rng);
    linear_initial(layout, x->instance_bias, compact, dims->H, rng);
}

void embeddings_lay_out(struct embeddings *x, const struct dims *dims, size_t E, struct arena *arena)
{
    const size_t Ep = amx_round_up(E, PAD);

    memset(x, 0, sizeof *x);
    x->dims = dims;
    x->E = E;
    x->Ep = Ep;
    x->ex = arena_floats(arena, dims->Bp, Ep);
    x->ea = arena_floats(arena, dims->Tp, Ep);
    x->d_ex = arena_floats(arena, dims->Bp, Ep);
    x->d_ea = arena_floats(arena, dims->Tp, Ep);
    x->d_u = arena_floats(arena, dims->Bp, dims->Hp);
}

void embeddings_bind(struct embeddings *x, const struct layout *layout, const struct embedding_tensors *tensors,
                     float *parameters, float *gradients)
{
    const struct tensor *t = layout->tensor;

    x->table = parameters + t[tensors->annotator_weight].offset;
    x->table_bias = parameters + t[tensors->annotator_bias].offset;
    x->instance = parameters + t[tensors->instance_weight].offset;
    x->instance_bias = parameters + t[tensors->instance_bias].offset;
    x->grad_table = gradients + t[tensors->annotator_weight].offset;
    x->grad_table_bias = gradients + t[tensors->annotator_bias].offset;
    x->grad_instance = gradients + t[tensors->instance_weight].offset;
    x->grad_instance_bias = gradients + t[tensors->instance_bias].offset;
}

void embeddings_forward(struct embeddings *x, const struct batch *batch, const float *u)
{
    const struct dims *dims = x->dims;
    const size_t E = x->E, Ep = x->Ep;

    gemm_nt(batch->n_rows, E, dims->H, u, dims->Hp, x->instance, dims->Hp, 0.0f, x->ex, Ep);
    for (size_t i = 0; i < batch->n_rows; i++) {
        for (size_t e = 0; e < E; e++)
            x->ex[i * Ep + e] += x->instance_bias[e];
    }
    for (size_t t = 0; t < batch->n_labels; t++) {
        const float *row = x->table + batch->annotator1[t] * Ep;
        for (size_t e = 0; e < E; e++)
            x->ea[t * Ep + e] = row[e] + x->table_bias[e];
    }
}

static void add_row(float *sum, const float *row, size_t n)
{
    for (size_t e = 0; e < n; e++)
        sum[e] += row[e];
}

void embeddings_backward(struct embeddings *x, const struct batch *batch, const float *u)
{
    const struct dims *dims = x->dims;
    const size_t E = x->E, Ep = x->Ep;

    memset(x->grad_table, 0, dims->A * Ep * sizeof(float));
    memset(x->grad_table_bias, 0, E * sizeof(float));
    memset(x->grad_instance_bias, 0, E * sizeof(float));
    for (size_t t = 0; t < batch->n_labels; t++) {
        add_row(x->grad_table + batch->annotator1[t] * Ep, x->d_ea + t * Ep, E);
        add_row(x->grad_table_bias, x->d_ea + t * Ep, E);
    }
    for (size_t i = 0; i < batch->n_rows; i++)
        add_row(x->grad_instance_bias, x->d_ex + i * Ep, E);
    gemm_tn(E, dims->H, batch->n_rows, x->d_ex, Ep, u, dims->Hp, 0.0f, x->grad_instance, dims->Hp);
    gemm_nn(batch->n_rows, dims->H, E, x->d_ex, Ep, x->instance, dims->Hp, 0.0f, x->d_u, dims->Hp);
}

/* ---- prediction -------------------------------------------------------------------------------------------------- */

static const float *tensor(const struct amx_model *model, const float *compact, const char *name)
{
    return compact + model->layout.tensor[layout_find(&model->layout, name)].compact;
}

bool embedding_tables_init(struct embedding_tables *x, const struct amx_model *model, const float *compact, size_t E)
{
    const struct dims *dims = &model->dims;
    const size_t A = dims->A, Ep = amx_round_up(E, PAD), packed = panels_floats(E, dims->H);
    const float *weight = tensor(model, compact, "annotator_embed.weight"); /* [E][A] */
    const float *bias = tensor(model, compact, "annotator_embed.bias");

    memset(x, 0, sizeof *x);
    x->dims = dims;
    x->E = E;
    x->Ep = Ep;
    x->instance_bias = tensor(model, compact, "instance_embed.bias");
    x->panels = calloc(packed, sizeof(float));
    x->table = calloc((A + 1) * Ep, sizeof(float));
    x->bytes = (packed + (A + 1) * Ep) * sizeof(float);
    if (x->panels == NULL || x->table == NULL)
        return false;
    panels_pack(x->panels, tensor(model, compact, "instance_embed.weight"), E, dims->H, NULL);
    for (size_t e = 0; e < E; e++) {
        double sum = 0.0;
        for (size_t a = 0; a < A; a++) {
            sum += (double)model->annotator_labels[a] * (double)weight[e * A + a];
            x->table[a * Ep + e] = weight[e * A + a] + bias[e];
        }
        x->table[A * Ep + e] = bias[e] + (model->labels_used > 0 ? (float)(sum / (double)model->labels_used) : 0.0f);
    }
    return true;
}

void embedding_tables_done(struct embedding_tables *x)
{
    free(x->table);
    free(x->panels);
    memset(x, 0, sizeof *x);
}

void embedding_tables_rows(const struct embedding_tables *x, const float *u, size_t n, float *rows)
{
    panels_product(rows, x->Ep, u, x->dims->Hp, n, x->panels, x->E, x->dims->H);
    for (size_t i = 0; i < n; i++) {
        for (size_t e = 0; e < x->E; e++)
            rows[i * x->Ep + e] += x->instance_bias[e];
    }
}
