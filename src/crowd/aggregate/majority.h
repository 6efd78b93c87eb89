/* majority.h - majority vote. */
#ifndef CROWD_AGGREGATE_MAJORITY_H
#define CROWD_AGGREGATE_MAJORITY_H

#include "annotmix.h"
#include "crowd/labels.h"

/* winner [N]: the class with most labels, the lowest index on ties, CROWD_NO_CLASS without labels. share [N][C] (may be
 * NULL): votes of each class / votes, zeros without labels. AMX_NO_MEMORY. */
AMX_CHECK enum amx_status majority_vote(const struct crowd_labels *labels, uint32_t *winner, double *share);
/* One instance: n classes given; counts [C] is scratch and holds the votes afterwards. */
uint32_t majority_of(const uint32_t *classes, size_t n, size_t n_classes, uint32_t *counts);

#endif
