/* runs_json.h - the run object of wire.md, composed in one place: row of the store plus progress in memory. */
#ifndef WORK_RUNS_JSON_H
#define WORK_RUNS_JSON_H

#include <jansson.h>
#include <stdint.h>

#include "annotmix.h"

struct db;
struct trainers;

/* The run as clients see it. version (may be NULL): grows or changes with every change of the object, for "has it changed
 * since I looked"; ended (may be NULL): succeeded, failed or cancelled. AMX_NOT_FOUND: no such run in this project. Caller
 * decrefs *out. */
AMX_CHECK enum amx_status run_json(struct db *db, struct trainers *trainers, int64_t project_id, const char *project_name,
                                   int64_t run_id, json_t **out, uint64_t *version, bool *ended, struct amx_error *err);
/* Runs with id < before (INT64_MAX: from the newest), newest first, at most `limit`: array of run objects. *last: id of the
 * last one given; *more: there are older ones. */
AMX_CHECK enum amx_status runs_json(struct db *db, struct trainers *trainers, int64_t project_id, const char *project_name,
                                    int64_t before, size_t limit, json_t **out, int64_t *last, bool *more,
                                    struct amx_error *err);

#endif
