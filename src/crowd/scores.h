/* scores.h - figures of merit: of class probabilities against gold, and of a score against "is it right?". */
#ifndef CROWD_SCORES_H
#define CROWD_SCORES_H

#include <stdbool.h>

#include "annotmix.h"
#include "crowd/labels.h"

/* 95 % interval of Wilson (1927) for `right` of n. n = 0: [0, 1]. */
void wilson_interval(double right, double n, double *low, double *high);

struct class_scores {
    size_t n;
    double accuracy, accuracy_low, accuracy_high; /* Wilson, 95 % */
    double balanced_accuracy;                     /* mean recall over the classes present in gold */
    double log_loss;                              /* natural logarithm, p clipped at 1e-15 */
    double brier;                                 /* sum over classes of squares, 0..2 */
    double ece;                                   /* top-label, 10 equal-width bins */
    double ece_debiased;                          /* its bias taken off; see below */
    double ece_floor;                             /* what ece would be, on average, if the model were calibrated */
};
/* The calibration error and its bias.
 *
 * ece = sum_b (n_b / n) |a_b - c_b|, with a_b the share of right answers and c_b the mean confidence of bin b. It is
 * biased upwards: a_b scatters around its true value, and the absolute value makes every scatter count as error. So two
 * more figures (Kumar, Liang, Ma: Verified Uncertainty Calibration, NeurIPS 2019, section 4 and its code for the l1
 * norm; Roelofs, Cain, Shlens, Mozer: Mitigating Bias in Calibration Error Estimation, AISTATS 2022):
 * - ece_debiased = max(0, 2 ece - sum_b (n_b / n) E|Y_b - c_b|) with Y_b normal around a_b with variance
 *   a_b (1 - a_b) / n_b: the error expected if the same were drawn again, minus the error seen, is the estimate of the
 *   bias, and that is taken off once. The article resamples Y_b; here the expectation of |Y - c| of a normal Y, which
 *   has a closed form, is used, so equal input gives equal bits. Never over ece. Near 0 some bias is left.
 * - ece_floor = sum_b (n_b / n) E|Z_b| with Z_b normal around 0 with variance sum_{i in b} c_i (1 - c_i) / n_b^2: the
 *   ece of a model whose confidences are exactly right, on as many instances with the same confidences. An ece near its
 *   floor shows no miscalibration. */
/* p [n][C]; gold [n] < C. n > 0. AMX_NO_MEMORY. */
AMX_CHECK enum amx_status class_scores_of(const float *p, const uint32_t *gold, size_t n, size_t n_classes,
                                          struct class_scores *out);

/* The same, row by row: for more rows than fit in memory. */
struct class_tally {
    size_t n, n_classes;
    double right, log_loss, brier;
    double bin_n[10], bin_right[10], bin_confidence[10];
    double bin_variance[10]; /* sum of confidence (1 - confidence) */
    double *class_n, *class_right; /* [C] */
};
AMX_CHECK enum amx_status class_tally_init(struct class_tally *tally, size_t n_classes);
void class_tally_add(struct class_tally *tally, const float *p, uint32_t gold);     /* p [C] */
void class_tally_scores(const struct class_tally *tally, struct class_scores *out); /* at least one row */
void class_tally_done(struct class_tally *tally);

struct binary_scores {
    size_t n, n_positive;
    double accuracy, accuracy_low, accuracy_high; /* at 0.5 */
    double balanced_accuracy;                     /* NaN when one class is absent; so are auroc and the precisions */
    double auroc;                                 /* ties count half */
    double average_precision_right, average_precision_wrong;
    double log_loss, brier; /* brier: square of the score's error, 0..1 */
};
/* score [n] in 0..1: probability of "right"; right [n]: 0 or 1. n > 0. AMX_NO_MEMORY. */
AMX_CHECK enum amx_status binary_scores_of(const float *score, const unsigned char *right, size_t n,
                                           struct binary_scores *out);

/* A mean of values that come in groups (labels of one instance), whose values may depend on one another within a
 * group: standard error of the mean with clusters, sqrt(G / (G - 1) sum_g (S_g - n_g m)^2) / n for G groups of n_g
 * values with sum S_g and n values in all (Liang, Zeger 1986). */
struct grouped_mean {
    size_t n, groups;
    double sum, sum_squares, sum_cross, size_squares; /* of S_g, S_g^2, S_g n_g, n_g^2 */
};
void grouped_mean_add(struct grouped_mean *mean, double sum, size_t n); /* one group; n = 0 is no group */
double grouped_mean_value(const struct grouped_mean *mean);             /* NaN without values */
double grouped_mean_error(const struct grouped_mean *mean);             /* NaN under two groups */

#endif
