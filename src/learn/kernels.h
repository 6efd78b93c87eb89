/* kernels.h - the loops that take time besides the matrix products, one table of function pointers per CPU level.
 *
 * All widths and leading dimensions are multiples of PAD (layout.h); rows are contiguous. `n` counts rows. Pads of a
 * T-wide row (columns T .. Tp-1) may be read and written; weights there are 0, so they change nothing.
 * No kernel allocates, and each gives the same bits every time on one level. */
#ifndef LEARN_KERNELS_H
#define LEARN_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rng.h"

enum {
    PANEL = 16
}; /* lanes of the prediction kernels: outputs of a layer, or pairs */

/* Scalars of one RAdam step (radam.c). */
struct radam_step {
    float beta1, one_minus_beta1, beta2, one_minus_beta2, eps, weight_decay;
    float step;     /* factor of m, learning rate and corrections included */
    bool rectified; /* divide by sqrt(v) + eps */
};

/* What mixes with what: triple t is lambda[t] times row[t] plus (1 - lambda[t]) times partner[t]. */
struct mix_rows {
    const uint32_t *row, *partner; /* [n] */
    const float *lambda;           /* [n] */
};

/* One BatchNorm layer for the fold kernels; all arrays [width]. */
struct batch_norm {
    const float *gamma, *beta, *bias;
    float *running_mean, *running_var;
    float *mean, *inverse; /* of this batch: mean, 1 / sqrt(var + eps) */
    float *a, *c;          /* affine form of BatchNorm times dropout scale: y = a z + c */
    float *grad_gamma, *grad_beta;
    float *da, *db, *dc; /* affine form of the backward pass: dz = da dy + db z + dc */
};

/* The triples of the batch as the loss sees them; arrays [Tp], zero weight in the pads. */
struct loss_rows {
    const uint32_t *class1, *class2; /* labels of the triple and of its partner */
    const float *weight1, *weight2;  /* lambda / T and (1 - lambda) / T */
    bool mixed;                      /* false: class2 and weight2 are not read */
    size_t Tp;                       /* padded T of this batch: columns in use */
    size_t ld;                       /* row length of the [C][Tp] arrays */
};

struct amx_kernels {
    const char *name;

    /* ---- optimiser ---- */
    void (*radam)(float *p, const float *g, float *m, float *v, size_t n, const struct radam_step *s);

    /* ---- rows: mixing, BatchNorm, ReLU, dropout ---- */
    /* z[n][ld] = mixed rows of z0. */
    void (*mix)(float *z, const float *z0, size_t ld, size_t width, size_t n, const struct mix_rows *mix);
    /* Column sums of (z - z[0]) and of its square, in double. */
    void (*column_stats)(const float *z, size_t ld, size_t width, size_t n, double *sum, double *sum_sq);
    /* The same of the mixed rows of z0, which are not kept; shift[width] gets the first of them. */
    void (*mixed_stats)(const float *z0, size_t width, size_t n, const struct mix_rows *mix, float *shift, double *sum,
                        double *sum_sq);
    /* From the sums: batch statistics, running statistics (momentum 0.1, unbiased), a and c. shift = first row of z (may
     * be bn->mean). */
    void (*bn_fold)(const struct batch_norm *bn, const float *shift, const double *sum, const double *sum_sq,
                    size_t width, size_t n, float dropout_scale);
    /* y = max(0, a z + c), and the same with dropout: kept where a 16-bit number is >= threshold. With mix: of the
     * mixed rows of z. */
    void (*affine_relu)(float *y, const float *z, const float *a, const float *c, size_t width, size_t n,
                        const struct mix_rows *mix);
    void (*affine_relu_dropout)(float *y, const float *z, const float *a, const float *c, size_t width, size_t n,
                                const struct mix_rows *mix, uint32_t threshold, struct rng_lanes *rng);
    /* dy <- 0 where not y > 0, and sums over rows of dy and dy (z - mean). With mix: z are the unmixed rows. */
    void (*bn_backward_sums)(float *dy, const float *y, const float *z, const float *mean, size_t width, size_t n,
                             const struct mix_rows *mix, double *sum, double *sum_z);
    void (*bn_backward_fold)(const struct batch_norm *bn, const double *sum, const double *sum_z, size_t width,
                             size_t n, float dropout_scale);
    /* dy <- da dy + db z + dc. */
    void (*bn_backward_apply)(float *dy, const float *z, const struct batch_norm *bn, size_t width, size_t n);
    /* The same of mixed rows, summed back to the instances: dz0[i] = sum over i's triples t of lambda[t] dz[t] +
     * (1 - lambda[s]) dz[s] with s = inverse[t], the triple whose partner t is. begin[n_rows + 1]. z is not needed:
     * with w the weight of row i in a mixed row, w z = w^2 z0[i] + w (1 - w) z0[the other]. */
    void (*bn_backward_unmix)(float *dz0, const float *dy, const float *z0, const struct batch_norm *bn, size_t width,
                              size_t n_rows, const uint32_t *begin, const uint32_t *inverse,
                              const struct mix_rows *mix);

