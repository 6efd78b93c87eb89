/* kernel_predict.h - the prediction kernels; a part of kernels.c, included there and nowhere else.
 *
 * Small products without BLAS: every output is one chain of multiply-adds over k in order, so that its bits do not
 * depend on what else is computed beside it. Sixteen lanes are outputs of a layer, or pairs (instance, annotator). */
#ifndef LEARN_KERNEL_PREDICT_H
#define LEARN_KERNEL_PREDICT_H

#include "kernel_math.h"
#include "kernels.h"

/* One register of the level. Plain arrays will not do here: gcc 12 keeps six rows of sums in registers only when they
 * are vectors. Never wider than the CPU's own. */
#if defined(__AVX512F__)
#define VEC_FLOATS 16
#define TILE_ROWS  8
#define ROW_PANELS 8
#elif defined(__AVX__)
#define VEC_FLOATS 8
#define TILE_ROWS  6
#define ROW_PANELS 4
#else
#define VEC_FLOATS 4
#define TILE_ROWS  3
#define ROW_PANELS 2
#endif
#define PANEL_VECS (PANEL / VEC_FLOATS)
typedef float vec __attribute__((vector_size(4 * VEC_FLOATS)));
typedef float vec_at __attribute__((vector_size(4 * VEC_FLOATS), aligned(4), may_alias)); /* in memory */
typedef int32_t vec_bits __attribute__((vector_size(4 * VEC_FLOATS)));

static inline __attribute__((always_inline)) vec madd_vec(float x, vec b, vec c)
{
#ifdef __FMA__
    vec sum;

    for (int lane = 0; lane < VEC_FLOATS; lane++)
        sum[lane] = MADD(x, b[lane], c[lane]);
    return sum;
#else
    return x * b + c;
#endif
}

/* c[rows][panels PANEL] of one tile, b [panels][k][PANEL]; with a bias, max(0, sum + bias). Inlined with constant rows
 * and panels: as many sums as registers hold, so that no multiply-add waits for the one before it. */
static inline __attribute__((always_inline)) void tile(const float *restrict a, size_t lda, const float *restrict b,
                                                       size_t k, const float *restrict bias, float *restrict c,
                                                       size_t ldc, const int rows, const int panels)
{
    vec s[TILE_ROWS * 2 > ROW_PANELS ? TILE_ROWS * 2 : ROW_PANELS][PANEL_VECS];

#pragma GCC unroll 16
    for (int i = 0; i < rows * panels; i++) {
#pragma GCC unroll 4
        for (int v = 0; v < PANEL_VECS; v++)
            s[i][v] = (vec){0};
    }
    for (size_t i = 0; i < k; i++) {
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            const float x = a[(size_t)r * lda + i];
#pragma GCC unroll 8
            for (int p = 0; p < panels; p++) {
                const float *restrict row = b + ((size_t)p * k + i) * PANEL;
#pragma GCC unroll 4
                for (int v = 0; v < PANEL_VECS; v++)
                    s[r * panels + p][v] = madd_vec(x, *(const vec_at *)(row + v * VEC_FLOATS), s[r * panels + p][v]);
            }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows * panels; i++) {
        const size_t column = (size_t)(i % panels) * PANEL;
        float *restrict out = c + (size_t)(i / panels) * ldc + column;
#pragma GCC unroll 4
        for (int v = 0; v < PANEL_VECS; v++) {
            vec y = s[i][v];
            if (bias != NULL) {
                y += *(const vec_at *)(bias + column + v * VEC_FLOATS);
                y = (vec)((vec_bits)y & ~(vec_bits)(y < (vec){0})); /* NaN goes through */
            }
            *(vec_at *)(out + v * VEC_FLOATS) = y;
        }
    }
}

/* Every sum is the same chain over k whatever its tile: a row's prediction does not depend on its neighbours. So the
 * last tile may also do rows again that the one before it did. */
