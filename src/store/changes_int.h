/* changes_int.h - what the files that write rows of a project share: counters of touched annotators, names already
 * known, rows in memory. */
#ifndef STORE_CHANGES_INT_H
#define STORE_CHANGES_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annotmix.h"
#include "store/changes.h"
#include "store/db.h"
#include "store/instances.h"
#include "store/labels.h"

/* Deltas of one annotator in the job that runs. */
struct touched {
    int64_t annotator_id;
    int64_t d_labels, d_skipped, d_right, d_of;
    int64_t first_ms, last_ms; /* 0 = no label was given */
};
/* Found or added; valid until the next call. NULL when memory is out. */
struct touched *changes_touch(struct changes *ch, int64_t annotator_id);
/* A label of this annotator comes (sign 1) or goes (sign -1), on an instance with this gold class (-1 = none).
 * class_index may be LABEL_SKIPPED. Moves the project's counters too. AMX_NO_MEMORY. */
AMX_CHECK enum amx_status changes_count_label(struct changes *ch, int64_t annotator_id, int class_index, int gold,
                                              int sign, struct amx_error *err);

/* Numbers of annotators by name, remembered on the connection. Returns 0 when not known. */
int64_t changes_known_annotator(struct changes *ch, struct slice name);
void changes_know_annotator(struct changes *ch, struct slice name, int64_t id); /* forgets rather than fail */
void changes_forget(struct db *db);                                             /* after names went */

/* Number of a living annotator; 0 when there is none of this name. */
AMX_CHECK enum amx_status annotators_lookup(struct changes *ch, struct slice name, int64_t *id, struct amx_error *err);

/* What a label needs of its instance. */
struct instance_brief {
    int64_t id;
    int gold; /* -1 = none */
    bool labelled;
};
/* Briefs by name, remembered like the names above: labels of one instance often come together. */
bool changes_known_instance(struct changes *ch, struct slice name, struct instance_brief *out);
void changes_know_instance(struct changes *ch, struct slice name, const struct instance_brief *brief);
void changes_forget_instances(
    struct db *db); /* after gold or labels went or came otherwise than by a label of this name */
AMX_CHECK enum amx_status instances_brief(struct changes *ch, struct slice name, int64_t id, struct instance_brief *out,
                                          struct amx_error *err);
/* A new instance of split train without features or gold, made by its first label: it counts as labelled. */
AMX_CHECK enum amx_status instances_create(struct changes *ch, struct slice name, int64_t *id, struct amx_error *err);
/* By name when there is one (bytes not NULL): the table lies in that order. */
AMX_CHECK enum amx_status instances_set_labelled(struct changes *ch, struct slice name, int64_t id, bool labelled,
                                                 struct amx_error *err);
/* The same, found out by looking: after labels went. */
AMX_CHECK enum amx_status instances_renew_labelled(struct changes *ch, int64_t id, struct amx_error *err);
/* Erases every label of the instance and leaves a tombstone for each current one. */
AMX_CHECK enum amx_status labels_erase_instance(struct changes *ch, int64_t instance_id, int gold,
                                                struct amx_error *err);

/* ---- rows of instances (instance_rows.c) ---- */

struct waiting_instance {
    struct instance_put put; /* what it points to stays until the job ends */
    enum put_outcome *outcome;
    int64_t *id;
};
enum {
    INSTANCE_ROWS = 32 /* written by one statement */
};
/* What one job has still to write; in the memory beside the connection. */
struct instance_rows {
    struct waiting_instance waiting[INSTANCE_ROWS];
    size_t n, n_features; /* that wait; of these, with features */
    size_t singly;        /* so many more are put one by one */
};
struct instance_rows *changes_instance_rows(struct changes *ch); /* NULL when memory is out */
/* Writes those that wait: before anything that looks for an instance by its name. */
AMX_CHECK enum amx_status instances_settle(struct changes *ch, struct amx_error *err);
/* instances.c: one by itself. */
AMX_CHECK enum amx_status instances_put_row(struct changes *ch, const struct instance_put *put,
                                            enum put_outcome *outcome, int64_t *id, struct amx_error *err);

/* ---- rows of labels (label_rows.c) ---- */

struct new_label {
    int64_t instance_id, annotator_id;
    int class_index;
    enum label_state state;
    int64_t given_ms, duration_ms;
    struct slice ref;
};
/* A label that is to be put, its instance and annotator found. */
struct waiting_label {
    struct new_label row;
    bool given;          /* it names its time */
    bool unless_current; /* its pair may have a current label */
    int gold;            /* of its instance; -1 = none */
    struct label_result *result;
};
enum {
    LABEL_ROWS = 32 /* written by one statement */
};
/* A row of annotator_labels. shelf: the labels of a project stand in shelves of 65,536, on each of them annotator by
 * annotator; SHELF_OF in SQL, of a row of labels. */
enum {
    SHELF_BITS = 16
};
#define SHELF_OF "(seq >> 16) << 32 | annotator_id"
static inline int64_t label_shelf(int64_t annotator_id, int64_t seq)
{
    return (seq >> SHELF_BITS) << 32 | annotator_id;
}
struct label_entry {
    int64_t shelf, seq;
};
/* What one job has still to write; in the memory beside the connection. */
struct label_rows {
    struct waiting_label waiting[LABEL_ROWS];
    size_t n;
    size_t singly;               /* so many labels more are put one by one */
    struct label_entry *entries; /* [n_entries] of capacity: rows of annotator_labels */
    size_t n_entries, capacity;
};
struct label_rows *changes_label_rows(struct changes *ch); /* NULL when memory is out */
/* Takes the next number when a row was written. unless_current: it is not when its pair has a current label. written
 * may be NULL. */
AMX_CHECK enum amx_status label_rows_insert(struct changes *ch, const struct new_label *row, bool unless_current,
                                            bool *written, struct amx_error *err);
/* Keeps the label for labels_settle, which is called when there are enough. */
AMX_CHECK enum amx_status label_rows_wait(struct changes *ch, const struct waiting_label *label, struct amx_error *err);
/* Writes the rows of annotator_labels. */
AMX_CHECK enum amx_status label_rows_end(struct changes *ch, struct amx_error *err);
/* labels.c: one label by itself, with whatever its pair has already; and the counters of a first one. */
AMX_CHECK enum amx_status labels_put_row(struct changes *ch, struct waiting_label *label, struct amx_error *err);
AMX_CHECK enum amx_status labels_count_first(struct changes *ch, const struct waiting_label *label,
                                             struct amx_error *err);

/* One more tombstone. */
AMX_CHECK enum amx_status labels_add_tombstone(struct changes *ch, int64_t instance_id, int64_t annotator_id,
                                               struct slice ref, struct amx_error *err);
/* Gold of an instance changed from one class to another (-1 = none): the counters of those who labelled it. */
AMX_CHECK enum amx_status labels_regold(struct changes *ch, int64_t instance_id, int from, int to,
                                        struct amx_error *err);

/* Copies texts into one block, so that a row can outlive its statement. n slices are changed to point into it, each
 * followed by a 0 byte; those whose bytes are NULL stay. *memory is freed with free(); NULL when there was nothing to
 * copy. */
AMX_CHECK enum amx_status rows_own(struct slice *const *texts, size_t n, void **memory, struct amx_error *err);

#endif
