/* data_dir.h - a folder of files as data sets come in: instances.csv[.gz], labels.csv[.gz], gold.csv[.gz], and where
 * they are there, labels_test.csv[.gz] (labels of test or valid instances, for judging the annotator model) and
 * meta.json (order of the classes; true accuracies of simulated annotators).
 *
 *     instances.csv   instance,split,f0,f1,...        labels.csv   task,worker,label  or  instance,annotator,class
 *     gold.csv        instance,class
 *
 * Class order: `classes` of meta.json, else the sorted union of the classes in gold and labels. Every error names the
 * file and the row. */
#ifndef FILES_DATA_DIR_H
#define FILES_DATA_DIR_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "work/runs/name_table.h"
#include "work/runs/training_data.h"

struct data_dir {
    struct name_table instances, annotators, class_words; /* class_words: in order of appearance */
    struct training_row *rows;                            /* [instances.n] */
    float *features;                                      /* [instances.n][D] */
    struct training_label *labels;
    size_t n_labels;
    const char **classes; /* [n_classes] in their final order; borrowed from class_words */
    size_t n_classes, n_features;
    double *annotator_accuracy; /* [annotators.n] of meta.json, NaN where it has none; NULL: no meta.json */
    struct training_rows view;  /* of all this, for training_data_build */
};

/* AMX_NOT_FOUND: folder, instances or labels are missing; AMX_INVALID: a row is wrong; AMX_TOO_LARGE, AMX_IO,
 * AMX_NO_MEMORY. data_dir_done frees. */
AMX_CHECK enum amx_status data_dir_read(const char *path, struct data_dir *out, struct amx_error *err);
/* The same for a folder in which files may be missing. Without instances.csv (or with one that has no features) the
 * instances are those of labels and gold, of split train, awaiting features: feature_row is SIZE_MAX, n_features 0. */
enum {
    DATA_DIR_NO_LABELS = 1,   /* labels.csv may be missing: gold alone */
    DATA_DIR_NO_INSTANCES = 2 /* instances.csv may be missing */
};
AMX_CHECK enum amx_status data_dir_read_partly(const char *path, unsigned may_miss, struct data_dir *out,
                                               struct amx_error *err);
/* DIR/meta.json; *out stays NULL when there is none. */
enum amx_status data_dir_meta(const char *dir, json_t **out, struct amx_error *err);
void data_dir_done(struct data_dir *dir);

#endif
