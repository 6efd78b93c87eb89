/* selection_json.h - how method auto chose, as `selection` of a run and of its model: what won, and the table of
 * candidates. */
#ifndef WORK_RUNS_SELECTION_JSON_H
#define WORK_RUNS_SELECTION_JSON_H

#include <jansson.h>

#include "crowd/select/select.h"
#include "work/runs/run_request.h"

enum {
    SELECTION_ROWS = 50 /* most candidates listed: the best, and the published defaults whatever their place */
};

/* {"method", "settings", "select", "budget_seconds", "budget_fits", "folds", "rung", "rungs", "seconds",
 * "n_candidates", "n_finished", "n_failed", "candidates": [...]}. NULL: memory is out. Caller decrefs. */
json_t *selection_json(const struct select_result *result, const struct run_auto *automatic);

/* Takes `selection` out of stored metrics, where it is kept, and puts it beside them in *object: null when there is
 * none. 0, or -1 when memory is out. */
int selection_lift(json_t *object, json_t *metrics);

#endif
