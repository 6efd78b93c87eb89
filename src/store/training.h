/* training.h - everything a fit needs, read in one short transaction into plain arrays.
 *
 * Order (it decides the model's bytes, so arrival must not matter): instances by name, labels by (instance name,
 * annotator name), annotators by name, all bytewise. Only what the fit uses: train instances with features and at least
 * one label that is not skipped; annotators with at least one such label. Besides: held-out instances, for metrics.
 */
#ifndef STORE_TRAINING_H
#define STORE_TRAINING_H

#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "store/db.h"
#include "store/instances.h"

struct training_set {
    size_t n_instances, n_features, n_classes, n_annotators, n_labels;
    float *features;           /* [N][D] */
    char **instance_names;     /* [N] */
    int64_t *instance_ids;     /* [N] */
    int32_t *instance_gold;    /* [N] class or -1; never for the fit under gold_use evaluate */
    uint32_t *label_instance;  /* [n_labels] < N, non-decreasing */
    uint32_t *label_annotator; /* [n_labels] < A */
    uint32_t *label_class;     /* [n_labels] < C */
    char **annotator_names;    /* [A] */
    int64_t *annotator_ids;    /* [A] */
    char **class_names;        /* [C] retired ones included: they keep their numbers */

    /* Instances of valid and test that have features and gold or labels, by (split, name): for metrics. Labels
     * of annotators that are not among annotator_names have annotator UINT32_MAX. */
    size_t n_held, n_held_labels;
    float *held_features;                              /* [n_held][D] */
    int8_t *held_split;                                /* [n_held] SPLIT_VALID or SPLIT_TEST */
    int32_t *held_gold;                                /* [n_held] class or -1 */
    uint32_t *held_label_held;                         /* [n_held_labels] < n_held, non-decreasing */
    uint32_t *held_label_annotator, *held_label_class; /* [n_held_labels] */

    int64_t label_seq;     /* the data is as of this number */
    size_t n_labels_total; /* current labels with a class in the project: to say what is missing */
    size_t n_awaiting;     /* labelled train instances left out because they await features */
    void *memory;          /* names */
};
/* Fails with AMX_TOO_LARGE when it would hold more than max_bytes (0 = no limit); err says how many it needs. An empty
 * set is no failure. db: a read connection of the caller, not in a transaction. */
AMX_CHECK enum amx_status training_read(struct db *db, int64_t project_id, size_t max_bytes, struct training_set *out,
                                        struct amx_error *err);
void training_set_done(struct training_set *set);

/* How much there is, without reading it. For refusing a run before it is queued (nothing-to-train, memory estimate).
 * Counts stop at `enough` labelled instances when that is > 0. */
struct training_size {
    size_t n_instances;    /* train, with features, with a label that is not skipped */
    size_t n_labels;       /* current labels with a class, of the project: upper bound of what is trained on */
    size_t n_classes_seen; /* different classes among the labels looked at */
    size_t n_annotators;   /* of the project: upper bound */
};
AMX_CHECK enum amx_status training_measure(struct db *db, int64_t project_id, size_t enough, struct training_size *out,
                                           struct amx_error *err);
/* So much will be read at least, from counters and two small indexes: no label and no instance that has labels is looked
 * at. It is less than the truth where labels are skipped, wait for features, or are of an annotator being deleted. */
struct training_least {
    size_t n_instances; /* trained on or held */
    size_t n_train;     /* of these, trained on */
    size_t n_labels;
};
AMX_CHECK enum amx_status training_measure_least(struct db *db, int64_t project_id, struct training_least *out,
                                                 struct amx_error *err);
/* Labelled train instances with features and gold, and the different classes gold gives them: for ground_truth. */
AMX_CHECK enum amx_status training_measure_gold(struct db *db, int64_t project_id, size_t *n_instances,
                                                size_t *n_classes, struct amx_error *err);

#endif
