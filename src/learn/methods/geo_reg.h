/* geo_reg.h - the methods geo_reg_f and geo_reg_w, and their regulariser, which coin_net shares. */
#ifndef LEARN_METHODS_GEO_REG_H
#define LEARN_METHODS_GEO_REG_H

#include "matrix.h"

extern const struct amx_method method_geo_reg_f, method_geo_reg_w;

/* -logdet(M M') of a matrix M [C][n], in double, and its gradient. */
struct logdet {
    size_t C, n;
    double *columns; /* [C][n] M; after logdet_term (M M')^-1 M */
    double *gram;    /* [C][C] M M', then its Cholesky factor */
};

/* n: most columns. */
void logdet_lay_out(struct logdet *logdet, size_t C, size_t n, struct arena *arena);
/* The term of the n columns in `columns` [C][n], and true; or false where it is dropped: fewer columns than rows, not
 * positive definite, or over 100. The gradient by M is then -2 times `columns`. */
bool logdet_term(struct logdet *logdet, size_t n, double *term);
/* lambda times the term of the batch's class probabilities (M = P', B columns), 0 where it is dropped; adds its
 * gradient to rows->d_p. */
double logdet_of_classes(struct logdet *logdet, struct class_rows *rows, double lambda);

struct geo_reg_state {
    struct matrix_state matrix;
    struct logdet logdet;
};

#endif
