/* labels.h - labels: one current label per (instance, annotator), history, the change feed.
 *
 * Every write takes the next label_seq of its project, and the row keeps it as its key: rows are never renumbered. A
 * row is current, superseded (a newer label of the pair took its place, or it arrived too late, or it was deleted), or
 * a tombstone (says: the pair has no label any more). Repeating the current label takes no number.
 */
#ifndef STORE_LABELS_H
#define STORE_LABELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "store/changes.h"
#include "store/db.h"

enum {
    LABEL_SKIPPED = -1
};
enum label_state {
    LABEL_CURRENT = 0,
    LABEL_SUPERSEDED = 1,
    LABEL_TOMBSTONE = 2
};

struct label_put {
    struct slice instance;  /* name */
    int64_t instance_id;    /* number, when the caller has it (then the name is not looked up); 0 = by name */
    struct slice annotator; /* name; created when unknown */
    int class_index;        /* LABEL_SKIPPED, or checked against the project's classes by the caller */
    struct slice ref;       /* bytes NULL = none */
    int64_t given_ms;       /* 0 = none: given now, which is never before the pair's current label */
    int64_t duration_ms;    /* -1 = none */
    bool create_instance;   /* create an unknown instance (it then awaits features) */
};

enum label_outcome {
    LABEL_CREATED, /* first label of the pair */
    LABEL_REPLACED,
    LABEL_UNCHANGED, /* same class again: nothing was written */
    LABEL_LATE       /* older than the current one: went to history ("superseded") */
};
struct label_result {
    enum label_outcome outcome;
    int64_t seq;        /* of this label; UNCHANGED: of the current one */
    bool replaces;      /* REPLACED: */
    int replaces_class; /* the class it replaces, or LABEL_SKIPPED */
    int64_t given_ms;   /* as kept; UNCHANGED: of the current one */
    int64_t instance_id, annotator_id;
    bool instance_created, annotator_created;
};
/* AMX_NOT_FOUND: unknown instance. AMX_CONFLICT: ref belongs to the current label of another pair. After either,
 * nothing of this label was written and the job may go on with the next one. */
AMX_CHECK enum amx_status labels_put(struct changes *ch, const struct label_put *put, struct label_result *out,
                                     struct amx_error *err);

/* The same for one of many: what is known at once is told at once (AMX_NOT_FOUND, AMX_CONFLICT), but the label may be
 * written later, together with others. *out is borrowed and complete only after labels_settle (or changes_flush);
 * whatever else the job does comes after that. */
AMX_CHECK enum amx_status labels_put_soon(struct changes *ch, const struct label_put *put, struct label_result *out,
                                          struct amx_error *err);
AMX_CHECK enum amx_status labels_settle(struct changes *ch, struct amx_error *err);

/* Takes the current label of the pair away: it goes to history, a tombstone takes a number. AMX_NOT_FOUND. */
AMX_CHECK enum amx_status labels_delete(struct changes *ch, struct slice instance, struct slice annotator,
                                        struct amx_error *err);
AMX_CHECK enum amx_status labels_delete_ref(struct changes *ch, struct slice ref, struct amx_error *err);

/* Slices are followed by a 0 byte and borrowed for the call. */
struct label_row {
    int64_t seq;
    int64_t instance_id, annotator_id;
    struct slice instance, annotator;
    int class_index; /* LABEL_SKIPPED for skipped ones and tombstones */
    bool skipped;
    enum label_state state;
    struct slice ref; /* bytes NULL = none */
    int64_t given_ms, received_ms;
    int64_t duration_ms; /* -1 = none */
};
typedef enum amx_status labels_fn(void *context, const struct label_row *row);

struct label_filter {
    struct slice instance, annotator, ref; /* bytes NULL = any; names that do not exist give an empty list */
    bool history;                          /* superseded rows too */
    bool tombstones;                       /* tombstones too (the change feed; history implies it) */
};
/* Rows with seq > after_seq in order of seq, at most limit. fn: anything but AMX_OK ends the list and is returned. */
AMX_CHECK enum amx_status labels_list(struct db *db, int64_t project_id, const struct label_filter *filter,
                                      int64_t after_seq, size_t limit, labels_fn *fn, void *context, bool *more,
                                      struct amx_error *err);
/* Current labels of one instance, by annotator number. */
AMX_CHECK enum amx_status labels_of_instance(struct db *db, int64_t project_id, int64_t instance_id, labels_fn *fn,
                                             void *context, struct amx_error *err);

/* Numbers only, for votes and derived data: current labels of the instances first..last (numbers, inclusive), by
 * (instance, annotator). Skipped ones have class LABEL_SKIPPED. */
struct label_cell {
    int64_t instance_id, annotator_id;
    int class_index;
};
typedef enum amx_status label_cells_fn(void *context, const struct label_cell *cell);
AMX_CHECK enum amx_status labels_cells(struct db *db, int64_t project_id, int64_t first_instance, int64_t last_instance,
                                       label_cells_fn *fn, void *context, struct amx_error *err);

#endif
