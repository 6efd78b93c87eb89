/* kernels.c - everything in a step that is not a matrix product, as plain C loops.
 *
 * The Makefile compiles this file once per CPU level (-DAMX_KERNEL=plain|sse2|avx2|avx512); all functions are
 * static and leave through the one table at the end. There are no intrinsics: inner loops run over contiguous
 * floats through restrict pointers, which every compiler turns into full vectors. Wider compiler vectors than the CPU's
 * were tried and made the step five times slower; so did small local arrays filled by memcpy (gcc copies them in
 * halves that cannot be forwarded to full loads).
 *
 * Rows are read from left to right, never in strips of columns: rows lie 512 or 1024 bytes apart, and a strip of many
 * rows falls on few sets of a cache. Order of summation is fixed (rows in order; blocks of 256 rows are added up in
 * double, so that large batches do not lose digits), which makes results equal bit for bit on one level.
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
#define CHUNK       256 /* columns whose sums stay in the first-level cache */
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

/* s += row - shift, q += its square, over w columns. */
static inline void add_row(const float *restrict row, const float *restrict shift, float *restrict s,
                           float *restrict q, size_t w)
{
    for (size_t j = 0; j < w; j++) {
        float d = row[j] - shift[j];
        s[j] += d;
        q[j] = MADD(d, d, q[j]);
    }
}

/* The same with the row l first + k second. */
static inline void add_mixed_row(const float *restrict first, const float *restrict second, float l, float k,
                                 const float *restrict shift, float *restrict s, float *restrict q, size_t w)
{
    for (size_t j = 0; j < w; j++) {
        float d = MADD(l, first[j], k * second[j]) - shift[j];
        s[j] += d;
        q[j] = MADD(d, d, q[j]);
    }
}

/* Moves the sums of a block of rows to double. */
static inline void flush(double *restrict sum, double *restrict sum_sq, const float *restrict s,
                         const float *restrict q, size_t w)
{
    for (size_t j = 0; j < w; j++) {
        sum[j] += (double)s[j];
        sum_sq[j] += (double)q[j];
    }
}

static void column_stats(const float *restrict z, size_t ld, size_t width, size_t n, double *restrict sum,
                         double *restrict sum_sq)
{
    for (size_t j0 = 0; j0 < width; j0 += CHUNK) {
        const size_t w = width - j0 < CHUNK ? width - j0 : CHUNK;
        memset(sum + j0, 0, w * sizeof *sum);
        memset(sum_sq + j0, 0, w * sizeof *sum_sq);
        for (size_t t0 = 0; t0 < n; t0 += ROW_BLOCK) {
            size_t t1 = t0 + ROW_BLOCK < n ? t0 + ROW_BLOCK : n;
            float s[CHUNK] = {0}, q[CHUNK] = {0};
            for (size_t t = t0; t < t1; t++)
                add_row(z + t * ld + j0, z + j0, s, q, w);
            flush(sum + j0, sum_sq + j0, s, q, w);
        }
    }
}

