/* label_rows.c - how rows of labels reach the tables: many in one statement, and those of annotators in their own order.
 *
 * A statement costs more than the row it writes (cursors are opened, their places looked up from the root), so labels
 * that may wait are kept until there are LABEL_ROWS of them and then written by one INSERT; at the end those that are
 * left go in by FEW_ROWS. When one of them turns out
 * to have a current label already, the statement is taken back and its rows are put one by one; so are the rows that
 * follow for a while, because labels that were sent before come in runs.
 *
 * annotator_labels gets its rows at the end of the job, sorted: those of one annotator lie on one page of a shelf
 * (changes_int.h), and the pages are visited once each.
 */
#include <assert.h>
#include <stdlib.h>

#include "store/changes_int.h"
#include "util/error.h"
#include "util/size.h"

enum {
    SINGLE_ROWS = 8 * LABEL_ROWS, /* after a conflict, so many are put one by one */
    FEW_ROWS = 8,                 /* written by one statement when there are not LABEL_ROWS */
    ENTRIES_START = 64,
    ENTRIES_MOST = 65536 /* a longer job writes them in between */
};

/* ---- one row ---- */

static const char INSERT_LABEL[] = "INSERT INTO labels (project_id, seq, instance_id, annotator_id, class, state, "
                                   "given_at, received_at, duration_ms, ref)"
                                   " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
#define UNLESS_CURRENT " ON CONFLICT (project_id, instance_id, annotator_id) WHERE state = 0 DO NOTHING"
static const char INSERT_FIRST_LABEL[] =
    "INSERT INTO labels (project_id, seq, instance_id, annotator_id, class, state, given_at, received_at, duration_ms, "
    "ref)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)" UNLESS_CURRENT;

/* Remembers that the label of this number is the annotator's. */
static enum amx_status add_entry(struct changes *ch, struct label_rows *rows, int64_t annotator_id, int64_t seq,
                                 struct amx_error *err)
{
    if (rows->n_entries == ENTRIES_MOST) {
        enum amx_status status = label_rows_end(ch, err);
        if (status != AMX_OK)
            return status;
    }
    if (rows->n_entries == rows->capacity) {
        size_t capacity = rows->capacity == 0 ? ENTRIES_START : 2 * rows->capacity, bytes;
        struct label_entry *entries =
            size_mul(&bytes, capacity, sizeof(*entries)) ? realloc(rows->entries, bytes) : NULL;
        if (entries == NULL)
            return error_set(err, AMX_NO_MEMORY, "no memory for a change");
        rows->entries = entries;
        rows->capacity = capacity;
    }
    rows->entries[rows->n_entries++] = (struct label_entry){label_shelf(annotator_id, seq), seq};
    return AMX_OK;
}

enum amx_status label_rows_insert(struct changes *ch, const struct new_label *row, bool unless_current, bool *written,
                                  struct amx_error *err)
{
    DB_STMT(s);
    struct label_rows *rows = changes_label_rows(ch);
    enum amx_status status = rows != NULL
                                 ? db_use(ch->db, unless_current ? INSERT_FIRST_LABEL : INSERT_LABEL, &s, err)
                                 : error_set(err, AMX_NO_MEMORY, "no memory for a change");

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    db_bind_int(s, 2, ch->label_seq + 1);
    db_bind_int(s, 3, row->instance_id);
    db_bind_int(s, 4, row->annotator_id);
    if (row->class_index >= 0) /* a fresh statement has NULL everywhere */
        db_bind_int(s, 5, row->class_index);
    db_bind_int(s, 6, row->state);
    db_bind_int(s, 7, row->given_ms);
    db_bind_int(s, 8, ch->now_ms);
    if (row->duration_ms >= 0)
        db_bind_int(s, 9, row->duration_ms);
    if (row->ref.bytes != NULL)
        db_bind_text(s, 10, row->ref);
    status = db_run(s, err);
    if (status != AMX_OK)
        return status;
    bool is_written = db_changed(ch->db) > 0;
    ch->label_seq += is_written;
    if (written != NULL)
        *written = is_written;
    return is_written ? add_entry(ch, rows, row->annotator_id, ch->label_seq, err) : AMX_OK;
}

