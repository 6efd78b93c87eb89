/* blas.h - the four products the learner needs, row-major, in the letters of BLAS: N = as stored, T = transposed.
 * M, N, K are the sizes of the product: C[M][N] = A[M][K] B[K][N] + beta C. All sizes are far below INT_MAX:
 * settings and data are checked before (fit.c). */
#ifndef LEARN_BLAS_H
#define LEARN_BLAS_H

#include <cblas.h>
#include <stddef.h>

/* C = A B' : A [M][K], B [N][K] */
static inline void gemm_nt(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
                           float beta, float *c, size_t ldc)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)m, (blasint)n, (blasint)k, 1.0f, a, (blasint)lda, b,
                (blasint)ldb, beta, c, (blasint)ldc);
}

/* C = A B : A [M][K], B [K][N] */
static inline void gemm_nn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
                           float beta, float *c, size_t ldc)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, 1.0f, a, (blasint)lda,
                b, (blasint)ldb, beta, c, (blasint)ldc);
}

/* C = A' B : A [K][M], B [K][N] */
static inline void gemm_tn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
                           float beta, float *c, size_t ldc)
{
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, 1.0f, a, (blasint)lda, b,
                (blasint)ldb, beta, c, (blasint)ldc);
}

/* C = A' B' : A [K][M], B [N][K] */
static inline void gemm_tt(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
                           float beta, float *c, size_t ldc)
{
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasTrans, (blasint)m, (blasint)n, (blasint)k, 1.0f, a, (blasint)lda, b,
                (blasint)ldb, beta, c, (blasint)ldc);
}

#endif
