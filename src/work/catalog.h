/* catalog.h - every project's rarely changing facts in memory: name, classes, feature dimension, settings.
 *
 * A struct project_info is immutable and reference counted: whoever holds one may go on reading it while the project
 * is changed or deleted. Whoever changes a project in the store calls catalog_reload (or catalog_remove) in the write
 * job's done(), after COMMIT and before the request is resumed, so that a client sees its own change. All functions:
 * any thread. Counters and label_seq are not here: they are read from the database. */
#ifndef WORK_CATALOG_H
#define WORK_CATALOG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "work/project_settings.h"

struct catalog;
struct name_index;
struct store;

struct project_info {
    int refs; /* atomic; the catalog's own */
    int64_t id;
    int64_t created_ms;
    const char *uid;
    const char *name;
    const char *title; /* NULL = none given */
    size_t feature_dim, n_classes;
    const char *const *classes;           /* [C] 0-terminated; index = class number in the store */
    const bool *retired;                  /* [C] no new labels of this class */
    const char *settings_json;            /* as stored; "{}" when none */
    const json_t *settings_object;        /* the same, parsed; read only: json_deep_copy it, never json_incref */
    struct project_settings settings;     /* the same, checked, with defaults */
    const struct name_index *class_index; /* for project_class_index */
};

/* Loads all projects of the store. `store` is borrowed until catalog_close. */
AMX_CHECK enum amx_status catalog_open(struct store *store, struct catalog **out, struct amx_error *err);
void catalog_close(struct catalog *catalog);

/* A reference, or NULL when there is no such project. */
struct project_info *catalog_get(struct catalog *catalog, const char *name);
struct project_info *catalog_get_id(struct catalog *catalog, int64_t id);
/* References to all projects, ordered by name (bytewise). Caller unrefs each and frees *out with free(). */
AMX_CHECK enum amx_status catalog_list(struct catalog *catalog, struct project_info ***out, size_t *n);
size_t catalog_count(struct catalog *catalog);

struct project_info *project_ref(struct project_info *project); /* returns it */
void project_unref(struct project_info *project);               /* NULL allowed */

/* Reads the project from the store and replaces (or adds) it here; a project that is gone is removed. Runs in the
 * writer's done() or at start. On failure (no memory, I/O) the old entry is dropped, so that nothing stale is served:
 * the project answers 404 until the next reload. */
AMX_CHECK enum amx_status catalog_reload(struct catalog *catalog, int64_t project_id, struct amx_error *err);
void catalog_remove(struct catalog *catalog, int64_t project_id);

/* Number of the class with this name; false when there is none. Retired classes are found too: look at
 * project->retired. */
bool project_class_index(const struct project_info *project, const char *name, size_t n, uint32_t *out);

#endif
