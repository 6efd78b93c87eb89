/* changes.h - what one write job does to one project: sequence numbers taken and counters moved, written back once.
 *
 *     changes_begin(db, project_id, now_ms, &ch, err);
 *     labels_put(&ch, ...); instances_put(&ch, ...); gold_put(&ch, ...);
 *     changes_flush(&ch, err);      // not after a failure: then the job is undone as a whole
 *
 * So a label costs the same in a project of ten thousand and of ten million, and counters are never found by counting.
 * Everything happens on the writer's connection, inside the job's transaction; one struct per project and job at a
 * time.
 */
#ifndef STORE_CHANGES_H
#define STORE_CHANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "store/db.h"

struct changes {
    struct db *db;
    int64_t project_id;
    int64_t now_ms;    /* time of the job: given_at of labels that name none */
    int64_t label_seq; /* last number taken */
    int64_t next_instance, next_annotator;
    size_t feature_dim, n_classes;
    int64_t n_annotators; /* at the start */
    int64_t began_seq;    /* label_seq at the start */
    int64_t active_model; /* number; 0 = none */
    bool names_repeat;    /* the instance put last stood there already; the next one likely does, too */
    /* Deltas since begin. */
    int64_t d_instances, d_annotators, d_labels, d_skipped, d_gold, d_awaiting;
};

/* AMX_NOT_FOUND when there is no such project (any more). */
AMX_CHECK enum amx_status changes_begin(struct db *db, int64_t project_id, int64_t now_ms, struct changes *out,
                                        struct amx_error *err);
AMX_CHECK enum amx_status changes_flush(struct changes *ch, struct amx_error *err);

#endif
