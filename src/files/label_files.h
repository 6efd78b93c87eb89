/* label_files.h - labels, gold and history for `aggregate`, from files in any order of rows; no features, no splits.
 *
 *     labels    task,worker,label  or  instance,annotator,class     of several for one pair the last row counts
 *     gold      instance,class                                      of instances without labels: left out
 *     history   annotator,true_class,given_class,count              of annotators without labels: left out
 *
 * Each may be compressed (gzip). Names are sorted bytewise, so the order of rows (but for that last one) never matters.
 * Classes: `classes` of meta.json where there is one, else the sorted union of all files. */
#ifndef FILES_LABEL_FILES_H
#define FILES_LABEL_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "crowd/labels.h"
#include "work/runs/name_table.h"

/* Paths; any but labels may be NULL. */
struct label_paths {
    const char *labels, *gold, *meta, *history;
    void (*progress)(double fraction, void *context); /* of reading the labels; NULL = none */
    void *context;
};

/* A name_table and its names in order. */
struct sorted_names {
    struct name_table table;
    const char **names; /* [table.n] sorted; borrowed from table */
    uint32_t *rank;     /* [table.n] place of each number */
};

struct label_files {
    struct sorted_names instances, annotators;
    struct name_table class_words;
    const char **classes; /* [labels.n_classes] in their final order; borrowed */
    struct crowd_labels labels;
    uint32_t *instance, *annotator, *class_; /* what labels points to */
    int32_t *gold;                           /* [N] class or -1 */
    size_t n_gold;
    float *history; /* [A][C][C]; NULL without a file */
};

/* AMX_NOT_FOUND (no such file), AMX_INVALID (a row is wrong), AMX_NOTHING (no labels), AMX_TOO_LARGE, AMX_IO,
 * AMX_NO_MEMORY; every error names file and row. label_files_done frees. */
AMX_CHECK enum amx_status label_files_read(const struct label_paths *paths, struct label_files *out,
                                           struct amx_error *err);
void label_files_done(struct label_files *files);

#endif
