/* crowd_view.h - what the labels of a project say by themselves, by one method: the class of every labelled instance
 * and how far each annotator can be trusted. Without a method: Dawid-Skene where there are enough labels, else how often
 * each annotator agrees with the others (reliability needs it where there is no model). With "crowdlab" a model's
 * out-of-fold probabilities take part.
 *
 * Made in a background thread from one read of all labels, kept for the few questions asked last, and valid as long as
 * the project's label_seq stays; so paging through an answer computes it once. Stops early when the service stops.
 */
#ifndef ENDPOINTS_DERIVED_CROWD_VIEW_H
#define ENDPOINTS_DERIVED_CROWD_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "endpoints/derived/crowd_view_rows.h"
#include "http/http.h"
#include "work/catalog.h"
#include "work/service.h"
#include "work/snapshots.h"

#define CROWD_VIEW_CROWDLAB "crowdlab"

struct crowd_view {
    int refs; /* atomic; crowd_view.c's own */
    int64_t project_id, label_seq;
    const char *method; /* static; NULL = without one */
    int64_t model;      /* crowdlab: whose probabilities; else 0 */
    size_t n_classes;
    size_t n_instances;      /* labelled ones */
    int64_t *instance_ids;   /* [N] ascending */
    float *posterior;        /* [N][C] by the method, or by Dawid-Skene; NULL when there is none of either */
    size_t n_annotators;     /* with at least one label */
    int64_t *annotator_ids;  /* [A] ascending */
    double *reliability;     /* [A] as the method says; NaN = nothing to go by */
    uint64_t *labels;        /* [A] */
    float *confusion;        /* [A][C][C]; NULL with a method, without Dawid-Skene, or when that would be too much */
    bool has_dawid_skene;    /* no method: two labels per labelled instance on the average, and not too many for it */
    double mean_reliability; /* over labels; NaN without any */
};

/* What is asked. */
struct crowd_ask {
    const char *method;              /* static: a name of crowd/aggregate/aggregate.h, CROWD_VIEW_CROWDLAB, or NULL */
    struct model_snapshot *snapshot; /* crowdlab: a model with folds; else NULL. Borrowed */
};

/* The view as of `label_seq` when it is at hand: a reference. NULL: not made yet. */
struct crowd_view *crowd_view_get(int64_t project_id, int64_t label_seq, const struct crowd_ask *ask);
void crowd_view_unref(struct crowd_view *view); /* NULL allowed */
/* Reads and computes; slow: for background_run. AMX_TOO_LARGE, AMX_INVALID (the method cannot answer for these labels),
 * AMX_NOTHING, AMX_CANCELLED (the service stops), AMX_NO_MEMORY, AMX_IO, ... Keeps it for crowd_view_get too. */
AMX_CHECK enum amx_status crowd_view_make(struct service *service, const struct project_info *project,
                                          const struct crowd_ask *ask, struct crowd_view **out, struct amx_error *err);
/* Position, or SIZE_MAX. */
size_t crowd_view_annotator(const struct crowd_view *view, int64_t id);

/* ---- between the files of the view ---- */
/* p_class [N][C] (new memory) of the rows' instances by the snapshot's model, each out of fold; rows without features
 * are dropped from `rows` first. */
AMX_CHECK enum amx_status crowd_view_probabilities(struct service *service, const struct project_info *project,
                                                   const struct model_snapshot *snapshot, struct crowd_rows *rows,
                                                   float **p_class, struct amx_error *err);

#endif
