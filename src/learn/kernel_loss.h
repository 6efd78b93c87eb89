/* kernel_loss.h - the loss kernels; a part of kernels.c, included there and nowhere else.
 *
 * They work on transposed heads, [C][Tp] and [C C][Tp]: a lane is a triple, so softmax and logsumexp are loops over
 * classes with no shuffles for any C. The formulas are those of the specification, "Gradients"; probabilities stay
 * in log space until they are used as factors. W and EACH: kernel_math.h. */
#ifndef LEARN_KERNEL_LOSS_H
#define LEARN_KERNEL_LOSS_H

#include "kernel_math.h"
#include "kernels.h"

static void log_softmax(float *restrict logits, const float *restrict bias, float *restrict p, size_t C, size_t ld,
                        size_t Tp)
{
    for (size_t t0 = 0; t0 < Tp; t0 += W) {
        float top[W], sum[W] = {0};
        EACH top[j] = logits[t0 + (size_t)j] + bias[0];
        for (size_t k = 1; k < C; k++) {
            const float *restrict x = logits + k * ld + t0;
            const float b = bias[k];
            EACH top[j] = x[j] + b > top[j] ? x[j] + b : top[j];
        }
        for (size_t k = 0; k < C; k++) {
            float *restrict x = logits + k * ld + t0, *restrict e = p + k * ld + t0;
            const float b = bias[k];
            EACH
            {
                float y = x[j] + b - top[j];
                float value = exp_f(y);
                x[j] = y;
                e[j] = value;
                sum[j] += value;
            }
        }
        EACH top[j] = log_f(sum[j]);
        EACH sum[j] = 1.0f / sum[j];
        for (size_t k = 0; k < C; k++) {
            float *restrict x = logits + k * ld + t0, *restrict e = p + k * ld + t0;
            EACH x[j] -= top[j];
            EACH e[j] *= sum[j];
        }
    }
}

static void confusion_forward(float *restrict x, const float *restrict bias, size_t C, size_t k0, size_t k1,
                              const struct loss_rows *rows, const float *restrict log_p, float *restrict inverse,
                              float *restrict joint1, float *restrict joint2)
{
    const size_t ld = rows->ld;

    for (size_t k = k0; k < k1; k++) {
        float *slab = x + (k - k0) * C * ld;
        const float *restrict b = bias + k * C;
        for (size_t t0 = 0; t0 < rows->Tp; t0 += W) {
            float *column = slab + t0;
            const size_t at = k * ld + t0;
            float top[W], sum[W] = {0}, label1[W], label2[W];
            EACH top[j] = column[j] + b[0];
            for (size_t c = 1; c < C; c++) {
                const float *restrict row = column + c * ld;
                EACH top[j] = row[j] + b[c] > top[j] ? row[j] + b[c] : top[j];
            }
            /* The logits of the given labels, before exp overwrites them. */
            if (joint1 != NULL) {
                const uint32_t *z1 = rows->class1 + t0, *z2 = rows->class2 + t0;
                EACH label1[j] = column[z1[j] * ld + (size_t)j] + b[z1[j]];
                if (rows->mixed)
                    EACH label2[j] = column[z2[j] * ld + (size_t)j] + b[z2[j]];
            }
            for (size_t c = 0; c < C; c++) {
                float *restrict row = column + c * ld;
                const float bc = b[c];
                EACH
                {
                    float value = exp_f(row[j] + bc - top[j]);
                    row[j] = value;
                    sum[j] += value;
                }
            }
            EACH inverse[at + (size_t)j] = 1.0f / sum[j];
            if (joint1 == NULL)
                continue;
            EACH sum[j] = log_f(sum[j]);
            EACH joint1[at + (size_t)j] = log_p[at + (size_t)j] + (label1[j] - top[j] - sum[j]);
            if (rows->mixed)
                EACH joint2[at + (size_t)j] = log_p[at + (size_t)j] + (label2[j] - top[j] - sum[j]);
        }
    }
}

