/* consensus.h - class of an instance from the model's p(k|x) and what its annotators said, and whether it is settled.
 */
#ifndef CROWD_CONSENSUS_H
#define CROWD_CONSENSUS_H

#include <stdbool.h>

#include "annotmix.h"
#include "crowd/labels.h"

/* Posterior over the true class of one instance: proportional to p(k|x) prod_l P(z_l | x, a_l, k), in log space.
 *   p_class [C]; p_confusion [n][C][C] of each label's annotator at this instance; classes [n] given labels.
 *   posterior [C] out. why_labels [n], why_model (either may be NULL): log-likelihood ratio of each label, and of
 *   the model, for the winning class against the runner-up: log P(z|k1) - log P(z|k2), log p(k1) - log p(k2).
 * Returns the winning class (lowest index on ties). */
uint32_t consensus_posterior(const float *p_class, const float *p_confusion, const uint32_t *classes, size_t n,
                             size_t n_classes, double *posterior, double *why_labels, double *why_model);

/* For each label of one instance, what the posterior would be without it: the model and the others' labels.
 *   columns [n][C]: P(z_l | x, a_l, k) of each label for every true class k; classes [n] given labels; scratch [2 C].
 *   expected [n]: posterior of the class the label names; agrees [n]: 1 when that class is the winner (lowest index on
 *   ties), else 0. */
void consensus_left_out(const float *p_class, const float *columns, const uint32_t *classes, size_t n, size_t n_classes,
                        double *scratch, double *expected, unsigned char *agrees);

enum consensus_basis {
    CONSENSUS_IN_SAMPLE,
    CONSENSUS_OUT_OF_FOLD,
    CONSENSUS_LABELS_ONLY
};
const char *consensus_basis_name(enum consensus_basis basis); /* "in_sample"; static */

struct consensus_state {
    bool known; /* false: resolved and disputed are null (basis in_sample) */
    bool resolved;
    bool disputed;
};
/* resolved: has gold, or confidence >= threshold with at least one label (labels_only: also at least `overlap` labels).
 * disputed: not resolved and at least two different classes among the labels. */
struct consensus_state consensus_settle(enum consensus_basis basis, bool has_gold, double confidence, size_t n_labels,
                                        size_t n_different, double threshold, size_t overlap);

#endif
