/* reliability.h - how good each annotator is, from a model: means of p_perf over the train instances it labelled. */
#ifndef CROWD_RELIABILITY_H
#define CROWD_RELIABILITY_H

#include "annotmix.h"

struct reliability {
    size_t n_annotators, n_classes;
    double *mean;      /* [A] mean p_perf over the instances it labelled; NaN without labels */
    uint64_t *labels;  /* [A] labels it gave */
    double *per_class; /* [A][C] diagonal of its average confusion: sum_x p(k|x) P(k|x,a,k) / sum_x p(k|x) */
    double *evidence;  /* [A][C] sum_x p(k|x) over the instances it labelled: expected labels with that true class */
    double *confusion; /* [A][C][C] average confusion, rows = true class; NULL when over 2^26 cells */
    double population; /* mean p_perf of an unseen annotator over all train instances */
};

/* From the training data of the model (or any labelled data of the same annotators). Works in chunks of bounded memory
 * (about 32 MiB besides the result). Caller calls reliability_done. */
AMX_CHECK enum amx_status reliability_of_model(const struct amx_model *model, const struct amx_data *data,
                                               struct reliability *out, struct amx_error *err);
void reliability_done(struct reliability *reliability);

#endif
