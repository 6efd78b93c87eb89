/* kernel_predict.h - the prediction kernels; a part of kernels.c, included there and nowhere else.
 *
 * Small products without BLAS: every output is one chain of multiply-adds over k in order, so that its bits do not
 * depend on what else is computed beside it. Sixteen lanes are outputs of a layer, or pairs (instance, annotator). */
#ifndef LEARN_KERNEL_PREDICT_H
#define LEARN_KERNEL_PREDICT_H

#include "kernel_math.h"
#include "kernels.h"

/* Every c[r][j] is the same chain of multiply-adds over k, in the same order, whether its row is computed among
 * four or alone: a row's prediction does not depend on its neighbours. */
static void panel(const float *restrict a, size_t lda, size_t n_rows, const float *restrict b, size_t k,
                  float *restrict c, size_t ldc)
{
    size_t r = 0;

    for (; r + 4 <= n_rows; r += 4) {
        const float *a0 = a + r * lda, *a1 = a0 + lda, *a2 = a1 + lda, *a3 = a2 + lda;
        float s0[PANEL] = {0}, s1[PANEL] = {0}, s2[PANEL] = {0}, s3[PANEL] = {0};
        for (size_t i = 0; i < k; i++) {
            const float *restrict row = b + i * PANEL;
            const float x0 = a0[i], x1 = a1[i], x2 = a2[i], x3 = a3[i];
            for (int j = 0; j < PANEL; j++) {
                s0[j] = MADD(x0, row[j], s0[j]);
                s1[j] = MADD(x1, row[j], s1[j]);
                s2[j] = MADD(x2, row[j], s2[j]);
                s3[j] = MADD(x3, row[j], s3[j]);
            }
        }
        memcpy(c + r * ldc, s0, sizeof s0);
        memcpy(c + (r + 1) * ldc, s1, sizeof s1);
        memcpy(c + (r + 2) * ldc, s2, sizeof s2);
        memcpy(c + (r + 3) * ldc, s3, sizeof s3);
    }
    for (; r < n_rows; r++) {
        const float *a0 = a + r * lda;
        float s0[PANEL] = {0};
        for (size_t i = 0; i < k; i++) {
            const float x0 = a0[i];
            for (int j = 0; j < PANEL; j++)
                s0[j] = MADD(x0, b[i * PANEL + (size_t)j], s0[j]);
        }
        memcpy(c + r * ldc, s0, sizeof s0);
    }
}

static void row_panels(const float *restrict a, const float *restrict b, size_t n_panels, size_t k, float *restrict c)
{
    size_t p = 0;

    for (; p + 4 <= n_panels; p += 4) {
        const float *restrict b0 = b + p * k * PANEL, *restrict b1 = b0 + k * PANEL, *restrict b2 = b1 + k * PANEL;
        const float *restrict b3 = b2 + k * PANEL;
        float s0[PANEL] = {0}, s1[PANEL] = {0}, s2[PANEL] = {0}, s3[PANEL] = {0};
        for (size_t i = 0; i < k; i++) {
            const float x = a[i];
            for (int j = 0; j < PANEL; j++) {
                s0[j] = MADD(x, b0[i * PANEL + (size_t)j], s0[j]);
                s1[j] = MADD(x, b1[i * PANEL + (size_t)j], s1[j]);
                s2[j] = MADD(x, b2[i * PANEL + (size_t)j], s2[j]);
                s3[j] = MADD(x, b3[i * PANEL + (size_t)j], s3[j]);
            }
        }
        memcpy(c + p * PANEL, s0, sizeof s0);
        memcpy(c + (p + 1) * PANEL, s1, sizeof s1);
        memcpy(c + (p + 2) * PANEL, s2, sizeof s2);
        memcpy(c + (p + 3) * PANEL, s3, sizeof s3);
    }
    for (; p < n_panels; p++)
        panel(a, k, 1, b + p * k * PANEL, k, c + p * PANEL, PANEL);
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

static void bias_relu(float *restrict x, size_t ld, const float *restrict bias, size_t width, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float *restrict row = x + i * ld;
        for (size_t j = 0; j < width; j++) {
            float y = row[j] + bias[j];
            row[j] = y < 0.0f ? 0.0f : y;
        }
    }
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
