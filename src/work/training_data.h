/* training_data.h - the training rows of a project (or of files) in the one order that counts, with their hash.
 *
 * Instances sorted by name, labels by (instance name, annotator name), bytewise; annotator indices = positions in the sorted
 * list of annotators that have at least one label used. Order of arrival therefore never matters, and neither does gold.
 * The server and `fit` fill the same struct and call the same functions: the same data give the same model bytes. */
#ifndef WORK_TRAINING_DATA_H
#define WORK_TRAINING_DATA_H

#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "util/digest.h"

struct db;

enum data_split { DATA_TRAIN, DATA_VALID, DATA_TEST };
#define DATA_NO_CLASS UINT32_MAX

struct data_instance {
    const char *name;      /* 0-terminated; in `arena` of the owner */
    enum data_split split;
    uint32_t gold;         /* class, or DATA_NO_CLASS */
    size_t row;            /* of features */
};

struct data_label {
    uint32_t instance;     /* position in instances */
    uint32_t annotator;    /* position in annotator names */
    uint32_t class_;
};

/* Everything a run reads: instances with features of all splits (those with labels or gold), labels, gold. */
struct training_data {
    size_t n_features, n_classes;
    const char **class_names;     /* [C] owned strings */
    size_t n_instances;
    struct data_instance *instances;
    float *features;              /* [n_instances][D], row instances[i].row */
    size_t n_annotators;
    char **annotators;            /* names, owned */
    size_t n_labels;
    struct data_label *labels;
    int64_t label_seq;            /* as of which this was read; 0 for files */
    size_t awaiting_features;     /* labelled train instances left out because they have no features yet */
    struct text_arena *names;     /* owns the instance names */
};

/* Reads a project in one short read transaction (the caller's connection). AMX_TOO_LARGE over max_bytes, with the number. */
AMX_CHECK enum amx_status training_data_read(struct db *db, int64_t project_id, size_t max_bytes, struct training_data *out,
                                             struct amx_error *err);
void training_data_done(struct training_data *data);
/* Bytes held. */
size_t training_data_bytes(const struct training_data *data);

/* Sorts instances and labels (not the features: rows keep their place). Call once after filling in. */
AMX_CHECK enum amx_status training_data_sort(struct training_data *data, struct amx_error *err);

/* What amx_fit wants: the labelled train instances, sorted, compact. */
struct train_set {
    struct amx_data data;         /* points into the arrays below and class names of the training_data */
    float *features;              /* [N][D] */
    uint32_t *label_instance, *label_annotator, *label_class;
    const char **annotator_names; /* [A] borrowed from the training_data */
    uint32_t *instance_of;        /* [N] position in training_data.instances */
    char hash[8 + DIGEST_HEX_BYTES]; /* "sha256:..." */
};
/* After training_data_sort. AMX_NOTHING with a sentence naming what is missing. `data` must outlive *out. */
AMX_CHECK enum amx_status train_set_make(const struct training_data *data, struct train_set *out, struct amx_error *err);
void train_set_done(struct train_set *set);

#endif
