/* crowd_csv.h - label files for the tests of this room: plain CSV without quotes. */
#ifndef TESTS_UNIT_CROWD_CROWD_CSV_H
#define TESTS_UNIT_CROWD_CROWD_CSV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crowd/labels.h"

enum {
    CSV_NAME = 40
};

struct csv_names {
    char (*name)[CSV_NAME]; /* sorted */
    size_t n;
};
/* task,worker,label with numbers in the order of the sorted names. */
struct csv_labels {
    struct csv_names instances, annotators, classes;
    uint32_t *instance, *annotator, *class_;
    struct crowd_labels labels;
};
/* instance,class */
struct csv_classes {
    char (*instance)[CSV_NAME], (*class_)[CSV_NAME];
    size_t n;
};

/* False when the file is not there. The done functions free. */
bool csv_labels_read(const char *path, struct csv_labels *out);
void csv_labels_done(struct csv_labels *labels);
bool csv_classes_read(const char *path, struct csv_classes *out);
void csv_classes_done(struct csv_classes *classes);
/* UINT32_MAX for an unknown name. */
uint32_t csv_find(const struct csv_names *names, const char *name);
/* Numbers of a plain table without names: [n_rows][n_columns] after one header row; NULL when the file is not there or
 * has another shape. */
double *csv_numbers(const char *path, size_t n_rows, size_t n_columns);

#endif
