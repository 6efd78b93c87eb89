/* dawid_skene.h - Dawid & Skene (1979): true classes and a confusion matrix per annotator by EM, on labels alone. */
#ifndef CROWD_AGGREGATE_DAWID_SKENE_H
#define CROWD_AGGREGATE_DAWID_SKENE_H

#include "annotmix.h"
#include "crowd/labels.h"

enum {
    DAWID_SKENE_ROUNDS = 100
};
#define DAWID_SKENE_TOLERANCE 1e-5

/* posterior [N][C] (uniform by the class prior without labels); confusion [A][C][C] rows = true class, columns =
 * given label (may be NULL); prior [C] (may be NULL); rounds (may be NULL): EM rounds run. AMX_NO_MEMORY,
 * AMX_TOO_LARGE. */
AMX_CHECK enum amx_status dawid_skene(const struct crowd_labels *labels, int max_rounds, double tolerance,
                                      double *posterior, double *confusion, double *prior, int *rounds);
/* How often each annotator is right by the posterior: mean of q(z) over its labels. reliability [A], NaN without
 * labels. AMX_NO_MEMORY. */
AMX_CHECK enum amx_status dawid_skene_reliability(const struct crowd_labels *labels, const double *posterior,
                                                  double *reliability);

#endif
