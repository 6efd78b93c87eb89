/* union_net.h - the method of that name, for the table in ../methods.c, and its state, for its test. */
#ifndef LEARN_METHODS_UNION_NET_H
#define LEARN_METHODS_UNION_NET_H

#include "matrix.h"

struct union_state {
    struct matrix_state matrix; /* confusion.weight [A][C C]: logit of (a, c) given true class k at [a][k][c] */
    float *column;              /* [C] log of the sum of exp over all (a, c), of each true class */
    float *inverse;             /* [C] 1 / that sum, of exponents relative to the largest */
    float *r;                   /* [T][C] posterior of the true class of each label, times 1/B */
    float *sum;                 /* [C] sum of r over labels */
};

extern const struct amx_method method_union_net;

#endif
