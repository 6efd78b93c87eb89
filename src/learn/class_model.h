/* class_model.h - the class model ("GT model"): hidden layers of Linear, BatchNorm, ReLU, Dropout, then Linear. */
#ifndef LEARN_CLASS_MODEL_H
#define LEARN_CLASS_MODEL_H

#include "batch.h"
#include "kernels.h"
#include "layout.h"

/* Test hook: one 0/1 byte per element [rows][width] instead of random dropout; NULL = random. */
struct forced_masks {
    const unsigned char *hidden[AMX_MAX_HIDDEN];
    const unsigned char *annotator; /* [T][2E] */
};

/* Indices of the class model's tensors in the layout. */
struct class_tensors {
    int weight[AMX_MAX_HIDDEN], bias[AMX_MAX_HIDDEN], gamma[AMX_MAX_HIDDEN], beta[AMX_MAX_HIDDEN],
        running_mean[AMX_MAX_HIDDEN], running_var[AMX_MAX_HIDDEN], out_weight, out_bias;
};

struct class_model {
    const struct dims *dims;
    const struct amx_kernels *kernels;
    /* Into the parameter and gradient blocks. */
    const float *weight[AMX_MAX_HIDDEN]; /* [h][in] */
    const float *out_weight, *out_bias;  /* [C][H], [C] */
    float *grad_weight[AMX_MAX_HIDDEN], *grad_out_weight, *grad_out_bias;
    struct batch_norm bn[AMX_MAX_HIDDEN];
    /* Activations. R rows: T triples while mixing, else B instances. */
    float *z[AMX_MAX_HIDDEN]; /* [R][h] before BatchNorm; the first: [B][h], before mixing */
    float *y[AMX_MAX_HIDDEN]; /* [R][h] after ReLU and dropout */
    float *u;                 /* [R][H] embedding: y of the last layer, or (mixed) features */
    float *u_mixed;           /* [T][Dp] for models without hidden layers */
    float *logits;            /* [C][Tp], transposed, without bias */
    float *d[2];              /* [max(R, B)][max h] gradients, in turn */
    double *sums;             /* [2][max h] */
    uint32_t threshold;       /* dropout in 1/65536 */
    float scale;              /* 1 / (1 - dropout) */
};

/* Adds the class model's tensors. */
void class_model_layout(struct layout *layout, struct class_tensors *tensors, const struct dims *dims);
/* Fresh parameters (torch.nn.Linear and BatchNorm1d defaults), in compact form. */
void class_model_initial(const struct layout *layout, const struct class_tensors *tensors, const struct dims *dims,
                         float *compact, struct rng *rng);
void class_model_lay_out(struct class_model *model, const struct dims *dims, struct arena *arena);
/* Points the model into the blocks. */
void class_model_bind(struct class_model *model, const struct layout *layout, const struct class_tensors *tensors,
                      float *parameters, float *gradients, double dropout, const struct amx_kernels *kernels);
/* Fills u and logits. rng: one stream per hidden layer. */
void class_model_forward(struct class_model *model, const struct batch *batch, struct rng_lanes *rng,
                         const struct forced_masks *forced);
/* d_logits [C][Tp], R columns; fills all gradients but grad_out_bias (the loss sums it). */
void class_model_backward(struct class_model *model, const struct batch *batch, const float *d_logits);
/* The same with a gradient of the loss by u besides, d_u [R][Hp] (NULL: none; of no use without hidden layers). */
void class_model_backward_with(struct class_model *model, const struct batch *batch, const float *d_logits,
                               const float *d_u);

/* Uniform +-1/sqrt(fan_in) into the tensor, element by element in compact order (torch.nn.Linear's default). */
void linear_initial(const struct layout *layout, int tensor, float *compact, size_t fan_in, struct rng *rng);
void constant_initial(const struct layout *layout, int tensor, float *compact, float value);
/* Points one BatchNorm into the blocks and lays out its scratch. */
void batch_norm_lay_out(struct batch_norm *bn, size_t width, struct arena *arena);
void batch_norm_bind(struct batch_norm *bn, const struct layout *layout, int gamma, int beta, int bias,
                     int running_mean, int running_var, float *parameters, float *gradients);

#endif
