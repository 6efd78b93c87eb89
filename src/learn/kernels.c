/* kernels.c - everything in a step that is not a matrix product, as plain C loops.
 *
 * The Makefile compiles this file once per CPU level (-DAMX_KERNEL=plain|sse2|avx2|avx512); all functions are
 * static and leave through the one table at the end. There are no intrinsics: inner loops run over PAD = 32
 * contiguous floats, a fixed count that every compiler turns into full vectors with the accumulators in registers.
 * Wider compiler vectors than the CPU's were tried and made the step five times slower.
 *
 * Order of summation is fixed (rows in order, within strips of 32 columns; blocks of 256 rows are added up in double,
 * so that large batches do not lose digits), which makes results equal bit for bit on one level.
 *
 * Loss kernels work on transposed heads, [C][Tp] and [C C][Tp]: a lane is a triple, so softmax and logsumexp are
 * loops over classes with no shuffles for any C. The formulas are those of the specification, "Gradients". */
#include "kernels.h"

#include <math.h>
#include <string.h>

#include "kernel_math.h"
#include "layout.h"

#define W PAD
#define EACH for (int j = 0; j < W; j++)
enum { ROW_BLOCK = 256 }; /* rows added up in float before they go to double */
#define BN_EPS 1e-5
#define BN_MOMENTUM 0.1

/* ---- optimiser --------------------------------------------------------------------------------------------------- */

