/* crowd_ar.h - the method of that name, for the table in ../methods.c, and its state, for its test. */
#ifndef LEARN_METHODS_CROWD_AR_H
#define LEARN_METHODS_CROWD_AR_H

#include "matrix.h"

struct crowd_ar_tensors {
    int expertise;                            /* expertise [A][C] s */
    int hidden_weight, hidden_bias;           /* difficulty0 [128][H] W1, [128] */
    int difficulty_weight, difficulty_bias;   /* difficulty1 [C][128] W2, [C] */
    int reliability_weight, reliability_bias; /* reliability [C] w3, [1] b3 */
};

struct crowd_ar_state {
    struct matrix_state matrix; /* class model; confusion.weight = W_a */
    struct crowd_ar_tensors tensors;
    const float *expertise, *w1, *b1, *w2, *b2, *b3;
    float *w3; /* kept >= 0 */
    float *grad_expertise, *grad_w1, *grad_b1, *grad_w2, *grad_b2, *grad_w3, *grad_b3;
    float *hidden, *d_hidden;         /* [B][128] */
    float *difficulty, *d_difficulty; /* [B][C] d */
    float *s;                         /* [C] label logits, then their gradient */
};

extern const struct amx_method method_crowd_ar;

#endif
