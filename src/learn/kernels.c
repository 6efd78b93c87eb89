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
 * The loss and the prediction kernels stand in kernel_loss.h and kernel_predict.h, which are part of this file: a
 * level is one object with one table. */
#include "kernels.h"

#include <math.h>
#include <string.h>

#include "kernel_loss.h"
#include "kernel_math.h"
#include "kernel_predict.h"

#define ROW_BLOCK   256 /* rows added up in float before they go to double */
#define BN_EPS      1e-5
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

static void mix(float *restrict z, const float *restrict z0, size_t ld, size_t width, size_t n,
                const struct mix_rows *x)
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

static void bn_fold(const struct batch_norm *bn, const float *shift, const double *sum, const double *sum_sq,
                    size_t width, size_t n, float dropout_scale)
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
        bn->running_mean[j] =
            (float)((1.0 - BN_MOMENTUM) * (double)bn->running_mean[j] + BN_MOMENTUM * (mean + (double)bn->bias[j]));
        bn->running_var[j] =
            (float)((1.0 - BN_MOMENTUM) * (double)bn->running_var[j] + BN_MOMENTUM * unbiased * variance);
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

static void bn_backward_fold(const struct batch_norm *bn, const double *sum, const double *sum_z, size_t width,
                             size_t n, float dropout_scale)
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

/* ---- annotator model --------------------------------------------------------------------------------------------- */

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

#define PASTE(a, b)     a##b
#define TABLE_OF(level) PASTE(amx_kernels_, level)
#define TEXT(x)         #x
#define TEXT_OF(level)  TEXT(level)

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
    .layer = layer,
    .softmax_panel = softmax_panel,
    .standardise = standardise,
    .softmax_row = softmax_row,
};
