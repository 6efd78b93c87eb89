/* agreement.h - how far annotators agree beyond chance: Krippendorff's alpha and Fleiss' kappa of all, Cohen's kappa of
 * every pair. Needs no model and no gold. Figures that do not exist (nobody shares an instance; only one class in use,
 * so that chance alone explains everything) are NaN. */
#ifndef CROWD_AGREEMENT_H
#define CROWD_AGREEMENT_H

#include "annotmix.h"
#include "crowd/labels.h"

struct agreement {
    size_t n_instances; /* with at least two labels: the only ones that count */
    size_t n_labels;    /* on those */
    double observed;    /* share of agreeing pairs of labels, mean over these instances */
    /* Krippendorff (nominal): 1 - D_o/D_e from the coincidence matrix, where an instance of m labels counts m times;
     * missing labels are what it was made for. */
    double alpha;
    /* Fleiss: (P - P_e)/(1 - P_e), P = `observed`, P_e = sum of squared shares of the classes among the n_labels.
     * His formula asks for the same number of labels everywhere; with unequal numbers each instance's agreement is
     * taken over its own pairs and instances count alike. */
    double fleiss_kappa;
};
/* O(L). AMX_NO_MEMORY. */
AMX_CHECK enum amx_status agreement_of(const struct crowd_labels *labels, struct agreement *out);

/* Two annotators who share instances; a < b. */
struct agreement_pair {
    uint32_t a, b;
    uint64_t n;      /* common instances */
    uint64_t agreed; /* of those, the same class */
    /* Cohen: (agreed/n - P_e)/(1 - P_e), P_e from the classes both gave on the common instances alone. */
    double kappa;
};
/* Any status but AMX_OK ends the work and is returned. */
typedef enum amx_status agreement_pair_fn(void *context, const struct agreement_pair *pair);
/* Calls `fn` for every pair that shares at least one instance, in order of (a, b), from a >= first_a on. Time grows
 * with the pairs of labels on the same instance, never with A^2; memory with A + L. AMX_NO_MEMORY. */
AMX_CHECK enum amx_status agreement_pairs(const struct crowd_labels *labels, uint32_t first_a, agreement_pair_fn *fn,
                                          void *context);
/* How many pairs of labels agreement_pairs would look at (sum over instances of m(m-1)/2): a measure of its time. */
uint64_t agreement_work(const struct crowd_labels *labels);

#endif
