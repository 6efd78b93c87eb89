/* test_blas.c - products from several threads at once, which a sequential OpenBLAS gets wrong unless threads take
 * turns, the four transposes, and large products cut in two. */
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "learn/blas.h"
#include "learn/crew.h"

enum {
    N = 40,
    ROUNDS = 400,
    THREADS = 3
};

struct job {
    int number, wrong;
};

static void *multiply(void *argument)
{
    struct job *job = argument;
    float a[N * N], b[N * N], c[N * N], expected[N * N];

    /* Small integers: every order of summation is exact. */
    for (int i = 0; i < N * N; i++) {
        a[i] = (float)((i * 7 + job->number * 13) % 11 - 5);
        b[i] = (float)((i * 3 + job->number) % 7 - 3);
    }
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            float sum = 0.0f;
            for (int k = 0; k < N; k++)
                sum += a[i * N + k] * b[k * N + j];
            expected[i * N + j] = sum;
        }
    }
    for (int round = 0; round < ROUNDS; round++) {
        gemm_nn(N, N, N, a, N, b, N, 0.0f, c, N);
        job->wrong += memcmp(c, expected, sizeof c) != 0;
    }
    return NULL;
}

TEST(learn_blas_threads)
{
    pthread_t threads[THREADS];
    struct job jobs[THREADS];

    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (struct job){.number = i};
        CHECK_INT(pthread_create(&threads[i], NULL, multiply, &jobs[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK_INT(pthread_join(threads[i], NULL), 0);
        CHECK_INT(jobs[i].wrong, 0);
    }
}

TEST(learn_blas_transposes)
{
    const float a[6] = {1, 2, 3, 4, 5, 6}, b[6] = {1, 0, 2, 0, 1, 1}; /* [2][3], [2][3] */
    const float nt[4] = {7, 5, 16, 11};
    const float bt[6] = {1, 0, 0, 1, 2, 1}, at[6] = {1, 4, 2, 5, 3, 6}; /* b and a transposed: [3][2] */
    float c[9];

    gemm_nt(2, 2, 3, a, 3, b, 3, 0.0f, c, 2);
    CHECK(memcmp(c, nt, sizeof nt) == 0);
    gemm_nn(2, 2, 3, a, 3, bt, 2, 0.0f, c, 2);
    CHECK(memcmp(c, nt, sizeof nt) == 0);
    gemm_tt(2, 2, 3, at, 2, b, 3, 0.0f, c, 2);
    CHECK(memcmp(c, nt, sizeof nt) == 0);
    gemm_tn(3, 3, 2, a, 3, b, 3, 0.0f, c, 3);
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++)
            CHECK(c[i * 3 + j] == a[i] * b[j] + a[3 + i] * b[3 + j]);
    }
    gemm_tn(3, 3, 2, a, 3, b, 3, 1.0f, c, 3);
    CHECK(c[8] == 2.0f * (a[2] * b[2] + a[5] * b[5]));
}

/* Sizes of a training step and some that end within a tile; K beyond what OpenBLAS takes in one go. */
static const size_t SIZES[][3] = {{269, 128, 256}, {270, 131, 128}, {128, 256, 269}, {100, 272, 128}, {1283, 130, 401},
                                  {65, 512, 100},  {47, 300, 700},  {301, 161, 129}, {96, 16, 1500},  {20, 30, 40}};
enum {
    MOST = 1283 * 401,
    KINDS = 4
};

static void multiply_kind(size_t kind, const size_t size[3], const float *a, const float *b, float beta, float *c)
{
    static void (*const kinds[KINDS])(size_t, size_t, size_t, const float *, size_t, const float *, size_t, float,
                                      float *, size_t) = {gemm_nn, gemm_nt, gemm_tn, gemm_tt};
    const size_t m = size[0], n = size[1], k = size[2];

    kinds[kind](m, n, k, a, kind < 2 ? k : m, b, kind % 2 == 0 ? n : k, beta, c, n + 3);
}

TEST(learn_blas_halves_have_the_same_bits)
{
    float *a = calloc(MOST, sizeof *a), *b = calloc(MOST, sizeof *b), *whole = calloc(MOST, sizeof *whole);
    float *halves = calloc(MOST, sizeof *halves);
    struct crew *crew = crew_new();

    CHECK(a != NULL && b != NULL && whole != NULL && halves != NULL && crew != NULL);
    for (size_t i = 0; i < MOST; i++) {
        a[i] = (float)((i * 7919) % 10007) / 10007.0f - 0.3f;
        b[i] = (float)((i * 6007) % 9973) / 9973.0f - 0.6f;
    }
    for (size_t s = 0; s < sizeof SIZES / sizeof *SIZES; s++) {
        for (size_t kind = 0; kind < KINDS; kind++) {
            for (int round = 0; round < 6; round++) {
                const float beta = round % 2 == 0 ? 0.0f : 1.0f;
                for (size_t i = 0; i < SIZES[s][0] * (SIZES[s][1] + 3); i++)
                    whole[i] = halves[i] = b[i];
                blas_share(NULL);
                multiply_kind(kind, SIZES[s], a, b, beta, whole);
                blas_share(crew);
                multiply_kind(kind, SIZES[s], a, b, beta, halves);
                CHECK(memcmp(whole, halves, SIZES[s][0] * (SIZES[s][1] + 3) * sizeof *whole) == 0);
            }
        }
    }
    blas_share(NULL);
    crew_free(crew);
    free(halves);
    free(whole);
    free(b);
    free(a);
}
