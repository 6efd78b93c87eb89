/* crowd_view.h - what the labels of a project say by themselves: Dawid-Skene where there are enough, and how often each
 * annotator agrees with the others. Needed where there is no model, and for ?method=dawid_skene.
 *
 * Made in a background thread from one read of all labels, kept for the few projects asked about last, and valid as
 * long as the project's label_seq stays; so paging through an answer computes it once.
 */
#ifndef ENDPOINTS_CROWD_VIEW_H
#define ENDPOINTS_CROWD_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "http/http.h"
#include "work/catalog.h"
#include "work/service.h"

struct crowd_view {
    int refs; /* atomic; crowd_view.c's own */
    int64_t project_id, label_seq;
    size_t n_classes;
    size_t n_instances;     /* labelled ones */
    int64_t *instance_ids;  /* [N] ascending */
    float *posterior;       /* [N][C] Dawid-Skene; NULL when has_dawid_skene is false */
    size_t n_annotators;    /* with at least one label */
    int64_t *annotator_ids; /* [A] ascending */
    double
        *reliability; /* [A] by has_dawid_skene: expected share right, else agreement; NaN = nothing to compare with */
    uint64_t *labels; /* [A] */
    float *confusion; /* [A][C][C]; NULL without Dawid-Skene, or when that would be too much */
    bool has_dawid_skene;    /* two labels per labelled instance on the average, and not too many for it */
    double mean_reliability; /* over labels; NaN without any */
};

/* The view as of `label_seq` when it is at hand: a reference. NULL: not made yet. */
struct crowd_view *crowd_view_get(int64_t project_id, int64_t label_seq);
void crowd_view_unref(struct crowd_view *view); /* NULL allowed */
/* Reads and computes; slow: for background_run. AMX_NO_MEMORY, AMX_IO, ... Keeps it for crowd_view_get too. */
AMX_CHECK enum amx_status crowd_view_make(struct service *service, const struct project_info *project,
                                          struct crowd_view **out, struct amx_error *err);
/* Positions, or SIZE_MAX. */
size_t crowd_view_instance(const struct crowd_view *view, int64_t id);
size_t crowd_view_annotator(const struct crowd_view *view, int64_t id);

#endif
