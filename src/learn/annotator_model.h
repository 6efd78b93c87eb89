/* annotator_model.h - the annotator model ("AP model") up to its hidden layer; the output layer is in loss.c. */
#ifndef LEARN_ANNOTATOR_MODEL_H
#define LEARN_ANNOTATOR_MODEL_H

#include "class_model.h"

struct annotator_tensors {
    int embed_weight, embed_bias;       /* annotator_embed [E][A], stored transposed: [A][Ep] */
    int instance_weight, instance_bias; /* instance_embed [E][H] */
    int hidden_weight, hidden_bias;     /* ap_hidden [E][2E], halves at 0 and Ep */
    int gamma, beta, running_mean, running_var;
    int out_weight, out_bias; /* ap_out [C C][E], [C C] */
};

struct annotator_model {
    const struct dims *dims;
    const struct amx_kernels *kernels;
    const float *table, *table_bias;       /* [A][Ep], [Ep] */
    const float *instance, *instance_bias; /* [E][Hp], [Ep] */
    const float *hidden;                   /* [E][2Ep] */
    float *grad_table, *grad_table_bias, *grad_instance, *grad_instance_bias, *grad_hidden;
    struct batch_norm bn;
    float *ex;         /* [B][Ep] instance embeddings without mixing; backward: their gradient */
    float *v;          /* [T][2Ep] concatenation after dropout */
    float *z;          /* [T][Ep] before BatchNorm */
    float *h;          /* [T][Ep] hidden activation */
    float *d_h;        /* [T][Ep] its gradient, filled by the loss */
    float *d_v;        /* [T][2Ep] its gradient, in the same memory */
    float *sums_v;     /* [2Ep] */
    uint32_t *words;   /* dropout bits of v */
    uint32_t *touched; /* [Tp] rows of grad_table that are not zero */
    size_t n_touched;
    double *sums; /* [2][Ep] */
};

void annotator_model_layout(struct layout *layout, struct annotator_tensors *tensors, const struct dims *dims);
void annotator_model_initial(const struct layout *layout, const struct annotator_tensors *tensors,
                             const struct dims *dims, double eta, float *compact, struct rng *rng);
void annotator_model_lay_out(struct annotator_model *model, const struct dims *dims, struct arena *arena);
void annotator_model_bind(struct annotator_model *model, const struct layout *layout,
                          const struct annotator_tensors *tensors, float *parameters, float *gradients,
                          const struct amx_kernels *kernels);
/* u: embedding rows of the class model (triples while mixing, else instances). Fills h. */
void annotator_model_forward(struct annotator_model *model, const struct batch *batch, const float *u,
                             struct rng_lanes *rng, const struct forced_masks *forced);
/* From d_h; fills all gradients of the hidden layer and the embeddings. u gets none (stop_gradient). */
void annotator_model_backward(struct annotator_model *model, const struct batch *batch, const float *u);

#endif
