/* labels.h - who said what about what, as three parallel arrays. What every function of this room works on. */
#ifndef CROWD_LABELS_H
#define CROWD_LABELS_H

#include <stddef.h>
#include <stdint.h>

struct crowd_labels {
    size_t n_instances, n_annotators, n_classes, n_labels; /* N A C L */
    const uint32_t *instance;                              /* [L] < N, non-decreasing */
    const uint32_t *annotator;                             /* [L] < A */
    const uint32_t *class_;                                /* [L] < C */
};

/* No class: an instance without labels. */
#define CROWD_NO_CLASS UINT32_MAX

#endif
