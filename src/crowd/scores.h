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
};
/* p [n][C]; gold [n] < C. n > 0. AMX_NO_MEMORY. */
AMX_CHECK enum amx_status class_scores_of(const float *p, const uint32_t *gold, size_t n, size_t n_classes,
                                          struct class_scores *out);

/* The same, row by row: for more rows than fit in memory. */
struct class_tally {
    size_t n, n_classes;
    double right, log_loss, brier;
    double bin_right[10], bin_confidence[10];
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

#endif
