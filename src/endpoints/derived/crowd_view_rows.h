/* crowd_view_rows.h - all current labels of a project as dense arrays, read in one view of the database: what
 * everything that follows from labels alone is computed from. */
#ifndef ENDPOINTS_DERIVED_CROWD_VIEW_ROWS_H
#define ENDPOINTS_DERIVED_CROWD_VIEW_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "crowd/labels.h"
#include "work/catalog.h"
#include "work/service.h"

struct crowd_rows {
    int64_t label_seq;                       /* as of when */
    size_t n_classes;                        /* of the project */
    size_t n_labels;                         /* with a class */
    uint32_t *instance, *annotator, *class_; /* [n_labels] by (instance, annotator); positions in the ids below */
    size_t n_instances, n_annotators;        /* those with at least one label */
    int64_t *instance_ids;                   /* [n_instances] ascending */
    int64_t *annotator_ids;                  /* [n_annotators] ascending */
};

/* AMX_NO_MEMORY, AMX_IO, ... crowd_rows_done in any case. */
AMX_CHECK enum amx_status crowd_rows_read(struct service *service, const struct project_info *project,
                                          struct crowd_rows *out, struct amx_error *err);
void crowd_rows_done(struct crowd_rows *rows);
/* Keeps only the labels of the instances with keep[position]; positions close up, annotators stay. */
void crowd_rows_only(struct crowd_rows *rows, const bool *keep);
struct crowd_labels crowd_rows_labels(const struct crowd_rows *rows); /* borrowed */

/* Position of an id in an ascending list, or SIZE_MAX. */
size_t crowd_rows_find(const int64_t *ids, size_t n, int64_t id);

#endif
