/* conal.h - the method of that name, for the table in ../methods.c, and its state, for its test. */
#ifndef LEARN_METHODS_CONAL_H
#define LEARN_METHODS_CONAL_H

#include "embeddings.h"
#include "matrix.h"

struct conal_state {
    struct matrix_state matrix; /* class model; confusion.weight = the individual matrices W_a */
    struct embedding_tensors embed_tensors;
    struct embeddings embed;
    int tensor;             /* common.weight */
    const float *common;    /* [C][C] G */
    float *grad_common;     /* [C][C] */
    float *shared;          /* [B][C] p G */
    float *d_shared;        /* [B][C] its gradient */
    float *norm_x, *norm_a; /* [B], [T] lengths of the embeddings before they were normalised */
    float *own, *d_own, *s; /* [C] p W_a, its gradient; label logits, then their gradient */
};

extern const struct amx_method method_conal;

#endif