static void radam(float *restrict p, const float *restrict g, float *restrict m, float *restrict v, size_t n,
                  const struct radam_step *s)
{
    const float b1 = s->beta1, c1 = s->one_minus_beta1, b2 = s->beta2, c2 = s->one_minus_beta2;
    const float eps = s->eps, decay = s->weight_decay, step = s->step;

    if (s->rectified) {
        for (size_t i = 0; i < n; i++) {
            float gi = MADD(decay, p[i], g[i]);
            m[i] = b1 * m[i] + c1 * gi;
            v[i] = b2 * v[i] + c2 * gi * gi;
            p[i] -= step * m[i] / (sqrtf(v[i]) + eps);
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            float gi = MADD(decay, p[i], g[i]);
            m[i] = b1 * m[i] + c1 * gi;
            v[i] = b2 * v[i] + c2 * gi * gi;
            p[i] -= step * m[i];
        }
    }
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

static void mix(float *restrict z, const float *restrict z0, size_t ld, size_t width, size_t n, const struct mix_rows *x)
{
    for (size_t t = 0; t < n; t++) {
        const float *first = z0 + x->row[t] * ld, *second = z0 + x->partner[t] * ld;
        const float l = x->lambda[t], k = 1.0f - l;
        float *out = z + t * ld;
        for (size_t j = 0; j < width; j++)
            out[j] = l * first[j] + k * second[j];
    }
}

static void column_stats(const float *restrict z, size_t ld, size_t width, size_t n, double *restrict sum,
                         double *restrict sum_sq)
{
    for (size_t j0 = 0; j0 < width; j0 += W) {
        float shift[W];
        EACH shift[j] = z[j0 + (size_t)j];
        EACH sum[j0 + (size_t)j] = sum_sq[j0 + (size_t)j] = 0.0;
        for (size_t t0 = 0; t0 < n; t0 += ROW_BLOCK) {
            size_t t1 = t0 + ROW_BLOCK < n ? t0 + ROW_BLOCK : n;
            float s[W] = {0}, q[W] = {0};
            for (size_t t = t0; t < t1; t++) {
                const float *row = z + t * ld + j0;
                EACH
                {
                    float d = row[j] - shift[j];
                    s[j] += d;
                    q[j] = MADD(d, d, q[j]);
                }
            }
            EACH sum[j0 + (size_t)j] += (double)s[j];
            EACH sum_sq[j0 + (size_t)j] += (double)q[j];
        }
    }
}

static void mix_stats(float *restrict z, const float *restrict z0, size_t ld, size_t width, size_t n,
                      const struct mix_rows *x, double *restrict sum, double *restrict sum_sq)
{
    for (size_t j0 = 0; j0 < width; j0 += W) {
        float shift[W];
        const float *first = z0 + x->row[0] * ld + j0, *second = z0 + x->partner[0] * ld + j0;
        float l = x->lambda[0], k = 1.0f - l;
        EACH shift[j] = l * first[j] + k * second[j];
        EACH sum[j0 + (size_t)j] = sum_sq[j0 + (size_t)j] = 0.0;
        for (size_t t0 = 0; t0 < n; t0 += ROW_BLOCK) {
            size_t t1 = t0 + ROW_BLOCK < n ? t0 + ROW_BLOCK : n;
            float s[W] = {0}, q[W] = {0};
            for (size_t t = t0; t < t1; t++) {
                float *restrict out = z + t * ld + j0;
                first = z0 + x->row[t] * ld + j0;
                second = z0 + x->partner[t] * ld + j0;
                l = x->lambda[t];
                k = 1.0f - l;
                EACH
                {
                    float value = l * first[j] + k * second[j];
                    float d = value - shift[j];
                    out[j] = value;
                    s[j] += d;
                    q[j] = MADD(d, d, q[j]);
                }
            }
            EACH sum[j0 + (size_t)j] += (double)s[j];
            EACH sum_sq[j0 + (size_t)j] += (double)q[j];
        }
    }
}

static void bn_fold(const struct batch_norm *bn, const float *shift, const double *sum, const double *sum_sq, size_t width,
                    size_t n, float dropout_scale)
{
    const double count = (double)n, unbiased = count / (count - 1.0);

    for (size_t j = 0; j < width; j++) {
        double offset = sum[j] / count;
        double variance = sum_sq[j] / count - offset * offset;
        double mean = (double)shift[j] + offset;
        variance = variance < 0.0 ? 0.0 : variance;
        double inverse = 1.0 / sqrt(variance + BN_EPS);
        double a = (double)bn->gamma[j] * inverse;
        bn->mean[j] = (float)mean;
        bn->inverse[j] = (float)inverse;
        bn->a[j] = dropout_scale * (float)a;
        bn->c[j] = dropout_scale * (float)((double)bn->beta[j] - mean * a);
        bn->running_mean[j] = (float)((1.0 - BN_MOMENTUM) * (double)bn->running_mean[j] +
                                      BN_MOMENTUM * (mean + (double)bn->bias[j]));
        bn->running_var[j] = (float)((1.0 - BN_MOMENTUM) * (double)bn->running_var[j] +
                                     BN_MOMENTUM * unbiased * variance);
    }
}

static void affine_relu(float *restrict y, const float *restrict z, const float *restrict a, const float *restrict c,
                        size_t width, size_t n)
{
    for (size_t t = 0; t < n; t++) {
        for (size_t j = 0; j < width; j++) {
            float x = MADD(a[j], z[t * width + j], c[j]);
            y[t * width + j] = x < 0.0f ? 0.0f : x; /* keeps NaN */
        }
    }
}

static void affine_relu_dropout(float *restrict y, const float *restrict z, const float *restrict a,
                                const float *restrict c, size_t width, size_t n, uint32_t threshold,
                                struct rng_lanes *rng)
{
    const int32_t limit = (int32_t)threshold;
    struct rng_lanes state = *rng;

    for (size_t t = 0; t < n; t++) {
        for (size_t j0 = 0; j0 < width; j0 += W) {
            const float *restrict zr = z + t * width + j0, *restrict ar = a + j0, *restrict cr = c + j0;
            float *restrict yr = y + t * width + j0;
            uint32_t words[RNG_LANES];
            lanes_step(&state, words);
            LANES
            {
                float x = MADD(ar[lane], zr[lane], cr[lane]);
                x = x < 0.0f ? 0.0f : x;
                yr[lane] = (int32_t)(words[lane] & 0xffffu) >= limit ? x : 0.0f;
            }
            LANES
            {
                float x = MADD(ar[lane + 16], zr[lane + 16], cr[lane + 16]);
                x = x < 0.0f ? 0.0f : x;
                yr[lane + 16] = (int32_t)(words[lane] >> 16) >= limit ? x : 0.0f;
            }
        }
    }
    *rng = state;
}

static void bn_backward_sums(const float *restrict dy, const float *restrict y, const float *restrict z,
                             const float *restrict mean, size_t width, size_t n, double *restrict sum,
                             double *restrict sum_z)
{
    for (size_t j0 = 0; j0 < width; j0 += W) {
        float m[W];
        EACH m[j] = mean[j0 + (size_t)j];
        EACH sum[j0 + (size_t)j] = sum_z[j0 + (size_t)j] = 0.0;
        for (size_t t0 = 0; t0 < n; t0 += ROW_BLOCK) {
            size_t t1 = t0 + ROW_BLOCK < n ? t0 + ROW_BLOCK : n;
            float s[W] = {0}, q[W] = {0};
            for (size_t t = t0; t < t1; t++) {
                size_t at = t * width + j0;
                EACH
                {
                    float d = y[at + (size_t)j] > 0.0f ? dy[at + (size_t)j] : 0.0f;
                    s[j] += d;
                    q[j] = MADD(d, z[at + (size_t)j] - m[j], q[j]);
                }
            }
            EACH sum[j0 + (size_t)j] += (double)s[j];
            EACH sum_z[j0 + (size_t)j] += (double)q[j];
        }
    }
}

static void bn_backward_fold(const struct batch_norm *bn, const double *sum, const double *sum_z, size_t width, size_t n,
                             float dropout_scale)
{
    const double count = (double)n, scale = (double)dropout_scale;

    for (size_t j = 0; j < width; j++) {
        double inverse = (double)bn->inverse[j], gamma = (double)bn->gamma[j];
        double grad_gamma = scale * inverse * sum_z[j], grad_beta = scale * sum[j];
        double db = -gamma * inverse * inverse * grad_gamma / count;
        bn->grad_gamma[j] = (float)grad_gamma;
        bn->grad_beta[j] = (float)grad_beta;
        bn->da[j] = (float)(gamma * inverse * scale);
        bn->db[j] = (float)db;
        bn->dc[j] = (float)(-gamma * inverse * grad_beta / count - db * (double)bn->mean[j]);
    }
}

static void bn_backward_apply(float *restrict dy, const float *restrict y, const float *restrict z,
                              const struct batch_norm *bn, size_t width, size_t n)
{
    const float *restrict da = bn->da, *restrict db = bn->db, *restrict dc = bn->dc;

    for (size_t t = 0; t < n; t++) {
        size_t at = t * width;
        for (size_t j = 0; j < width; j++) {
            float d = y[at + j] > 0.0f ? dy[at + j] : 0.0f;
            dy[at + j] = MADD(da[j], d, MADD(db[j], z[at + j], dc[j]));
        }
    }
}

static void bn_backward_unmix(float *restrict dz0, const float *restrict dy, const float *restrict y,
                              const float *restrict z, const struct batch_norm *bn, size_t width, size_t n_rows,
                              const uint32_t *begin, const uint32_t *inverse, const float *lambda)
{
    for (size_t i = 0; i < n_rows; i++) {
        for (size_t j0 = 0; j0 < width; j0 += W) {
            float sum_d[W] = {0}, sum_z[W] = {0}, sum_w = 0.0f;
            float *restrict out = dz0 + i * width + j0;
            for (uint32_t t = begin[i]; t < begin[i + 1]; t++) {
                for (int side = 0; side < 2; side++) {
                    uint32_t s = side == 0 ? t : inverse[t];
                    float w = side == 0 ? lambda[s] : 1.0f - lambda[s];
                    size_t at = s * width + j0;
                    sum_w += w;
                    EACH
                    {
                        float d = y[at + (size_t)j] > 0.0f ? dy[at + (size_t)j] : 0.0f;
                        sum_d[j] = MADD(w, d, sum_d[j]);
                        sum_z[j] = MADD(w, z[at + (size_t)j], sum_z[j]);
                    }
                }
            }
            EACH out[j] = MADD(bn->da[j0 + (size_t)j], sum_d[j],
                               MADD(bn->db[j0 + (size_t)j], sum_z[j], bn->dc[j0 + (size_t)j] * sum_w));
        }
    }
}

/* ---- annotator model ----------------------------------------------------------------------------------------------- */

static void random_bits(struct rng_lanes *rng, uint32_t *restrict words, size_t n_steps)
{
    struct rng_lanes state = *rng;

    for (size_t i = 0; i < n_steps; i++)
        lanes_step(&state, words + i * RNG_LANES);
    *rng = state;
}

/* Two where the element's bit is set, else zero, for a run of 16 elements; see rng.c for the layout of the bits. */
static inline void keep_run(float *restrict x, const uint32_t *restrict words, size_t run)
{
    const uint32_t *restrict w = words + (run >> 5) * RNG_LANES;
    const int bit = (int)(run & 31);

    LANES
    {
        int32_t mask = -(int32_t)((w[lane] >> bit) & 1u);
        x[lane] = float_of(bits_of(2.0f * x[lane]) & mask);
    }
}

static void embed(float *v, size_t Ep, size_t n, const float *ex, const uint32_t *ex_row, const float *bias_x,
                  const float *table, const uint32_t *first, const uint32_t *second, const float *lambda,
                  const float *bias_a, const uint32_t *words)
{
    size_t run = 0;

    for (size_t t = 0; t < n; t++) {
        float *left = v + t * 2 * Ep, *right = left + Ep;
        const float *from = ex != NULL ? ex + ex_row[t] * Ep : left;
        const float *one = table + first[t] * Ep;
        const float *two = second != NULL ? table + second[t] * Ep : one;
        const float l = second != NULL ? lambda[t] : 1.0f, k = 1.0f - l;
        for (size_t j = 0; j < Ep; j += RNG_LANES, run++) {
            float x[RNG_LANES];
            LANES x[lane] = from[j + (size_t)lane] + bias_x[j + (size_t)lane];
            keep_run(x, words, run);
            memcpy(left + j, x, sizeof x);
        }
        for (size_t j = 0; j < Ep; j += RNG_LANES, run++) {
            float x[RNG_LANES];
            LANES x[lane] = l * one[j + (size_t)lane] + k * two[j + (size_t)lane] + bias_a[j + (size_t)lane];
            keep_run(x, words, run);
            memcpy(right + j, x, sizeof x);
        }
    }
}

static void mask_backward(float *dv, size_t Ep, size_t n, const uint32_t *words, float *restrict sums)
{
    const size_t width = 2 * Ep;
    size_t run = 0;

    memset(sums, 0, width * sizeof(float));
    for (size_t t = 0; t < n; t++) {
        float *row = dv + t * width;
        for (size_t j = 0; j < width; j += RNG_LANES, run++) {
            float x[RNG_LANES];
            memcpy(x, row + j, sizeof x);
            keep_run(x, words, run);
            memcpy(row + j, x, sizeof x);
            LANES sums[j + (size_t)lane] += x[lane];
        }
    }
}

static void embed_backward(float *restrict table, size_t Ep, size_t n, const float *restrict dv, const uint32_t *first,
                           const uint32_t *second, const float *lambda)
{
    for (size_t t = 0; t < n; t++) {
        const float *restrict d = dv + t * 2 * Ep + Ep;
        const float l = second != NULL ? lambda[t] : 1.0f;
        float *restrict row = table + first[t] * Ep;
        for (size_t j = 0; j < Ep; j++)
            row[j] = MADD(l, d[j], row[j]);
        if (second == NULL)
            continue;
        const float k = 1.0f - l;
        row = table + second[t] * Ep;
        for (size_t j = 0; j < Ep; j++)
            row[j] = MADD(k, d[j], row[j]);
    }
}

static void fold_rows(float *restrict out, size_t ld_out, const float *restrict in, size_t ld_in, size_t width,
                      size_t n_rows, const uint32_t *begin)
{
    for (size_t i = 0; i < n_rows; i++) {
        for (size_t j0 = 0; j0 < width; j0 += W) {
            float s[W] = {0};
            for (uint32_t t = begin[i]; t < begin[i + 1]; t++) {
                const float *restrict row = in + t * ld_in + j0;
                EACH s[j] += row[j];
            }
            memcpy(out + i * ld_out + j0, s, sizeof s);
        }
    }
}

/* ---- loss ---------------------------------------------------------------------------------------------------------- */

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
                               const struct loss_rows *rows, const float *restrict inverse, const float *restrict joint1,
                               const float *restrict joint2, float *restrict f)
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

