/* annotators.c - annotators: made by their first label, read with their counters, deleted in two stages.
 *
 * Deleting marks the row and takes its counters out of the project's in one small transaction; from then on every
 * reader passes over its labels (a join on gone = 0), and its name is free. The labels themselves are erased later in
 * steps, each current one leaving a tombstone in the change feed; at last the row keeps nothing but the name that
 * tombstones refer to.
 */
#include "store/annotators.h"

#include <stdlib.h>

#include "store/changes_int.h"
#include "util/error.h"

enum {
    ANNOTATORS_MOST = 1000000,
    PURGE_ROWS = 5000
};
static const char NO_ANNOTATOR[] = "there is no such annotator";

/* ---- by name ---- */

static const char SELECT_ID[] = "SELECT id FROM annotators WHERE project_id = ?1 AND name = ?2 AND gone = 0";

enum amx_status annotators_lookup(struct changes *ch, struct slice name, int64_t *id, struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_DONE;
    enum amx_status status;

    *id = changes_known_annotator(ch, name);
    if (*id != 0)
        return AMX_OK;
    status = db_use(ch->db, SELECT_ID, &s, err);
    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    db_bind_text(s, 2, name);
    status = db_step(s, &step, err);
    if (status == AMX_OK && step == DB_ROW) {
        *id = db_int(s, 0);
        changes_know_annotator(ch, name, *id);
    }
    return status;
}

static const char INSERT_ANNOTATOR[] =
    "INSERT INTO annotators (project_id, id, name, created_at) VALUES (?1, ?2, ?3, ?4)";

enum amx_status annotators_intern(struct changes *ch, struct slice name, int64_t *id, bool *created,
                                  struct amx_error *err)
{
    DB_STMT(s);
    int64_t found = 0;
    enum amx_status status = annotators_lookup(ch, name, &found, err);

    if (status != AMX_OK)
        return status;
    if (created != NULL)
        *created = found == 0;
    if (found != 0) {
        *id = found;
        return AMX_OK;
    }
    if (ch->n_annotators + ch->d_annotators >= ANNOTATORS_MOST)
        return error_set(err, AMX_TOO_LARGE, "a project has at most %d annotators", (int)ANNOTATORS_MOST);
    status = db_use(ch->db, INSERT_ANNOTATOR, &s, err);
    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    db_bind_int(s, 2, ch->next_annotator);
    db_bind_text(s, 3, name);
    db_bind_int(s, 4, ch->now_ms);
    status = db_run(s, err);
    if (status != AMX_OK)
        return status;
    *id = ch->next_annotator++;
    ch->d_annotators++;
    changes_know_annotator(ch, name, *id);
    return AMX_OK;
}

/* ---- reading ---- */

#define ANNOTATOR_COLUMNS                                                                                              \
    "id, name, n_labels, n_skipped, gold_right, gold_of, first_label_at, last_label_at, created_at"

static void read_row(struct db_stmt *s, struct annotator_row *out)
{
    *out = (struct annotator_row){.id = db_int(s, 0),
                                  .name = db_text(s, 1),
                                  .labels = db_int(s, 2),
                                  .skipped = db_int(s, 3),
                                  .gold_right = db_int(s, 4),
                                  .gold_of = db_int(s, 5),
                                  .first_label_ms = db_int(s, 6),
                                  .last_label_ms = db_int(s, 7),
                                  .created_ms = db_int(s, 8)};
}

void annotator_row_done(struct annotator_row *row)
{
    free(row->memory);
    *row = (struct annotator_row){.id = 0};
}

static const char SELECT_BY_NAME[] =
    "SELECT " ANNOTATOR_COLUMNS " FROM annotators WHERE project_id = ?1 AND name = ?2 AND gone = 0";
/* Project and key are bound. */
static enum amx_status get(struct db_stmt *s, struct annotator_row *out, struct amx_error *err)
{
    struct annotator_row row;
    enum amx_status status = db_one(s, NO_ANNOTATOR, err);

