/* instances.h - instances: name, split, gold, and (in tables of their own) features and metadata. */
#ifndef STORE_INSTANCES_H
#define STORE_INSTANCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "store/changes.h"
#include "store/db.h"

enum split {
    SPLIT_KEEP = -1,
    SPLIT_TRAIN = 0,
    SPLIT_VALID = 1,
    SPLIT_TEST = 2
};
const char *split_name(enum split split); /* "train"; static */
bool split_parse(const char *text, size_t n, enum split *out);

enum put_outcome {
    PUT_CREATED,
    PUT_UPDATED,
    PUT_UNCHANGED
};

/* "Same id again = replace the given fields": what is not given stays (new instances: train, no features, no gold). */
struct instance_put {
    struct slice name;     /* a valid name */
    const float *features; /* [feature_dim of the project], finite; NULL = not given */
    enum split split;      /* SPLIT_KEEP = not given */
    struct slice metadata; /* JSON text; bytes NULL = not given; "null" removes it */
    int gold_class;        /* -1 = not given */
};
/* *id is the instance's number in its project. */
AMX_CHECK enum amx_status instances_put(struct changes *ch, const struct instance_put *put, enum put_outcome *outcome,
                                        int64_t *id, struct amx_error *err);
/* The same, but it may be done only by changes_flush, many at a time: until then what put points to stays where it is,
 * *outcome and *id are not to be read, and no label or gold names it. */
AMX_CHECK enum amx_status instances_put_soon(struct changes *ch, const struct instance_put *put,
                                             enum put_outcome *outcome, int64_t *id, struct amx_error *err);

/* Slices are followed by a 0 byte. */
struct instance_row {
    int64_t id;
    struct slice name;
    enum split split;
    int gold_class;         /* -1 = none (callers without the gold scope must not show it) */
    int64_t gold_ms;        /* when it was set; 0 = none */
    bool has_features;      /* false in a project without features */
    bool awaiting_features; /* the project has features, this instance not yet */
    bool labelled;          /* has a current label (skipped ones count) */
    bool was_train;         /* is of split train, or was: a model may have seen its labels */
    int64_t created_ms;
    const float *features; /* [feature_dim] aligned; NULL when not asked for or not there */
    size_t n_features;
    struct slice metadata; /* JSON text; bytes NULL = none or not asked for */
    void *memory;          /* NULL when borrowed */
};
void instance_row_done(struct instance_row *row);

enum {
    INSTANCES_FEATURES = 1,
    INSTANCES_METADATA = 2
}; /* what to read besides the row */

/* AMX_NOT_FOUND. instance_row_done(out) afterwards. */
AMX_CHECK enum amx_status instances_find(struct db *db, int64_t project_id, struct slice name, unsigned with,
                                         struct instance_row *out, struct amx_error *err);
AMX_CHECK enum amx_status instances_get(struct db *db, int64_t project_id, int64_t id, unsigned with,
                                        struct instance_row *out, struct amx_error *err);

/* The row is borrowed for the call; anything but AMX_OK ends the list and is returned (AMX_CANCELLED by custom). */
typedef enum amx_status instances_fn(void *context, const struct instance_row *row);

struct instance_filter {
    enum split split;      /* SPLIT_KEEP = any */
    int labelled;          /* -1 any, 0 unlabelled, 1 labelled */
    int has_gold;          /* -1 any, 0, 1 */
    int awaiting_features; /* -1 any, 0, 1 */
};
#define INSTANCE_FILTER_ALL                                                                                            \
    {                                                                                                                  \
        SPLIT_KEEP, -1, -1, -1                                                                                         \
    }
/* Rows with id > after in order of id, at most limit. For filters on derived data (disputed, resolved) the caller
 * filters in fn and ends the list when its page is full; limit then bounds the rows looked at. */
AMX_CHECK enum amx_status instances_list(struct db *db, int64_t project_id, const struct instance_filter *filter,
                                         int64_t after, size_t limit, unsigned with, instances_fn *fn, void *context,
                                         bool *more, struct amx_error *err);

/* Instance with all its labels, features, gold: gone; each current label leaves a tombstone. AMX_NOT_FOUND. */
AMX_CHECK enum amx_status instances_delete(struct changes *ch, struct slice name, struct amx_error *err);

/* ---- gold: each write takes a label_seq ---- */

/* AMX_NOT_FOUND: no such instance. PUT_UNCHANGED takes no number. */
AMX_CHECK enum amx_status gold_put(struct changes *ch, struct slice instance, int class_index,
                                   enum put_outcome *outcome, struct amx_error *err);
/* AMX_NOT_FOUND: no such instance, or it has no gold. */
AMX_CHECK enum amx_status gold_delete(struct changes *ch, struct slice instance, struct amx_error *err);
/* Listing gold: instances_list with has_gold = 1 (served by an index); one: instances_find. */

#endif
