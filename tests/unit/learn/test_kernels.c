/* test_kernels.c - every kernel level that this CPU can run against naive loops in double.
 *
 * The whole step is covered by test_golden.c and test_gradients.c on the level in use; here the other levels, odd sizes
 * and extreme numbers are. */
#include "test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "learn/kernels.h"
#include "learn/layout.h"

static const char *const LEVELS[] = {"plain", "sse2", "avx2", "avx512"};

static float *random_floats(size_t n, double scale, uint64_t seed)
{
    float *x = toy_alloc(n, sizeof(float));

    for (size_t i = 0; i < n; i++)
        x[i] = (float)(scale * (toy_random(&seed) - 0.5));
    return x;
}

static void check_log_softmax(const struct amx_kernels *kernels, double scale)
{
    enum {
        C = 7,
        TP = 64
    };
    float *x = random_floats(C * TP, scale, 3), *bias = random_floats(C, 1.0, 4), p[C * TP], before[C * TP];
    double worst = 0.0, worst_p = 0.0;

    memcpy(before, x, sizeof before);
    kernels->log_softmax(x, bias, p, C, TP, TP);
    for (size_t t = 0; t < TP; t++) {
        double top = -1e300, sum = 0.0;
        for (size_t c = 0; c < C; c++)
            top = fmax(top, (double)before[c * TP + t] + (double)bias[c]);
        for (size_t c = 0; c < C; c++)
            sum += exp((double)before[c * TP + t] + (double)bias[c] - top);
        for (size_t c = 0; c < C; c++) {
            double expected = (double)before[c * TP + t] + (double)bias[c] - top - log(sum);
            worst = test_worst(worst, fabs((double)x[c * TP + t] - expected) / fmax(1.0, fabs(expected)));
            worst_p = test_worst(worst_p, fabs((double)p[c * TP + t] - exp(expected)));
        }
    }
    CHECK_NEAR(worst, 0.0, 4e-6);
    CHECK_NEAR(worst_p, 0.0, 1e-6);
    free(bias);
    free(x);
}

static void check_stats(const struct amx_kernels *kernels, size_t n)
{
    enum {
        WIDTH = 64
    };
    float *z = random_floats(n * WIDTH, 2.0, 5);
    double sum[WIDTH], square[WIDTH], worst = 0.0;

    for (size_t i = 0; i < n * WIDTH; i++)
        z[i] += 1000.0f; /* far from 0: the shift by the first row must save the digits */
    kernels->column_stats(z, WIDTH, WIDTH, n, sum, square);
    for (size_t j = 0; j < WIDTH; j++) {
        double mean = 0.0, var = 0.0, m, v;
        for (size_t t = 0; t < n; t++)
            mean += (double)z[t * WIDTH + j] / (double)n;
        for (size_t t = 0; t < n; t++)
            var += ((double)z[t * WIDTH + j] - mean) * ((double)z[t * WIDTH + j] - mean) / (double)n;
        m = (double)z[j] + sum[j] / (double)n;
        v = square[j] / (double)n - sum[j] * sum[j] / (double)n / (double)n;
        worst = test_worst(worst, fabs(m - mean));
        worst = test_worst(worst, fabs(v - var));
    }
    CHECK_NEAR(worst, 0.0, 1e-5);
    free(z);
}

static void check_panel(const struct amx_kernels *kernels)
{
    enum {
        ROWS = 7,
        K = 45
    };
    float *a = random_floats(ROWS * K, 1.0, 6), *b = random_floats(K * PANEL, 1.0, 7), c[ROWS * PANEL], one[PANEL];
    double worst = 0.0;

    kernels->panel(a, K, ROWS, b, K, c, PANEL);
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t j = 0; j < PANEL; j++) {
            double sum = 0.0;
            for (size_t k = 0; k < K; k++)
                sum += (double)a[r * K + k] * (double)b[k * PANEL + j];
            worst = test_worst(worst, fabs(sum - (double)c[r * PANEL + j]));
        }
        kernels->panel(a + r * K, K, 1, b, K, one, PANEL);
        CHECK(memcmp(one, c + r * PANEL, sizeof one) == 0); /* bit for bit, among four or alone */
    }
    CHECK_NEAR(worst, 0.0, 1e-5);
    free(b);
    free(a);
}

/* Any number of rows and panels, with and without bias and ReLU: the bits of one panel and one row alone. */
static void check_layer(const struct amx_kernels *kernels)
{
    enum {
        ROWS = 20,
        PANELS = 11,
        K = 45,
        LD = PANELS * PANEL + 3
    };
    float *a = random_floats(ROWS * K, 1.0, 16), *b = random_floats(PANELS * K * PANEL, 1.0, 17);
    float *bias = random_floats(PANELS * PANEL, 1.0, 18), *c = random_floats(ROWS * LD, 1.0, 19), one[PANEL];
    int wrong = 0, spilt = 0;

    for (size_t n = 1; n <= ROWS; n++) {
        for (size_t n_panels = 1; n_panels <= PANELS; n_panels++) {
            const float *add = (n + n_panels) % 2 == 0 ? bias : NULL;
            for (size_t i = 0; i < ROWS * LD; i++)
                c[i] = 77.0f;
            kernels->layer(a, K, n, b, n_panels, K, add, c, LD);
            for (size_t r = 0; r < ROWS; r++) {
                for (size_t j = 0; j < LD; j++) {
                    if (r >= n || j >= n_panels * PANEL) {
                        spilt += c[r * LD + j] != 77.0f;
                        continue;
                    }
                    if (j % PANEL == 0)
                        kernels->panel(a + r * K, K, 1, b + j * K, K, one, PANEL);
                    float y = add != NULL ? one[j % PANEL] + add[j] : one[j % PANEL];
                    y = add != NULL && y < 0.0f ? 0.0f : y;
                    wrong += memcmp(&y, &c[r * LD + j], sizeof y) != 0;
                }
            }
        }
    }
    CHECK_INT(wrong, 0);
    CHECK_INT(spilt, 0);
    free(c);
    free(bias);
    free(b);
    free(a);
}

