/* blas.c - OpenBLAS, one thread per product, from any number of threads.
 *
 * OpenBLAS built without threads (Debian's libopenblas0-serial) hands out its packing buffers without a lock: two
 * threads that multiply at once can get the same buffer, and results are silently wrong (three threads, 40x40 products:
 * 5 % of them). Built with threads (libopenblas0-pthread) it locks that list. So with a sequential build every product
 * goes through a mutex here: right, but fits in parallel do not get faster. Install the pthread build; this file
 * sets it to one thread per product, because the matrices are small and results must not depend on the cores.
 * The mode is state of the process, written once under pthread_once. A training thread with a helper (crew.h) cuts
 * large products in two. */
#include "blas.h"

#include <cblas.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "annotmix.h"
#include "crew.h"

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

struct product {
    enum CBLAS_TRANSPOSE ta, tb;
    size_t m, n, k, lda, ldb, ldc;
    const float *a, *b;
    float beta;
    float *c;
};

/* Rows m0 .. m1 of the product. */
static void multiply(const struct product *x, size_t m0, size_t m1)
{
    bool locked = !blas_is_parallel();
    float beta = x->beta, *c = x->c + m0 * x->ldc;
    const float *a = x->a + (x->ta == CblasTrans ? m0 : m0 * x->lda);

    if (beta == 0.0f) {
        clear(c, m1 - m0, x->n, x->ldc);
        beta = 1.0f;
    }
    if (locked)
        (void)pthread_mutex_lock(&turn); /* cannot fail: static, not recursive */
    cblas_sgemm(CblasRowMajor, x->ta, x->tb, (blasint)(m1 - m0), (blasint)x->n, (blasint)x->k, 1.0f, a, (blasint)x->lda,
                x->b, (blasint)x->ldb, beta, c, (blasint)x->ldc);
    if (locked)
        (void)pthread_mutex_unlock(&turn);
}

/* Where a product is cut in two: 48 rows are whole tiles of OpenBLAS's kernels (by 4, 12, 16, 24), so that each sum is
 * made in the same order and has the same bits as in one piece. Rows cut within a tile do not. */
static size_t middle(size_t m)
{
    return (m / 2 + 47) / 48 * 48;
}

static void multiply_part(void *context, int part)
{
    const struct product *x = context;
    const size_t half = middle(x->m);

    multiply(x, part == 0 ? 0 : half, part == 0 ? half : x->m);
}

/* A half of at least so many multiply-adds (some 20 us) is worth handing over, and is above what OpenBLAS does by other
 * kernels for small matrices (AVX-512: up to 100^3), which add up in another order. */
#define SHARED_FROM 1000001

/* The CPU's kernel is asked once whether halves have the bits of the whole: the promise must not hang on a table. */
static pthread_once_t asked = PTHREAD_ONCE_INIT;
static bool halves_agree; /* written once */

static void ask(void)
{
    enum {
        M = 269,
        N = 131,
        K = 401,
        SIZE = M * K
    };
    float *memory = calloc(4, SIZE * sizeof *memory);
    float *a = memory, *b = a + SIZE, *whole = b + SIZE, *halves = whole + SIZE;
    bool same = memory != NULL;

    for (int i = 0; same && i < SIZE; i++) {
        a[i] = (float)(i * 7 % 1009) / 1009.0f - 0.3f;
        b[i] = (float)(i * 11 % 997) / 997.0f - 0.6f;
    }
    for (int kind = 0; same && kind < 4; kind++) {
        struct product x = {.ta = kind < 2 ? CblasNoTrans : CblasTrans,
                            .tb = kind % 2 == 0 ? CblasNoTrans : CblasTrans,
                            .m = M,
                            .n = N,
                            .k = K,
                            .lda = kind < 2 ? K : M,
                            .ldb = kind % 2 == 0 ? N : K,
                            .ldc = N,
                            .a = a,
                            .b = b,
                            .c = whole};
        multiply(&x, 0, M);
        x.c = halves;
        multiply_part(&x, 0);
        multiply_part(&x, 1);
        same = memcmp(whole, halves, (size_t)M * N * sizeof *whole) == 0;
    }
    free(memory);
    halves_agree = same;
}

static _Thread_local struct crew *crew; /* of this thread's training */

void blas_share(struct crew *with)
{
    if (with != NULL)
        (void)pthread_once(&asked, ask); /* cannot fail with a static control */
    crew = with != NULL && halves_agree ? with : NULL;
}

static void gemm(enum CBLAS_TRANSPOSE ta, enum CBLAS_TRANSPOSE tb, size_t m, size_t n, size_t k, const float *a,
                 size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    struct product x = {ta, tb, m, n, k, lda, ldb, ldc, a, b, beta, c};
    const size_t half = middle(m);

    if (crew_is_free(crew) && half < m && (m - half) * n * k >= SHARED_FROM)
        crew_run(crew, multiply_part, &x);
    else
        multiply(&x, 0, m);
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