    /* ---- annotator model: concat, embedding, dropout 1/2 ---- */
    void (*random_bits)(struct rng_lanes *rng, uint32_t *words, size_t n_steps); /* [n_steps][RNG_LANES] */
    /* v[n][2Ep]: left = (ex row + bias_x), right = mixed embedding rows + bias_a, times 2 where the bit is set.
     * Left comes from ex[ex_row[t]][Ep], or from v itself when ex is NULL. second NULL: no mixing. */
    void (*embed)(float *v, size_t Ep, size_t n, const float *ex, const uint32_t *ex_row, const float *bias_x,
                  const float *table, const uint32_t *first, const uint32_t *second, const float *lambda,
                  const float *bias_a, const uint32_t *words);
    /* dv <- 2 dv where the bit is set, else 0; column sums [2Ep]. */
    void (*mask_backward)(float *dv, size_t Ep, size_t n, const uint32_t *words, float *sums);
    /* table[first[t]] += lambda[t] right half of dv[t], table[second[t]] += (1 - lambda[t]) ...; second NULL: only the
     * first, with weight 1. */
    void (*embed_backward)(float *table, size_t Ep, size_t n, const float *dv, const uint32_t *first,
                           const uint32_t *second, const float *lambda);
    /* out[i] = sum of in[t], t from begin[i] to begin[i + 1]. */
    void (*fold_rows)(float *out, size_t ld_out, const float *in, size_t ld_in, size_t width, size_t n_rows,
                      const uint32_t *begin);

    /* ---- loss, over transposed heads: a lane is a triple ---- */
    /* logits[C][ld] + bias -> log probabilities in place, probabilities in p. */
    void (*log_softmax)(float *logits, const float *bias, float *p, size_t C, size_t ld, size_t Tp);
    /* True classes k0 .. k1 of the confusion matrices: x [(k1-k0) C][ld] logits without bias -> exp(x - max);
     * inverse[k][t] = 1 / sum. joint1[k][t] = log p_k + log P_k,class1, joint2 for class2 (unless joint1 is NULL). */
    void (*confusion_forward)(float *x, const float *bias, size_t C, size_t k0, size_t k1, const struct loss_rows *rows,
                              const float *log_p, float *inverse, float *joint1, float *joint2);
    /* joint -> weight times posterior of the true class, in place; log_q[t] = log p_annot(label). */
    void (*posterior)(float *joint, const float *weight, float *log_q, size_t C, size_t ld, size_t Tp);
    /* Gradient of the slab, in place, and its row sums d_bias[(k0..k1) C]; f is scratch [ld]. */
    void (*confusion_backward)(float *x, float *d_bias, size_t C, size_t k0, size_t k1, const struct loss_rows *rows,
                               const float *inverse, const float *joint1, const float *joint2, float *f);
    /* p -> gradient of the class logits in place, and its row sums. */
    void (*class_backward)(float *p, float *d_bias, size_t C, const struct loss_rows *rows, const float *joint1,
                           const float *joint2);

    /* ---- prediction: every output is one chain of multiply-adds over k, whatever the other rows are ---- */
    /* c[r][j] = sum_k a[r][k] b[k][j], j < PANEL. */
    void (*panel)(const float *a, size_t lda, size_t n_rows, const float *b, size_t k, float *c, size_t ldc);
    /* All panels of a layer, b [n_panels][k][PANEL]: c[n][n_panels PANEL], the same bits as panel; with a bias (else
     * NULL), max(0, sum + bias). */
    void (*layer)(const float *a, size_t lda, size_t n, const float *b, size_t n_panels, size_t k, const float *bias,
                  float *c, size_t ldc);
    /* Softmax over the C rows of x [C][PANEL] + bias[C], each lane for itself, in place. */
    void (*softmax_panel)(float *x, const float *bias, size_t C);
    /* out[j] = (x[j] - mean[j]) / scale[j]; false when an x[j] is no finite number. */
    bool (*standardise)(float *out, const float *x, const float *mean, const float *scale, size_t n);
    /* out[c] = softmax of (x[c] + bias[c]) / temperature over c < C; x is scratch, padded to PANEL. */
    void (*softmax_row)(float *out, float *x, const float *bias, size_t C, float inverse_temperature);
};

/* The table for this CPU; chosen at the first call, the same for the life of the process. */
const struct amx_kernels *kernels_get(void);
/* The table of that name if this CPU can run it, else NULL (tests compare levels). */
const struct amx_kernels *kernels_named(const char *name);

#endif
