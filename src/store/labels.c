/* labels.c - writing labels.
 *
 * The common label is the first of its pair, so it is tried first: an INSERT that does nothing when the pair has a
 * current label (the unique index tells while it is being written). Only then the current one is looked at: same class,
 * newer, or late. An instance that has no label at all (its row says so) needs no such care. How rows are written, one
 * by one or many at once, is label_rows.c's.
 *
 * given_at decides which of two labels is current. A label that names none is given now; should the pair's current
 * label claim to be from the future, or the clock have gone back, "now" is taken as not earlier than that: what a
 * person says last counts.
 */
#include "store/labels.h"

#include <string.h>

#include "store/annotators.h"
#include "store/changes_int.h"
#include "util/error.h"

static const char NO_LABEL[] = "there is no such label";

/* ---- rows ---- */

enum amx_status labels_add_tombstone(struct changes *ch, int64_t instance_id, int64_t annotator_id, struct slice ref,
                                     struct amx_error *err)
{
    struct new_label row = {instance_id, annotator_id, LABEL_SKIPPED, LABEL_TOMBSTONE, ch->now_ms, -1, ref};
    return label_rows_insert(ch, &row, false, NULL, err);
}

struct current {
    int64_t seq, given_ms;
    int class_index;
};
static const char SELECT_CURRENT[] = "SELECT seq, class, given_at FROM labels"
                                     " WHERE project_id = ?1 AND instance_id = ?2 AND annotator_id = ?3 AND state = 0";

