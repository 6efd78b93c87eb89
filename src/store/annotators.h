/* annotators.h - annotators of a project, with counters that are kept as labels and gold come and go. */
#ifndef STORE_ANNOTATORS_H
#define STORE_ANNOTATORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "store/changes.h"
#include "store/db.h"

/* The slice is followed by a 0 byte. */
struct annotator_row {
    int64_t id;
    struct slice name;
    int64_t labels;                        /* current ones, skipped ones included */
    int64_t skipped;                       /* of these */
    int64_t gold_right, gold_of;           /* current labels with a class on instances with gold, and how many agree */
    int64_t first_label_ms, last_label_ms; /* given_at of the earliest and latest label ever; 0 = none */
    int64_t created_ms;
    void *memory; /* NULL when borrowed */
};
void annotator_row_done(struct annotator_row *row);

AMX_CHECK enum amx_status annotators_find(struct db *db, int64_t project_id, struct slice name,
                                          struct annotator_row *out, struct amx_error *err);
typedef enum amx_status annotators_fn(void *context, const struct annotator_row *row);
AMX_CHECK enum amx_status annotators_list(struct db *db, int64_t project_id, int64_t after, size_t limit,
                                          annotators_fn *fn, void *context, bool *more, struct amx_error *err);

/* Number of the annotator of this name; created when unknown (*created, may be NULL). AMX_TOO_LARGE: over 1,000,000. */
AMX_CHECK enum amx_status annotators_intern(struct changes *ch, struct slice name, int64_t *id, bool *created,
                                            struct amx_error *err);
/* Gone at once with all its labels (counters, lists, training); rows are erased and tombstoned later, by
 * annotators_purge_step. The name is free again. AMX_NOT_FOUND. */
AMX_CHECK enum amx_status annotators_delete(struct changes *ch, struct slice name, struct amx_error *err);
/* Erases up to 5,000 labels of deleted annotators, in one job. *worked: call again. */
AMX_CHECK enum amx_status annotators_purge_step(struct db *db, int64_t now_ms, bool *worked, struct amx_error *err);

#endif
