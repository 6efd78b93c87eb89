/* embeddings.h - linear embeddings of instances and annotators of equal width, for methods whose embedding of an
 * instance teaches the class model too (conal, madl):
 *
 *     e_x = Linear(H, E)(u), once per instance,   e_a = Linear(A, E)(one-hot of a), once per label.
 *
 * annot-mix has its own (annotator_model.h): there u gets no gradient and annotators are mixed. Tensors have the same
 * names and places here as there. */
#ifndef LEARN_METHODS_EMBEDDINGS_H
#define LEARN_METHODS_EMBEDDINGS_H

#include "../class_model.h"

struct amx_model;

struct embedding_tensors {
    int annotator_weight, annotator_bias; /* annotator_embed [E][A], stored transposed: [A][Ep] */
    int instance_weight, instance_bias;   /* instance_embed [E][H] */
};

struct embeddings {
    const struct dims *dims;
    size_t E, Ep;
    const float *table, *table_bias;       /* [A][Ep], [Ep] */
    const float *instance, *instance_bias; /* [Ep][Hp], [Ep] */
    float *grad_table, *grad_table_bias, *grad_instance, *grad_instance_bias;
    float *ex, *ea;     /* [Bp][Ep] of the instances, [Tp][Ep] of the labels' annotators; biases included */
    float *d_ex, *d_ea; /* their gradients, filled by the method */
    float *d_u;         /* [Bp][Hp] gradient of u, for class_model_backward_with */
};

void embeddings_layout(struct layout *layout, struct embedding_tensors *tensors, const struct dims *dims, size_t E);
/* torch.nn.Linear's defaults. */
void embeddings_initial(const struct layout *layout, const struct embedding_tensors *tensors, const struct dims *dims,
                        float *compact, struct rng *rng);
void embeddings_lay_out(struct embeddings *x, const struct dims *dims, size_t E, struct arena *arena);
void embeddings_bind(struct embeddings *x, const struct layout *layout, const struct embedding_tensors *tensors,
                     float *parameters, float *gradients);
/* u [B][Hp] of the instances; fills ex and ea. */
void embeddings_forward(struct embeddings *x, const struct batch *batch, const float *u);
/* From d_ex and d_ea; fills all gradients, and d_u (which is of no use without hidden layers). */
void embeddings_backward(struct embeddings *x, const struct batch *batch, const float *u);

/* The same at prediction, from one member's compact tensors. */
struct embedding_tables {
    const struct dims *dims;
    size_t E, Ep;
    float *panels;              /* instance_embed, packed */
    const float *instance_bias; /* [E], the model's own tensor */
    float *table;               /* [A + 1][Ep] biases included; row A: the mean over the training labels (unseen) */
    size_t bytes;
};
/* False when memory ran out; embedding_tables_done in any case. */
bool embedding_tables_init(struct embedding_tables *x, const struct amx_model *model, const float *compact, size_t E);
void embedding_tables_done(struct embedding_tables *x);
/* e_x [n][Ep] of u [n][Hp]; a row does not depend on the others. */
void embedding_tables_rows(const struct embedding_tables *x, const float *u, size_t n, float *rows);

#endif
