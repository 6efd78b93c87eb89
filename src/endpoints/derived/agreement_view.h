/* agreement_view.h - the labels of a project with annotators in order of their names, and how far they agree: what GET
 * .../agreement answers from. Made in a background thread, kept for the few projects asked about last, valid as long as
 * the project's label_seq stays. */
#ifndef ENDPOINTS_DERIVED_AGREEMENT_VIEW_H
#define ENDPOINTS_DERIVED_AGREEMENT_VIEW_H

#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "crowd/agreement.h"
#include "endpoints/derived/crowd_view_rows.h"
#include "util/buf.h"
#include "work/catalog.h"
#include "work/service.h"

struct agreement_view {
    int refs; /* atomic; agreement_view.c's own */
    int64_t project_id;
    struct crowd_rows rows; /* annotators numbered by the rank of their name; annotator_ids [rank] too */
    struct buf names;       /* each followed by a 0 */
    size_t *name;           /* [n_annotators] offset in names, by rank */
    struct agreement figures;
    uint64_t work; /* agreement_work of the labels */
};

/* The view as of `label_seq` when it is at hand: a reference. NULL: not made yet. */
struct agreement_view *agreement_view_get(int64_t project_id, int64_t label_seq);
void agreement_view_unref(struct agreement_view *view); /* NULL allowed */
/* Reads and computes; slow: for background_run. AMX_NO_MEMORY, AMX_IO, ... Keeps it for agreement_view_get too. */
AMX_CHECK enum amx_status agreement_view_make(struct service *service, const struct project_info *project,
                                              struct agreement_view **out, struct amx_error *err);
const char *agreement_view_name(const struct agreement_view *view, uint32_t rank);
/* Rank of the annotator with this number; SIZE_MAX: it has no label any more. */
size_t agreement_view_rank(const struct agreement_view *view, int64_t annotator_id);

/* The pairs after (a, b) in order of names, at most `limit`, into out; *n of them. (0, 0) = from the first. */
AMX_CHECK enum amx_status agreement_view_pairs(const struct agreement_view *view, uint32_t a, uint32_t b, size_t limit,
                                               struct agreement_pair *out, size_t *n);

#endif
