/* crowdlab.h - CROWDLAB (Goh, Tkachenko, Mueller 2022): consensus from a model's out-of-fold probabilities and the
 * labels, each weighted by how far it can be trusted. Follows cleanlab 2.9 with its defaults (consensus "best_quality",
 * quality "crowdlab", no recalibration), whose results ours are compared with. */
#ifndef CROWD_CROWDLAB_H
#define CROWD_CROWDLAB_H

#include "annotmix.h"
#include "crowd/labels.h"

/* Where the results go; any pointer may be NULL. */
struct crowdlab {
    double *posterior;         /* [N][C] weighted mean of p_class and the labels; without labels: p_class */
    uint32_t *consensus;       /* [N] */
    double *quality;           /* [N] posterior of the consensus class */
    double *annotator_quality; /* [A] 0..1; NaN without labels */
    double *annotator_weight;  /* [A] its labels' weight in the means; NaN without labels */
    double *model_weight;      /* [1] */
};
/* p_class [N][C]: probabilities from a fit that did not see the instance's labels. Instances without labels are left
 * out of every estimate. AMX_NOTHING when no instance has two labels (then nothing tells how far annotators can be
 * trusted), AMX_NO_MEMORY. */
AMX_CHECK enum amx_status crowdlab(const struct crowd_labels *labels, const float *p_class,
                                   const struct crowdlab *out, struct amx_error *err);

#endif