/* ---- many rows ---- */

#define ROW "(?1, ?2, ?, ?, ?, ?, ?, ?, 0, NULL)"
#define ROWS_4 ROW ", " ROW ", " ROW ", " ROW
#define ROWS_16 ROWS_4 ", " ROWS_4 ", " ROWS_4 ", " ROWS_4
#define INSERT_ROWS                                                                                                    \
    "INSERT INTO labels (project_id, received_at, seq, instance_id, annotator_id, class, given_at, duration_ms, "      \
    "state, ref) VALUES "
/* By whether a pair may have a current label. */
static const char *const INSERT_32_LABELS[2] = {INSERT_ROWS ROWS_16 ", " ROWS_16,
                                                INSERT_ROWS ROWS_16 ", " ROWS_16 UNLESS_CURRENT};
static const char *const INSERT_8_LABELS[2] = {INSERT_ROWS ROWS_4 ", " ROWS_4,
                                               INSERT_ROWS ROWS_4 ", " ROWS_4 UNLESS_CURRENT};
static const char TAKE_BACK[] = "DELETE FROM labels WHERE project_id = ?1 AND seq > ?2";
static_assert(LABEL_ROWS == 32, "INSERT_32_LABELS has as many");

/* Writes the next n of those that wait, as many as the statement takes; *written: how many of them. */
static enum amx_status insert_all(struct changes *ch, const struct waiting_label *waiting, size_t n, int64_t *written,
                                  struct amx_error *err)
{
    DB_STMT(s);
    bool unless_current = false;

    for (size_t i = 0; i < n; i++)
        unless_current = unless_current || waiting[i].unless_current;
    const char *sql = (n == LABEL_ROWS ? INSERT_32_LABELS : INSERT_8_LABELS)[unless_current];
    enum amx_status status = db_use(ch->db, sql, &s, err);
    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    db_bind_int(s, 2, ch->now_ms);
    for (size_t i = 0; i < n; i++) {
        const struct new_label *row = &waiting[i].row;
        int at = 3 + 6 * (int)i;
        db_bind_int(s, at, ch->label_seq + 1 + (int64_t)i);
        db_bind_int(s, at + 1, row->instance_id);
        db_bind_int(s, at + 2, row->annotator_id);
        if (row->class_index >= 0)
            db_bind_int(s, at + 3, row->class_index);
        db_bind_int(s, at + 4, row->given_ms);
        if (row->duration_ms >= 0)
            db_bind_int(s, at + 5, row->duration_ms);
    }
    status = db_run(s, err);
    if (status == AMX_OK)
        *written = db_changed(ch->db);
    return status;
}

static enum amx_status take_back(struct changes *ch, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = db_use(ch->db, TAKE_BACK, &s, err);

    if (status != AMX_OK)
        return status;
    db_bind_int(s, 1, ch->project_id);
    db_bind_int(s, 2, ch->label_seq);
    return db_run(s, err);
}

static enum amx_status put_singly(struct changes *ch, struct label_rows *rows, size_t from, size_t n,
                                  struct amx_error *err)
{
    enum amx_status status = AMX_OK;

    for (size_t i = from; status == AMX_OK && i < from + n; i++)
        status = labels_put_row(ch, &rows->waiting[i], err);
    rows->singly -= rows->singly < n ? rows->singly : n;
    return status;
}

/* The next n of those that wait are written in one statement, or nothing is (*all). */
static enum amx_status put_together(struct changes *ch, struct label_rows *rows, size_t from, size_t n, bool *all,
                                    struct amx_error *err)
{
    int64_t written = 0;
    enum amx_status status = insert_all(ch, rows->waiting + from, n, &written, err);

    *all = status == AMX_OK && written == (int64_t)n;
    if (status == AMX_OK && !*all)
        return take_back(ch, err);
    for (size_t i = from; status == AMX_OK && i < from + n; i++) {
        struct waiting_label *label = &rows->waiting[i];
        label->result->seq = ++ch->label_seq;
        status = labels_count_first(ch, label, err);
        if (status == AMX_OK)
            status = add_entry(ch, rows, label->row.annotator_id, ch->label_seq, err);
    }
    return status;
}