    if (status != AMX_OK)
        return status;
    read_row(s, &row);
    status = rows_own((struct slice *[]){&row.name}, 1, &row.memory, err);
    if (status == AMX_OK)
        *out = row;
    return status;
}

enum amx_status annotators_find(struct db *db, int64_t project_id, struct slice name, struct annotator_row *out,
                                struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(db, SELECT_BY_NAME, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    db_bind_text(s, 2, name);
    return get(s, out, err);
}

static const char SELECT_PAGE[] =
    "SELECT " ANNOTATOR_COLUMNS " FROM annotators WHERE project_id = ?1 AND id > ?2 AND gone = 0 ORDER BY id LIMIT ?3";

enum amx_status annotators_list(struct db *db, int64_t project_id, int64_t after, size_t limit, annotators_fn *fn,
                                void *context, bool *more, struct amx_error *err)
{
    DB_STMT(s);
    struct annotator_row row;
    enum db_step step = DB_ROW;
    enum amx_status status = db_use(db, SELECT_PAGE, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, project_id);
    db_bind_int(s, 2, after);
    db_bind_int(s, 3, (int64_t)limit + 1);
    for (size_t n = 0;; n++) {
        status = db_step(s, &step, err);
        if (status != AMX_OK || step == DB_DONE || n == limit)
            break;
        read_row(s, &row);
        status = fn(context, &row);
        if (status != AMX_OK)
            break;
    }
    if (status == AMX_OK)
        *more = step == DB_ROW;
    return status;
}

/* ---- delete ---- */

static const char SELECT_COUNTS[] =
    "SELECT id, n_labels, n_skipped FROM annotators WHERE project_id = ?1 AND name = ?2 AND gone = 0";
static const char MARK_GONE[] =
    "UPDATE annotators SET gone = 1, n_labels = 0, n_skipped = 0, gold_right = 0, gold_of = 0, first_label_at = NULL,"
    " last_label_at = NULL WHERE project_id = ?1 AND id = ?2";

enum amx_status annotators_delete(struct changes *ch, struct slice name, struct amx_error *err)
{
    DB_STMT(find);
    DB_STMT(mark);
    enum amx_status status = db_use(ch->db, SELECT_COUNTS, &find, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(find, 1, ch->project_id);
    db_bind_text(find, 2, name);
    status = db_one(find, NO_ANNOTATOR, err);
    if (status == AMX_OK)
        status = db_use(ch->db, MARK_GONE, &mark, err);
    if (status != AMX_OK)
        return status;
    /* What this very job counted for it stands only in memory so far, in both sums; the row's share goes here. */
    int64_t id = db_int(find, 0);
    const struct touched *pending = changes_touch(ch, id);
    if (pending == NULL)
        return error_set(err, AMX_NO_MEMORY, "no memory for a change");
    ch->d_labels -= db_int(find, 1) + pending->d_labels;
    ch->d_skipped -= db_int(find, 2) + pending->d_skipped;
    ch->d_annotators--;
    db_reset(find);
    ch->label_seq++; /* its labels went: what was computed before is older than this */
    changes_forget(ch->db);
    db_bind_int(mark, 1, ch->project_id);
    db_bind_int(mark, 2, id);
    return db_run(mark, err);
}

static const char SELECT_GONE[] =
    "SELECT a.project_id, a.id FROM annotators a JOIN projects p ON p.id = a.project_id AND p.gone = 0"
    " WHERE a.gone = 1 ORDER BY a.project_id, a.id LIMIT 1";
static const char SELECT_LABELS[] =
    "SELECT l.seq, l.instance_id, l.state, l.ref FROM annotator_labels x"
    " CROSS JOIN labels l ON l.project_id = x.project_id AND l.seq = x.seq AND l.state <= 1"
    " WHERE x.project_id = ?1 AND x.shelf = ?2 AND x.seq > ?3 ORDER BY x.seq LIMIT 1";
static const char DELETE_LABEL[] = "DELETE FROM labels WHERE project_id = ?1 AND seq = ?2";
static const char DELETE_ENTRY[] =
    "DELETE FROM annotator_labels WHERE project_id = ?1 AND shelf = ?2 AND seq = ?3";
static const char MARK_ERASED[] = "UPDATE annotators SET gone = 2 WHERE project_id = ?1 AND id = ?2";

/* One row: erased, and a tombstone in its place when it was current. */
static enum amx_status erase_label(struct changes *ch, int64_t annotator_id, struct db_stmt *label,
                                   struct amx_error *err)
{
    DB_STMT(s);
    DB_STMT(entry);
    int64_t instance_id = db_int(label, 1);
    bool current = db_int(label, 2) == 0;
    enum amx_status status = db_use(ch->db, DELETE_LABEL, &s, err);

    if (status == AMX_OK)
        status = db_use(ch->db, DELETE_ENTRY, &entry, err);
    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    db_bind_int(s, 2, db_int(label, 0));
    db_bind_int(entry, 1, ch->project_id);
    db_bind_int(entry, 2, label_shelf(annotator_id, db_int(label, 0)));
    db_bind_int(entry, 3, db_int(label, 0));
    status = db_run(s, err);
    if (status == AMX_OK)
        status = db_run(entry, err);
    if (status == AMX_OK && current)
        status = labels_add_tombstone(ch, instance_id, annotator_id, db_text(label, 3), err);
    if (status == AMX_OK && current)
        status = instances_renew_labelled(ch, instance_id, err);
    return status;
}

static enum amx_status erase_labels(struct changes *ch, int64_t annotator_id, size_t *n, struct amx_error *err)
{
    DB_STMT(s);
    enum db_step step = DB_ROW;
    int64_t after = 0;
    const int64_t last = ch->label_seq; /* the tombstones that this writes are nobody's to erase */
    enum amx_status status = db_use(ch->db, SELECT_LABELS, &s, err);

    /* One at a time, so that no deletion moves the rows under a SELECT that goes on; from shelf to shelf. */
    for (*n = 0; status == AMX_OK && *n < PURGE_ROWS;) {
        db_reset(s);
        db_bind_int(s, 1, ch->project_id);
        db_bind_int(s, 2, label_shelf(annotator_id, after + 1));
        db_bind_int(s, 3, after);
        status = db_step(s, &step, err);
        if (status == AMX_OK && step == DB_ROW) {
            after = db_int(s, 0);
            status = erase_label(ch, annotator_id, s, err);
            ++*n;
        } else if (((after + 1) >> SHELF_BITS) >= last >> SHELF_BITS) {
            break; /* that was the last shelf, or an error */
        } else {
            after = ((((after + 1) >> SHELF_BITS) + 1) << SHELF_BITS) - 1;
        }
    }
    return status;
}

enum amx_status annotators_purge_step(struct db *db, int64_t now_ms, bool *worked, struct amx_error *err)
{
    DB_STMT(find);
    DB_STMT(mark);
    struct changes ch;
    enum db_step step = DB_DONE;
    size_t n = 0;
    enum amx_status status = db_use(db, SELECT_GONE, &find, err);

    *worked = false;
    if (status == AMX_OK)
        status = db_step(find, &step, err);
    if (status != AMX_OK || step == DB_DONE)
        return status;
    int64_t project_id = db_int(find, 0), annotator_id = db_int(find, 1);
    db_reset(find);
    *worked = true;
    status = changes_begin(db, project_id, now_ms, &ch, err);
    if (status == AMX_OK)
        status = erase_labels(&ch, annotator_id, &n, err);
    if (status == AMX_OK && n < PURGE_ROWS) {
        status = db_use(db, MARK_ERASED, &mark, err);
        if (status == AMX_OK) {
            db_bind_int(mark, 1, project_id);
            db_bind_int(mark, 2, annotator_id);
            status = db_run(mark, err);
        }
    }
    return status == AMX_OK ? changes_flush(&ch, err) : status;
}
