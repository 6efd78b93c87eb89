/* projects.h - projects, their classes and their counters. Writes: in a job on the writer's connection. */
#ifndef STORE_PROJECTS_H
#define STORE_PROJECTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "store/db.h"

enum {
    PROJECT_UID_BYTES = 33
};

struct project_class {
    struct slice name;
    bool retired; /* keeps its number; new labels may not use it */
};
struct project_counts {
    int64_t instances, annotators;
    int64_t labels;  /* current ones, skipped ones included */
    int64_t skipped; /* of these */
    int64_t gold;
    int64_t awaiting_features;
};
/* Slices are followed by a 0 byte. */
struct project_row {
    int64_t id;
    char uid[PROJECT_UID_BYTES];   /* 32 hexadecimal digits, random */
    struct slice name, title;      /* title "" when none was given */
    struct slice settings;         /* JSON object */
    struct project_class *classes; /* [n_classes] in order */
    size_t n_classes;
    size_t feature_dim;
    struct project_counts counts;
    int64_t active_model; /* number; 0 = none */
    int64_t label_seq;
    int64_t revision; /* grows with every change of the row's words (not of counters): for If-Match */
    int64_t created_ms;
    void *memory; /* one block that holds the texts and classes */
};
void project_row_done(struct project_row *row);

struct project_new {
    struct slice name, title, settings;
    const struct slice *classes; /* [n_classes] 2..1000 */
    size_t n_classes;
    size_t feature_dim;
    int64_t now_ms;
};
/* AMX_CONFLICT when a project of this name exists. */
AMX_CHECK enum amx_status projects_insert(struct db *db, const struct project_new *project, int64_t *id,
                                          struct amx_error *err);
/* AMX_NOT_FOUND. project_row_done(out) afterwards. */
AMX_CHECK enum amx_status projects_get(struct db *db, int64_t id, struct project_row *out, struct amx_error *err);
AMX_CHECK enum amx_status projects_find(struct db *db, struct slice name, struct project_row *out,
                                        struct amx_error *err);

/* Rows with id > after in order, at most limit; the row is borrowed for the call. prefix: names that start with it (""
 * = all). *more: there are further ones. Any status but AMX_OK of fn ends the list and is returned. */
typedef enum amx_status projects_fn(void *context, const struct project_row *row);
AMX_CHECK enum amx_status projects_list(struct db *db, struct slice prefix, int64_t after, size_t limit,
                                        projects_fn *fn, void *context, bool *more, struct amx_error *err);

/* Each sets what is not NULL-bytes. Grows the revision. AMX_NOT_FOUND. */
AMX_CHECK enum amx_status projects_update(struct db *db, int64_t id, struct slice title, struct slice settings,
                                          struct amx_error *err);
/* Appends classes at the end. AMX_CONFLICT: one of them exists; AMX_TOO_LARGE: more than 1,000. */
AMX_CHECK enum amx_status projects_append_classes(struct db *db, int64_t id, const struct slice *classes, size_t n,
                                                  struct amx_error *err);
AMX_CHECK enum amx_status projects_retire_class(struct db *db, int64_t id, size_t class_index, bool retired,
                                                struct amx_error *err);
/* Gone at once, its name free again; the rows go later, by projects_purge_step. AMX_NOT_FOUND. */
AMX_CHECK enum amx_status projects_delete(struct db *db, int64_t id, struct amx_error *err);
/* Removes up to 5,000 rows of deleted projects, in one job. *worked: something was done, call again. */
AMX_CHECK enum amx_status projects_purge_step(struct db *db, bool *worked, struct amx_error *err);

#endif