static inline __attribute__((always_inline)) void tiles(const float *restrict a, size_t lda, size_t n,
                                                        const float *restrict b, size_t k, const float *restrict bias,
                                                        float *restrict c, size_t ldc, const int panels)
{
    for (size_t r = 0; r < n;) {
        tile(a + r * lda, lda, b, k, bias, c + r * ldc, ldc, TILE_ROWS, panels);
        r = r + TILE_ROWS < n && r + 2 * TILE_ROWS > n ? n - TILE_ROWS : r + TILE_ROWS;
    }
}

static void layer(const float *restrict a, size_t lda, size_t n, const float *restrict b, size_t n_panels, size_t k,
                  const float *restrict bias, float *restrict c, size_t ldc)
{
    size_t p = 0;

    for (size_t r = 0; n < TILE_ROWS && r < n; r++) {
        for (p = 0; p < n_panels; p += p + ROW_PANELS <= n_panels ? ROW_PANELS : 1) {
            const float *restrict from = b + p * k * PANEL, *restrict add = bias == NULL ? NULL : bias + p * PANEL;
            if (p + ROW_PANELS <= n_panels)
                tile(a + r * lda, lda, from, k, add, c + r * ldc + p * PANEL, ldc, 1, ROW_PANELS);
            else
                tile(a + r * lda, lda, from, k, add, c + r * ldc + p * PANEL, ldc, 1, 1);
        }
    }
    if (n < TILE_ROWS)
        return;
#ifdef __AVX512F__
    for (; p + 2 <= n_panels; p += 2)
        tiles(a, lda, n, b + p * k * PANEL, k, bias == NULL ? NULL : bias + p * PANEL, c + p * PANEL, ldc, 2);
#endif
    for (; p < n_panels; p++)
        tiles(a, lda, n, b + p * k * PANEL, k, bias == NULL ? NULL : bias + p * PANEL, c + p * PANEL, ldc, 1);
}

static void panel(const float *restrict a, size_t lda, size_t n_rows, const float *restrict b, size_t k,
                  float *restrict c, size_t ldc)
{
    layer(a, lda, n_rows, b, 1, k, NULL, c, ldc);
}

static void softmax_panel(float *restrict x, const float *restrict bias, size_t C)
{
    float top[PANEL], sum[PANEL] = {0};

    for (int j = 0; j < PANEL; j++)
        top[j] = x[j] + bias[0];
    for (size_t c = 1; c < C; c++) {
        for (int j = 0; j < PANEL; j++) {
            float y = x[c * PANEL + (size_t)j] + bias[c];
            top[j] = y > top[j] ? y : top[j];
        }
    }
    for (size_t c = 0; c < C; c++) {
        for (int j = 0; j < PANEL; j++) {
            float y = exp_f(x[c * PANEL + (size_t)j] + bias[c] - top[j]);
            x[c * PANEL + (size_t)j] = y;
            sum[j] += y;
        }
    }
    for (int j = 0; j < PANEL; j++)
        sum[j] = 1.0f / sum[j];
    for (size_t c = 0; c < C; c++) {
        for (int j = 0; j < PANEL; j++)
            x[c * PANEL + (size_t)j] *= sum[j];
    }
}

static bool standardise(float *restrict out, const float *restrict x, const float *restrict mean,
                        const float *restrict scale, size_t n)
{
    int32_t bad = 0;

    for (size_t j = 0; j < n; j++) {
        out[j] = (x[j] - mean[j]) / scale[j];
        bad |= (bits_of(x[j]) & 0x7f800000) == 0x7f800000;
    }
    return bad == 0;
}

static void softmax_row(float *restrict out, float *restrict x, const float *restrict bias, size_t C,
                        float inverse_temperature)
{
    float top = (x[0] + bias[0]) * inverse_temperature, sum = 0.0f;
    size_t padded = (C + PANEL - 1) / PANEL * PANEL;

    for (size_t c = 0; c < C; c++) {
        x[c] = (x[c] + bias[c]) * inverse_temperature;
        top = x[c] > top ? x[c] : top;
    }
    for (size_t c = 0; c < padded; c++)
        x[c] = exp_f(x[c] - top);
    for (size_t c = 0; c < C; c++)
        sum += x[c];
    sum = 1.0f / sum;
    for (size_t c = 0; c < C; c++)
        out[c] = x[c] * sum;
}

#endif