enum amx_status labels_settle(struct changes *ch, struct amx_error *err)
{
    struct label_rows *rows = changes_label_rows(ch);
    enum amx_status status = AMX_OK;

    for (size_t from = 0, n; rows != NULL && status == AMX_OK && from < rows->n; from += n) {
        size_t left = rows->n - from;
        bool all = false;
        n = left == LABEL_ROWS ? LABEL_ROWS : left < FEW_ROWS ? left : FEW_ROWS;
        if (n >= FEW_ROWS && rows->singly == 0) {
            status = put_together(ch, rows, from, n, &all, err);
            if (status == AMX_OK && !all)
                rows->singly = SINGLE_ROWS;
        }
        if (status == AMX_OK && !all)
            status = put_singly(ch, rows, from, n, err);
    }
    if (rows != NULL)
        rows->n = 0;
    return status;
}

enum amx_status label_rows_wait(struct changes *ch, const struct waiting_label *label, struct amx_error *err)
{
    struct label_rows *rows = changes_label_rows(ch);

    if (rows == NULL)
        return error_set(err, AMX_NO_MEMORY, "no memory for a change");
    rows->waiting[rows->n++] = *label;
    return rows->n == LABEL_ROWS ? labels_settle(ch, err) : AMX_OK;
}

/* ---- annotator_labels ---- */

#define ENTRY "(?1, ?, ?)"
#define ENTRIES_4 ENTRY ", " ENTRY ", " ENTRY ", " ENTRY
#define ENTRIES_16 ENTRIES_4 ", " ENTRIES_4 ", " ENTRIES_4 ", " ENTRIES_4
#define INSERT_ENTRIES "INSERT INTO annotator_labels (project_id, shelf, seq) VALUES "
static const char INSERT_ENTRY[] = INSERT_ENTRIES ENTRY;
static const char INSERT_8_ENTRIES[] = INSERT_ENTRIES ENTRIES_4 ", " ENTRIES_4;
static const char INSERT_64_ENTRIES[] =
    INSERT_ENTRIES ENTRIES_16 ", " ENTRIES_16 ", " ENTRIES_16 ", " ENTRIES_16;

static int by_shelf(const void *left, const void *right)
{
    const struct label_entry *a = left, *b = right;

    if (a->shelf != b->shelf)
        return a->shelf < b->shelf ? -1 : 1;
    return (a->seq > b->seq) - (a->seq < b->seq);
}

/* n entries in each run of this statement, as long as there are so many; *at moves on. */
static enum amx_status insert_entries(struct changes *ch, const struct label_rows *rows, const char *sql, size_t n,
                                      size_t *at, struct amx_error *err)
{
    DB_STMT(s);
    enum amx_status status = rows->n_entries - *at >= n ? db_use(ch->db, sql, &s, err) : AMX_OK;

    for (; status == AMX_OK && rows->n_entries - *at >= n; *at += n) {
        db_bind_int(s, 1, ch->project_id);
        for (size_t i = 0; i < n; i++) {
            db_bind_int(s, 2 + 2 * (int)i, rows->entries[*at + i].shelf);
            db_bind_int(s, 3 + 2 * (int)i, rows->entries[*at + i].seq);
        }
        status = db_run(s, err);
    }
    return status;
}

enum amx_status label_rows_end(struct changes *ch, struct amx_error *err)
{
    struct label_rows *rows = changes_label_rows(ch);
    size_t at = 0;

    if (rows == NULL || rows->n_entries == 0)
        return AMX_OK;
    if (rows->n_entries > 1)
        qsort(rows->entries, rows->n_entries, sizeof(*rows->entries), by_shelf);
    enum amx_status status = insert_entries(ch, rows, INSERT_64_ENTRIES, 64, &at, err);
    if (status == AMX_OK)
        status = insert_entries(ch, rows, INSERT_8_ENTRIES, 8, &at, err);
    if (status == AMX_OK)
        status = insert_entries(ch, rows, INSERT_ENTRY, 1, &at, err);
    rows->n_entries = 0;
    return status;
}
