/* blas.h - the products the learner needs, row-major, in the letters of BLAS: N = as stored, T = transposed.
 * M, N, K are the sizes of the product: C[M][N] = A[M][K] B[K][N] + beta C. All sizes are far below INT_MAX:
 * settings and data are checked before (fit.c). Safe from any number of threads (blas.c). */
#ifndef LEARN_BLAS_H
#define LEARN_BLAS_H

#include <stdbool.h>
#include <stddef.h>

struct crew;

/* C = A B' : A [M][K], B [N][K] */
void gemm_nt(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
             size_t ldc);
/* C = A B : A [M][K], B [K][N] */
void gemm_nn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
             size_t ldc);
/* C = A' B : A [K][M], B [K][N] */
void gemm_tn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
             size_t ldc);
/* C = A' B' : A [K][M], B [N][K] */
void gemm_tt(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
             size_t ldc);
/* In double, for determinants. G [n][n] = M M', M [n][m]: the lower triangle; the rest of G is left alone. */
void gram_double(size_t n, size_t m, const double *a, size_t lda, double *g, size_t ldg);
/* X [n][m] <- (L L')^-1 X, from the lower triangle of L [n][n]. */
void cholesky_solve_double(size_t n, size_t m, const double *l, size_t ldl, double *x, size_t ldx);
/* False when this OpenBLAS lets only one thread at a time multiply: fits in parallel threads then take turns. */
bool blas_is_parallel(void);
/* From now on large products of the calling thread are done together with its helper, bits as without; NULL ends that. The
 * crew must be the calling thread's own and outlive its use here. */
void blas_share(struct crew *with);

#endif