static void posterior(float *restrict joint, const float *restrict weight, float *restrict log_q, size_t C, size_t ld,
                      size_t Tp)
{
    for (size_t t0 = 0; t0 < Tp; t0 += W) {
        float top[W], sum[W] = {0}, factor[W];
        EACH top[j] = joint[t0 + (size_t)j];
        for (size_t k = 1; k < C; k++) {
            const float *restrict x = joint + k * ld + t0;
            EACH top[j] = x[j] > top[j] ? x[j] : top[j];
        }
        for (size_t k = 0; k < C; k++) {
            float *restrict x = joint + k * ld + t0;
            EACH
            {
                float value = exp_f(x[j] - top[j]);
                x[j] = value;
                sum[j] += value;
            }
        }
        EACH log_q[t0 + (size_t)j] = top[j] + log_f(sum[j]);
        EACH factor[j] = weight[t0 + (size_t)j] / sum[j];
        for (size_t k = 0; k < C; k++) {
            float *restrict x = joint + k * ld + t0;
            EACH x[j] *= factor[j];
        }
    }
}

static void confusion_backward(float *restrict x, float *restrict d_bias, size_t C, size_t k0, size_t k1,
                               const struct loss_rows *rows, const float *restrict inverse,
                               const float *restrict joint1, const float *restrict joint2, float *restrict f)
{
    const size_t ld = rows->ld, Tp = rows->Tp;

    for (size_t k = k0; k < k1; k++) {
        float *slab = x + (k - k0) * C * ld;
        float *db = d_bias + (k - k0) * C;
        const float *restrict r1 = joint1 + k * ld, *restrict r2 = joint2 + k * ld, *restrict inv = inverse + k * ld;
        if (rows->mixed) {
            for (size_t t = 0; t < Tp; t++)
                f[t] = inv[t] * (r1[t] + r2[t]);
        } else {
            for (size_t t = 0; t < Tp; t++)
                f[t] = inv[t] * r1[t];
        }
        for (size_t c = 0; c < C; c++) {
            float *restrict row = slab + c * ld;
            float s[W] = {0}, total = 0.0f;
            for (size_t t0 = 0; t0 < Tp; t0 += W) {
                EACH
                {
                    float g = row[t0 + (size_t)j] * f[t0 + (size_t)j];
                    row[t0 + (size_t)j] = g;
                    s[j] += g;
                }
            }
            EACH total += s[j];
            db[c] = total;
        }
        for (size_t t = 0; t < Tp; t++) {
            uint32_t z = rows->class1[t];
            slab[z * ld + t] -= r1[t];
            db[z] -= r1[t];
        }
        if (!rows->mixed)
            continue;
        for (size_t t = 0; t < Tp; t++) {
            uint32_t z = rows->class2[t];
            slab[z * ld + t] -= r2[t];
            db[z] -= r2[t];
        }
    }
}

static void class_backward(float *restrict p, float *restrict d_bias, size_t C, const struct loss_rows *rows,
                           const float *restrict joint1, const float *restrict joint2)
{
    for (size_t k = 0; k < C; k++) {
        float s[W] = {0}, total = 0.0f;
        for (size_t t0 = 0; t0 < rows->Tp; t0 += W) {
            const size_t at = k * rows->ld + t0;
            float *restrict x = p + at;
            const float *restrict w1 = rows->weight1 + t0, *restrict w2 = rows->weight2 + t0;
            if (rows->mixed)
                EACH x[j] = x[j] * (w1[j] + w2[j]) - (joint1[at + (size_t)j] + joint2[at + (size_t)j]);
            else
                EACH x[j] = x[j] * w1[j] - joint1[at + (size_t)j];
            EACH s[j] += x[j];
        }
        EACH total += s[j];
        d_bias[k] = total;
    }
}

#endif
