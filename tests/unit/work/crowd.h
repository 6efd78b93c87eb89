/* crowd.h - rows of a made-up crowd as files would give them, for tests of training data and metrics. */
#ifndef TESTS_UNIT_WORK_CROWD_H
#define TESTS_UNIT_WORK_CROWD_H

#include "work/runs/training_data.h"

/* What to make. Zero fields: 3 classes, 6 annotators, 2 labels per instance, none on held-out instances. */
struct crowd_kind {
    size_t n_train, n_valid, n_test;
    size_t n_classes, n_annotators, labels_each;
    bool held_labels;   /* instances of valid and test have labels too */
    bool no_gold;       /* nobody knows the truth */
    unsigned turn_gold; /* added to every gold class, modulo C: 0 = gold is the truth */
    bool all_wrong;     /* every label names the class after the true one */
};

struct crowd {
    struct training_rows rows; /* points into the arrays below */
    struct training_row *row;
    struct training_label *label;
    float *features;
    char (*names)[32];
    const char **annotators, **classes;
};

/* Instances in one cluster per class, in two dimensions; annotator a is right in 95 %, 90 %, ... of its labels.
 * Deterministic. Ends the process when memory is out. */
void crowd_make(const struct crowd_kind *kind, struct crowd *out);
void crowd_free(struct crowd *crowd);
/* Training data of it, with folds of that seed (0 folds: none). Fails the running test when it cannot. */
void crowd_data(const struct crowd *crowd, uint64_t seed, int folds, struct training_data *out);

/* Quick settings of the method: no hidden layer, few epochs. */
struct amx_fit_options crowd_options(const char *method, uint64_t seed, int folds);
/* Fits; fails the running test (and returns NULL) unless the status is AMX_OK. */
struct amx_model *crowd_fit(const struct training_data *data, const struct amx_fit_options *options);
/* SHA-256 of the model file, in hexadecimal. */
void crowd_hash(const struct amx_model *model, char out[DIGEST_HEX_BYTES]);

#endif
