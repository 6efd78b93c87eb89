/* training_data.h - the training rows of a project (or of files) in the one order that counts, with their hash.
 *
 * Instances sorted by name, labels by (instance name, annotator name), bytewise; annotator indices = positions in the
 * sorted list of annotators that have at least one label used. Order of arrival therefore never matters, and neither
 * does gold. The server fills struct training_set (store/training.h) from the database, `fit` from files; everything
 * after that is the same code: the same data give the same model bytes. */
#ifndef WORK_RUNS_TRAINING_DATA_H
#define WORK_RUNS_TRAINING_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "store/training.h"
#include "util/digest.h"

enum {
    TRAINING_HASH_BYTES = 7 + DIGEST_HEX_BYTES
}; /* "sha256:" and the hexadecimal digits */

struct training_data {
    struct training_set set;
    struct amx_data data; /* what amx_fit wants; points into set and hash */
    char hash[TRAINING_HASH_BYTES];
    uint32_t *fold; /* [N], or NULL: see training_data_fold */
    bool built;     /* by training_data_build: its arrays are this room's, not the store's */
};

/* The fold of an instance, < folds (which is >= 2): the first 8 bytes of SHA-256 over the seed as 8 bytes
 * little-endian and then the name, as a little-endian number, modulo folds. It depends on nothing else, so the fold of
 * any instance is known at any later time from its name and the model's seed and folds, and nothing is stored.
 * Instances of split valid and test were never trained on: AMX_NO_FOLD for them. */
uint32_t fold_of(const char *name, uint64_t seed, int folds);
/* Gives every train instance its fold (data->data.fold) for a fit with that seed and number of folds; folds 0: none.
 * AMX_NO_MEMORY. */
AMX_CHECK enum amx_status training_data_fold(struct training_data *data, uint64_t seed, int folds,
                                             struct amx_error *err);

/* Reads a project in one short read transaction on the caller's connection. AMX_TOO_LARGE over max_bytes (0 = no
 * limit), with the number. An empty project is no failure: see training_data_check. *out is in place: do not move it
 * (data points into it). */
AMX_CHECK enum amx_status training_data_read(struct db *db, int64_t project_id, size_t max_bytes,
                                             struct training_data *out, struct amx_error *err);

/* Rows as they stand in files, in any order. */
struct training_row {
    const char *name;
    enum split split;
    size_t feature_row; /* row of features, or SIZE_MAX: awaits features */
    int32_t gold;       /* class or -1 */
};
struct training_label {
    uint32_t row;       /* position in rows */
    uint32_t annotator; /* position in annotators */
    uint32_t class_;
};
struct training_rows {
    const struct training_row *rows;
    size_t n_rows, n_features;
    const float *features;         /* [..][D] */
    const char *const *annotators; /* distinct names */
    size_t n_annotators;
    const char *const *classes;
    size_t n_classes;
    const struct training_label *labels; /* of any split; of several for one pair the last counts */
    size_t n_labels;
};
/* Copies, sorts, splits into training and held-out part. AMX_NO_MEMORY. training_data_done frees. */
AMX_CHECK enum amx_status training_data_build(const struct training_rows *rows, struct training_data *out,
                                              struct amx_error *err);
void training_data_done(struct training_data *data);
/* Fills in hash and data from set: the last step of both ways to make one. */
void training_data_view(struct training_data *data);

/* AMX_NOTHING, naming what is missing, when amx_fit would have nothing to train on. */
AMX_CHECK enum amx_status training_data_check(const struct training_data *data, struct amx_error *err);
/* Bytes held. */
size_t training_data_bytes(const struct training_data *data);

#endif
