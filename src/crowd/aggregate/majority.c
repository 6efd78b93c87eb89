/* majority.c - majority vote: the plainest consensus, the yardstick beside every accuracy, and where EM starts.
 *
 * Ties go to the lowest class index, so that the answer depends on the labels alone and never on their order. */
#include "majority.h"

#include <stdlib.h>
#include <string.h>

uint32_t majority_of(const uint32_t *classes, size_t n, size_t n_classes, uint32_t *counts)
{
    uint32_t best = CROWD_NO_CLASS;

    memset(counts, 0, n_classes * sizeof *counts);
    for (size_t i = 0; i < n; i++)
        counts[classes[i]]++;
    for (size_t k = 0; k < n_classes; k++) {
        if (counts[k] > 0 && (best == CROWD_NO_CLASS || counts[k] > counts[best]))
            best = (uint32_t)k;
    }
    return best;
}

enum amx_status majority_vote(const struct crowd_labels *labels, uint32_t *winner, double *share)
{
    const size_t C = labels->n_classes;
    uint32_t *counts = calloc(C > 0 ? C : 1, sizeof *counts);
    size_t l = 0;

    if (counts == NULL)
        return AMX_NO_MEMORY;
    for (size_t i = 0; i < labels->n_instances; i++) {
        size_t first = l;

        while (l < labels->n_labels && labels->instance[l] == i)
            l++;
        winner[i] = majority_of(labels->class_ + first, l - first, C, counts);
        for (size_t k = 0; share != NULL && k < C; k++)
            share[i * C + k] = l > first ? (double)counts[k] / (double)(l - first) : 0.0;
    }
    free(counts);
    return AMX_OK;
}
