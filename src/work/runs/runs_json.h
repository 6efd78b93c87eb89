/* runs_json.h - the run object of wire.md, composed in one place: row of the store plus progress in memory. */
#ifndef WORK_RUNS_RUNS_JSON_H
#define WORK_RUNS_RUNS_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "store/runs.h"

struct trainers;

/* What a waiting client needs to know besides the object. */
struct run_view {
    int64_t id; /* key of run_waiters */
    int64_t number;
    enum run_state state;
    bool ended;         /* succeeded, failed or cancelled */
    int attempt, epoch; /* "id: attempt-epoch" of events */
    uint64_t version;   /* another one whenever the object changed */
};

/* The run as clients see it, with progress if it is in work here. NULL when memory is out. trainers may be NULL; view
 * may be NULL. */
json_t *run_json_of_row(const struct run_row *row, struct trainers *trainers, const char *project_name,
                        struct run_view *view);
/* The same for a number. AMX_NOT_FOUND: no such run in this project. Caller decrefs *out. */
AMX_CHECK enum amx_status run_json(struct db *db, struct trainers *trainers, int64_t project_id,
                                   const char *project_name, int64_t number, json_t **out, struct run_view *view,
                                   struct amx_error *err);

#endif