static void check_standardise(const struct amx_kernels *kernels)
{
    enum {
        N = 37
    };
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    float *x = random_floats(N, 3.0, 20), *mean = random_floats(N, 1.0, 21), scale[N], out[N];

    for (size_t j = 0; j < N; j++)
        scale[j] = 0.5f + (float)j;
    CHECK(kernels->standardise(out, x, mean, scale, N));
    for (size_t j = 0; j < N; j++)
        CHECK(out[j] == (x[j] - mean[j]) / scale[j]);
    for (size_t j = 0; j < N; j++) {
        const float kept = x[j];
        x[j] = odd[j % 3];
        CHECK(!kernels->standardise(out, x, mean, scale, N));
        x[j] = kept;
    }
    free(mean);
    free(x);
}

static void check_softmax_panel(const struct amx_kernels *kernels)
{
    enum {
        C = 5
    };
    float x[C * PANEL], bias[C] = {0.5f, -0.5f, 0, 1, -200.0f};

    for (int i = 0; i < C * PANEL; i++)
        x[i] = (float)(i % 13) - 6.0f;
    x[3] = 500.0f; /* would overflow exp */
    kernels->softmax_panel(x, bias, C);
    for (int j = 0; j < PANEL; j++) {
        double sum = 0.0;
        for (int c = 0; c < C; c++) {
            CHECK(x[c * PANEL + j] >= 0.0f && x[c * PANEL + j] <= 1.0f);
            sum += (double)x[c * PANEL + j];
        }
        CHECK_NEAR(sum, 1.0, 1e-6);
    }
    CHECK_NEAR(x[3], 1.0, 1e-6);
}

/* Masks of the embedding: the bit layout documented in rng.c. */
static void check_embed(const struct amx_kernels *kernels)
{
    enum {
        EP = 32,
        N = 19,
        WORDS = (N * 2 * EP / 512 + 1) * RNG_LANES
    };
    float *ex = random_floats(N * EP, 1.0, 8), *table = random_floats(4 * EP, 1.0, 9), v[N * 2 * EP], bias[EP];
    uint32_t words[WORDS], row[N], first[N], second[N];
    float lambda[N];
    double worst = 0.0;

    for (uint32_t i = 0; i < WORDS; i++)
        words[i] = i * UINT32_C(2654435761);
    for (uint32_t t = 0; t < N; t++) {
        row[t] = (t * 5) % N;
        first[t] = t % 4;
        second[t] = (t / 2) % 4;
        lambda[t] = (float)t / N;
    }
    for (int j = 0; j < EP; j++)
        bias[j] = 0.01f * (float)j;
    kernels->embed(v, EP, N, ex, row, bias, table, first, second, lambda, bias, words);
    for (size_t i = 0; i < N * 2 * EP; i++) {
        size_t t = i / (2 * EP), j = i % (2 * EP), run = i / 16;
        bool keep = words[run / 32 * RNG_LANES + i % 16] >> (run % 32) & 1;
        double l = (double)lambda[t];
        double expected = j < EP ? (double)ex[row[t] * EP + j] + (double)bias[j]
                                 : l * (double)table[first[t] * EP + j - EP] +
                                       (1.0 - l) * (double)table[second[t] * EP + j - EP] + (double)bias[j - EP];
        worst = test_worst(worst, fabs((double)v[i] - (keep ? 2.0 * expected : 0.0)));
    }
    CHECK_NEAR(worst, 0.0, 1e-6);
    free(table);
    free(ex);
}

TEST(learn_kernels_all_levels)
{
    int n = 0;

    for (int l = 0; l < 4; l++) {
        const struct amx_kernels *kernels = kernels_named(LEVELS[l]);
        if (kernels == NULL)
            continue;
        CHECK_STR(kernels->name, LEVELS[l]);
        check_log_softmax(kernels, 5.0);
        check_log_softmax(kernels, 300.0);
        check_stats(kernels, 2);
        check_stats(kernels, 1000);
        check_panel(kernels);
        check_layer(kernels);
        check_standardise(kernels);
        check_softmax_panel(kernels);
        check_embed(kernels);
        n++;
    }
    CHECK(n >= 1);
}

TEST(learn_kernels_nan_goes_through)
{
    enum {
        C = 3,
        TP = 32
    };

    for (int l = 0; l < 4; l++) {
        const struct amx_kernels *kernels = kernels_named(LEVELS[l]);
        float x[C * TP] = {0}, p[C * TP], bias[C] = {0};
        if (kernels == NULL)
            continue;
        x[TP + 5] = NAN; /* a NaN anywhere must make the loss NaN, or training would go on with garbage */
        kernels->log_softmax(x, bias, p, C, TP, TP);
        CHECK(isnan(x[5]) && isnan(x[TP + 5]) && isnan(x[2 * TP + 5]));
        CHECK(!isnan(x[4]));
    }
}

TEST(learn_kernels_chosen)
{
    CHECK(kernels_get() == kernels_named(amx_kernel_name()));
    CHECK(kernels_named("no such level") == NULL);
    CHECK(strncmp(amx_blas_name(), "OpenBLAS", 8) == 0);
}
