/* blas.c - OpenBLAS, one thread per product, from any number of threads.
 *
 * OpenBLAS built without threads (Debian's libopenblas0-serial) hands out its packing buffers without a lock: two
 * threads that multiply at once can get the same buffer, and results are silently wrong (three threads, 40x40 products:
 * 5 % of them). Built with threads (libopenblas0-pthread) it locks that list. So with a sequential build every product
 * goes through a mutex here: right, but fits in parallel do not get faster. Install the pthread build; this file
 * sets it to one thread per product, because the matrices are small and results must not depend on the cores.
 * The mode is state of the process, written once under pthread_once. */
#include "blas.h"

#include <cblas.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "annotmix.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static bool parallel; /* written once */
static char name[48]; /* written once */

static void prepare(void)
{
    const char *config = openblas_get_config(); /* "OpenBLAS 0.3.21 NO_LAPACKE ..." */
    size_t length = 0;

    for (int words = 0; config[length] != '\0' && length < sizeof name - 1; length++) {
        words += config[length] == ' ';
        if (words == 2)
            break;
    }
    memcpy(name, config, length);
    parallel = openblas_get_parallel() != OPENBLAS_SEQUENTIAL;
    openblas_set_num_threads(1);
}

bool blas_is_parallel(void)
{
    (void)pthread_once(&once, prepare); /* cannot fail with a static control */
    return parallel;
}

const char *amx_blas_name(void)
{
    (void)pthread_once(&once, prepare);
    return name;
}

/* OpenBLAS does beta = 0 by a pass of its own over C before it multiplies, element by element (on x86 without AVX-512):
 * 6 to 7 % of a training step. Zeros written by memset and beta = 1 give the same sums. */
static void clear(float *c, size_t m, size_t n, size_t ldc)
{
    if (ldc == n)
        memset(c, 0, m * n * sizeof *c);
    else
        for (size_t i = 0; i < m; i++)
            memset(c + i * ldc, 0, n * sizeof *c);
}

static void gemm(enum CBLAS_TRANSPOSE ta, enum CBLAS_TRANSPOSE tb, size_t m, size_t n, size_t k, const float *a,
                 size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    bool locked = !blas_is_parallel();

    if (beta == 0.0f) {
        clear(c, m, n, ldc);
        beta = 1.0f;
    }
    if (locked)
        (void)pthread_mutex_lock(&turn); /* cannot fail: static, not recursive */
    cblas_sgemm(CblasRowMajor, ta, tb, (blasint)m, (blasint)n, (blasint)k, 1.0f, a, (blasint)lda, b, (blasint)ldb, beta,
                c, (blasint)ldc);
    if (locked)
        (void)pthread_mutex_unlock(&turn);
}

void gemm_nt(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
             size_t ldc)
{
    gemm(CblasNoTrans, CblasTrans, m, n, k, a, lda, b, ldb, beta, c, ldc);
}

void gemm_nn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
             size_t ldc)
{
    gemm(CblasNoTrans, CblasNoTrans, m, n, k, a, lda, b, ldb, beta, c, ldc);
}

void gemm_tn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
             size_t ldc)
{
    gemm(CblasTrans, CblasNoTrans, m, n, k, a, lda, b, ldb, beta, c, ldc);
}

void gemm_tt(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
             size_t ldc)
{
    gemm(CblasTrans, CblasTrans, m, n, k, a, lda, b, ldb, beta, c, ldc);
}

void gram_double(size_t n, size_t m, const double *a, size_t lda, double *g, size_t ldg)
{
    bool locked = !blas_is_parallel();

    if (locked)
        (void)pthread_mutex_lock(&turn);
    cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, (blasint)n, (blasint)m, 1.0, a, (blasint)lda, 0.0, g,
                (blasint)ldg);
    if (locked)
        (void)pthread_mutex_unlock(&turn);
}

void cholesky_solve_double(size_t n, size_t m, const double *l, size_t ldl, double *x, size_t ldx)
{
    bool locked = !blas_is_parallel();

    if (locked)
        (void)pthread_mutex_lock(&turn);
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, (blasint)n, (blasint)m, 1.0, l,
                (blasint)ldl, x, (blasint)ldx);
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasTrans, CblasNonUnit, (blasint)n, (blasint)m, 1.0, l,
                (blasint)ldl, x, (blasint)ldx);
    if (locked)
        (void)pthread_mutex_unlock(&turn);
}