static void mixed_stats(const float *restrict z0, size_t width, size_t n, const struct mix_rows *x,
                        float *restrict shift, double *restrict sum, double *restrict sum_sq)
{
    mix(shift, z0, width, width, 1, x);
    for (size_t j0 = 0; j0 < width; j0 += CHUNK) {
        const size_t w = width - j0 < CHUNK ? width - j0 : CHUNK;
        memset(sum + j0, 0, w * sizeof *sum);
        memset(sum_sq + j0, 0, w * sizeof *sum_sq);
        for (size_t t0 = 0; t0 < n; t0 += ROW_BLOCK) {
            size_t t1 = t0 + ROW_BLOCK < n ? t0 + ROW_BLOCK : n;
            float s[CHUNK] = {0}, q[CHUNK] = {0};
            for (size_t t = t0; t < t1; t++)
                add_mixed_row(z0 + x->row[t] * width + j0, z0 + x->partner[t] * width + j0, x->lambda[t],
                              1.0f - x->lambda[t], shift + j0, s, q, w);
            flush(sum + j0, sum_sq + j0, s, q, w);
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
                        size_t width, size_t n, const struct mix_rows *x)
{
    for (size_t t = 0; t < n; t++) {
        const float *restrict first = z + (x != NULL ? x->row[t] : t) * width;
        const float *restrict second = z + (x != NULL ? x->partner[t] : t) * width;
        const float l = x != NULL ? x->lambda[t] : 1.0f, k = 1.0f - l;
        float *restrict out = y + t * width;
        for (size_t j = 0; j < width; j++) {
            float value = MADD(a[j], MADD(l, first[j], k * second[j]), c[j]);
            out[j] = value < 0.0f ? 0.0f : value; /* keeps NaN */
        }
    }
}

/* Half a run of dropout: sixteen elements against the low or the high halves of the words. */
static inline void drop_half(float *restrict y, const float *restrict first, const float *restrict second, float l,
                             float k, const float *restrict a, const float *restrict c, const uint32_t *restrict words,
                             int shift, int32_t limit)
{
    LANES
    {
        float x = MADD(a[lane], MADD(l, first[lane], k * second[lane]), c[lane]);
        x = x < 0.0f ? 0.0f : x;
        y[lane] = (int32_t)((words[lane] >> shift) & 0xffffu) >= limit ? x : 0.0f;
    }
}

static void affine_relu_dropout(float *restrict y, const float *restrict z, const float *restrict a,
                                const float *restrict c, size_t width, size_t n, const struct mix_rows *x,
                                uint32_t threshold, struct rng_lanes *rng)
{
    const int32_t limit = (int32_t)threshold;
    struct rng_lanes state = *rng;

    for (size_t t = 0; t < n; t++) {
        const float *first = z + (x != NULL ? x->row[t] : t) * width;
        const float *second = z + (x != NULL ? x->partner[t] : t) * width;
        const float l = x != NULL ? x->lambda[t] : 1.0f, k = 1.0f - l;
        for (size_t j = 0; j < width; j += W) {
            float *out = y + t * width + j;
            uint32_t words[RNG_LANES];
            lanes_step(&state, words);
            drop_half(out, first + j, second + j, l, k, a + j, c + j, words, 0, limit);
            drop_half(out + 16, first + j + 16, second + j + 16, l, k, a + j + 16, c + j + 16, words, 16, limit);
        }
    }
    *rng = state;
}

/* dy <- dy where y > 0, else 0; s += dy, q += dy (z - mean). */
static inline void mask_row(float *restrict dy, const float *restrict y, const float *restrict first,
                            const float *restrict second, float l, float k, const float *restrict mean,
                            float *restrict s, float *restrict q, size_t w)
{
    for (size_t j = 0; j < w; j++) {
        float d = y[j] > 0.0f ? dy[j] : 0.0f;
        dy[j] = d;
        s[j] += d;
        q[j] = MADD(d, MADD(l, first[j], k * second[j]) - mean[j], q[j]);
    }
}

static void bn_backward_sums(float *restrict dy, const float *restrict y, const float *restrict z,
                             const float *restrict mean, size_t width, size_t n, const struct mix_rows *x,
                             double *restrict sum, double *restrict sum_z)
{
    for (size_t j0 = 0; j0 < width; j0 += CHUNK) {
        const size_t w = width - j0 < CHUNK ? width - j0 : CHUNK;
        memset(sum + j0, 0, w * sizeof *sum);
        memset(sum_z + j0, 0, w * sizeof *sum_z);
        for (size_t t0 = 0; t0 < n; t0 += ROW_BLOCK) {
            size_t t1 = t0 + ROW_BLOCK < n ? t0 + ROW_BLOCK : n;
            float s[CHUNK] = {0}, q[CHUNK] = {0};
            for (size_t t = t0; t < t1; t++) {
                const float l = x != NULL ? x->lambda[t] : 1.0f;
                mask_row(dy + t * width + j0, y + t * width + j0, z + (x != NULL ? x->row[t] : t) * width + j0,
                         z + (x != NULL ? x->partner[t] : t) * width + j0, l, 1.0f - l, mean + j0, s, q, w);
            }
            flush(sum + j0, sum_z + j0, s, q, w);
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

static void bn_backward_apply(float *restrict dy, const float *restrict z, const struct batch_norm *bn, size_t width,
                              size_t n)
{
    const float *restrict da = bn->da, *restrict db = bn->db, *restrict dc = bn->dc;

    for (size_t t = 0; t < n; t++) {
        float *restrict d = dy + t * width;
        const float *restrict row = z + t * width;
        for (size_t j = 0; j < width; j++)
            d[j] = MADD(da[j], d[j], MADD(db[j], row[j], dc[j]));
    }
}

/* sum_d += w dy, sum_z += w (1 - w) z0 of the other row. */
static inline void add_side(float *restrict sum_d, float *restrict sum_z, const float *restrict dy,
                            const float *restrict other, float w, size_t n)
{
    const float k = w * (1.0f - w);

    for (size_t j = 0; j < n; j++) {
        sum_d[j] = MADD(w, dy[j], sum_d[j]);
        sum_z[j] = MADD(k, other[j], sum_z[j]);
    }
}

static void bn_backward_unmix(float *restrict dz0, const float *restrict dy, const float *restrict z0,
                              const struct batch_norm *bn, size_t width, size_t n_rows, const uint32_t *begin,
                              const uint32_t *inverse, const struct mix_rows *x)
{
    for (size_t i = 0; i < n_rows; i++) {
        for (size_t j0 = 0; j0 < width; j0 += CHUNK) {
            const size_t n = width - j0 < CHUNK ? width - j0 : CHUNK;
            const float *restrict da = bn->da + j0, *restrict db = bn->db + j0, *restrict dc = bn->dc + j0;
            const float *restrict own = z0 + i * width + j0;
            float *restrict out = dz0 + i * width + j0;
            float sum_d[CHUNK] = {0}, sum_z[CHUNK] = {0}, sum_w = 0.0f, squares = 0.0f;
            for (uint32_t t = begin[i]; t < begin[i + 1]; t++) {
                const uint32_t s = inverse[t];
                const float w = x->lambda[t], v = 1.0f - x->lambda[s];
                sum_w += w + v;
                squares += w * w + v * v;
                add_side(sum_d, sum_z, dy + t * width + j0, z0 + x->partner[t] * width + j0, w, n);
                add_side(sum_d, sum_z, dy + s * width + j0, z0 + x->row[s] * width + j0, v, n);
            }
            for (size_t j = 0; j < n; j++)
                out[j] = MADD(da[j], sum_d[j], MADD(db[j], MADD(squares, own[j], sum_z[j]), dc[j] * sum_w));
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

/* The words and the bit that decide run number `run` of 16 elements; see rng.c for the layout of the bits. */
#define RUN_WORDS(words, run) ((words) + ((run) >> 5) * RNG_LANES)
#define RUN_BIT(run)          ((int)((run) & 31))

/* Twice x where the bit of w is set, else zero. */
static inline float keep(float x, uint32_t w, int bit)
{
    return float_of(bits_of(x + x) & -(int32_t)((w >> bit) & 1u));
}

static inline void keep_left(float *restrict left, const float *restrict bias, const uint32_t *restrict w, int bit)
{
    LANES left[lane] = keep(left[lane] + bias[lane], w[lane], bit);
}

static inline void keep_right(float *restrict right, const float *restrict one, const float *restrict two, float l,
                              const float *restrict bias, const uint32_t *restrict w, int bit)
{
    const float k = 1.0f - l;

    LANES right[lane] = keep(MADD(l, one[lane], MADD(k, two[lane], bias[lane])), w[lane], bit);
}

static void embed(float *v, size_t Ep, size_t n, const float *ex, const uint32_t *ex_row, const float *bias_x,
                  const float *table, const uint32_t *first, const uint32_t *second, const float *lambda,
                  const float *bias_a, const uint32_t *words)
{
    size_t run = 0;

    for (size_t t = 0; t < n; t++) {
        float *left = v + t * 2 * Ep, *right = left + Ep;
        const float *one = table + first[t] * Ep;
        const float *two = second != NULL ? table + second[t] * Ep : one;
        const float l = second != NULL ? lambda[t] : 1.0f;
        if (ex != NULL)
            memcpy(left, ex + ex_row[t] * Ep, Ep * sizeof *left);
        for (size_t j = 0; j < Ep; j += RNG_LANES, run++)
            keep_left(left + j, bias_x + j, RUN_WORDS(words, run), RUN_BIT(run));
        for (size_t j = 0; j < Ep; j += RNG_LANES, run++)
            keep_right(right + j, one + j, two + j, l, bias_a + j, RUN_WORDS(words, run), RUN_BIT(run));
    }
}

static inline void mask_run(float *restrict x, float *restrict sums, const uint32_t *restrict w, int bit)
{
    LANES
    {
        float value = keep(x[lane], w[lane], bit);
        x[lane] = value;
        sums[lane] += value;
    }
}

static void mask_backward(float *dv, size_t Ep, size_t n, const uint32_t *words, float *sums)
{
    size_t run = 0;

    memset(sums, 0, 2 * Ep * sizeof *sums);
    for (size_t t = 0; t < n; t++) {
        for (size_t j = 0; j < 2 * Ep; j += RNG_LANES, run++)
            mask_run(dv + t * 2 * Ep + j, sums + j, RUN_WORDS(words, run), RUN_BIT(run));
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
            float s[W] = {0}, *restrict to = out + i * ld_out + j0;
            for (uint32_t t = begin[i]; t < begin[i + 1]; t++) {
                const float *restrict row = in + t * ld_in + j0;
                EACH s[j] += row[j];
            }
            EACH to[j] = s[j];
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
    .mixed_stats = mixed_stats,
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
