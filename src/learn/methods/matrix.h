/* matrix.h - what the methods with one C x C matrix per annotator share: tensors, state, the mixture loss, the
 * update, and prediction from a fixed table.
 *
 * The tensor is "confusion.weight" [A][C C], rows = true class. Its meaning is the method's: weights of a layer
 * (crowd_layer), or logits whose row softmax is the confusion matrix P_a (trace_reg, geo_reg_*, coin_net). */
#ifndef LEARN_METHODS_MATRIX_H
#define LEARN_METHODS_MATRIX_H

#include "../method.h"
#include "../model.h"
#include "class_rows.h"

/* ---- training ---------------------------------------------------------------------------------------------------- */

/* First member of the state of each of these methods. */
struct matrix_state {
    const struct dims *dims;
    const struct amx_kernels *kernels;
    struct class_tensors class_tensors;
    int tensor; /* confusion.weight */
    struct class_model classes;
    struct class_rows rows;
    const float *logits; /* [A][C C] parameters */
    float *gradient;     /* [A][C C] */
    float *p;            /* [A][C C] row softmax of the logits; these and the rest only where asked for */
    float *log_sum;      /* [A][C] log of the sum of exp of each row: log P_kc = logit_kc - log_sum_k */
    float *posterior;    /* [A][C] sum over labels of the posterior of each true class, times 1/T */
    float *spare;        /* [C padded to PANEL] twice: a row, and zeros */
};

bool matrix_layout(struct layout *layout, const struct dims *dims);
/* Class model as torch.nn.Linear starts; every matrix has `diagonal` on its diagonal and `other` elsewhere. */
void matrix_initial(const struct layout *layout, const struct dims *dims, float diagonal, float other, float *compact,
                    struct rng *rng);
/* Hook of struct amx_method: the identity for every annotator. */
enum amx_status matrix_initial_identity(const struct layout *layout, const struct dims *dims,
                                        const struct amx_settings *settings, const struct member_data *member,
                                        float *compact, struct rng *rng);
/* softmax: also p, log_sum, posterior and spare. */
void matrix_lay_out(struct matrix_state *state, const struct dims *dims, bool softmax, struct arena *arena);
/* Hook of struct amx_method: points the state's first member into the parameter blocks. */
void matrix_bind(struct workspace *workspace);
/* These methods mix nothing. */
void matrix_draw(struct workspace *workspace);

/* Start of a step: class probabilities of the batch, gradient of the matrices to 0; with softmax also p and log_sum of
 * every annotator. */
void matrix_forward(struct matrix_state *state, struct workspace *workspace);
/* Mean over labels of -log sum_k p_k P_a[k][z], from log p and logits; adds its gradients to rows.d_z and gradient. */
double matrix_mixture(struct matrix_state *state, const struct batch *batch);
/* p [C] = softmax of x [C]; returns the log of the sum of exp. spare [2][C padded to PANEL]: scratch, and zeros. */
float matrix_softmax_row(float *restrict p, const float *restrict x, size_t C, float *restrict spare,
                         const struct amx_kernels *kernels);
/* gradient_kc += P_kc (d_c - sum_c' P_kc' d_c') for row k of annotator a, from the gradient d [C] by P. */
void matrix_softmax_backward(struct matrix_state *state, size_t a, size_t k, const float *d);
/* End of a step: the class model's gradients and one RAdam step of both groups. */
void matrix_update(struct matrix_state *state, struct workspace *workspace, const struct step_rates *rates,
                   struct radam_step *annotators);

/* ---- prediction: a fixed table, the same for every instance ------------------------------------------------------ */

struct matrix_table {
    size_t A, C, bytes;
    float *p; /* [A + 1][C C]; row A = population */
};

/* Zeroed; NULL when memory ran out. */
struct matrix_table *matrix_table_new(const struct amx_model *model);
/* Row A: the mean of the others, weighted with each annotator's share of the training labels. */
void matrix_table_population(struct matrix_table *table, const struct amx_model *model);
/* Hooks of struct amx_method. new: row softmax of confusion.weight. */
void *matrix_table_softmax(const struct amx_model *model, const float *compact);
void matrix_table_free(void *table);
size_t matrix_table_bytes(const void *table);
size_t matrix_table_row_width(const void *table);
void matrix_table_rows(const void *table, const float *u, size_t n, float *rows);
size_t matrix_table_scratch(const void *table);
void matrix_table_pairs(const void *table, const float *const row[], const uint32_t annotator[], float *scratch,
                        void (*use)(void *context, size_t k, const float *p), void *context);

#endif