/* ---- prediction ---------------------------------------------------------------------------------------------------- */

/* Every c[r][j] is the same chain of multiply-adds over k, in the same order, whether its row is computed among
 * four or alone: a row's prediction does not depend on its neighbours. */
static void panel(const float *restrict a, size_t lda, size_t n_rows, const float *restrict b, size_t k, float *restrict c,
                  size_t ldc)
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

#define PASTE(a, b) a##b
#define TABLE_OF(level) PASTE(amx_kernels_, level)
#define TEXT(x) #x
#define TEXT_OF(level) TEXT(level)

extern const struct amx_kernels TABLE_OF(AMX_KERNEL);
const struct amx_kernels TABLE_OF(AMX_KERNEL) = {
    .name = TEXT_OF(AMX_KERNEL),
    .radam = radam,
    .mix = mix,
    .column_stats = column_stats,
    .mix_stats = mix_stats,
    .bn_fold = bn_fold,
    .affine_relu = affine_relu,
    .affine_relu_dropout = affine_relu_dropout,
    .bn_backward_sums = bn_backward_sums,
    .bn_backward_fold = bn_backward_fold,
    .bn_backward_apply = bn_backward_apply,
    .bn_backward_unmix = bn_backward_unmix,
    .random_bits = random_bits,
    .embed = embed,
    .mask_backward = mask_backward,
    .embed_backward = embed_backward,
    .fold_rows = fold_rows,
    .log_softmax = log_softmax,
    .confusion_forward = confusion_forward,
    .posterior = posterior,
    .confusion_backward = confusion_backward,
    .class_backward = class_backward,
    .panel = panel,
    .softmax_panel = softmax_panel,
    .bias_relu = bias_relu,
    .softmax_row = softmax_row,
};
