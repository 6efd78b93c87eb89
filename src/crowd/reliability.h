/* reliability.h - how good each annotator is, from a model: means of p_perf over the train instances it labelled, and,
 * when the model has folds, what the others and the model say about its labels without having seen them. */
#ifndef CROWD_RELIABILITY_H
#define CROWD_RELIABILITY_H

#include "annotmix.h"
#include "crowd/labels.h"

struct reliability {
    size_t n_annotators, n_classes;
    double *mean;      /* [A] mean p_perf over the instances it labelled; NaN without labels */
    uint64_t *labels;  /* [A] labels it gave */
    double *per_class; /* [A][C] diagonal of its average confusion: sum_x p(k|x) P(k|x,a,k) / sum_x p(k|x) */
    double *evidence;  /* [A][C] sum_x p(k|x) over the instances it labelled: expected labels with that true class */
    double *confusion; /* [A][C][C] average confusion, rows = true class; NULL when over 2^26 cells */
    /* Only when the model has folds and the data say which fold each instance is of; else NULL. */
    double *all;              /* [A] mean p_perf over all instances, labelled by it or not; NaN without labels */
    double *expected_correct; /* [A] mean posterior of the class it gave, its own label left out; NaN without labels */
    double *agreement;        /* [A] share of its labels that are the consensus of the others' labels (and of the model,
                               * out of fold), over the instances others have labelled too; NaN without any */
    double population;        /* mean p_perf of an unseen annotator over all train instances */
};

enum {
    RELIABILITY_ALL_CELLS = 100000000,
    RELIABILITY_ALL_LEAST = 64
};
/* From the training data of the model (or any labelled data of the same annotators). Works in chunks of bounded memory
 * (about 32 MiB besides the result). `all` is of every instance up to RELIABILITY_ALL_CELLS cells of confusion matrices
 * (instances x annotators x C x C); with more, of as many instances as that allows (at least RELIABILITY_ALL_LEAST),
 * evenly spaced in the order given. cancel: read (atomically) at every chunk; non-zero: AMX_CANCELLED; NULL = never.
 * Caller calls reliability_done. */
AMX_CHECK enum amx_status reliability_of_model(const struct amx_model *model, const struct amx_data *data,
                                               const volatile int *cancel, struct reliability *out,
                                               struct amx_error *err);
/* Bytes that this holds at most, its result and its chunks; SIZE_MAX when they do not fit in size_t. */
size_t reliability_memory(size_t n_annotators, size_t n_classes);
/* From labels and a posterior [N][C] over the true classes, without a model: mean = expected share right; per_class,
 * evidence and confusion counted from the posterior (NaN where no label speaks of the class); population = the mean over
 * labels; `all` and what follows NULL. AMX_NO_MEMORY. Caller calls reliability_done. */
AMX_CHECK enum amx_status reliability_of_posterior(const struct crowd_labels *labels, const double *posterior,
                                                   struct reliability *out);
void reliability_done(struct reliability *reliability);

#endif