static enum amx_status get_current(struct changes *ch, int64_t instance_id, int64_t annotator_id, struct current *out,
                                   struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(ch->db, SELECT_CURRENT, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    db_bind_int(s, 2, instance_id);
    db_bind_int(s, 3, annotator_id);
    status = db_one(s, NO_LABEL, err);
    if (status == AMX_OK)
        *out = (struct current){db_int(s, 0), db_int(s, 2), db_is_null(s, 1) ? LABEL_SKIPPED : (int)db_int(s, 1)};
    return status;
}

static const char SUPERSEDE[] = "UPDATE labels SET state = 1 WHERE project_id = ?1 AND seq = ?2";

static enum amx_status supersede(struct changes *ch, int64_t seq, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(ch->db, SUPERSEDE, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    db_bind_int(s, 2, seq);
    return db_run(s, err);
}

/* ---- put ---- */

static const char SELECT_REF[] =
    "SELECT l.instance_id, l.annotator_id FROM labels l"
    " JOIN annotators a ON a.project_id = l.project_id AND a.id = l.annotator_id AND a.gone = 0"
    " WHERE l.project_id = ?1 AND l.ref IS NOT NULL AND l.ref = ?2 AND l.state = 0";

/* A ref may come again for its own pair (the same label sent twice, or corrected), not for another. annotator_id 0: a
 * new one. */
static enum amx_status check_ref(struct changes *ch, struct slice ref, int64_t instance_id, int64_t annotator_id,
                                 struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_DONE;
    enum amx_status status = db_use(ch->db, SELECT_REF, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    db_bind_text(s, 2, ref);
    status = db_step(s, &step, err);
    if (status == AMX_OK && step == DB_ROW && (db_int(s, 0) != instance_id || db_int(s, 1) != annotator_id))
        return error_set(err, AMX_CONFLICT, "ref is in use by the label of another instance or annotator");
    return status;
}

static void note_times(struct changes *ch, int64_t annotator_id, int64_t given_ms)
{
    struct touched *t = changes_touch(ch, annotator_id);

    if (t == NULL)
        return; /* cannot be: the annotator was touched when the label was counted */
    if (t->first_ms == 0 || given_ms < t->first_ms)
        t->first_ms = given_ms;
    if (t->last_ms == 0 || given_ms > t->last_ms)
        t->last_ms = given_ms;
}

static const char SELECT_SAME_LATE[] =
    "SELECT seq, class FROM labels INDEXED BY labels_past WHERE project_id = ?1 AND instance_id = ?2 AND state <> 0"
    " AND state = 1 AND annotator_id = ?3 AND given_at = ?4";

/* A late label that was sent before: *seq is its number; 0 = it is new. */
static enum amx_status find_same_late(struct changes *ch, const struct new_label *row, int64_t *seq,
                                      struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_ROW;
    enum amx_status status = db_use(ch->db, SELECT_SAME_LATE, &s, err);

    *seq = 0;
    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    db_bind_int(s, 2, row->instance_id);
    db_bind_int(s, 3, row->annotator_id);
    db_bind_int(s, 4, row->given_ms);
    while ((status = db_step(s, &step, err)) == AMX_OK && step == DB_ROW) {
        if ((db_is_null(s, 1) ? LABEL_SKIPPED : (int)db_int(s, 1)) == row->class_index)
            *seq = db_int(s, 0);
    }
    return status;
}

/* The pair has a current label: same class, late, or newer. */
static enum amx_status put_again(struct changes *ch, struct new_label *row, bool given, int gold,
                                 struct label_result *out, struct amx_error *err)
{
    struct current current;
    enum amx_status status = get_current(ch, row->instance_id, row->annotator_id, &current, err);

    if (status != AMX_OK)
        return status;
    if (current.class_index == row->class_index) {
        out->outcome = LABEL_UNCHANGED;
        out->seq = current.seq;
        out->given_ms = current.given_ms;
        return AMX_OK;
    }
    if (!given && row->given_ms < current.given_ms)
        row->given_ms = current.given_ms;
    out->given_ms = row->given_ms;
    if (row->given_ms < current.given_ms) {
        out->outcome = LABEL_LATE;
        row->state = LABEL_SUPERSEDED;
        status = find_same_late(ch, row, &out->seq, err);
        if (status != AMX_OK || out->seq != 0)
            return status;
        status = label_rows_insert(ch, row, false, NULL, err);
        out->seq = ch->label_seq;
        if (status == AMX_OK && changes_touch(ch, row->annotator_id) == NULL)
            status = error_set(err, AMX_NO_MEMORY, "no memory for a change");
    } else {
        out->outcome = LABEL_REPLACED;
        out->replaces = true;
        out->replaces_class = current.class_index;
        status = supersede(ch, current.seq, err);
        if (status == AMX_OK)
            status = label_rows_insert(ch, row, false, NULL, err);
        out->seq = ch->label_seq;
        if (status == AMX_OK)
            status = changes_count_label(ch, row->annotator_id, current.class_index, gold, -1, err);
        if (status == AMX_OK)
            status = changes_count_label(ch, row->annotator_id, row->class_index, gold, 1, err);
    }
    if (status == AMX_OK)
        note_times(ch, row->annotator_id, row->given_ms);
    return status;
}

enum amx_status labels_count_first(struct changes *ch, const struct waiting_label *label, struct amx_error *err)
{
    enum amx_status status =
        changes_count_label(ch, label->row.annotator_id, label->row.class_index, label->gold, 1, err);

    if (status == AMX_OK)
        note_times(ch, label->row.annotator_id, label->row.given_ms);
    return status;
}

enum amx_status labels_put_row(struct changes *ch, struct waiting_label *label, struct amx_error *err)
{
    bool written = false;
    enum amx_status status = label_rows_insert(ch, &label->row, label->unless_current, &written, err);

    if (status != AMX_OK)
        return status;
    if (!written)
        return put_again(ch, &label->row, label->given, label->gold, label->result, err);
    label->result->seq = ch->label_seq;
    return labels_count_first(ch, label, err);
}

/* The instance, made when unknown and wanted. Nothing else of the label may be written before its ref is known to be
 * good. */
static enum amx_status find_instance(struct changes *ch, const struct label_put *put, struct instance_brief *out,
                                     bool *missing, struct amx_error *err)
{
    struct amx_error local;
    enum amx_status status = instances_brief(ch, put->instance, put->instance_id, out, err != NULL ? err : &local);

    *missing = status == AMX_NOT_FOUND && put->create_instance && put->instance_id == 0;
    if (*missing) {
        *out = (struct instance_brief){0, -1, false};
        return AMX_OK;
    }
    return status;
}

/* The instance's first label: its row says so, and the names remembered. */
static enum amx_status mark_labelled(struct changes *ch, struct slice name, struct instance_brief *instance,
                                     struct amx_error *err)
{
    enum amx_status status = instances_set_labelled(ch, name, instance->id, true, err);

    instance->labelled = true;
    if (status == AMX_OK && name.bytes != NULL)
        changes_know_instance(ch, name, instance);
    return status;
}

/* Everything but the label itself: its instance and annotator are found or made. */
static enum amx_status prepare(struct changes *ch, const struct label_put *put, struct label_result *result,
                               struct waiting_label *out, struct amx_error *err)
{
    struct instance_brief instance = {0, -1, false};
    bool missing;
    enum amx_status status = find_instance(ch, put, &instance, &missing, err);

    *result = (struct label_result){.outcome = LABEL_CREATED, .replaces_class = LABEL_SKIPPED};
    if (status == AMX_OK && put->ref.bytes != NULL) {
        int64_t annotator_id = 0;
        status = annotators_lookup(ch, put->annotator, &annotator_id, err);
        if (status == AMX_OK)
            status = check_ref(ch, put->ref, instance.id, annotator_id, err);
    }
    if (status == AMX_OK)
        status = annotators_intern(ch, put->annotator, &result->annotator_id, &result->annotator_created, err);
    /* The pair may have a label: both were there before. */
    bool unless_current = instance.labelled && !result->annotator_created;
    if (status == AMX_OK && missing)
        status = instances_create(ch, put->instance, &instance.id, err);
    else if (status == AMX_OK && !instance.labelled)
        status = mark_labelled(ch, put->instance, &instance, err);
    if (status != AMX_OK)
        return status;
    result->instance_id = instance.id;
    result->instance_created = missing;
    result->given_ms = put->given_ms != 0 ? put->given_ms : ch->now_ms;
    *out = (struct waiting_label){.row = {.instance_id = instance.id,
                                          .annotator_id = result->annotator_id,
                                          .class_index = put->class_index,
                                          .state = LABEL_CURRENT,
                                          .given_ms = result->given_ms,
                                          .duration_ms = put->duration_ms,
                                          .ref = put->ref},
                                  .given = put->given_ms != 0,
                                  .unless_current = unless_current,
                                  .gold = instance.gold,
                                  .result = result};
    return AMX_OK;
}

enum amx_status labels_put(struct changes *ch, const struct label_put *put, struct label_result *out,
                           struct amx_error *err)
{
    struct label_result result;
    struct waiting_label label;
    enum amx_status status = labels_settle(ch, err);

    if (status == AMX_OK)
        status = prepare(ch, put, &result, &label, err);
    if (status == AMX_OK)
        status = labels_put_row(ch, &label, err);
    if (status == AMX_OK)
        *out = result;
    return status;
}

enum amx_status labels_put_soon(struct changes *ch, const struct label_put *put, struct label_result *out,
                                struct amx_error *err)
{
    struct waiting_label label;
    enum amx_status status;

    if (put->ref.bytes != NULL) /* whether it is free must be known now */
        return labels_put(ch, put, out, err);
    status = prepare(ch, put, out, &label, err);
    return status == AMX_OK ? label_rows_wait(ch, &label, err) : status;
}

/* ---- delete ---- */

static enum amx_status delete_pair(struct changes *ch, int64_t instance_id, int64_t annotator_id, struct slice ref,
                                   struct amx_error *err)
{
    struct current current;
    struct instance_brief instance;
    enum amx_status status = get_current(ch, instance_id, annotator_id, &current, err);

    if (status == AMX_OK)
        status = instances_brief(ch, (struct slice){NULL, 0}, instance_id, &instance, err);
    if (status == AMX_OK)
        status = supersede(ch, current.seq, err);
    if (status == AMX_OK)
        status = labels_add_tombstone(ch, instance_id, annotator_id, ref, err);
    if (status == AMX_OK)
        status = changes_count_label(ch, annotator_id, current.class_index, instance.gold, -1, err);
    if (status == AMX_OK)
        status = instances_renew_labelled(ch, instance_id, err);
    return status;
}

static const char SELECT_PAIR_REF[] =
    "SELECT ref FROM labels WHERE project_id = ?1 AND instance_id = ?2 AND annotator_id = ?3 AND state = 0";

enum amx_status labels_delete(struct changes *ch, struct slice instance, struct slice annotator, struct amx_error *err)
{
    DB_STMT(s);
    struct instance_brief brief;
    int64_t annotator_id = 0;
    enum amx_status status = instances_brief(ch, instance, 0, &brief, err);

    if (status == AMX_OK)
        status = annotators_lookup(ch, annotator, &annotator_id, err);
    if (status == AMX_OK && annotator_id == 0)
        status = error_set(err, AMX_NOT_FOUND, "there is no such annotator");
    if (status == AMX_OK)
        status = db_use(ch->db, SELECT_PAIR_REF, &s, err);
    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    db_bind_int(s, 2, brief.id);
    db_bind_int(s, 3, annotator_id);
    status = db_one(s, NO_LABEL, err);
    return status == AMX_OK ? delete_pair(ch, brief.id, annotator_id, db_text(s, 0), err) : status;
}

enum amx_status labels_delete_ref(struct changes *ch, struct slice ref, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(ch->db, SELECT_REF, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    db_bind_text(s, 2, ref);
    status = db_one(s, NO_LABEL, err);
    if (status != AMX_OK)
        return status;
    int64_t instance_id = db_int(s, 0), annotator_id = db_int(s, 1);
    db_reset(s);
    return delete_pair(ch, instance_id, annotator_id, ref, err);
}

/* ---- what other rows need of labels ---- */

/* INDEXED BY here and below: without statistics SQLite takes a project to have ten labels and would rather read them
 * all than look up three in an index and then the rows. */
static const char SELECT_LIVE[] = "SELECT l.annotator_id, l.class, a.gone FROM labels l INDEXED BY labels_pair"
                                  " JOIN annotators a ON a.project_id = l.project_id AND a.id = l.annotator_id"
                                  " WHERE l.project_id = ?1 AND l.instance_id = ?2 AND l.state = 0";

static enum amx_status use_live(struct changes *ch, int64_t instance_id, struct db_stmt **s, struct amx_error *err)
{
    enum amx_status status = db_use(ch->db, SELECT_LIVE, s, err);

    if (status == AMX_OK) {
        db_bind_int(*s, 1, ch->project_id);
        db_bind_int(*s, 2, instance_id);
    }
    return status;
}

enum amx_status labels_regold(struct changes *ch, int64_t instance_id, int from, int to, struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_ROW;
    enum amx_status status = use_live(ch, instance_id, &s, err);

    while (status == AMX_OK && (status = db_step(s, &step, err)) == AMX_OK && step == DB_ROW) {
        if (db_is_null(s, 1) || db_int(s, 2) != 0)
            continue;
        int class_index = (int)db_int(s, 1);
        struct touched *t = changes_touch(ch, db_int(s, 0));
        if (t == NULL)
            return error_set(err, AMX_NO_MEMORY, "no memory for a change");
        t->d_of += (to >= 0) - (from >= 0);
        t->d_right += (to == class_index) - (from == class_index);
    }
    return status;
}

static const char DELETE_CURRENT[] =
    "DELETE FROM labels INDEXED BY labels_pair WHERE project_id = ?1 AND instance_id = ?2 AND state = 0";
static const char DELETE_PAST[] =
    "DELETE FROM labels INDEXED BY labels_past WHERE project_id = ?1 AND instance_id = ?2 AND state <> 0 AND state = 1";

static const char DELETE_ENTRIES[] =
    "DELETE FROM annotator_labels WHERE project_id = ?1 AND (shelf, seq) IN"
    " (SELECT " SHELF_OF ", seq FROM labels INDEXED BY labels_pair WHERE project_id = ?1 AND instance_id = ?2"
    " AND state = 0)";
static const char DELETE_PAST_ENTRIES[] =
    "DELETE FROM annotator_labels WHERE project_id = ?1 AND (shelf, seq) IN"
    " (SELECT " SHELF_OF ", seq FROM labels INDEXED BY labels_past WHERE project_id = ?1 AND instance_id = ?2"
    " AND state <> 0 AND state = 1)";

static enum amx_status run_of(struct changes *ch, const char *sql, int64_t instance_id, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(ch->db, sql, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    db_bind_int(s, 2, instance_id);
    return db_run(s, err);
}

enum amx_status labels_erase_instance(struct changes *ch, int64_t instance_id, int gold, struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_ROW;
    struct slice no_ref = {NULL, 0};
    enum amx_status status = use_live(ch, instance_id, &s, err);

    /* Tombstones are of state 2 and so not among the rows that are being read. */
    while (status == AMX_OK && (status = db_step(s, &step, err)) == AMX_OK && step == DB_ROW) {
        int64_t annotator_id = db_int(s, 0);
        int class_index = db_is_null(s, 1) ? LABEL_SKIPPED : (int)db_int(s, 1);
        if (db_int(s, 2) == 0) /* a deleted annotator's labels do not count any more */
            status = changes_count_label(ch, annotator_id, class_index, gold, -1, err);
        if (status == AMX_OK)
            status = labels_add_tombstone(ch, instance_id, annotator_id, no_ref, err);
    }
    db_release(&s);
    if (status == AMX_OK)
        status = label_rows_end(ch, err); /* what this very job wrote goes too */
    if (status == AMX_OK)
        status = run_of(ch, DELETE_ENTRIES, instance_id, err);
    if (status == AMX_OK)
        status = run_of(ch, DELETE_PAST_ENTRIES, instance_id, err);
    if (status == AMX_OK)
        status = run_of(ch, DELETE_CURRENT, instance_id, err);
    if (status == AMX_OK)
        status = run_of(ch, DELETE_PAST, instance_id, err);
    return status;
}
